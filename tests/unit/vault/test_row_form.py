"""The bytes of a record: each type as the format says, slices and nulls included; strict when read back."""

from __future__ import annotations

import datetime as dt
import decimal
import struct
from typing import Any

import pyarrow as pa
import pytest

from safehold.vault.fields import describe
from safehold.vault.row_form import decode_row, encode_rows, rows_of
from tests.vault_kit import outcome

MOMENT = dt.datetime(1960, 1, 1)
COLUMNS: dict[str, tuple[Any, bytes, Any]] = {
    "null": (pa.array([None], pa.null()), b"\0", None),
    "bool": (pa.array([True]), b"\2", True),
    "int8": (pa.array([-3], pa.int8()), b"\3" + struct.pack(">q", -3), -3),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), b"\x09" + b"\xff" * 8, 2**64 - 1),
    "half": (pa.array([1.5], pa.float32()), b"\4" + struct.pack(">d", 1.5), 1.5),
    "text": (pa.array(["zü"]), b"\5\0\0\0\3z\xc3\xbc", "zü"),
    "large": (pa.array(["a"], pa.large_string()), b"\5\0\0\0\1a", "a"),
    "bytes": (pa.array([b"\0\1"]), b"\6\0\0\0\2\0\1", b"\0\1"),
    "fixed": (pa.array([b"ab"], pa.binary(2)), b"\6\0\0\0\2ab", b"ab"),
    "time": (pa.array([MOMENT], pa.timestamp("us")), b"\3" + struct.pack(">q", -315619200000000), -315619200000000),
    "day": (pa.array([dt.date(1970, 1, 3)]), b"\3" + struct.pack(">q", 2), 2),
    "decimal": (pa.array([decimal.Decimal("1.50")]), b"\6\0\0\0\x041.50", b"1.50"),
    "list": (pa.array([[1, None]]), b"\7\0\0\0\2\3" + struct.pack(">q", 1) + b"\0", [1, None]),
    "struct": (pa.array([{"a": "x", "b": None}], pa.struct({"a": pa.string(), "b": pa.int64()})), b"\x08\5\0\0\0\1x\0", {"a": "x", "b": None}),
    "map": (pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())), b"\7\0\0\0\1\x08\5\0\0\0\1k\5\0\0\0\1v", [{"key": "k", "value": "v"}]),
    "dictionary": (pa.array(["a"]).dictionary_encode(), b"\5\0\0\0\1a", "a"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_each_type_has_its_bytes_and_comes_back(name: str) -> None:
    array, expected, value = COLUMNS[name]
    batch = pa.RecordBatch.from_arrays([array], names=["c"])
    assert list(rows_of([batch], ["c"])) == [expected]
    assert decode_row(expected, describe(batch.schema)) == [value]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_slice_has_the_bytes_of_its_rows(name: str) -> None:
    array, expected, _ = COLUMNS[name]
    nothing = pa.nulls(1, array.type)
    whole = pa.RecordBatch.from_arrays([pa.concat_arrays([nothing, array, nothing, array])], names=["c"])
    assert list(rows_of([whole], ["c"])) == [b"\0", expected, b"\0", expected]
    assert list(rows_of([whole.slice(1, 2)], ["c"])) == [expected, b"\0"]
    assert list(rows_of([whole.slice(3)], ["c"])) == [expected]


def test_columns_follow_one_another_in_the_order_asked_for() -> None:
    batch = pa.RecordBatch.from_pydict({"a": ["x"], "b": [True]})
    assert list(rows_of([batch], ["b", "a"])) == [b"\2\5\0\0\0\1x"]
    assert encode_rows([], 2) == [b"", b""]


BROKEN = {
    "empty": b"",
    "cut in a number": b"\3\0\0",
    "cut in a text": b"\5\0\0\0\x09abc",
    "a length that lies": b"\5\xff\xff\xff\xffa",
    "another type": b"\2",
    "no such tag": b"\x2a",
    "not UTF-8": b"\5\0\0\0\1\xff",
    "more than the columns": b"\5\0\0\0\1a\0",
}


@pytest.mark.parametrize("name", BROKEN)
def test_other_bytes_are_refused(name: str) -> None:
    columns = describe(pa.schema({"c": pa.string()}))
    assert outcome(lambda: decode_row(BROKEN[name], columns))[1] == "vault.row_form"


def test_a_list_that_claims_more_than_there_is_costs_nothing() -> None:
    columns = describe(pa.schema({"c": pa.list_(pa.string())}))
    assert outcome(lambda: decode_row(b"\7\xff\xff\xff\xff\0", columns))[1] == "vault.row_form"


def test_a_small_number_has_one_form() -> None:
    columns = describe(pa.schema({"c": pa.uint64()}))
    assert outcome(lambda: decode_row(b"\x09" + struct.pack(">Q", 5), columns))[1] == "vault.row_form"
