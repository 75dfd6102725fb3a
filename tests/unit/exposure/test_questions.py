"""Each question with a true, a false and an unknown case; unknown names its fallback, and is never no."""

from __future__ import annotations

import pytest

from safehold.exposure.judgement import judge
from safehold.exposure.questions import QUESTIONS, q01, q03, q07, q14, q15, q17, q20, q22, q23
from safehold.model.contents import Contents, Distribution
from safehold.model.ids import Subject
from tests.exposure_kit import BAD, CLEAN, DAY, HOUR, History, at, digest, with_skipped

NOW = at("31")
CI = "quill-works/ci-1"
NAME = "quill-works/word-problems@1"
PARTY = Subject("party", "quill-works")


def ask(history, question, now=NOW):
    case = history.case(now)
    return question.answer(case, judge(case))


def clean(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.advisory()
    return history


def held(history):
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.advisory()
    history.finding()
    return history


def silent(history):
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("24T15:00"), NOW)
    history.advisory()
    return history


def exposed(history, **sealed):
    history.seal(NAME, CI, at("24T12:00"), **sealed)
    return held(history)


def test_the_questions_are_there_with_their_fallbacks(story):
    case = story.case(NOW)
    answers = [question(case, judge(case)) for question in QUESTIONS]
    assert [one.number for one in answers] == list(range(1, 24))
    assert all(one.question.endswith("?") and one.fallback and one.coverage for one in answers)
    assert all(len(row) == len(one.table.columns) for one in answers for row in one.table.rows)
    assert all(0 <= entry < case.size for one in answers for entry in one.evidence)


@pytest.mark.parametrize("question", [q01, q03, q07])
def test_where_no_host_is_registered_nothing_is_clean(tmp_path, question):
    history = History(tmp_path)
    history.advisory()
    assert ask(history, question).reply == "unknown"
    assert ask(history, q22).reply == "unknown"
    assert ask(history, q14).verdict == "unknown"
    assert ask(history, q20).reply == "unknown"


class TestHeldByAnyHost:
    def test_yes(self, history):
        answer = ask(held(history), q01)
        assert (answer.reply, answer.verdict) == ("yes", "held")
        assert answer.summary == "Yes: quill-works/ci-1 held it."
        assert answer.evidence

    def test_no(self, history):
        answer = ask(clean(history), q01)
        assert (answer.reply, answer.verdict) == ("no", "not_held")

    def test_unknown(self, history):
        answer = ask(silent(history), q01)
        assert (answer.reply, answer.verdict) == ("unknown", "unknown")
        assert "quill-works/ci-1 (4 h)" in answer.coverage
        assert "site-packages" in answer.fallback

    def test_by_path_alone_it_says_so(self, history):
        history.observe(CI, BAD, at("24T11:02"), NOW)
        history.advisory()
        history.finding(match="path", path="/tmp/pglog")
        answer = ask(history, q01)
        assert "Only file paths say so" in answer.summary
        assert "(path only)" in answer.table.rows[0][2]


class TestInterval:
    def test_yes_with_both_bounds(self, history):
        answer = ask(held(history), q03)
        assert answer.reply == "yes"
        assert answer.table.rows[0][2:4] == ("2026-03-24 10:50 – 11:02", "2026-03-25 09:00 – 09:10")

    def test_no(self, history):
        assert ask(clean(history), q03).reply == "no"

    def test_unknown_names_the_hours(self, history):
        answer = ask(silent(history), q03)
        assert answer.reply == "unknown"
        assert "2026-03-24 11:00 – 15:00" in answer.summary

    def test_not_seen_to_go(self, history):
        history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
        history.advisory()
        history.finding()
        row = ask(history, q03).table.rows[0]
        assert row[3] == "not seen to go"
        assert "no clean observation before it" in row[4]


class TestWhyItWasThere:
    def test_required_by_another(self, history):
        answer = ask(held(history), q07)
        assert answer.reply == "yes"
        assert "was required by gateway-kit 0.4, installed by pip" in answer.summary

    def test_asked_for_by_name(self, history):
        contents = Contents(
            distributions=(Distribution(name="LiteLLM", version="1.82.8", installer="uv", requested=True),)
        )
        history.observe(CI, contents, at("24T12:00"), NOW)
        history.advisory()
        history.finding(contents)
        answer = ask(history, q07)
        assert answer.table.rows[0][2] == "was asked for by name, installed by uv"

    def test_no(self, history):
        assert ask(clean(history), q07).reply == "no"

    def test_unknown_if_the_inventory_is_lost(self, history):
        history.observe(CI, BAD, at("24T12:00"), NOW, keep=False)
        history.advisory()
        history.finding()
        answer = ask(history, q07)
        assert (answer.reply, answer.verdict) == ("unknown", "unknown")
        assert "0 inventories of 1" in answer.coverage

    def test_unknown_if_no_distribution_owns_the_file(self, history):
        history.observe(CI, BAD, at("24T12:00"), NOW)
        history.advisory()
        history.finding(match="path", path="litellm_init.pth")
        answer = ask(history, q07)
        assert answer.reply == "unknown"
        assert answer.table.rows[0][1] == "litellm_init.pth"

    def test_unknown_if_the_host_was_not_seen(self, history):
        assert ask(silent(history), q07).reply == "unknown"


class TestReleases:
    def test_yes(self, history):
        answer = ask(exposed(history), q14)
        assert (answer.reply, answer.verdict) == ("yes", "exposed")
        assert NAME in answer.summary

    def test_no(self, history):
        history.seal(NAME, CI, at("24T12:00"))
        assert ask(clean(history), q14).reply == "no"

    def test_no_though_held(self, history):
        history.seal(NAME, CI, at("20"))
        answer = ask(held(history), q14)
        assert (answer.reply, answer.verdict) == ("no", "held")

    def test_unknown(self, history):
        history.seal(NAME, CI, at("24T12:00"))
        answer = ask(silent(history), q14)
        assert (answer.reply, answer.verdict) == ("unknown", "unknown")
        assert "storage access logs" in answer.fallback


class TestWhatWasInThem:
    def test_yes(self, history):
        answer = ask(exposed(history, rows=7_473), q15)
        assert answer.reply == "yes"
        assert "7,473 rows in exposed releases; 3 people" in answer.summary
        assert "north-lab" in answer.table.rows[0]

    def test_no(self, history):
        assert ask(clean(history), q15).reply == "no"

    def test_people_that_no_one_counted_are_not_none(self, history):
        answer = ask(exposed(history, people=()), q15)
        assert (answer.reply, answer.verdict) == ("unknown", "unknown")
        assert f"Not all is recorded of {NAME}" in answer.summary

    def test_unknown_if_the_seal_is_not_here(self, history):
        history.grant(1, "quill-works/word-problems", at("10"), at("30"), party="quill-works")
        history.open(NAME, CI, 1, at("24T12:00"))
        assert ask(held(history), q15).reply == "unknown"


class TestLineage:
    def test_yes_runs_models_and_later_releases(self, history):
        exposed(history)
        history.seal("quill-works/word-problems@2", CI, at("27"), parent=NAME)
        history.seal("quill-works/word-problems@3", CI, at("28"), parent="quill-works/word-problems@2")
        history.run("north-lab/run-7", [NAME], at("26"))
        history.model("north-lab/tutor-1", ["north-lab/run-7"], at("27"))
        answer = ask(history, q17)
        assert answer.reply == "yes"
        assert [row[2] for row in answer.table.rows] == ["run", "model", "later release", "later release"]
        assert "models: north-lab/tutor-1" in answer.summary

    def test_no(self, history):
        assert ask(exposed(history), q17).reply == "no"
        assert "No run" in ask(history, q17).summary

    def test_unknown_if_it_was_opened_for_training_and_no_run_says_so(self, history):
        exposed(history)
        history.grant(1, "quill-works/word-problems", at("10"), at("30"))
        history.host("north-lab/trainer-1")
        history.observe("north-lab/trainer-1", CLEAN, at("1"), NOW)
        history.open(NAME, "north-lab/trainer-1", 1, at("26"))
        answer = ask(history, q17)
        assert (answer.reply, answer.fallback) == ("unknown", "job configurations")
        history.run("north-lab/run-7", [NAME], at("27"))
        assert ask(history, q17).reply == "yes"

    def test_opened_for_review_needs_no_run(self, history):
        exposed(history)
        history.grant(1, "quill-works/word-problems", at("24T10:00"), at("24T10:30"), party="quill-works")
        history.open(NAME, CI, 1, at("24T12:30"), purpose="review")
        assert ask(history, q17).reply == "no"


class TestStopped:
    def test_yes_with_refusals_since_and_leases(self, history):
        held(history)
        history.seal(NAME, CI, at("10"))
        history.grant(1, "quill-works/word-problems", at("10"), at("24T10:00"), party="quill-works")
        history.open(NAME, CI, 1, at("25T17:00"), lease=10 * DAY)
        history.suspend(PARTY, at("25T18:00"))
        refused = history.refuse(NAME, CI, 1, at("26"))
        answer = ask(history, q20)
        assert answer.reply == "yes"
        assert "1 lease of theirs still runs" in answer.summary
        assert answer.table.rows[0][4] == f"1 #{refused}"

    def test_no(self, history):
        answer = ask(held(history), q20)
        assert answer.reply == "no"
        assert "Not stopped: quill-works/ci-1" in answer.summary

    def test_no_longer(self, history):
        held(history)
        history.suspend(Subject("host", CI), at("25T18:00"))
        assert ask(history, q20).reply == "yes"
        history.lift(Subject("host", CI), at("26T18:00"))
        answer = ask(history, q20)
        assert answer.reply == "no"
        assert "hold lifted 2026-03-26 18:00" in answer.summary

    def test_unknown(self, history):
        answer = ask(silent(history), q20)
        assert answer.reply == "unknown"
        assert "whom to stop is not known" in answer.summary
        history.suspend(PARTY, at("25"))
        assert ask(history, q20).reply == "yes"

    def test_no_one_to_stop(self, history):
        assert ask(clean(history), q20).reply == "yes"


class TestWhatWasNotSeen:
    def test_yes(self, history):
        history.host("quill-works/desk-1")
        answer = ask(silent(history), q22)
        assert (answer.reply, answer.verdict) == ("yes", "unknown")
        assert "quill-works/desk-1 never reported" in answer.summary
        assert "quill-works/ci-1 for 4 h" in answer.summary

    def test_no(self, history):
        answer = ask(clean(history), q22)
        assert (answer.reply, answer.verdict) == ("no", None)

    def test_skipped_checks_are_told(self, history):
        history.observe(CI, with_skipped(CLEAN, "too-large"), at("1"), NOW)
        history.advisory()
        answer = ask(history, q22)
        assert answer.reply == "yes"
        assert "1 check skipped on 1 host" in answer.summary

    def test_a_host_that_fell_silent_is_told(self, history):
        row = ask(clean(history), q22, NOW + HOUR).table.rows[0]
        assert row[2] == "silent"


class TestAdvisoryWhenDecided:
    def test_yes_with_every_version_and_what_the_decision_knew(self, history):
        held(history)
        history.suspend(PARTY, at("25"), advisories=(digest("PYSEC-2026-2 1"),))
        history.advisory(version=2, t=at("26"), summary="now with more versions")
        answer = ask(history, q23)
        assert answer.reply == "yes"
        assert "knew PYSEC-2026-2" in answer.summary
        assert len([row for row in answer.table.rows if row[1].startswith("PYSEC-2026-2")]) == 2
        assert any("no longer counts" in row[2] for row in answer.table.rows)

    def test_no_decision_yet(self, history):
        assert ask(held(history), q23).reply == "no"

    def test_unknown_if_the_decision_names_no_version(self, history):
        held(history)
        history.suspend(PARTY, at("25"))
        answer = ask(history, q23)
        assert (answer.reply, answer.fallback) == ("unknown", "web archives")

    def test_a_decision_of_before_the_incident_is_another_matter(self, history):
        history.suspend(PARTY, at("2"))
        assert ask(held(history), q23).reply == "no"
