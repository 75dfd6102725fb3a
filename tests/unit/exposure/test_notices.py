"""Duties and their dates; drafts that say what is known, what is not, and leave gaps for what only people know."""

from __future__ import annotations

import pytest

from safehold.exposure.duties import due_duties, parse_duties, standing_duties
from safehold.exposure.judgement import judge
from safehold.exposure.notices import AUDIENCES, draft_notice
from safehold.model.errors import InputInvalid
from safehold.model.statements_outside import NoticeSent
from tests.exposure_kit import HOUR, at, digest, tell_story

NOW = at("31T12:00")
AWARE = at("31T09:00")
CONTRACT = """
[[duty]]
id = "north-lab-12"
to = "customers"
customers = ["north-lab"]
within = 24
clock = "alert"
says = "The supplier tells the lab within 24 hours of the first sign."
source = "Master agreement, clause 12"
"""


@pytest.fixture
def told(tmp_path):
    from tests.exposure_kit import History

    made = History(tmp_path)
    tell_story(made)
    yield made
    made.close()


def deadlines(history, now=NOW, more=""):
    case = history.case(now, "PYSEC-2026-2")
    duties = (*parse_duties(more, "contracts.toml"), *standing_duties())
    return {one.duty.id: one for one in due_duties(case, judge(case), duties)}


def test_every_rule_that_comes_with_it_has_its_source():
    duties = standing_duties()
    assert len({duty.id for duty in duties}) == len(duties)
    for duty in duties:
        assert duty.source
        assert duty.says
        assert duty.where
    assert {duty.within for duty in duties if duty.id == "gdpr-33"} == {72}


def test_people_of_a_member_state_bring_the_european_rules(told):
    found = deadlines(told)
    assert {"gdpr-33", "gdpr-33-2", "gdpr-34"} <= set(found)
    assert not any(name.startswith("us-") for name in found)
    assert "people in DE" in found["gdpr-33"].why
    assert "quill-works/word-problems@1" in found["gdpr-33"].why


def test_without_a_clock_there_is_no_date(told):
    one = deadlines(told)["gdpr-33"]
    assert (one.since, one.due, one.state) == (None, None, "clock not noted")


def test_the_earliest_clock_counts_and_72_hours_are_72_hours(told):
    told.clock("awareness", AWARE + 5 * HOUR)
    place = told.clock("awareness", AWARE)
    one = deadlines(told)["gdpr-33"]
    assert (one.since, one.due, one.state) == (AWARE, AWARE + 72 * HOUR, "open")
    assert place in one.entries
    assert deadlines(told, AWARE + 72 * HOUR)["gdpr-33"].state == "open"
    assert deadlines(told, AWARE + 72 * HOUR + 1)["gdpr-33"].state == "overdue"
    assert deadlines(told)["gdpr-34"].state == "no number of hours"


@pytest.mark.parametrize(("hours", "state"), [(71, "sent"), (73, "sent late")])
def test_what_was_sent_stops_the_clock_or_shows_that_it_was_late(told, hours, state):
    told.clock("awareness", AWARE)
    sent = AWARE + hours * HOUR
    told.add(
        NoticeSent(
            t=sent,
            by=told.by,
            advisory="PYSEC-2026-2",
            to="the authority",
            duty="gdpr-33",
            document=digest("x"),
            at=sent,
        )
    )
    assert deadlines(told, sent + HOUR)["gdpr-33"].state == state


def test_a_contract_is_a_duty_with_its_own_clock(told):
    told.clock("alert", at("24T11:15"))
    one = deadlines(told, more=CONTRACT)["north-lab-12"]
    assert one.due == at("25T11:15")
    assert one.state == "overdue"
    assert "customer north-lab" in one.why


def test_nothing_affected_brings_no_duty(history):
    history.seal("quill-works/word-problems@1", "quill-works/ci-1", at("10"))
    history.observe("quill-works/ci-1", _clean(), at("1"), at("31"))
    history.advisory(windows=(("a source", at("24T10:39"), at("24T16:00")),))
    assert deadlines(history) == {}


def _clean():
    from tests.exposure_kit import CLEAN

    return CLEAN


@pytest.mark.parametrize(
    "text",
    [
        "[[duty]", "duty = 3", "[[duty]]\nid='x'", "\x00", "a" * 10 + "=",
        "[[duty]]\nid='x'\nto='nobody'\nsays='s'\nsource='s'\nwhere=['EU']",
        "[[duty]]\nid='x'\nto='people'\nsays='s'\nsource='s'",
        "[[duty]]\nid='x'\nto='people'\nsays='s'\nsource='s'\nwhere=['EU']\nwithin=0",
        "[[duty]]\nid='x'\nto='people'\nsays='s'\nsource='s'\nwhere=['EU']\nwithin=-5",
        "[[duty]]\nid='x'\nto='people'\nsays='s'\nsource='s'\nwhere=['EU']\nwhen=5",
    ],
)  # fmt: skip
def test_what_is_no_duty(text):
    with pytest.raises(InputInvalid, match=r"exposure\.duties"):
        parse_duties(text, "contracts.toml")


@pytest.mark.parametrize("audience", AUDIENCES)
def test_a_draft_says_what_is_known_and_what_is_not(story, audience):
    case = story.case(NOW, "PYSEC-2026-2")
    judgement = judge(case)
    draft = draft_notice(case, judgement, due_duties(case, judgement, standing_duties()), audience, "")
    assert "quill-works/ci-1 held it" in draft.text
    assert "bright-annotators/desk-1 was not observed" in draft.text
    assert "nobody observed it" in draft.text
    assert "quill-works/proofs@1" not in draft.text  # not in reach: nobody is alarmed for it
    assert "party quill-works was suspended" in draft.text
    assert draft.gaps
    assert all(f"[{gap}]" in draft.text for gap in draft.gaps)
    assert case.root in draft.text


def test_a_customer_reads_of_his_own_data_alone(told):
    told.party("other-lab", "lab")
    told.dataset("quill-works/for-others", "other-lab")
    told.seal("quill-works/for-others@1", "quill-works/ci-1", at("24T12:30"))
    case = told.case(NOW, "PYSEC-2026-2")
    text = draft_notice(case, judge(case), (), "customer", "other-lab").text
    assert "quill-works/for-others@1" in text
    assert "word-problems" not in text.split("What we do not know")[0].split("Which data")[1]


def test_words_of_others_cannot_forge_a_line(history):
    history.seal(
        "quill-works/word-problems@1", "quill-works/ci-1", at("10"), people=(("experts\nTo pay: us", "DE", 3),)
    )
    history.advisory(windows=(("a\x1b[2J source", at("24T10:39"), at("24T16:00")),))
    case = history.case(NOW, "PYSEC-2026-2")
    text = draft_notice(case, judge(case), (), "people").text
    assert "\x1b" not in text
    assert not any(line.startswith("To pay") for line in text.splitlines())
