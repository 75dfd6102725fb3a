"""Merkle arithmetic of RFC 6962 §2.1 over C2SP tlog-tiles: pure, no I/O.

Three things live here: the two hashes, the ``Frontier`` (what a writer must remember to append: the roots of
the complete subtrees and the open tile of each level) and the makers of proofs, which read hashes through any
``TileReader``. Verifying proofs is in ``proof``; nothing here is trusted by a verifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
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
    "InclusionProofs",
    "TileReader",
    "checked_tile",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "leaf_hashes",
    "node_hash",
    "tile_path",
    "tile_root",
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


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """``leaf_hash`` of each."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


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
        self._peaks: list[bytes | None] = []  # at [h]: the subtree of 2^h leaves at the right edge, if there is one
        self.open_tiles: list[bytearray] = []

    @classmethod
    def from_tiles(cls, size: int, read_tile: TileReader) -> Frontier:
        """Rebuild from the partial tiles of a tree of ``size`` entries; reads at most one tile a level."""
        frontier = cls()
        frontier.size = size
        level = 0
        while size >> (TILE_HEIGHT * level):
            width = (size >> (TILE_HEIGHT * level)) % TILE_WIDTH
            tile = read_tile(level, (size >> (TILE_HEIGHT * level)) >> TILE_HEIGHT, width) if width else b""
            frontier.open_tiles.append(bytearray(tile))
            start = width
            for height in range(TILE_HEIGHT):
                peak = None
                if width >> height & 1:
                    start -= 1 << height
                    peak = _range_root(tile, start, 1 << height)
                frontier._peaks.append(peak)
            level += 1
        return frontier

    def copy(self) -> Frontier:
        """An independent frontier: appending to one leaves the other as it was."""
        twin = Frontier()
        twin.size = self.size
        twin._peaks = self._peaks.copy()
        twin.open_tiles = [bytearray(tile) for tile in self.open_tiles]
        return twin

    def append(self, leaf: bytes, full_tiles: dict[tuple[int, int], bytes]) -> None:
        """Add one leaf hash: see ``extend``."""
        self.extend([leaf], full_tiles)

    def extend(self, leaves: Sequence[bytes], full_tiles: dict[tuple[int, int], bytes], level: int = 0) -> None:
        """Add leaf hashes; the tiles that they complete go into ``full_tiles`` under (level, index).

        With ``level`` these are roots of whole tiles of the level below: then the size must be a multiple of theirs, and
        nothing is known of the levels below.
        """
        height = TILE_HEIGHT * level
        sha256, nodes, place = hashlib.sha256, leaves, self.size >> height
        self._peaks += [None] * (height - len(self._peaks))
        self.open_tiles += [bytearray() for _ in range(level - len(self.open_tiles))]
        self.size += len(leaves) << height
        while nodes:  # the whole subtrees of 2^height leaves that are new, the first of them at ``place``
            if height == len(self._peaks):
                self._peaks.append(None)
            if height % TILE_HEIGHT == 0:
                self._push(height // TILE_HEIGHT, nodes, place, full_tiles)
            peak = self._peaks[height]
            if peak is not None:  # the left half of a subtree of which the first new one is the right half
                nodes = [peak, *nodes]
            self._peaks[height] = nodes[-1] if len(nodes) & 1 else None
            halves = iter(nodes)  # of two neighbours each: node_hash, without the call
            nodes = [sha256(b"\x01" + left + right).digest() for left, right in zip(halves, halves, strict=False)]
            place >>= 1
            height += 1

    def _push(self, level: int, hashes: Sequence[bytes], place: int, full: dict[tuple[int, int], bytes]) -> None:
        if level == len(self.open_tiles):
            self.open_tiles.append(bytearray())
        tile = self.open_tiles[level]
        tile += b"".join(hashes)
        index = place // TILE_WIDTH
        while len(tile) >= TILE_BYTES:
            full[level, index] = bytes(tile[:TILE_BYTES])
            del tile[:TILE_BYTES]
            index += 1

    def partial_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """The open tile of each level that holds something: (level, index, hashes)."""
        for level, tile in enumerate(self.open_tiles):
            if tile:
                yield level, self.size >> (TILE_HEIGHT * (level + 1)), bytes(tile)

    def root(self) -> bytes:
        """The Merkle Tree Hash of all entries (RFC 6962 §2.1)."""
        root = None
        for peak in self._peaks:
            if peak is not None:
                root = peak if root is None else node_hash(peak, root)
        return EMPTY_ROOT if root is None else root


def _range_root(tile: bytes | bytearray, start: int, width: int) -> bytes:
    """Root of ``width`` (a power of two) consecutive hashes of one tile, ``start`` a multiple of it."""
    if width == 1:
        return bytes(tile[start * HASH_BYTES : (start + 1) * HASH_BYTES])
    place = start // width * HASH_BYTES
    return _inner_nodes(bytes(tile))[width.bit_length() - 2][place : place + HASH_BYTES]


def tile_root(tile: bytes) -> bytes:
    """The root of the subtree above a full tile."""
    return _nodes(tile)[-1]


@lru_cache(maxsize=256)
def _inner_nodes(tile: bytes) -> tuple[bytes, ...]:
    """All whole nodes above the hashes of a tile, level by level: pure, so remembering it by its bytes is safe."""
    return _nodes(tile)


def _nodes(tile: bytes) -> tuple[bytes, ...]:
    sha256, pair, levels, level = hashlib.sha256, 2 * HASH_BYTES, list[bytes](), tile
    while len(level) >= pair:
        places = range(0, len(level) // pair * pair, pair)
        # node_hash of two neighbours, which lie side by side
        level = b"".join([sha256(b"\x01" + level[place : place + pair]).digest() for place in places])
        levels.append(level)
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
    return InclusionProofs(size, read_tile).path(index)


class InclusionProofs:
    """Inclusion proofs of many entries of one tree: what their paths share is read and hashed once for all of them."""

    def __init__(self, size: int, read_tile: TileReader) -> None:
        self._size = size
        self._read = read_tile
        self._rows: dict[tuple[int, int], tuple[bytes, ...]] = {}  # of a tile: its hashes, and all whole nodes above
        self._edges: dict[tuple[int, int], bytes] = {}  # roots of what is no whole subtree, at the right edge

    def path(self, index: int) -> list[bytes]:
        """As ``inclusion_proof``."""
        size = self._size
        if not 0 <= index < size:
            raise InputInvalid("ledger.index_range", f"there is no entry {index} in a tree of {size}")
        path: list[bytes] = []
        rows: tuple[bytes, ...] = ()  # of the tile that holds this place and its neighbour
        place, last, first = index, size - 1, 0
        for height in range(last.bit_length()):
            inner = height % TILE_HEIGHT
            if inner == 0:
                number = place >> TILE_HEIGHT
                first = number << TILE_HEIGHT
                rows = self._rows_of(height // TILE_HEIGHT, number)
            neighbour = place ^ 1
            if (neighbour + 1) << height <= size:
                at = (neighbour - (first >> inner)) * HASH_BYTES
                path.append(rows[inner][at : at + HASH_BYTES])
            elif neighbour <= last:
                path.append(self._edge(height, neighbour))
            place >>= 1
            last >>= 1
        return path

    def _rows_of(self, level: int, number: int) -> tuple[bytes, ...]:
        rows = self._rows.get((level, number))
        if rows is None:
            width = min(TILE_WIDTH, (self._size >> (TILE_HEIGHT * level)) - (number << TILE_HEIGHT))
            tile = self._read(level, number, width) if width > 0 else b""
            rows = self._rows[level, number] = (tile, *_inner_nodes(tile))
        return rows

    def _edge(self, height: int, place: int) -> bytes:
        root = self._edges.get((height, place))
        if root is None:
            root = self._edges[height, place] = _subtree_root(place << height, self._size, self._size, self._read)
        return root


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
