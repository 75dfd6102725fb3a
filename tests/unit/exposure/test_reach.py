"""The ways from a host to a release: opened, lease, sealed, credential; and what is not one."""

from __future__ import annotations

import pytest

from safehold.exposure.judgement import judge
from safehold.model.ids import Subject
from tests.exposure_kit import BAD, CLEAN, DAY, HOUR, MINUTE, at, grant_id

NOW = at("31")
CI = "quill-works/ci-1"
NAME = "quill-works/word-problems@1"


@pytest.fixture
def held(history):
    """The host held it from 24T11:02 to 25T09:00, at most from 10:50 to 09:10; the release was sealed elsewhere."""
    history.host("quill-works/desk-1")
    history.seal(NAME, "quill-works/desk-1", at("10"))
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.observe("quill-works/desk-1", CLEAN, at("1"), NOW)
    history.advisory()
    history.finding()
    return history


def granted(history, start, end, host=CI, number=1):
    return history.grant(number, "quill-works/word-problems", start, end, party="quill-works", host=host)


def pair(history, now=NOW, host=CI):
    found = [one for one in judge(history.case(now)).pairs if one.host == host]
    return found[0] if found else None


def kinds(history):
    return [way.kind for way in pair(history).ways]


def test_without_seal_grant_or_opening_there_is_no_pair(held):
    assert pair(held) is None
    (release,) = judge(held.case(NOW)).releases
    assert release.verdict == "not_held"


def test_an_opening_while_it_was_there_exposes(held):
    granted(held, at("10"), at("24T11:30"))
    entry = held.open(NAME, CI, 1, at("24T11:10"))
    assert kinds(held) == ["opened", "credential"]
    assert entry in pair(held).entries


def test_an_opening_between_the_outer_and_the_inner_bound_exposes(held):
    granted(held, at("10"), at("24T10:30"))
    held.open(NAME, CI, 1, at("24T10:55"))
    assert kinds(held) == ["opened"]


def test_an_opening_before_does_not_expose_and_the_words_say_why(held):
    granted(held, at("10"), at("20"))
    entry = held.open(NAME, CI, 1, at("15T14:00"))
    found = pair(held)
    assert (found.verdict, found.ways) == ("held", ())
    assert (
        f"not exposed by key release #{entry} of 2026-03-15 14:00: its lease ended 2026-03-15 14:05, before"
        in found.words
    )
    assert f"grant {grant_id(1)}" in found.words
    assert "ended 2026-03-20 00:00, before" in found.words


def test_an_opening_before_exposes_if_its_lease_was_alive(held):
    granted(held, at("10"), at("20"))
    held.open(NAME, CI, 1, at("24T10:00"), lease=HOUR)
    assert kinds(held) == ["lease"]
    assert "still alive (until 2026-03-24 11:00)" in pair(held).words


def test_a_lease_that_ends_as_it_came_does_not_expose(held):
    granted(held, at("10"), at("20"))
    held.open(NAME, CI, 1, at("24T10:00"), lease=50 * MINUTE)
    assert pair(held).verdict == "held"


def test_a_live_credential_exposes_what_was_opened_before(held):
    granted(held, at("10"), at("30"))
    held.open(NAME, CI, 1, at("15T14:00"))
    assert kinds(held) == ["credential"]
    assert "the host had opened it before" in pair(held).words
    assert "usable until 2026-03-30 00:00 (its own end)" in pair(held).words


def test_a_live_credential_exposes_what_was_never_opened(held):
    granted(held, at("10"), at("30"))
    assert kinds(held) == ["credential"]
    assert pair(held).ways[0].key_releases == 0
    assert "the host had never opened it" in pair(held).words


def test_a_grant_to_the_party_reaches_its_hosts(held):
    granted(held, at("10"), at("30"), host=None)
    assert kinds(held) == ["credential"]
    assert pair(held, host="quill-works/desk-1").verdict == "not_held"


def test_a_grant_to_another_host_does_not_reach(held):
    granted(held, at("10"), at("30"), host="quill-works/desk-1")
    assert pair(held) is None


def test_a_grant_issued_after_the_host_was_clean_is_not_in_reach(held):
    granted(held, at("26"), at("30"))
    assert pair(held).verdict == "held"
    assert "could be used only from 2026-03-26 00:00, after" in pair(held).words


@pytest.mark.parametrize(
    "subject",
    [
        Subject("party", "quill-works"),
        Subject("host", CI),
        Subject("dataset", "quill-works/word-problems"),
        Subject("grant", grant_id(1)),
    ],
)
def test_a_hold_placed_before_takes_the_credential_out_of_reach(held, subject):
    granted(held, at("10"), at("30"))
    held.suspend(subject, at("23"))
    assert pair(held).verdict == "held"
    assert "was stopped by hold" in pair(held).words


def test_a_hold_on_one_member_does_not(held):
    granted(held, at("10"), at("30"))
    held.suspend(Subject("member", "quill-works/m-0123456789abcdef0123"), at("23"))
    assert kinds(held) == ["credential"]


def test_a_hold_that_was_lifted_while_it_was_there_gives_the_credential_back(held):
    granted(held, at("10"), at("30"))
    held.suspend(Subject("host", CI), at("23"))
    held.lift(Subject("host", CI), at("24T12:00"))
    (way,) = pair(held).ways
    assert (way.kind, way.start) == ("credential", at("24T12:00"))


def test_a_credential_counts_until_the_hold_and_not_after_the_lift(held):
    granted(held, at("10"), at("30"))
    held.open(NAME, CI, 1, at("25T12:00"))
    hold = held.suspend(Subject("host", CI), at("25T18:00"))
    held.lift(Subject("host", CI), at("26T18:00"))
    held.open(NAME, CI, 1, at("27T12:00"))
    (way,) = pair(held).ways
    assert (way.end, way.key_releases) == (at("25T18:00"), 1)
    assert "1 of them after the host was clean, with credentials that had been in reach" in way.words
    assert hold in way.entries


def test_sealing_while_it_was_there_exposes(held):
    held.seal("quill-works/word-problems@2", CI, at("24T12:05"))
    assert kinds(held) == ["sealed"]


def test_sealing_before_it_came_does_not(held):
    held.seal("quill-works/word-problems@2", CI, at("23T12:05"))
    assert pair(held).verdict == "held"
    assert "whether plaintext stayed there is not recorded" in pair(held).words


def test_a_release_sealed_later_is_in_reach_of_a_credential_that_still_lives(held):
    granted(held, at("10"), at("30"))
    held.seal("quill-works/word-problems@2", "quill-works/desk-1", at("27"))
    judged = {one.release.version: one.verdict for one in judge(held.case(NOW)).releases}
    assert judged == {1: "exposed", 2: "exposed"}


def test_sealing_on_a_host_that_was_not_recorded_is_unknown_from_the_window_on(held):
    held.seal("quill-works/word-problems@2", None, at("23"))
    held.seal("quill-works/word-problems@3", None, at("24T12:00"))
    judged = {one.release.version: one for one in judge(held.case(NOW)).releases}
    assert (judged[2].verdict, judged[3].verdict) == ("not_held", "unknown")
    assert "a host that was not recorded" in judged[3].reasons[0]


def test_in_hours_not_observed_the_same_ways_are_unknown(history):
    history.seal(NAME, None, at("10"))
    granted(history, at("10"), at("12"))
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("24T13:00"), NOW)
    history.advisory()
    assert pair(history).verdict == "unknown"
    assert "no way on record leads to this release" in pair(history).words
    history.open(NAME, CI, 1, at("24T12:00"))
    assert [way.kind for way in pair(history).possible] == ["opened"]
    assert pair(history).words.startswith("if it was there unseen: opened by key release")


def test_what_was_opened_in_the_window_by_a_clean_host_is_not_held(history):
    history.seal(NAME, CI, at("10"))
    granted(history, at("10"), at("10") + 20 * DAY)
    history.open(NAME, CI, 1, at("24T12:00"))
    history.observe(CI, CLEAN, at("1"), NOW)
    history.advisory()
    assert pair(history).verdict == "not_held"


def test_of_many_openings_the_words_tell_the_first_and_the_last(held):
    granted(held, at("10"), at("24T10:30"))
    entries = [held.open(NAME, CI, 1, at("24T11:10") + minute * MINUTE) for minute in range(9)]
    found = pair(held)
    assert found.words.startswith(f"9 such key releases: first opened by key release #{entries[0]} ")
    assert f"last opened by key release #{entries[-1]} " in found.words
    assert set(entries) <= set(found.entries)
