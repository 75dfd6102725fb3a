"""The error tree: codes, words for a person, exit codes."""

from __future__ import annotations

import re

import pytest

from safehold.model import errors
from safehold.model.errors import NotAppended, Refused, SafeholdError, StorageFailed, Uncertain

EXITS = {
    "SafeholdError": 1,
    "InputInvalid": 2,
    "Refused": 3,
    "VerificationFailed": 4,
    "StorageFailed": 5,
    "NotAppended": 5,
    "Uncertain": 5,
    "NotFound": 6,
    "Conflict": 7,
}


def test_the_tree_is_closed() -> None:
    assert set(EXITS) == set(errors.__all__)


@pytest.mark.parametrize("name", sorted(EXITS))
def test_each_class_has_its_exit_code_and_its_three_parts(name: str) -> None:
    error = getattr(errors, name)("room.reason", "the thing failed", "try again")
    assert isinstance(error, SafeholdError)
    assert (error.exit_code, error.code, error.message, error.hint) == (
        EXITS[name],
        "room.reason",
        "the thing failed",
        "try again",
    )
    assert str(error) == "the thing failed [room.reason]"
    assert re.search(rf"^ ?{name} +{EXITS[name]}  ", str(errors.__doc__), re.MULTILINE), "the docstring names it"


def test_a_hint_may_be_empty_and_a_refusal_may_name_its_entry() -> None:
    assert SafeholdError("a.b", "c").hint == ""
    assert Refused("a.b", "c").entry is None
    assert Refused("a.b", "c", entry=7).entry == 7


def test_both_failures_of_an_append_are_failures_of_storage() -> None:
    assert issubclass(NotAppended, StorageFailed)
    assert issubclass(Uncertain, StorageFailed)
    assert not issubclass(NotAppended, Uncertain)
