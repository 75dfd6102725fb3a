"""Watching an exposure: an answer again whenever the ledger has grown, and only what is different is said."""

from __future__ import annotations

import pytest

from safehold.cli.exposure_watch import differences, follow_head
from safehold.model.ids import Subject
from tests.exposure_kit import BAD, CLEAN, WINDOW, at

NOW = at("31T12:00")


@pytest.fixture
def seen(history):
    history.seal("quill-works/word-problems@1", "quill-works/ci-1", at("10"))
    history.observe("quill-works/ci-1", CLEAN, at("1"), at("24T10:00"))
    history.observe("quill-works/ci-1", CLEAN, at("24T10:01"), at("31"))
    history.advisory(windows=(("a source", *WINDOW),))
    return history


def test_nothing_is_said_where_only_the_time_differs(seen):
    assert differences(seen.report(NOW), seen.report(NOW + 1)) == []


def test_a_verdict_that_changed_is_said_with_both(seen):
    before = seen.report(NOW)
    seen.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T11:30"))
    seen.finding()
    said = differences(before, seen.report(NOW))
    assert any(line.startswith("host quill-works/ci-1: not held (observed) → held") for line in said), said
    assert any(line.startswith("question 1: ") for line in said), said


def test_a_hold_changes_an_answer_and_no_verdict(seen):
    seen.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T11:30"))
    seen.finding()
    before = seen.report(NOW)
    seen.suspend(Subject("host", "quill-works/ci-1"), at("30"))
    said = differences(before, seen.report(NOW))
    assert any(line.startswith("question 20: ") for line in said), said
    assert not any(line.startswith("host ") for line in said), said


def test_the_head_is_told_when_it_moved_and_not_between(seen):
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            seen.host("quill-works/ci-2")
        if len(waited) > 5:
            raise KeyboardInterrupt

    told = list[int]()
    with pytest.raises(KeyboardInterrupt):
        told.extend(follow_head(seen.log, 2.0, wait))
    assert told == [told[0], told[0] + 1]
    assert set(waited) == {2.0}
