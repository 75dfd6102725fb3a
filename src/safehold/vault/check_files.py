"""Prove that a sealed release of files holds certain files: decrypt every part and hash what comes out.

Nothing is written but, for a release in a store, one part's ciphertext at a time. For whoever removes originals: only the
plaintext's own SHA-256 says that nothing was lost.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa

from safehold.model.errors import VerificationFailed
from safehold.vault.chunks import ChunkReader
from safehold.vault.disk import storage_failed
from safehold.vault.manifest import Manifest, PartFile
from safehold.vault.parquet_form import open_part
from safehold.vault.part_keys import check_key
from safehold.vault.seal_files import CONTENT, NAMES
from safehold.vault.stored_release import StoredRelease, fetch_part
from safehold.vault.verify import check_part

__all__ = ["HeldFile", "PartsOf", "folder_parts", "sealed_files", "stored_parts"]

PartsOf = Callable[[tuple[PartFile, ...]], AbstractContextManager[Path]]
"""Part files of one part, checked, as a folder that holds them for the time of a block."""


class HeldFile(msgspec.Struct, frozen=True):
    """A file as it comes out of a release: path, size, SHA-256 of the plaintext."""

    path: str
    size: int
    sha256: str


def folder_parts(folder: Path) -> PartsOf:
    """The parts of a release folder, each checked against its digest."""

    def parts(files: tuple[PartFile, ...]) -> AbstractContextManager[Path]:
        for file in files:
            check_part(folder, file)
        return nullcontext(folder)

    return parts


def stored_parts(release: StoredRelease, beside: Path) -> PartsOf:
    """The parts of a stored release, fetched one part at a time into a folder in ``beside`` and removed again."""

    @contextmanager
    def parts(files: tuple[PartFile, ...]) -> Iterator[Path]:
        try:
            with TemporaryDirectory(prefix=".safehold-check-", dir=beside) as folder:
                for file in files:
                    fetch_part(release, file, Path(folder))
                yield Path(folder)
        except OSError as error:
            raise storage_failed(error, str(beside)) from error

    return parts


def sealed_files(manifest: Manifest, keys: Mapping[str, bytes], parts: PartsOf) -> Iterator[HeldFile]:
    """All files of a release, in order, from their decrypted bytes.

    Raises ``VerificationFailed`` (``vault.wrong_key``, ``vault.part_altered``, ``vault.file_pieces``) and what ``parts`` raises.
    """
    hasher, path, at, size = hashlib.sha256(), "", 0, 0
    for number in dict.fromkeys(part.part for part in manifest.parts):
        files = {file.group: file for file in manifest.parts if file.part == number}
        for file in files.values():
            check_key(keys[file.file], file.aad, file.commitment, file.file)
        with parts(tuple(files.values())) as folder:
            for row, data in _pieces(folder, files[NAMES], files[CONTENT], keys):
                if row["at"] == 0:
                    hasher, path, at, size = hashlib.sha256(), row["path"], 0, row["size"]
                for piece in data:
                    hasher.update(piece)
                    at += len(piece)
                if (row["path"], row["at"] + row["length"]) != (path, at):
                    raise _broken(row["path"])
                if at == size:
                    yield HeldFile(path, size, "sha256:" + hasher.hexdigest())
    if at != size:
        raise _broken(path)


def _pieces(
    folder: Path, names: PartFile, content: PartFile, keys: Mapping[str, bytes]
) -> Iterator[tuple[dict[str, Any], Iterator[memoryview]]]:
    try:
        rows = open_part(folder / names.file, keys[names.file], names.aad).read().to_pylist()
        with (folder / content.file).open("rb", buffering=0) as file:

            def read_at(start: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, start)

            container = ChunkReader(read_at, content.size, keys[content.file], content.aad, content.file)
            for row in rows:
                yield row, container.read(row["offset"], row["length"])
    except (pa.ArrowException, OSError) as error:
        raise VerificationFailed(
            "vault.part_altered", f"the part {names.file} does not decrypt", "fetch the release again"
        ) from error


def _broken(path: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.file_pieces", f"the pieces of {path[:100]!r} do not make up the file that was sealed", "ask the supplier"
    )
