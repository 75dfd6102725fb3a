"""What a sealer has done so far, so that one that was killed goes on where it was.

A line a part: its files and their keys, wrapped. It is appended, durably, after the part's files are durable. The first
line names the work: a digest of the source, the order and the options. Another work's journal is no use and is removed with
all that it speaks of.

Nothing in it is believed: a file counts if its bytes have the size and SHA-256 that were noted, and its key unwraps and
is the one committed to. A line that a kill cut off is as if it were not there.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import SafeholdError
from safehold.model.ids import Digest
from safehold.vault.cut import Chunk
from safehold.vault.disk import storage_failed
from safehold.vault.manifest import ColumnGroup, PartFile
from safehold.vault.part_keys import check_key
from safehold.vault.parts import SealedPart
from safehold.vault.verify import check_part

__all__ = ["Journal", "KeyWrap"]


class KeyWrap(Protocol):
    """What wraps a part key for the journal: the key-encryption key."""

    def wrap(self, key: bytes) -> bytes:
        """The key, wrapped."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key in ``wrapped``; raises a ``SafeholdError`` if it is none."""
        ...


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    work: Digest


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: tuple[PartFile, ...]
    keys: dict[str, str]


class Journal:
    """The journal at ``path`` of the work ``work``, whose part files lie in ``folder``."""

    def __init__(self, path: Path, folder: Path, work: Digest, wrap: KeyWrap) -> None:
        """Read what is there, or begin anew. Raises ``StorageFailed``."""
        self._path = path
        self._folder = folder
        self._wrap = wrap
        self._known: dict[int, _Line] = {}
        lines = _read(path)
        self._valid = bool(lines) and lines[0] == canonical_bytes(_Head(work))
        if self._valid:
            for line in lines[1:]:
                self._take(line)
        else:
            path.unlink(missing_ok=True)
            self._append(canonical_bytes(_Head(work)))

    @property
    def files(self) -> frozenset[str]:
        """The names of the files that it speaks of."""
        return frozenset(file.file for line in self._known.values() for file in line.files)

    def _take(self, line: bytes) -> None:
        try:
            found = msgspec.json.decode(line, type=resolved(_Line))
        except msgspec.DecodeError:
            return
        if found.files:
            self._known[found.files[0].part] = found

    def find(self, number: int, chunk: Chunk, groups: Sequence[ColumnGroup]) -> SealedPart | None:
        """The part ``number`` if it was sealed from ``chunk`` in these groups and is whole; what is not is removed."""
        line = self._known.get(number)
        if line is None:
            return None
        same = [file.group for file in line.files] == [group.name for group in groups]
        if same and all((file.rows, file.tag) == (chunk.rows, chunk.tag) for file in line.files):
            keys = self._checked(line)
            if keys is not None:
                return SealedPart(line.files, keys)
        for file in line.files:
            (self._folder / file.file).unlink(missing_ok=True)
        return None

    def _checked(self, line: _Line) -> Mapping[str, bytes] | None:
        keys: dict[str, bytes] = {}
        try:
            for file in line.files:
                check_part(self._folder, file)
                key = self._wrap.unwrap(base64.b64decode(line.keys[file.file], validate=True))
                keys[file.file] = check_key(key, file.aad, file.commitment, file.file)
        except (SafeholdError, KeyError, binascii.Error):
            return None  # not what was noted: sealed again
        return keys

    def add(self, sealed: SealedPart) -> None:
        """Note a part whose files are durable. Raises ``StorageFailed``."""
        keys = {name: base64.b64encode(self._wrap.wrap(key)).decode() for name, key in sealed.keys.items()}
        self._append(canonical_bytes(_Line(sealed.files, keys)))

    def _append(self, line: bytes) -> None:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_failed(error, str(self._path)) from error

    def remove(self) -> None:
        """The work is done, or given up."""
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            with path.open("ab") as file:  # the next line must not run on from one that was cut off
                file.write(b"\n")
        return data.split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_failed(error, str(path)) from error
