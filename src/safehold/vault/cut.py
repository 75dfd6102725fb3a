"""Where a part ends: told by the records themselves, so that an edit changes few parts.

Parts are runs of neighbouring records. After each record a small keyed number is looked at; where it is below a bound,
the part ends. The number depends on this record and the three before it alone, so wherever a later input holds the same
records, its parts end at the same places, and an inserted record moves one end at most. A part has no fewer than half
the usual number of records and no more than twice as many.

What the number is made of is cheap, since it is made for every record:

* the value of the record-id column, if one is named (integers as they are; texts by length and last eight bytes);
* otherwise the *shape* of the record: its integers, the lengths of its texts and lists; where the first records look too
  much alike in that, the last bytes of its texts too. Two records of one shape are no mistake: what a part holds is
  compared value by value before an older file stands for it (``reuse``).

The multipliers are secrets of the dataset: how many records a part has is public and must say nothing about an id.
All of it runs inside Arrow, a few additions a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from safehold.model.errors import InputInvalid
from safehold.vault.manifest import RecordId

__all__ = ["Chunk", "CutRule", "cut"]

_WINDOW: Final = 4
_MAX_SHAPED: Final = 32
"""Columns that a record's shape is made of: more tell nothing new."""
_MIX: Final = -49_064_778_989_728_563
"""An odd multiplier (0xFF51AFD7ED558CCD of MurmurHash3) that spreads the sum of the window over its upper bits."""


class Chunk(msgspec.Struct, frozen=True):
    """The records of one part: batches in order, how many records, and the tag of the part."""

    batches: tuple[pa.RecordBatch, ...]
    rows: int
    tag: str


class CutRule(msgspec.Struct, frozen=True, kw_only=True):
    """``rows``: about how many records a part gets; ``size``: bytes in memory that no part exceeds by much.

    ``counts``: the records of each part, where they are known already; then nothing is looked for. Records beyond them are
    cut by the rule.
    """

    record_id: RecordId
    rows: int
    size: int
    key: bytes
    counts: tuple[int, ...] = ()


def cut(batches: Iterable[pa.RecordBatch], rule: CutRule) -> Iterator[Chunk]:
    """The records of ``batches`` in parts, in order.

    Raises ``InputInvalid``: ``vault.record_id_type`` (the id is neither text nor integer) or ``vault.record_id_null``.
    """
    cutter = _Cutter(rule)
    for batch in batches:
        yield from cutter.add(batch)
    yield from cutter.end()


class _Cutter:
    def __init__(self, rule: CutRule) -> None:
        self._rule = rule
        self._least, self._most = max(1, rule.rows // 2), 2 * rule.rows
        # Ends are looked for beyond the least number: one in as many records gives the usual number on average.
        self._bound = pa.scalar(min(2**63 - 1, 2**63 // max(1, rule.rows - self._least)), pa.int64())
        self._multipliers = _multipliers(rule.key, _WINDOW + _MAX_SHAPED)
        self._before = pa.array([0] * (_WINDOW - 1), pa.int64())
        self._held: list[pa.RecordBatch] = []
        self._rows = self._size = 0
        self._tag = self._new_tag()
        self._part = 0
        self._deep: bool | None = None

    def _new_tag(self) -> Any:
        return hashlib.blake2b(digest_size=8, key=self._rule.key, person=b"safehold tag v2")

    def add(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        marks = self._marks(batch)
        ends = self._ends(marks)
        start = 0
        weight = batch.nbytes / max(1, batch.num_rows)
        while start < batch.num_rows:
            stop = self._next_end(ends, start, weight)
            last = stop is not None and stop <= batch.num_rows
            count = (stop if stop is not None and last else batch.num_rows) - start
            self._hold(batch.slice(start, count), marks.slice(start, count), count * weight)
            start += count
            if last:
                yield self._chunk()

    def _next_end(self, ends: list[int], start: int, weight: float) -> int | None:
        """Where the part that is being filled ends, counted in this batch; None or beyond it: not here."""
        if self._part < len(self._rule.counts):
            return start + max(1, self._rule.counts[self._part] - self._rows)
        fits = max(1, int((self._rule.size - self._size) / max(1.0, weight)))
        limit = start + min(self._most - self._rows, fits)
        least = start + self._least - self._rows
        found = next((end for end in ends if end > start and end >= least), None)
        return limit if found is None or limit < found else found

    def _hold(self, batch: pa.RecordBatch, marks: pa.Array, size: float) -> None:
        self._held.append(batch)
        self._rows += batch.num_rows
        self._size += int(size)
        self._tag.update(_raw(marks))

    def _chunk(self) -> Chunk:
        chunk = Chunk(tuple(self._held), self._rows, self._tag.hexdigest())
        self._held, self._rows, self._size, self._tag = [], 0, 0, self._new_tag()
        self._part += 1
        return chunk

    def end(self) -> Iterator[Chunk]:
        if self._rows:
            yield self._chunk()

    def _marks(self, batch: pa.RecordBatch) -> pa.Array:
        """One number a record."""
        column = self._rule.record_id.column
        if column is not None:
            return _id_numbers(batch, column, self._multipliers[_WINDOW:])
        total = self._shapes(batch)
        if self._deep is None:
            self._deep = 4 * len(total.unique()) < batch.num_rows
        if self._deep:
            for values in batch.columns[:_MAX_SHAPED]:
                for back, by in zip(range(4), self._multipliers[1:], strict=False):
                    byte = _byte_before_end(values, back)
                    total = total if byte is None else pc.add(pc.multiply(total, by), byte)
        return total

    def _shapes(self, batch: pa.RecordBatch) -> Any:
        total: Any = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
        for values, by in zip(batch.columns[:_MAX_SHAPED], self._multipliers[_WINDOW:], strict=False):
            shape = _shape(values)
            if shape is not None:
                total = pc.add(total, pc.multiply(pc.fill_null(shape, -1), by))
        return total

    def _ends(self, marks: pa.Array) -> list[int]:
        """How many records of this batch lie up to each place where a part may end."""
        window = pa.concat_arrays([self._before, marks])
        total: Any = None
        for back in range(_WINDOW):
            share = pc.multiply(window.slice(back, len(marks)), self._multipliers[back])
            total = share if total is None else pc.add(total, share)
        self._before = window.slice(len(window) - (_WINDOW - 1))
        mixed = pc.multiply(
            pc.bit_wise_xor(total, pc.shift_right(pc.bit_wise_and(total, _POSITIVE), _HALF)), _MIX_SCALAR
        )
        spread = pc.bit_wise_and(mixed, _POSITIVE)
        return [place + 1 for place in pc.indices_nonzero(pc.less(spread, self._bound)).to_pylist()]


_POSITIVE: Final = pa.scalar(2**63 - 1, pa.int64())
_HALF: Final = pa.scalar(32, pa.int64())
_MIX_SCALAR: Final = pa.scalar(_MIX, pa.int64())


def _multipliers(key: bytes, count: int) -> list[pa.Scalar]:
    """Odd 64-bit numbers out of the dataset's secret."""
    found = []
    for number in range(count):
        digest = hashlib.blake2b(number.to_bytes(4, "big"), digest_size=8, key=key, person=b"safehold cut v2").digest()
        found.append(pa.scalar(int.from_bytes(digest, "big", signed=True) | 1, pa.int64()))
    return found


def _raw(marks: pa.Array) -> memoryview:
    """The bytes of an int64 array without nulls."""
    return memoryview(marks.buffers()[1])[marks.offset * 8 : (marks.offset + len(marks)) * 8]


def _shape(values: pa.Array) -> Any:
    """A number of each value that is cheap to have: the value of an integer, the length of a text, bytes or list."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.cast(values, pa.int64(), safe=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return pc.cast(pc.binary_length(values), pa.int64())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.cast(pc.list_value_length(values), pa.int64())
    if pa.types.is_float64(kind) or (pa.types.is_temporal(kind) and kind.bit_width == 64):
        return values.view(pa.int64())
    return None


def _byte_before_end(values: pa.Array, back: int) -> Any:
    """One of the last bytes of each text; of a shorter text its first, and any for one that is empty."""
    if not pa.types.is_string(values.type) or not len(values):
        return None
    _, offsets, data = values.buffers()
    if data is None or not data.size:
        return None
    ends = pa.Array.from_buffers(pa.int32(), len(values) + 1, [None, offsets], offset=values.offset)
    place = pc.max_element_wise(pc.subtract(ends.slice(1), 1 + back), ends.slice(0, len(values)))
    place = pc.min_element_wise(place, pa.scalar(data.size - 1, pa.int32()))
    return pc.cast(pa.Array.from_buffers(pa.uint8(), data.size, [None, data]).take(place), pa.int64())


def _id_numbers(batch: pa.RecordBatch, column: str, multipliers: list[pa.Scalar]) -> pa.Array:
    values = batch.column(batch.schema.get_field_index(column))
    kind = values.type
    if values.null_count:
        raise InputInvalid(
            "vault.record_id_null", f"the record id {column!r} is null in a record", "choose another column"
        )
    if pa.types.is_integer(kind):
        return pc.multiply(pc.cast(values, pa.int64(), safe=False), multipliers[0])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        padded = pc.binary_join_element_wise(b"\0" * 8, pc.cast(values, pa.binary()), b"")
        tail = pc.cast(pc.binary_slice(padded, -8, 2**31 - 1), pa.binary(8)).view(pa.int64())
        length = pc.cast(pc.binary_length(values), pa.int64())
        return pc.add(pc.multiply(tail, multipliers[0]), pc.multiply(length, multipliers[1]))
    raise InputInvalid(
        "vault.record_id_type", f"the record id {column!r} is of type {kind}", "choose a column of texts or integers"
    )
