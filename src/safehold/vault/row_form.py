"""The values of a record as bytes: one form, so that two who hash a record get one digest.

A value is a tag of one byte and what follows it (``docs/spec/release.md``, "Row digests"):

==== ============ =======================================================
0    null         nothing
1, 2 false, true  nothing
3    integer      8 bytes, big-endian, two's complement; also days, times and durations in the unit of the column
4    double       8 bytes, big-endian IEEE 754; a smaller float is widened first
5    text         4 bytes of length, big-endian, and UTF-8
6    bytes        4 bytes of length, and the bytes; of any other type the text of its value, UTF-8
7    list         4 bytes of length, and the items; a map is a list of structs of key and value
8    struct       the members in the order of the column's description
9    natural      8 bytes, big-endian: an integer above 2^63 - 1
==== ============ =======================================================

``encode_rows`` works on Arrow's columns and never builds a Python object for a record; ``decode_row`` is strict: what it
takes, it would give again, and a length that lies is an error before anything of that size is made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from safehold.model.errors import VerificationFailed
from safehold.vault.fields import sealed_form
from safehold.vault.manifest import Field
from safehold.vault.maps import without_maps, without_maps_schema

__all__ = ["decode_row", "encode_rows", "rows_of"]

_NULL: Final = b"\x00"
_BOOLS: Final = (b"\x01", b"\x02")
_INTEGER: Final = struct.Struct(">Bq")
_NATURAL: Final = struct.Struct(">BQ")
_DOUBLE: Final = struct.Struct(">Bd")
_SIZED: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">I")
_LONG: Final = 2**63 - 1
_MAX_DEPTH: Final = 64


def encode_rows(columns: Sequence[pa.Array], count: int) -> list[bytes]:
    """The bytes of each of ``count`` records: the values of ``columns``, which are as long, one after the other."""
    encoded = [_encode(column) for column in columns]
    if len(encoded) == 1:
        return encoded[0]
    return list(map(b"".join, zip(*encoded, strict=True))) if encoded else [b""] * count


def _encode(values: Any) -> list[bytes]:
    """Each value of one array."""
    if isinstance(values, pa.ChunkedArray):
        return [one for chunk in values.chunks for one in _encode(chunk)]
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _encode(values.dictionary_decode())
    if pa.types.is_null(kind):
        return [_NULL] * len(values)
    made = _encode_valid(values, kind)
    if values.null_count:
        valid = values.is_valid().to_pylist()
        made = [one if there else _NULL for one, there in zip(made, valid, strict=True)]
    return made


def _encode_valid(values: Any, kind: pa.DataType) -> list[bytes]:
    """Each value as if none were null."""
    if pa.types.is_boolean(kind):
        return [_BOOLS[one] for one in pc.fill_null(values, fill_value=False).to_pylist()]
    if pa.types.is_floating(kind):
        pack = _DOUBLE.pack
        return [pack(4, one) for one in pc.cast(pc.fill_null(values, 0.0), pa.float64()).to_pylist()]
    if pa.types.is_integer(kind) or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind)):
        return _encode_integers(values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _encode_texts(5, pc.cast(values, pa.large_binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _encode_texts(6, pc.cast(values, pa.large_binary()))
    if pa.types.is_list(kind):
        return _encode_lists(values, _encode(values.flatten()))
    if pa.types.is_struct(kind):
        members = [_encode(member) for member in values.flatten()]
        return [b"\x08" + b"".join(row) for row in zip(*members, strict=True)] if members else [b"\x08"] * len(values)
    return _encode_texts(6, pa.array([str(one).encode() for one in values.to_pylist()], pa.large_binary()))


def _encode_integers(values: Any) -> list[bytes]:
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    pack, natural = _INTEGER.pack, _NATURAL.pack
    return [pack(3, one) if one <= _LONG else natural(9, one) for one in pc.fill_null(values, 0).to_pylist()]


def _encode_texts(tag: int, values: Any) -> list[bytes]:
    """Cut out of the array's own buffer: no object is made for a text but its bytes here."""
    if not len(values):
        return []
    _, offsets, data = values.buffers()
    ends = memoryview(offsets).cast("q")[values.offset : values.offset + len(values) + 1].tolist()
    held, pack = memoryview(data) if data is not None else memoryview(b""), _SIZED.pack
    starts = iter(ends)
    first = next(starts)
    made = []
    for end in starts:
        made.append(pack(tag, end - first) + bytes(held[first:end]))
        first = end
    return made


def _encode_lists(values: Any, items: list[bytes]) -> list[bytes]:
    """``items`` are those of all lists, one list after the other; those of a null are none of them."""
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_pylist()
    made, place, pack = [], 0, _SIZED.pack
    for length in lengths:
        made.append(pack(7, length) + b"".join(items[place : place + length]))
        place += length
    return made


def decode_row(data: bytes, columns: Sequence[Field]) -> list[Any]:
    """The values that ``data`` holds for ``columns``, as Arrow would give them to Python (maps as lists of pairs).

    Raises ``VerificationFailed`` (``vault.row_form``) for anything that ``encode_rows`` would not have made of them.
    """
    reader = _Reader(data)
    values = [reader.value(sealed_form(column), 0) for column in columns]
    if not reader.done:
        raise _broken("there is more than its columns hold")
    return values


class _Reader:
    """Takes values off the front of ``data``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def done(self) -> bool:
        return self._place == len(self._data)

    def _take(self, count: int) -> bytes:
        found = self._data[self._place : self._place + count]
        if len(found) != count:
            raise _broken("it ends in the middle of a value")
        self._place += count
        return found

    def value(self, field: Field, depth: int) -> Any:
        """One value of a column. The tag must be one that a column of this type can have."""
        if depth > _MAX_DEPTH:
            raise _broken("it is nested too deeply")
        tag = self._take(1)[0]
        if tag == 0:
            return None
        if tag not in _tags(field.type):
            raise _broken(f"a value of tag {tag} stands in the column {field.name[:60]!r} of type {field.type[:40]}")
        return self._plain(tag) if tag not in (7, 8) else self._nested(tag, field, depth)

    def _plain(self, tag: int) -> Any:
        if tag in (1, 2):
            return tag == 2
        if tag in _NUMBERS:
            form = _NUMBERS[tag]
            number = form(self._take(8))[0]
            if tag == 9 and number <= _LONG:
                raise _broken("a small number is written as a large one")
            return number
        data = self._take(_LENGTH.unpack(self._take(4))[0])
        if tag == 6:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise _broken("a text is not UTF-8") from error

    def _nested(self, tag: int, field: Field, depth: int) -> Any:
        if tag == 8:
            return {member.name: self.value(member, depth + 1) for member in field.fields}
        count = _LENGTH.unpack(self._take(4))[0]
        if count > len(self._data) - self._place:  # an item has a byte at least
            raise _broken("a list is said to be longer than all that follows")
        return [self.value(field.fields[0], depth + 1) for _ in range(count)]


_NUMBERS: Final[dict[int, Callable[[bytes], tuple[Any, ...]]]] = {
    3: struct.Struct(">q").unpack,
    4: struct.Struct(">d").unpack,
    9: struct.Struct(">Q").unpack,
}


def _tags(kind: str) -> frozenset[int]:
    """Which tags a column of this type (the name in the manifest) can have."""
    for names, tags in _TAGS:
        if kind.startswith(names):
            return tags
    return frozenset({6})


_TAGS: Final = (
    (("null",), frozenset[int]()),
    (("bool",), frozenset({1, 2})),
    (("int", "uint", "date", "time", "duration"), frozenset({3, 9})),
    (("double", "float", "halffloat"), frozenset({4})),
    (("string", "large_string"), frozenset({5})),
    (("list",), frozenset({7})),
    (("struct",), frozenset({8})),
    (("dictionary",), frozenset({1, 2, 3, 4, 5, 6, 9})),
)


def _broken(reason: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.row_form", f"these are not the bytes of a record: {reason}", "ask for the proof anew"
    )


def rows_of(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[bytes]:
    """The bytes of each record of ``batches`` in the columns ``names``; maps count as lists of pairs."""
    for batch in batches:
        chosen = batch.select(list(names))
        yield from encode_rows(without_maps(chosen, without_maps_schema(chosen.schema)).columns, chosen.num_rows)
