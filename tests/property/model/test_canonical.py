"""Laws of canonical bytes: one value, one form; the form reads back; Python's own JSON agrees."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from safehold.model.encoding import canonical_bytes, decode_canonical

NAMES = st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=8)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=20,
)


@given(VALUES)
def test_there_and_back(value: Any) -> None:
    form = canonical_bytes(value)
    assert decode_canonical(form) == value
    assert canonical_bytes(decode_canonical(form)) == form


@given(VALUES)
def test_python_writes_the_same(value: Any) -> None:
    other = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert canonical_bytes(value) == other


@given(st.dictionaries(NAMES, SCALARS, min_size=2, max_size=6), st.randoms())
def test_the_order_of_members_does_not_matter(value: dict[str, Any], random: Any) -> None:
    names = list(value)
    random.shuffle(names)
    assert canonical_bytes({name: value[name] for name in names}) == canonical_bytes(value)
