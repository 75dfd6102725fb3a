"""The ten of the public are made of the 23 and never sound surer than they are."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from safehold.exposure.report import answer_all
from safehold.exposure.ten import TEN, answer_ten
from tests.exposure_kit import BAD, WINDOW, at

NOW = at("31T12:00")


@pytest.fixture
def report(history):
    history.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T12:00"))
    history.advisory(windows=(("a source", *WINDOW),))
    history.finding()
    return answer_all(history.case(NOW))


@pytest.mark.parametrize("number", [number for number, (_, parts) in enumerate(TEN, 1) if parts])
def test_one_unknown_part_is_never_a_no_and_never_hidden(report, number):
    _, parts = TEN[number - 1]
    for replies in itertools.product(("yes", "no", "unknown"), repeat=min(len(parts), 3)):
        said = dict(zip(parts, itertools.chain(replies, itertools.repeat("no")), strict=False))
        answers = tuple(msgspec.structs.replace(one, reply=said.get(one.number, one.reply)) for one in report.answers)
        found = answer_ten(msgspec.structs.replace(report, answers=answers), "nothing")[number - 1]
        every = list(said.values())
        expected = "yes" if "yes" in every else "unknown" if "unknown" in every else "no"
        assert found.reply == expected
        assert found.partly == ("unknown" in every and set(every) != {"unknown"})


def test_the_gateway_is_unknown_and_each_answer_rests_on_entries_of_its_parts(report):
    ten = answer_ten(report, "nothing")
    assert [one.number for one in ten] == list(range(1, 11))
    assert ten[5].reply == "unknown"
    assert ten[5].fallback
    assert ten[8].summary[0] == "nothing"
    by_number = {one.number: one for one in report.answers}
    for one in ten:
        assert set(one.evidence) == {entry for part in one.parts for entry in by_number[part].evidence}
