"""A sealed release of files as the tree that the next one is sealed from: the same files under new keys.

Files come in the order of the release and are read piece by piece from its containers, in memory. Each piece that is
read whole is held against the SHA-256 that the sealed names tell of it, before the new part with it counts as sealed.
Parts are cut where they were, so the new names say what the old ones said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Final, NoReturn, Self

import msgspec

from safehold.model.errors import Refused, VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.check_files import HeldFile
from safehold.vault.file_tree import FoundFile
from safehold.vault.open import OpenedRelease
from safehold.vault.open_files import ContentReader, checked_path, file_rows
from safehold.vault.store import Location

__all__ = ["SealedTree", "prove_same_files"]

_PART_BYTES: Final = 64 << 20


class _Held(msgspec.Struct, frozen=True):
    """Where a piece of a file lies."""

    part: int
    at: int
    length: int
    sha256: str
    offset: int


class SealedTree:
    """The files of ``opened``, the release ``release`` with the keys of all groups, as a ``FileTree``. Leave the ``with`` block to close it."""

    endpoint: str | None = None

    def __init__(self, opened: OpenedRelease, release: Digest) -> None:
        self.location = Location(None, f"records of {release}")
        self._opened = opened
        self._release = release
        self._content = ContentReader(opened)
        self._part: int | None = None
        self._pieces: dict[str, list[_Held]] = {}
        self._found: tuple[FoundFile, ...] = ()
        self._largest = 0

    @property
    def part_bytes(self) -> int:
        """The bytes of a part with which the same parts come out again. After ``files``."""
        return max(1, self._largest)

    def files(self) -> tuple[FoundFile, ...]:
        """See ``FileTree``: in the order of the release. Raises as ``file_rows``."""
        if not self._found:
            found: dict[str, FoundFile] = {}
            sizes: dict[int, int] = {}
            for part, row in file_rows(self._opened):
                path = checked_path(row["path"])
                found.setdefault(path, FoundFile(path, row["size"], str(self._release)))
                held = _Held(part, row["at"], row["length"], row["sha256"], row["offset"])
                self._pieces.setdefault(path, []).append(held)
                sizes[part] = sizes.get(part, 0) + row["length"]
            # One part tells only that it had room; of several, the fullest one was full.
            self._largest = max(sizes.values()) if len(sizes) > 1 else max(_PART_BYTES, *sizes.values())
            self._found = tuple(found.values())
        return self._found

    def read(self, file: FoundFile, start: int, length: int) -> Iterator[bytes]:
        """See ``FileTree``. Raises ``VerificationFailed`` (``vault.part_altered``, ``vault.file_pieces`` …)."""
        end = start + length
        for piece in self._pieces[file.path]:
            first, last = max(start, piece.at), min(end, piece.at + piece.length)
            if first >= last and not (first == last == piece.at and not piece.length):
                continue
            if piece.part != self._part:
                self._content.use(piece.part)
                self._part = piece.part
            hasher = hashlib.sha256()
            for data in self._content.read(piece.offset + first - piece.at, last - first):
                hasher.update(data)
                yield bytes(data)
            whole = last - first == piece.length
            if whole and piece.sha256 != "sha256:" + hasher.hexdigest():
                raise _differs(file.path)

    def remove(self, file: FoundFile) -> NoReturn:
        """See ``FileTree``: nothing is removed from a release. Raises ``Refused`` (``vault.resealed_remove``)."""
        raise Refused(
            "vault.resealed_remove",
            f"{file.path[:100]!r} lies in a sealed release, which never changes",
            "erase its keys",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.__exit__()


def prove_same_files(
    old: Iterable[HeldFile], new: Iterable[HeldFile], progress: Callable[[int], None] | None = None
) -> int:
    """Read both whole and return how many files they hold: the same paths in the same order with the same bytes.

    ``progress`` gets the bytes compared so far. Raises ``VerificationFailed`` (``vault.resealed_files``) and what reading raises.
    """
    files = size = 0
    for mine, theirs in zip_longest(old, new):
        if mine != theirs:
            raise _differs((theirs or mine).path)
        files, size = files + 1, size + mine.size
        if progress is not None:
            progress(size)
    return files


def _differs(path: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.resealed_files",
        f"the file {path[:100]!r} did not come out of the release as it was sealed",
        "the old release stays as it is; fetch it again, then run the command again",
    )
