"""Give the files of a release of files back, byte for byte, into a new folder.

Whole or not at all: everything is written beside the folder and gets its name at the end. A path from a release is never
trusted: one that would leave the folder is refused, whoever signed it. Each piece has the SHA-256 that the sealed names
tell, besides the tag of each chunk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec

from safehold.model.errors import Conflict, InputInvalid, VerificationFailed
from safehold.vault.chunks import ChunkReader
from safehold.vault.disk import storage_failed, sync_folder
from safehold.vault.open import OpenedRelease
from safehold.vault.seal_files import CONTENT, NAMES, NAMES_SCHEMA

__all__ = ["ContentReader", "WrittenFiles", "checked_path", "file_rows", "write_files"]

_MAX_NAME: Final = 255


class WrittenFiles(msgspec.Struct, frozen=True):
    """A folder that was written: its files and their bytes."""

    path: Path
    files: int
    size: int


def file_rows(opened: OpenedRelease) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of ``names`` with the part that each lies in: what the release holds, without contents.

    Raises ``InputInvalid`` (``vault.no_names``) if the names are not open, and whatever reading raises.
    """
    if NAMES not in {group.name for group in opened.groups} or not opened.manifest.chunked:
        raise InputInvalid(
            "vault.no_names",
            "this is no release of files whose names are open",
            f"open the column groups {NAMES} and {CONTENT}",
        )
    for run in opened.manifest.sequence():
        for batch in opened.run_batches(run, NAMES_SCHEMA.names):
            for row in batch.to_pylist():
                yield run.part, row


def write_files(opened: OpenedRelease, folder: Path, progress: Callable[[int], None] | None = None) -> WrittenFiles:
    """Write all files below the new ``folder``. ``progress`` gets the bytes so far.

    Raises ``Conflict`` (``vault.output_exists``), ``InputInvalid`` (``vault.no_names``, ``vault.no_content``),
    ``VerificationFailed`` (``vault.part_altered``, ``vault.file_path``, ``vault.file_pieces`` …) or ``StorageFailed``.
    """
    if CONTENT not in {group.name for group in opened.groups}:
        raise InputInvalid("vault.no_content", "the contents are not open", f"ask for the column group {CONTENT} too")
    if os.path.lexists(folder):
        raise Conflict("vault.output_exists", f"{folder} exists already", "name another folder, or move that one away")
    staging = folder.with_name(f".safehold-open-{folder.name}-{os.urandom(6).hex()}")
    try:
        staging.mkdir(mode=0o700)
        writer = _Writer(opened, staging, progress)
        writer.write()
        for made in sorted({path for path in staging.rglob("*") if path.is_dir()} | {staging}):
            sync_folder(made)
        os.rename(staging, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_failed(error, str(folder)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return WrittenFiles(folder, writer.files, writer.size)


class _Writer:
    """Writes pieces in the order of the release; a file's pieces follow one another."""

    def __init__(self, opened: OpenedRelease, folder: Path, progress: Callable[[int], None] | None) -> None:
        self._opened, self._folder, self._progress = opened, folder, progress
        self.files = self.size = 0

    def write(self) -> None:
        part = -1
        with ContentReader(self._opened) as container:
            expected: tuple[str, int] | None = None
            for number, row in file_rows(self._opened):
                if number != part:
                    part = number
                    container.use(number)
                if (row["path"], row["at"]) != (expected or (row["path"], 0)):
                    raise _broken(row["path"])
                self._piece(row, container)
                end = row["at"] + row["length"]
                if end > row["size"] or (not row["length"] and row["size"]):
                    raise _broken(row["path"])
                expected = (row["path"], end) if end < row["size"] else None
            if expected is not None:
                raise _broken(expected[0])

    def _piece(self, row: dict[str, Any], container: ContentReader) -> None:
        path = self._folder / checked_path(row["path"])
        first = row["at"] == 0
        if first:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.files += 1
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if first else os.O_APPEND)
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError as error:
            raise _broken(row["path"]) from error
        with os.fdopen(descriptor, "wb") as file:
            self._copy(row, container, file)
            file.flush()
            os.fsync(file.fileno())

    def _copy(self, row: dict[str, Any], container: ContentReader, file: BinaryIO) -> None:
        hasher = hashlib.sha256()
        for data in container.read(row["offset"], row["length"]):
            hasher.update(data)
            file.write(data)
            self.size += len(data)
            if self._progress is not None:
                self._progress(self.size)
        if row["sha256"] != "sha256:" + hasher.hexdigest():
            raise _broken(row["path"])


class ContentReader:
    """The chunk container of one part at a time."""

    def __init__(self, opened: OpenedRelease) -> None:
        self._opened = opened
        self._file: BinaryIO | None = None
        self._reader: ChunkReader | None = None
        self._parts = {part.part: part for part in opened.manifest.files([CONTENT])}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def use(self, number: int) -> None:
        """Go on with part ``number``, checked. Raises as ``OpenedRelease.part_file``."""
        self._close()
        part = self._parts[number]
        path, key = self._opened.part_file(part)
        file = self._file = path.open("rb", buffering=0)
        self._reader = ChunkReader(
            lambda start, length: os.pread(file.fileno(), length, start), part.size, key, part.aad, part.file
        )

    def read(self, offset: int, length: int) -> Iterator[memoryview]:
        """Bytes of the container, decrypted. Raises ``VerificationFailed`` (``vault.file_pieces``, ``vault.part_altered``)."""
        if self._reader is None or offset + length > self._reader.size:
            raise VerificationFailed("vault.file_pieces", "a piece lies beyond its part", "ask the supplier")
        return self._reader.read(offset, length)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def checked_path(text: str) -> str:
    """``text`` if it is a path that stays below its folder.

    Raises ``VerificationFailed`` (``vault.file_path``).
    """
    names = text.split("/")
    if not text or "\x00" in text or any(name in ("", ".", "..") or len(name.encode()) > _MAX_NAME for name in names):
        raise VerificationFailed(
            "vault.file_path", f"the release names a file outside of its folder: {text[:100]!r}", "ask the supplier"
        )
    return text


def _broken(path: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.file_pieces", f"the pieces of {path[:100]!r} do not make up the file that was sealed", "ask the supplier"
    )
