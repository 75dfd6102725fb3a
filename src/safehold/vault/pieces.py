"""Reading some columns of a part file and checking just the bytes that they lie in.

The SHA-256 of a part needs all of its bytes, and a reader of two columns of eight wants a few of them. So a Parquet part file
ends in a **tail** whose size and SHA-256 stand in the signed manifest: first the SHA-256 of each *piece* of 256 KiB of what
lies before the tail, then Parquet's own footer, which tells where the columns lie. Whoever has checked the tail knows from
signed bytes which pieces hold a column, and what each of them must hash to. It is a hash tree of two levels.

GCM alone would not do: everyone who may read a part has its key, and with it could write other pages that decrypt (ADR 0024).

Reading is by ranges, from a file or from a store alike; the footer is parsed from checked bytes alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from safehold.model.errors import VerificationFailed
from safehold.vault.manifest import PartFile
from safehold.vault.parquet_form import open_part

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PIECE", "Asked", "PartColumns", "PieceHasher", "altered_part", "checked_ranges", "whole_part"]

PIECE: Final = 256 * 1024
"""Bytes of a piece; the last one before the tail may be shorter."""

_DIGEST: Final = 32

_ReadAt = Callable[[int, int], bytes | memoryview]
"""Bytes of a part from a place on, fewer only where it ends; they may change at the next call."""


class PartColumns(msgspec.Struct, frozen=True):
    """Some columns of a part file that has a tail, and the key that reads its footer; ``repr`` shows no key."""

    part: PartFile
    names: tuple[str, ...]
    key: bytes

    def __repr__(self) -> str:
        return f"PartColumns({self.part.file}, {', '.join(self.names)})"


Asked = PartFile | PartColumns
"""What is asked of a part file: all of it, or some columns."""


def whole_part(asked: Asked) -> PartFile:
    """The part file that ``asked`` is of."""
    return asked.part if isinstance(asked, PartColumns) else asked


class PieceHasher:
    """The SHA-256 of each piece of what is written."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._hasher = hashlib.sha256()
        self._room = PIECE

    def update(self, data: bytes) -> None:
        """Take all of ``data``."""
        view = memoryview(data)
        while len(view) >= self._room:
            self._hasher.update(view[: self._room])
            view = view[self._room :]
            self._digests += self._hasher.digest()
            self._hasher, self._room = hashlib.sha256(), PIECE
        self._hasher.update(view)
        self._room -= len(view)

    def digests(self) -> bytes:
        """Of all pieces so far, 32 bytes each, the last one included if it has begun."""
        return bytes(self._digests) + (self._hasher.digest() if self._room < PIECE else b"")


def checked_ranges(
    read_at: _ReadAt, asked: PartColumns, window: int = PIECE
) -> Iterator[tuple[int, bytes | memoryview]]:
    """The tail and every piece that holds bytes of the columns, with their places, each checked before it is given.

    Reads at most ``window`` bytes at a time, and a piece at least. Raises ``VerificationFailed`` (``vault.part_truncated``, ``vault.part_altered``).
    """
    part = asked.part
    if part.tail is None:
        raise altered_part(part, "it has no tail")
    body = part.size - part.tail.size
    tail = bytes(_read(read_at, part, body, part.tail.size))
    if "sha256:" + hashlib.sha256(tail).hexdigest() != part.tail.sha256:
        raise altered_part(part, "its tail is another")
    count = -(-body // PIECE)
    if len(tail) < count * _DIGEST:
        raise altered_part(part, "its tail has not a digest for each piece")
    yield body, tail
    digests = memoryview(tail)[: count * _DIGEST]
    most = max(1, window // PIECE)
    for first, last in _runs(_pieces_of(asked, tail, body), most):
        data = _read(read_at, part, first * PIECE, min(last * PIECE, body) - first * PIECE)
        view = memoryview(data)
        for number in range(first, last):
            piece = view[(number - first) * PIECE : (number - first + 1) * PIECE]
            if hashlib.sha256(piece).digest() != digests[number * _DIGEST : (number + 1) * _DIGEST]:
                raise altered_part(part, f"the bytes from {number * PIECE:,} on are others")
        yield first * PIECE, data


def _read(read_at: _ReadAt, part: PartFile, start: int, length: int) -> bytes | memoryview:
    data = read_at(start, length)
    if len(data) != length:
        raise VerificationFailed(
            "vault.part_truncated",
            f"the part {part.file} ends within {length:,} bytes from {start:,} on",
            "fetch the release again",
        )
    return data


def _pieces_of(asked: PartColumns, tail: bytes, body: int) -> list[int]:
    """The numbers of the pieces before the tail that hold bytes of the columns, rising."""
    found: set[int] = set()
    for start, end in _column_ranges(asked, tail):
        if not 0 <= start <= end <= asked.part.size:
            raise altered_part(asked.part, "its footer names bytes that it does not have")
        found.update(range(start // PIECE, -(-min(end, body) // PIECE)))
    return sorted(found)


def _column_ranges(asked: PartColumns, tail: bytes) -> Iterator[tuple[int, int]]:
    """Where the columns lie, as Arrow computes it before it reads them (``ComputeColumnChunkRange``)."""
    import pyarrow as pa  # late: see `parquet_form`

    try:
        # Arrow finds the footer from the end; places in it count from the start of the file.
        file = open_part(pa.BufferReader(tail), asked.key, asked.part.aad)
        metadata = file.metadata
        leaves = _leaves(file.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise altered_part(asked.part, "its footer does not decrypt with its key") from error
    if len(leaves) != metadata.num_columns:
        yield 0, asked.part.size  # not understood: everything is checked
        return
    wanted = [place for place, name in enumerate(leaves) if name in asked.names]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in wanted:
            chunk = group.column(place)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            yield start, start + chunk.total_compressed_size


def _leaves(schema: pa.Schema) -> list[str]:
    """For each column of Parquet's own, in order, the name of the column of the table that it belongs to."""
    return [field.name for field in schema for _ in range(_leaf_count(field.type))]


def _leaf_count(kind: Any) -> int:
    return sum(_leaf_count(kind.field(place).type) for place in range(kind.num_fields)) or 1


def _runs(numbers: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring numbers as stretches ``first`` to before ``last``, of at most ``most``."""
    first = last = -1
    for number in numbers:
        if number != last or last - first >= most:
            if first >= 0:
                yield first, last
            first = number
        last = number + 1
    if first >= 0:
        yield first, last


def altered_part(part: PartFile, reason: str) -> VerificationFailed:
    """What is raised of a part file that is not what the manifest says: ``vault.part_altered``."""
    return VerificationFailed(
        "vault.part_altered",
        f"the part {part.file} is not the one that was sealed: {reason}",
        "fetch the release again",
    )
