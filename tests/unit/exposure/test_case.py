"""What is read from a ledger, and which incident and window an exposure is about."""

from __future__ import annotations

import pytest

from safehold.exposure.facts import Span
from safehold.exposure.incident import incident_title
from safehold.model.contents import Contents
from safehold.model.errors import InputInvalid, NotFound
from tests.exposure_kit import BAD, CLEAN, WINDOW, at, with_skipped

NOW = at("31")
CI = "quill-works/ci-1"


def test_a_case_stands_on_the_signed_checkpoint(story):
    case, checkpoint = story.case(NOW), story.log.checkpoint()
    assert case.size == checkpoint.size
    assert len(case.root) == 44
    assert next(host.host for host in case.hosts) == "bright-annotators/desk-1"


def test_the_only_incident_needs_no_name(story):
    assert story.case(NOW).incident == ("MAL-2026-2144", "PYSEC-2026-2")
    assert story.case(NOW, "MAL-2026-2144").incident == story.case(NOW, "PYSEC-2026-2").incident


def test_an_id_that_no_document_names_is_not_found(story):
    with pytest.raises(NotFound) as caught:
        story.case(NOW, "PYSEC-1999-1")
    assert caught.value.code == "exposure.no_advisory"
    assert "PYSEC-2026-2" in caught.value.hint


def test_a_ledger_without_advisories_says_so(history):
    with pytest.raises(NotFound) as caught:
        history.case(NOW)
    assert caught.value.code == "exposure.no_advisory"


def test_two_incidents_must_be_told_apart(history):
    history.advisory("PYSEC-2026-2")
    history.advisory("PYSEC-2026-3", affected=(("telnyx", "4.87.1"),))
    with pytest.raises(InputInvalid) as caught:
        history.case(NOW)
    assert caught.value.code == "exposure.which"
    assert "PYSEC-2026-2 and PYSEC-2026-3" in caught.value.hint


def test_of_two_incidents_the_one_with_findings_that_count_is_meant(history):
    history.advisory("PYSEC-2026-2")
    history.advisory("PYSEC-2026-3")
    history.finding(advisory="PYSEC-2026-3")
    assert history.case(NOW).incident == ("PYSEC-2026-3",)


def test_a_link_joins_advisories_even_if_a_later_version_drops_it(history):
    history.advisory("GHSA-1", aliases=("CVE-1",))
    history.advisory("MAL-1", aliases=("CVE-1",))
    history.advisory("PYSEC-1", joined=("MAL-1",))
    history.advisory("MAL-1", version=2)
    assert history.case(NOW, "CVE-1").incident == ("CVE-1", "GHSA-1", "MAL-1", "PYSEC-1")


def test_the_widest_window_counts_and_another_can_be_chosen(story):
    assert story.case(NOW).window == Span(*WINDOW)
    narrow = story.case(NOW, window="vendor, first statement")
    assert narrow.window == Span(WINDOW[0], at("24T11:19"))
    assert len(narrow.windows) == 3
    with pytest.raises(InputInvalid) as caught:
        story.case(NOW, window="hearsay")
    assert caught.value.code == "exposure.window"
    assert "PyPI incident report" in caught.value.hint


def test_a_window_that_the_newest_version_drops_is_shown_and_does_not_count(history):
    history.advisory(windows=(("wrong year", at("1"), at("24T12:00")),))
    history.advisory(version=2)
    case = history.case(NOW)
    assert case.window == Span(*WINDOW)
    assert next((claim.source, claim.current) for claim in case.windows) == ("wrong year", False)
    assert history.case(NOW, window="wrong year").window == Span(at("1"), at("24T12:00"))


def test_no_claim_is_no_window(history):
    history.advisory(windows=())
    assert history.case(NOW).window is None


def test_an_inventory_without_its_payload_is_not_readable(history):
    history.advisory()
    history.observe(CI, CLEAN, at("2"), keep=False)
    assert [one.readable for one in history.case(NOW).observations] == [False]


def test_an_empty_environment_is_readable(history):
    history.advisory()
    history.observe(CI, Contents(), at("2"))
    assert [one.readable for one in history.case(NOW).observations] == [True]


@pytest.mark.parametrize(
    ("reason", "readable"),
    [("unreadable", False), ("no-metadata", False), ("too-many-files", False), ("too-large", True)],
)
def test_a_skipped_check_that_hides_distributions_shows_no_absence(history, reason, readable):
    history.advisory()
    history.observe(CI, with_skipped(CLEAN, reason), at("2"))
    case = history.case(NOW)
    assert [one.readable for one in case.observations] == [readable]
    assert [one.what for one in case.skipped] == [f"lib: {reason}"]


def test_a_host_that_only_other_entries_name_is_not_lost(history):
    history.advisory()
    history.observe("quill-works/ghost", BAD, at("24T12:00"))
    history.finding()
    ghost = next(host for host in history.case(NOW).hosts if host.host == "quill-works/ghost")
    assert (ghost.idx, ghost.party, ghost.expected_every) == (None, "quill-works", 0)


def test_a_release_that_was_opened_but_never_sealed_here_is_not_lost(history):
    history.advisory()
    history.grant(1, "quill-works/word-problems", at("2"), at("30"), party="quill-works")
    history.open("quill-works/word-problems@9", CI, 1, at("24T12:00"))
    assert [release.idx for release in history.case(NOW).releases] == [None]


def test_an_incident_is_titled_by_what_it_names(story):
    assert incident_title(story.case(NOW).advisories) == "litellm 1.82.7, 1.82.8"
