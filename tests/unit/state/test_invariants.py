"""Invariants of order: each code is found where it must be and is silent where all is well."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from safehold.ledger.storage import Entry
from safehold.model.ids import Subject
from safehold.model.statements import Statement, Unknown, encode
from safehold.state.invariants import check_order
from tests.ledger_kit import digest, hold, lift, one_of_each

S: dict[str, Any] = one_of_each()
MEMBER = "quill-works/m-0123456789abcdef0123"
RELEASED = msgspec.structs.replace(S["key.released"], member=MEMBER)
WORLD: list[Statement] = [
    S[kind] for kind in ("party.registered", "host.registered", "dataset.registered", "release.sealed", "grant.issued",
                         "inventory.recorded")
]  # fmt: skip


def _codes(*statements: Statement | Unknown) -> set[tuple[str, str]]:
    entries = [
        Entry(index, encode(one) if isinstance(one, Statement) else one.body, one)
        for index, one in enumerate([*WORLD, *statements])
    ]
    return {(problem.code, problem.where) for problem in check_order(entries)}


def _released(**changed: Any) -> Statement:
    statement: Statement = msgspec.structs.replace(RELEASED, **changed)
    return statement


def test_a_proper_history_has_no_problem() -> None:
    assert _codes(RELEASED) == set()
    assert _codes(Unknown("moon.landed", 1, b"{}"), RELEASED, hold(1)) == set()
    assert _codes(hold(1), lift(1), RELEASED) == set()
    assert (
        _codes(hold(1, Subject("party", "someone-else")), hold(2, Subject("grant", "g-0000000000000000")), RELEASED)
        == set()
    )


@pytest.mark.parametrize(
    "subject",
    [
        Subject("party", "quill-works"),
        Subject("host", "quill-works/ci-1"),
        Subject("member", MEMBER),
        Subject("dataset", "quill-works/word-problems"),
        Subject("release", RELEASED.release),
        Subject("grant", RELEASED.grant),
    ],
    ids=str,
)
def test_keys_that_left_under_a_hold(subject: Subject) -> None:
    assert _codes(hold(1, subject), RELEASED) == {("fsck.released_under_hold", "entry 7")}
    assert _codes(hold(1, subject), lift(1, subject), RELEASED) == set()
    assert _codes(hold(1, subject), hold(2, subject), lift(2, subject), RELEASED) == {
        ("fsck.released_under_hold", "entry 9")
    }


def test_a_hold_on_whoever_made_the_data_counts_when_another_reads_it() -> None:
    lab_host = msgspec.structs.replace(S["host.registered"], host="north-lab/trainer", party="north-lab")
    lab_grant = msgspec.structs.replace(S["grant.issued"], grant="g-1111111111111111", party="north-lab", host=None)
    seen = msgspec.structs.replace(S["inventory.recorded"], host="north-lab/trainer")
    to_lab = _released(party="north-lab", host="north-lab/trainer", grant="g-1111111111111111", member=None)
    assert _codes(lab_host, lab_grant, seen, to_lab) == set()
    made_by = hold(1, Subject("party", "quill-works"))
    assert _codes(lab_host, lab_grant, seen, made_by, to_lab) == {("fsck.released_under_hold", "entry 10")}


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"grant": "g-0000000000000000"}, {"fsck.released_without_grant"}),
        ({"party": "north-lab"}, {"fsck.released_without_grant", "fsck.released_unknown_host"}),
        ({"dataset": "quill-works/other"}, {"fsck.released_without_grant", "fsck.released_unknown_release"}),
        ({"release": digest("other")}, {"fsck.released_unknown_release"}),
        ({"inventories": (digest("other"),)}, {"fsck.released_without_inventory"}),
        ({"inventories": ()}, {"fsck.released_without_inventory"}),
        ({"host": "quill-works/ci-2"}, {"fsck.released_unknown_host", "fsck.released_without_inventory"}),
    ],
)
def test_keys_that_left_without_what_they_need(changed: dict[str, Any], codes: set[str]) -> None:
    assert _codes(_released(**changed)) == {(code, "entry 6") for code in codes}


def test_one_request_answered_twice() -> None:
    assert _codes(RELEASED, RELEASED) == {("fsck.released_twice", "entry 7")}
    assert _codes(RELEASED, _released(request="q-" + "1" * 32)) == set()


def test_what_comes_later_does_not_help() -> None:
    entries = [Entry(0, b"", RELEASED), *(Entry(index, b"", one) for index, one in enumerate(WORLD, 1))]
    assert {problem.code for problem in check_order(entries)} == {
        "fsck.released_without_grant", "fsck.released_unknown_release", "fsck.released_without_inventory",
        "fsck.released_unknown_host",
    }  # fmt: skip
