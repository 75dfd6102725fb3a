"""Statements: every kind there and back; the future is kept; what could not be read back is never written."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from safehold.model.encoding import MAX_ENTRY_BYTES, canonical_bytes
from safehold.model.errors import InputInvalid
from safehold.model.statements import STATEMENT_TYPES, PartyRegistered, Statement, Unknown, decode, encode, encode_many
from tests.ledger_kit import BY, one_of_each, party

SAMPLES = one_of_each()


def _refused(body: bytes) -> str:
    with pytest.raises(InputInvalid) as caught:
        decode(body)
    return caught.value.code


def test_there_is_a_sample_of_every_kind() -> None:
    assert set(SAMPLES) == set(STATEMENT_TYPES)


@pytest.mark.parametrize("kind", sorted(STATEMENT_TYPES))
def test_a_statement_goes_there_and_back(kind: str) -> None:
    statement = SAMPLES[kind]
    body = encode(statement)
    plain = json.loads(body)
    assert (plain["kind"], plain["v"]) == (kind, 1)
    assert decode(body) == statement
    assert encode(decode(body)) == body
    assert body == json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", sorted(STATEMENT_TYPES))
def test_no_field_may_be_missing_added_or_of_another_type(kind: str) -> None:
    plain = json.loads(encode(SAMPLES[kind]))
    assert _refused(canonical_bytes(plain | {"another": 1})) == "model.statement"
    for name in plain.keys() - {"kind", "v"}:
        assert (
            _refused(canonical_bytes({key: value for key, value in plain.items() if key != name})) == "model.statement"
        )
        assert _refused(canonical_bytes(plain | {name: {"no": "such"}})) == "model.statement"


def _nested(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all objects inside a statement."""
    found = [path] if isinstance(value, dict) and path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [inner for key, member in members for inner in _nested(member, (*path, key))]


def test_no_field_may_be_added_inside_a_statement_either() -> None:
    seen = 0
    for statement in SAMPLES.values():
        plain = json.loads(encode(statement))
        for path in _nested(plain):
            copy = json.loads(json.dumps(plain))
            inner = copy
            for key in path:
                inner = inner[key]
            inner["another"] = 1
            assert _refused(canonical_bytes(copy)) == "model.statement"
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize(
    ("body", "kind", "version"),
    [
        (b'{"kind":"moon.landed","v":1}', "moon.landed", 1),
        (b'{"kind":"party.registered","v":2,"x":[]}', "party.registered", 2),
        (b'{"kind":"party.registered","v":0}', "party.registered", 0),
        (b'{"a":{"b":null},"kind":"","v":-1}', "", -1),
    ],
)
def test_the_future_is_kept_as_it_is(body: bytes, kind: str, version: int) -> None:
    body = canonical_bytes(json.loads(body))
    assert decode(body) == Unknown(kind, version, body)


@pytest.mark.parametrize(
    "body",
    [b"1", b"[]", b"null", b'"kind"', b"{}", b'{"kind":"a"}', b'{"v":1}', b'{"kind":1,"v":1}', b'{"kind":"a","v":true}',
     b'{"kind":"a","v":"1"}'],
)  # fmt: skip
def test_what_is_no_statement_is_refused(body: bytes) -> None:
    assert _refused(body) == "model.no_kind"


def test_bytes_in_another_order_are_refused() -> None:
    body = encode(party(1))
    other = json.dumps(json.loads(body), sort_keys=True).encode()
    assert _refused(other) == "model.not_canonical"
    assert _refused(body[:-1]) == "model.not_json"


def test_the_largest_entry_fits_and_one_byte_more_does_not() -> None:
    room = MAX_ENTRY_BYTES - len(encode(party(1, title="")))
    assert len(encode(party(1, title="x" * room))) == MAX_ENTRY_BYTES
    assert decode(encode(party(1, title="x" * room))).title == "x" * room
    with pytest.raises(InputInvalid) as caught:
        encode(party(1, title="x" * (room + 1)))
    assert caught.value.code == "model.entry_too_large"
    assert "party.registered" in caught.value.message
    assert _refused(b'"' + b"x" * MAX_ENTRY_BYTES + b'"') == "model.entry_too_large"


@pytest.mark.parametrize(
    "changed", [{"title": None}, {"title": 7}, {"role": "bank"}, {"key": ["k"]}, {"title": msgspec.UNSET}]
)
def test_what_could_not_be_read_back_is_not_written(changed: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid) as caught:
        encode(party(1, **changed))
    assert caught.value.code in {"model.statement", "model.type"}


def test_a_statement_of_no_known_kind_is_not_written() -> None:
    class Stray(Statement, frozen=True, kw_only=True, tag="stray"):
        pass

    with pytest.raises(InputInvalid) as caught:
        encode(Stray(t=1, by=BY))
    assert caught.value.code == "model.statement"


def test_a_statement_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        party(1).title = "other"  # type: ignore[misc]  # that is the point
    assert isinstance(party(1), PartyRegistered)


@pytest.mark.parametrize("wide", [2**53, -(2**53), 2**53 + 1, 10**17, 2**63, 2**64, 10**30])
def test_a_wide_integer_is_neither_written_nor_read(wide: int) -> None:
    with pytest.raises(InputInvalid) as caught:
        encode(PartyRegistered(t=wide, by=BY, party="p", role="lab", title="", key=""))  # type: ignore[arg-type]  # a party id made by hand
    assert caught.value.code in {"model.integer_range", "model.encode"}
    body = encode(party(7)).replace(b'"t":7', b'"t":%d' % wide)
    assert _refused(body) in {"model.integer_range", "model.float", "model.not_json", "model.not_canonical"}


@pytest.mark.parametrize("edge", [2**53 - 1, -(2**53) + 1, 10**15, 9 * 10**15, 0, -1])
def test_integers_up_to_the_edge_are_written_and_read(edge: int) -> None:
    statement = PartyRegistered(t=edge, by=BY, party="p", role="lab", title=",9007199254740993", key="")  # type: ignore[arg-type]  # a party id made by hand
    assert decode(encode(statement)) == statement


def test_a_list_in_the_place_of_a_tuple_is_written_alike() -> None:
    sample = SAMPLES["run.declared"]
    assert encode(msgspec.structs.replace(sample, releases=list(sample.releases))) == encode(sample)  # type: ignore[attr-defined]  # it is a RunDeclared


def test_no_statement_holds_an_array_of_integers() -> None:
    # The fast way of `typed_bytes` looks for wide integers behind member names only.
    for kind in STATEMENT_TYPES.values():
        for field in msgspec.structs.fields(kind):
            assert not re.search(r"(tuple|list|dict)\[.*\bint\b", str(field.type)), (kind, field.name)


def test_many_at_once_are_written_as_each_alone() -> None:
    many = [*SAMPLES.values(), *(party(number, title="line\nend \u2028 é") for number in range(9))]
    assert encode_many(many) == [encode(one) for one in many]
    assert encode_many(many[3:4]) == [encode(many[3])]
    assert encode_many([]) == []
    for kind in STATEMENT_TYPES:
        assert encode_many([SAMPLES[kind]] * 3) == [encode(SAMPLES[kind])] * 3


@pytest.mark.parametrize("wide", [2**53, -(2**53), 10**17, 2**63, 10**30])
@pytest.mark.parametrize("kind", sorted(STATEMENT_TYPES))
def test_no_wide_integer_is_written_among_many(kind: str, wide: int) -> None:
    fields = [field.name for field in msgspec.structs.fields(STATEMENT_TYPES[kind]) if field.type in (int, int | None)]
    assert "t" in fields
    for name in fields:
        bad = msgspec.structs.replace(SAMPLES[kind], **{name: wide})
        with pytest.raises(InputInvalid):
            encode_many([party(1), SAMPLES[kind], bad])
        with pytest.raises(InputInvalid):
            encode_many([bad, SAMPLES[kind]])


def test_no_wide_integer_is_written_deep_inside() -> None:
    people = SAMPLES["release.sealed"].people  # type: ignore[attr-defined]  # it is a ReleaseSealed
    deep = msgspec.structs.replace(people[0], count=2**53)
    with pytest.raises(InputInvalid):
        encode_many([msgspec.structs.replace(SAMPLES["release.sealed"], people=(deep,))])


@pytest.mark.parametrize(
    "changed", [{"title": None}, {"t": 1.0}, {"t": True}, {"t": None}, {"role": "bank"}, {"title": "\ud800"},
                {"title": "x" * 65_536}, {"title": msgspec.UNSET}, {"t": "1"}]
)  # fmt: skip
def test_what_is_not_written_alone_is_not_written_among_many(changed: dict[str, Any]) -> None:
    bad = msgspec.structs.replace(party(1), **changed)
    with pytest.raises(InputInvalid) as alone:
        encode(bad)
    with pytest.raises(InputInvalid) as among:
        encode_many([party(0), bad, party(2)])
    assert among.value.code == alone.value.code
