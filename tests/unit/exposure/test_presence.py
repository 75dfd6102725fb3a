"""Held, not held, unknown: the rules of presence, each on a small history."""

from __future__ import annotations

from safehold.exposure.facts import Span
from safehold.exposure.presence import find_presences
from tests.exposure_kit import BAD, CLEAN, HOUR, MINUTE, WINDOW, at

NOW = at("25")
CI = "quill-works/ci-1"


def presence(history, now=NOW):
    return next(one for one in find_presences(history.case(now)) if one.host == CI)


def test_a_host_seen_throughout_did_not_hold_it(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), NOW)
    assert presence(history).verdict == "not_held"


def test_a_host_that_never_reported_is_unknown_throughout(history):
    history.advisory()
    seen = presence(history)
    assert (seen.verdict, seen.unknown, seen.last) == ("unknown", (Span(WINDOW[0], NOW),), None)


def test_clean_before_and_after_but_unseen_between_is_unknown_and_says_which_hours(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("24T13:00"), NOW)
    assert presence(history).verdict == "unknown"
    assert presence(history).unknown == (Span(at("24T11:00"), at("24T13:00")),)


def test_a_silence_that_began_before_the_window_counts_from_its_start(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("20"))
    history.observe(CI, CLEAN, at("24T12:00"), NOW)
    assert presence(history).unknown == (Span(WINDOW[0], at("24T12:00")),)


def test_a_silence_after_the_window_does_not_matter(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T17:00"))
    history.observe(CI, CLEAN, at("24T22:00"), NOW)
    seen = presence(history)
    assert (seen.verdict, seen.unobserved) == ("not_held", (Span(at("24T17:00"), at("24T22:00")),))


def test_a_silence_from_within_the_window_lasts_until_the_next_clean_report(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T15:59"))
    assert presence(history).unknown == (Span(at("24T15:59"), NOW),)


def test_a_silence_within_the_tolerance_is_no_silence(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("24T11:00") + 3 * MINUTE, NOW)
    assert presence(history).verdict == "not_held"


def test_a_clean_segment_with_a_wide_gap_inside_is_unknown_between_its_ends(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), NOW, gap=5 * MINUTE)
    assert presence(history).unknown == (Span(WINDOW[0], NOW),)


def test_a_held_run_has_inner_and_outer_bounds(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("24T18:00"))
    history.observe(CI, CLEAN, at("24T18:20"), NOW)
    history.finding()
    (run,) = presence(history).runs
    assert run.inner == Span(at("24T11:02"), at("24T18:00"))
    assert run.outer == Span(at("24T10:50"), at("24T18:20"))
    assert (run.things, run.seen_before, run.seen_after, run.early) == (("litellm 1.82.8",), True, True, False)
    assert presence(history).unknown == ()  # the unseen minutes are within the outer bounds


def test_the_window_bounds_an_arrival_that_no_one_saw(history):
    history.advisory()
    history.observe(CI, BAD, at("24T11:02"), at("24T18:00"))
    history.finding()
    (run,) = presence(history).runs
    assert run.outer == Span(WINDOW[0], NOW)
    assert (run.seen_before, run.seen_after) == (False, False)


def test_evidence_from_before_the_window_beats_the_claim(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("23T08:00"))
    history.observe(CI, BAD, at("23T09:00"), NOW)
    history.finding()
    (run,) = presence(history).runs
    assert run.early
    assert run.outer.start == at("23T08:00")


def test_without_a_window_presence_counts_whenever_it_was_seen(history):
    history.advisory(windows=())
    history.observe(CI, BAD, at("5"), at("5") + HOUR)
    history.observe(CI, CLEAN, at("5") + 2 * HOUR, NOW)
    history.finding()
    (run,) = presence(history).runs
    assert run.outer == Span(at("1"), at("5") + 2 * HOUR)


def test_a_clean_sweep_between_two_finds_makes_two_runs(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, BAD, at("24T11:01"), at("24T12:00"))
    history.observe(CI, CLEAN, at("24T12:01"), at("24T12:02"))
    history.observe(CI, BAD, at("24T12:03"), at("24T13:00"))
    history.finding()
    assert [run.inner.start for run in presence(history).runs] == [at("24T11:01"), at("24T12:03")]


def test_a_path_alone_is_held_with_a_remark(history):
    history.advisory()
    history.observe(CI, BAD, at("24T12:00"), NOW)
    history.finding(match="path", path="/tmp/pglog")
    assert presence(history).runs[0].path_only
    history.finding()
    assert not presence(history).runs[0].path_only


def test_findings_of_a_replaced_version_do_not_count(history):
    history.advisory()
    history.observe(CI, BAD, at("1"), NOW)
    history.finding()
    assert presence(history).verdict == "held"
    history.advisory(version=2)
    assert presence(history).verdict == "not_held"
    history.finding(version=2)
    assert presence(history).verdict == "held"


def test_findings_of_a_withdrawn_advisory_do_not_count(history):
    history.advisory()
    history.observe(CI, BAD, at("1"), NOW)
    history.finding()
    history.advisory(version=2, withdrawn=True)
    history.finding(version=2)
    assert presence(history).verdict == "not_held"


def test_every_environment_of_a_host_must_be_seen(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, CLEAN, at("1"), at("24T11:00"), environment="conda")
    assert presence(history).unknown == (Span(at("24T11:00"), NOW),)
    history.observe(CI, BAD, at("24T11:10"), NOW, environment="conda")
    history.finding()
    assert presence(history).verdict == "held"


def test_reports_that_arrive_late_fill_the_silence(history):
    history.advisory()
    history.observe(CI, CLEAN, at("24T13:00"), NOW)
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    assert presence(history).verdict == "unknown"
    history.observe(CI, BAD, at("24T11:01"), at("24T12:59"), t=at("25T08:00"))
    history.finding()
    seen = presence(history)
    assert (seen.verdict, seen.held) == ("held", (Span(at("24T11:00"), at("24T13:00")),))


def test_a_bad_report_is_believed_over_a_clean_one_of_the_same_time(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, BAD, at("24T11:00"), at("24T12:00"))
    history.finding()
    assert presence(history).held == (Span(at("24T11:00"), at("24T12:00")),)


def test_a_clean_report_from_the_future_shows_nothing(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("27"))
    assert presence(history).unknown == (Span(at("24T11:00"), NOW),)


def test_an_inventory_that_cannot_be_read_is_no_clean_report(history):
    history.advisory()
    history.observe(CI, CLEAN, at("1"), NOW, keep=False)
    assert presence(history).verdict == "unknown"
