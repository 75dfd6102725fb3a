"""Canonical bytes: RFC 8785 as far as statements use it, and nothing that has two forms."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from typing import Any

import pytest

from safehold.model.encoding import canonical_bytes, decode_canonical, pretty_json
from safehold.model.errors import InputInvalid
from safehold.model.statements import Unknown


@pytest.mark.parametrize(
    ("value", "form"),
    [
        # RFC 8785 §3.2.2.2 and §3.2.3, without its numbers
        ({"string": '€$\x0f\nA\'B"\\\\"/'}, b'{"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'),
        ({"literals": [None, True, False]}, b'{"literals":[null,true,false]}'),
        ("\b\t\n\f\r\x00\x1f\x7f/", b'"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f/"'),
        ("\u2028\U0001f600", '"\u2028\U0001f600"'.encode()),
        ({"b": 1, "a": 2, "B": 3, "": 4, "aa": 5, "1": 6}, b'{"":4,"1":6,"B":3,"a":2,"aa":5,"b":1}'),
        (2**53 - 1, b"9007199254740991"),
        (-(2**53) + 1, b"-9007199254740991"),
        (0, b"0"),
        ([], b"[]"),
        ({}, b"{}"),
        ((1, (2,)), b"[1,[2]]"),
    ],
)
def test_the_canonical_form(value: Any, form: bytes) -> None:
    assert canonical_bytes(value) == form
    assert canonical_bytes(decode_canonical(form)) == form


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.0, "model.float"),
        ([0.5], "model.float"),
        (float("nan"), "model.float"),
        (2**53, "model.integer_range"),
        (-(2**53), "model.integer_range"),
        ({"a": 2**100}, "model.integer_range"),
        ({1: 2}, "model.member_name"),
        ({"é": 1}, "model.member_name"),
        ({None: 1}, "model.member_name"),
        ("\ud800", "model.encode"),
        ({"a": "\udfff"}, "model.encode"),
        (b"bytes", "model.type"),
        (bytearray(b"x"), "model.type"),
        ({1, 2}, "model.type"),
        (frozenset("ab"), "model.type"),
        (dt.date(2026, 3, 24), "model.type"),
        (decimal.Decimal(1), "model.type"),
        (uuid.UUID(int=1), "model.type"),
        (object(), "model.type"),
        (Unknown("a", 1, b"{}"), "model.type"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any, code: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        canonical_bytes(value)
    assert caught.value.code == code


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InputInvalid) as caught:
        canonical_bytes(deep)
    assert caught.value.code == "model.too_deep"
    for count in (200, 100_000):
        with pytest.raises(InputInvalid) as caught:
            decode_canonical(b"[" * count + b"]" * count)
        assert caught.value.code in {"model.too_deep", "model.not_json"}


@pytest.mark.parametrize(
    "data",
    [
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u000A"',
        b'"\\u001F"',
        b'"\\ud83d\\ude00"',
        b"-0",
    ],
)
def test_json_that_is_not_canonical_is_refused(data: bytes) -> None:
    json.loads(data)
    with pytest.raises(InputInvalid) as caught:
        decode_canonical(data)
    assert caught.value.code == "model.not_canonical"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"\xff", b'"\xed\xa0\x80"', b'{"a":1}x', b"NaN", b"01", b"\xef\xbb\xbf1"]
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InputInvalid) as caught:
        decode_canonical(data)
    assert caught.value.code == "model.not_json"


@pytest.mark.parametrize("data", [b"1.0", b"1e2", b"9007199254740992", b'{"\xc3\xa9":1}'])
def test_json_beyond_the_subset_is_refused(data: bytes) -> None:
    with pytest.raises(InputInvalid):
        decode_canonical(data)


def test_json_for_people_keeps_the_order() -> None:
    assert pretty_json({"b": 1, "a": [1]}) == '{\n  "b": 1,\n  "a": [\n    1\n  ]\n}'
