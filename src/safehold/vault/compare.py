"""Are these records the same? By bits, never by a digest, and inside Arrow wherever it can.

``same_bits`` compares two columns value by value: 0.0 is not -0.0, and a NaN is itself. ``row_numbers`` gives records
numbers such that two records have one number if and only if they are equal, so that what is left is the comparison of
two lists of integers (``align``). Numbers come from Arrow's own dictionaries of the values; nested columns take a slower
way through their JSON.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Piece", "align", "row_numbers", "same_bits"]

_AHEAD: Final = 64
"""How far a single equal record may lie ahead and still be taken for the same one; further on, two must be equal."""


class Piece(msgspec.Struct, frozen=True):
    """``rows`` records of the new sequence from ``first`` on; ``old`` is where they stand in the old one, None: nowhere."""

    first: int
    rows: int
    old: int | None


def same_bits(left: Any, right: Any) -> bool:
    """Whether two Arrow arrays of one type hold the same values, bit for bit."""
    kind = left.type
    if not kind.equals(right.type) or len(left) != len(right) or left.null_count != right.null_count:
        return False
    if pa.types.is_dictionary(kind):
        # Two dictionaries may number the same values differently.
        return same_bits(left.cast(kind.value_type), right.cast(kind.value_type))
    if left.null_count and not left.is_valid().equals(right.is_valid()):
        return False
    if pa.types.is_floating(kind):
        bits = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
        return bool(left.drop_null().view(bits).equals(right.drop_null().view(bits)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(left).equals(pc.list_value_length(right))
        return bool(lengths) and same_bits(left.flatten(), right.flatten())
    if pa.types.is_struct(kind):
        return all(same_bits(a, b) for a, b in zip(left.flatten(), right.flatten(), strict=True))
    if pa.types.is_nested(kind):
        return bool(_plain(left).equals(_plain(right)))
    return bool(left.equals(right))


def row_numbers(tables: Sequence[pa.Table]) -> list[list[int]]:
    """For each table the number of each of its records; equal records, wherever they stand, have one number."""
    whole = pa.concat_tables(tables).combine_chunks()
    numbers: Any = pa.repeat(pa.scalar(0, pa.int64()), whole.num_rows)
    for column in whole.columns:
        values = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        encoded = _plain(values).dictionary_encode()
        count = len(encoded.dictionary) + 1
        own = pc.cast(pc.fill_null(encoded.indices, count - 1), pa.int64())
        # Both factors are below 2^31: the pair of numbers is one number, and the next dictionary makes it small again.
        paired = pc.add(pc.multiply(numbers, count), own)
        numbers = pc.cast(paired.dictionary_encode().indices, pa.int64())
    found: list[list[int]] = []
    first = 0
    for table in tables:
        found.append(numbers.slice(first, table.num_rows).to_pylist())
        first += table.num_rows
    return found


def _plain(values: Any) -> Any:
    """The values in a type that a dictionary can be made of, equal exactly where they are."""
    kind = values.type
    if pa.types.is_floating(kind):
        return values.view({16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width])
    if pa.types.is_dictionary(kind):
        # Equal values are equal, whatever their numbers in the dictionary.
        return _plain(values.cast(kind.value_type))
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        texts = (None if value is None else json.dumps(value, default=repr) for value in values.to_pylist())
        return pa.array(texts, pa.large_string())
    return values


def align(old: Sequence[int], new: Sequence[int]) -> list[Piece]:
    """The new sequence in pieces that stand in the old one too, in its order, and pieces that do not."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(old):
        places.setdefault(number, []).append(place)
    pieces: list[Piece] = []
    at = place = fresh = 0
    while at < len(new):
        found = place if place < len(old) and old[place] == new[at] else _ahead(old, new, at, place, places)
        if found is None:
            at += 1
            continue
        if fresh < at:
            pieces.append(Piece(fresh, at - fresh, None))
        first, begin = at, found
        while at < len(new) and found < len(old) and old[found] == new[at]:
            at, found = at + 1, found + 1
        pieces.append(Piece(first, at - first, begin))
        place, fresh = found, at
    if fresh < at:
        pieces.append(Piece(fresh, at - fresh, None))
    return pieces


def _ahead(old: Sequence[int], new: Sequence[int], at: int, place: int, places: dict[int, list[int]]) -> int | None:
    """Where the record ``at`` of the new sequence stands in the old one from ``place`` on, if that is no accident."""
    known = places.get(new[at])
    if known is None:
        return None
    index = bisect_left(known, place)
    if index == len(known):
        return None
    found = known[index]
    if found - place <= _AHEAD:
        return found
    both = at + 1 < len(new) and found + 1 < len(old)
    return found if both and old[found + 1] == new[at + 1] else None
