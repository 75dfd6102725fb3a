"""The file under a source: it must stay as it is while it is read.

Sealing reads an input twice. Both passes hash the bytes, and a file that is not the same throughout is refused:
the manifest names the SHA-256 of what was sealed, not of what the file became.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec
import pyarrow as pa

from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import Digest
from safehold.vault.disk import storage_failed
from safehold.vault.manifest import Field, SourceFile

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "InputFile", "Source", "bounded"]

BATCH_ROWS: Final = 8_192
BATCH_BYTES: Final = 32 * 1024 * 1024


class Source(Protocol):
    """An input whose columns are known and whose records can be read in batches, once."""

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns, with the rules that give each record back as it was."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch."""

    @property
    def size_hint(self) -> int:
        """About how many bytes the records will take when sealed; decides the number of parts."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The records in the input's order."""

    @property
    def rows(self) -> int | None:
        """How many records there are, where that is known before they are read again."""

    @property
    def identity(self) -> str | None:
        """What tells this input from any other, known before it is read again: digests. None: nothing does."""

    def files(self) -> tuple[SourceFile, ...]:
        """What was read. Only right after ``batches`` has come to its end."""


def bounded(batch: pa.RecordBatch, rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """``batch`` in slices of no more than ``rows`` records and about ``size`` bytes."""
    step = max(1, min(rows, size * batch.num_rows // max(1, int(batch.nbytes))))
    for first in range(0, batch.num_rows, step):
        yield batch.slice(first, step)


class _State(msgspec.Struct, frozen=True):
    device: int
    inode: int
    size: int
    modified: int


class InputFile:
    """A regular file that must stay as it is while it is read; keeps the SHA-256 of each pass."""

    def __init__(self, path: Path) -> None:
        """Note the state of the file at ``path``.

        Raises ``NotFound`` (``vault.source_missing``), ``InputInvalid`` (``vault.source_not_file``) or
        ``StorageFailed``.
        """
        self.path = path
        # A name that is no UTF-8 cannot stand in a manifest as it is; its odd bytes are shown escaped.
        self.name = os.fsencode(path.name).decode("utf-8", "backslashreplace") or "input"
        self._state = self._look()
        self._digest: Digest | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._state.size

    @property
    def sha256(self) -> Digest:
        """Of the first pass; every later pass was compared with it."""
        return self._digest or Digest("")

    def _look(self) -> _State:
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise NotFound("vault.source_missing", f"there is no file {self.path}", "check the path") from error
        except OSError as error:
            raise storage_failed(error, str(self.path)) from error
        if not stat.S_ISREG(found.st_mode):
            raise InputInvalid(
                "vault.source_not_file",
                f"{self.path} is no regular file",
                "save the records to a file first: sealing reads it twice",
            )
        return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def open(self) -> BinaryIO:
        """Open for one pass, after a check that the file is still the same."""
        self.check_state()
        try:
            return self.path.open("rb", buffering=1 << 20)
        except OSError as error:
            raise storage_failed(error, str(self.path)) from error

    def check_state(self) -> None:
        """Raise ``InputInvalid`` (``vault.source_changed``) if the file is not as it was found."""
        if self._look() != self._state:
            raise self.changed()

    def end_pass(self, hasher: Any) -> None:
        """Note or compare the SHA-256 of a whole pass."""
        self.check_state()
        digest = Digest("sha256:" + hasher.hexdigest())
        if self._digest is None:
            self._digest = digest
        elif self._digest != digest:
            raise self.changed()

    def hash(self) -> None:
        """A pass that only hashes."""
        try:
            with self.open() as file:
                hasher = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    hasher.update(chunk)
        except OSError as error:
            raise storage_failed(error, str(self.path)) from error
        self.end_pass(hasher)

    def changed(self) -> InputInvalid:
        """The error for a file that did not stay as it was."""
        return InputInvalid(
            "vault.source_changed",
            f"{self.path} changed while it was being read",
            "wait until it is complete, then run it again",
        )
