"""Merkle arithmetic of RFC 6962 §2.1 over C2SP tlog-tiles: pure, no I/O.

Three things live here: the two hashes, the ``Frontier`` (what a writer must remember to append: the roots of
the complete subtrees and the open tile of each level) and the makers of proofs, which read hashes through any
``TileReader``. Verifying proofs is in ``proof``; nothing here is trusted by a verifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

from safehold.model.errors import InputInvalid, VerificationFailed

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "TILE_BYTES",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Frontier",
    "TileReader",
    "checked_tile",
    "consistency_proof",
    "inclusion_proof",
    "inclusion_proofs",
    "leaf_hash",
    "node_hash",
    "tile_path",
    "tiles_of_size",
    "tree_root",
]

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

TileReader = Callable[[int, int, int], bytes]
"""``(level, index, width) -> width * 32 bytes``: the first ``width`` hashes of a tile. Raises if it has fewer."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry): the hash of the stored bytes, never of a re-serialisation."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: enough to append and to give the root, O(log n) in size.

    A writer appends to a *copy* and keeps it only after the commit: a failed commit then leaves no trace in
    memory (a tree that advanced beside a refused commit is the classic bug here).
    """

    __slots__ = ("_peaks", "open_tiles", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []
        self.open_tiles: list[bytearray] = []

    @classmethod
    def from_tiles(cls, size: int, read_tile: TileReader) -> Frontier:
        """Rebuild from the partial tiles of a tree of ``size`` entries; reads at most one tile a level."""
        frontier = cls()
        frontier.size = size
        level = 0
        peaks_low_first: list[bytes] = []
        while size >> (TILE_HEIGHT * level):
            width = (size >> (TILE_HEIGHT * level)) % TILE_WIDTH
            tile = read_tile(level, (size >> (TILE_HEIGHT * level)) >> TILE_HEIGHT, width) if width else b""
            frontier.open_tiles.append(bytearray(tile))
            start = width
            for height in range(TILE_HEIGHT):
                if width >> height & 1:
                    start -= 1 << height
                    peaks_low_first.append(_range_root(tile, start, 1 << height))
            level += 1
        frontier._peaks = peaks_low_first[::-1]
        return frontier

    def copy(self) -> Frontier:
        """An independent frontier: appending to one leaves the other as it was."""
        twin = Frontier()
        twin.size = self.size
        twin._peaks = self._peaks.copy()
        twin.open_tiles = [bytearray(tile) for tile in self.open_tiles]
        return twin

    def append(self, leaf: bytes, full_tiles: dict[tuple[int, int], bytes]) -> None:
        """Add one leaf hash; a tile that this completes goes into ``full_tiles`` under (level, index)."""
        self._push(0, leaf, full_tiles)
        peak, height, size = leaf, 0, self.size
        while size & 1:
            peak = node_hash(self._peaks.pop(), peak)
            height += 1
            size >>= 1
            if height % TILE_HEIGHT == 0:
                self._push(height // TILE_HEIGHT, peak, full_tiles)
        self._peaks.append(peak)
        self.size += 1

    def _push(self, level: int, digest: bytes, full_tiles: dict[tuple[int, int], bytes]) -> None:
        if level == len(self.open_tiles):
            self.open_tiles.append(bytearray())
        tile = self.open_tiles[level]
        tile += digest
        if len(tile) == TILE_BYTES:
            full_tiles[level, self.size >> (TILE_HEIGHT * (level + 1))] = bytes(tile)
            tile.clear()

    def partial_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """The open tile of each level that holds something: (level, index, hashes)."""
        for level, tile in enumerate(self.open_tiles):
            if tile:
                yield level, self.size >> (TILE_HEIGHT * (level + 1)), bytes(tile)

    def root(self) -> bytes:
        """The Merkle Tree Hash of all entries (RFC 6962 §2.1)."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def _range_root(tile: bytes | bytearray, start: int, width: int) -> bytes:
    """Root of ``width`` (a power of two) consecutive hashes of one tile, ``start`` a multiple of it."""
    if width == 1:
        return bytes(tile[start * HASH_BYTES : (start + 1) * HASH_BYTES])
    return _inner_nodes(bytes(tile))[width.bit_length() - 2][start // width]


@lru_cache(maxsize=256)
def _inner_nodes(tile: bytes) -> tuple[tuple[bytes, ...], ...]:
    """All whole nodes above the hashes of a tile, level by level: pure, so remembering it by its bytes is safe."""
    level = [tile[place : place + HASH_BYTES] for place in range(0, len(tile), HASH_BYTES)]
    levels = []
    while len(level) > 1:
        level = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
        levels.append(tuple(level))
    return tuple(levels)


def _subtree_root(begin: int, end: int, size: int, read_tile: TileReader) -> bytes:
    """MTH(D[begin:end]) for ``begin`` a multiple of the least power of two ≥ the length, in a tree of ``size``."""
    length = end - begin
    if length & (length - 1) == 0:
        height = length.bit_length() - 1
        tile_level, inner = divmod(height, TILE_HEIGHT)
        first = begin >> (TILE_HEIGHT * tile_level)
        index, offset = divmod(first, TILE_WIDTH)
        available = min(TILE_WIDTH, (size >> (TILE_HEIGHT * tile_level)) - index * TILE_WIDTH)
        return _range_root(read_tile(tile_level, index, available), offset, 1 << inner)
    split = 1 << ((length - 1).bit_length() - 1)
    return node_hash(
        _subtree_root(begin, begin + split, size, read_tile), _subtree_root(begin + split, end, size, read_tile)
    )


def tree_root(size: int, read_tile: TileReader) -> bytes:
    """Root of the tree of ``size`` entries from its tiles."""
    return _subtree_root(0, size, size, read_tile) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read_tile: TileReader) -> list[bytes]:
    """PATH(index, D[0:size]) of RFC 6962 §2.1.1, from the leaf's sibling up; ``InputInvalid`` out of range."""
    if not 0 <= index < size:
        raise InputInvalid("ledger.index_range", f"there is no entry {index} in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if index < middle:
            path.append(_subtree_root(middle, end, size, read_tile))
            end = middle
        else:
            path.append(_subtree_root(begin, middle, size, read_tile))
            begin = middle
    return path[::-1]


def inclusion_proofs(indices: Iterable[int], size: int, read_tile: TileReader) -> list[list[bytes]]:
    """``inclusion_proof`` of many entries in one tree: what their paths share is made once."""
    known: dict[tuple[int, int], bytes] = {}
    proofs = []
    for index in indices:
        if not 0 <= index < size:
            raise InputInvalid("ledger.index_range", f"there is no entry {index} in a tree of {size}")
        path: list[bytes] = []
        begin, end = 0, size
        while end - begin > 1:
            middle = begin + (1 << ((end - begin - 1).bit_length() - 1))
            side = (middle, end) if index < middle else (begin, middle)
            if side not in known:
                known[side] = _subtree_root(*side, size, read_tile)
            path.append(known[side])
            begin, end = (begin, middle) if index < middle else (middle, end)
        proofs.append(path[::-1])
    return proofs


def consistency_proof(old_size: int, new_size: int, read_tile: TileReader) -> list[bytes]:
    """PROOF(old_size, D[0:new_size]) of RFC 6962 §2.1.2; empty for ``old_size`` 0 or equal sizes."""
    if not 0 <= old_size <= new_size:
        raise InputInvalid("ledger.size_range", f"no consistency proof from size {old_size} to {new_size}")
    if old_size in (0, new_size):
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, new_size, True
    while old_size != end:
        middle = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if old_size <= middle:
            proof.append(_subtree_root(middle, end, new_size, read_tile))
            end = middle
        else:
            proof.append(_subtree_root(begin, middle, new_size, read_tile))
            begin, whole = middle, False
    if not whole:
        proof.append(_subtree_root(begin, end, new_size, read_tile))
    return proof[::-1]


def tile_path(level: int | str, index: int, width: int) -> str:
    """``tile/<L>/<N>[.p/<W>]`` of tlog-tiles; ``level`` is a number or ``entries``."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    suffix = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"


def tiles_of_size(size: int) -> Iterator[tuple[int, int, int]]:
    """All tiles of a tree of ``size`` entries as (level, index, width), level by level."""
    level = 0
    while size >> (TILE_HEIGHT * level):
        count = size >> (TILE_HEIGHT * level)
        for index in range(count >> TILE_HEIGHT):
            yield level, index, TILE_WIDTH
        if count % TILE_WIDTH:
            yield level, count >> TILE_HEIGHT, count % TILE_WIDTH
        level += 1


def checked_tile(level: int, index: int, width: int, data: bytes | None) -> bytes:
    """The first ``width`` hashes of ``data``, or ``VerificationFailed`` (``ledger.tile_short``)."""
    if data is None or len(data) < width * HASH_BYTES or len(data) % HASH_BYTES:
        raise VerificationFailed(
            "ledger.tile_short",
            f"tile {tile_path(level, index, width)} is missing or too short",
            "restore the ledger from a copy that verifies",
        )
    return data[: width * HASH_BYTES]
