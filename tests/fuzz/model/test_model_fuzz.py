"""Whatever comes in: our error, or a success that goes there and back; nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehold.model import ids
from safehold.model.contents import contents_items
from safehold.model.encoding import canonical_bytes, decode_canonical
from safehold.model.errors import InputInvalid
from safehold.model.statements import Unknown, decode, encode
from tests.ledger_kit import CONTENTS, one_of_each

BODIES = [encode(statement) for statement in one_of_each().values()]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def _decode(body: bytes) -> None:
    with contextlib.suppress(InputInvalid):
        statement = decode(body)
        assert (statement.body if isinstance(statement, Unknown) else encode(statement)) == body


@given(st.binary(max_size=300))
def test_any_bytes_as_an_entry(body: bytes) -> None:
    _decode(body)


@given(st.sampled_from(BODIES), st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 4))
def test_a_good_entry_with_bytes_replaced(body: bytes, at: int, new: bytes, cut: int) -> None:
    at %= len(body)
    _decode(body[:at] + new + body[at + cut :])


@given(st.sampled_from(BODIES), st.sampled_from(["t", "v", "kind", "by", "subject", "groups", "other"]), JSON)
def test_a_good_entry_with_a_field_replaced(body: bytes, name: str, value: Any) -> None:
    with contextlib.suppress(InputInvalid):
        _decode(canonical_bytes(decode_canonical(body) | {name: value}))


@given(JSON | st.binary(max_size=9) | st.sets(st.integers()))
def test_any_value_has_one_form_or_none(value: Any) -> None:
    with contextlib.suppress(InputInvalid):
        assert canonical_bytes(decode_canonical(canonical_bytes(value))) == canonical_bytes(value)


@given(
    st.text(st.characters(), max_size=100).flatmap(
        lambda text: st.sampled_from([text, f'["{text}"]', "[" * len(text) * 50])
    )
)
def test_any_text_as_canonical_json(text: str) -> None:
    with contextlib.suppress(InputInvalid, UnicodeEncodeError):
        data = text.encode()
        assert canonical_bytes(decode_canonical(data)) == data


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(CONTENTS)), st.binary(max_size=3)).map(
    lambda change: CONTENTS[: change[0]] + change[1] + CONTENTS[change[0] + len(change[1]) :]
))  # fmt: skip
def test_any_bytes_as_contents(data: bytes) -> None:
    with contextlib.suppress(InputInvalid):
        assert isinstance(contents_items(data, files=True), tuple)


@pytest.mark.parametrize("name", sorted(name for name in ids.__all__ if name.startswith("parse_")))
@given(st.text(st.characters(), max_size=80) | st.from_regex(r"[a-z]{1,8}[:/@-][a-z0-9/@:-]{0,70}", fullmatch=True))
def test_any_text_as_an_id(name: str, text: str) -> None:
    parse: Callable[[str], Any] = getattr(ids, name)
    with contextlib.suppress(InputInvalid):
        parsed = parse(text)
        written = f"{parsed[0]}@{parsed[1]}" if isinstance(parsed, tuple) else str(parsed)
        assert written == text
        assert text.isascii()
        assert text.isprintable()
