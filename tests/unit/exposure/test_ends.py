"""What ends reach and silence: revoked grants, retired environments; and what a host's own agent found near it."""

from __future__ import annotations

from safehold.exposure.judgement import judge
from safehold.exposure.questions import q06, q11, q14
from safehold.model.contents import Contents, Credential
from safehold.model.statements import DatasetAdopted, IndicatorsRecorded, LatentRecorded
from tests.exposure_kit import BAD, CLEAN, KNOWN, at, digest, inventory_of

NOW = at("31")
CI = "quill-works/ci-1"
NAME = "quill-works/word-problems@1"


def host_of(history, now=NOW):
    return next(one for one in judge(history.case(now)).presences if one.host == CI)


def pair_of(history):
    return next(one for one in judge(history.case(NOW)).pairs if one.host == CI)


def held_with_grant(history):
    history.seal(NAME, CI, at("10"))
    history.grant(1, "quill-works/word-problems", at("10"), at("30"), party="quill-works")
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.advisory()
    history.finding()


def test_a_revoked_grant_is_in_reach_until_then(history):
    held_with_grant(history)
    revoked = history.revoke(1, at("24T20:00"))
    (way,) = pair_of(history).ways
    assert (way.kind, way.end) == ("credential", at("24T20:00"))
    assert f"revoked by #{revoked}" in way.words
    assert revoked in way.entries


def test_one_that_was_revoked_before_is_not(history):
    held_with_grant(history)
    history.revoke(1, at("24T10:00"))
    assert pair_of(history).verdict == "held"


def test_a_revoked_later_block_leaves_the_grant(history):
    held_with_grant(history)
    history.revoke(1, at("24T10:00"), revocation="11")
    assert pair_of(history).verdict == "exposed"


def test_a_retired_environment_is_silent_without_being_unknown(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, CLEAN, at("1"), at("20"), environment="old")
    history.advisory()
    assert host_of(history).verdict == "unknown"
    history.retire(CI, "old", at("20T00:02"))
    assert host_of(history).verdict == "not_held"


def test_what_was_not_seen_before_it_was_retired_stays_unknown(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, CLEAN, at("1"), at("20"), environment="old")
    history.advisory()
    history.retire(CI, "old", at("26"))
    assert [(span.start, span.end) for span in host_of(history).unknown] == [(at("24T10:39"), at("26"))]


def test_a_bad_one_is_held_until_it_was_retired(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, BAD, at("24T11:00"), at("24T12:00"), environment="old")
    history.advisory()
    history.finding()
    history.retire(CI, "old", at("24T13:00"))
    assert host_of(history).held[-1].end == at("24T13:00")


def test_one_that_reports_again_is_judged_as_ever(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.observe(CI, CLEAN, at("1"), at("20"), environment="old")
    history.advisory()
    history.retire(CI, "old", at("20T00:02"))
    history.observe(CI, CLEAN, at("30"), NOW, environment="old")
    assert host_of(history).verdict == "unknown"


def test_credentials_that_the_agent_found_are_in_reach(history):
    held_with_grant(history)
    near = Contents(credentials=(Credential(id="ab12", kind="aws-profile", name="deploy"),))
    entry = history.observe(CI, near, at("1"), NOW, environment="host") - 1
    case = history.case(NOW)
    answer = q11.answer(case, judge(case))
    assert answer.reply == "yes"
    assert "ab12" in answer.summary
    assert entry in answer.evidence


def test_a_cache_that_an_agent_found_can_serve_it_again(history):
    held_with_grant(history)
    entry = history.add(
        LatentRecorded(
            t=KNOWN, by=history.by, advisory="PYSEC-2026-2", document=digest("PYSEC-2026-2 1"),
            inventory=inventory_of(CLEAN), item="cached", match="version", name="litellm", version="1.82.8",
            path="~/.cache/pip/x",
        )
    )  # fmt: skip
    case = history.case(NOW)
    answer = q06.answer(case, judge(case))
    assert (answer.reply, entry in answer.evidence) == ("yes", True)


def test_recorded_indicators_are_looked_for(history):
    held_with_grant(history)
    history.add(
        IndicatorsRecorded(
            t=KNOWN, by=history.by, advisory="PYSEC-2026-2", document=digest("PYSEC-2026-2 1"),
            domains=("Models.bad.example",), addresses=("192.0.2.7",), paths=(),
        )
    )  # fmt: skip
    assert history.case(NOW).indicators.places == ("models.bad.example", "192.0.2.7")


def adopt(history, host=None):
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.advisory()
    history.finding()
    return history.add(
        DatasetAdopted(
            t=at("5"), by=history.by, listing=digest("listing"), dataset="quill-works/word-problems",
            location="s3://sets/old/", endpoint=None, host=host, files=3, size=9, rows=None,
        )
    )  # fmt: skip


def taken(history):
    case = history.case(NOW)
    return q14.answer(case, judge(case))


def test_unsealed_files_on_a_host_that_held_it_were_in_reach(history):
    entry = adopt(history, CI)
    assert (taken(history).reply, entry in taken(history).evidence) == ("yes", True)


def test_unsealed_files_elsewhere_are_unknown_until_a_complete_record_says_more(history):
    adopt(history)
    assert (taken(history).reply, taken(history).verdict) == ("unknown", "unknown")
    history.evidence(
        "storage", (at("24T12:00"), "north-lab/x", "GetObject", "s3://sets/old/a", []), covers=(at("1"), NOW)
    )
    assert taken(history).reply == "no"
    read = history.evidence("storage", (at("24T12:30"), CI, "GetObject", "s3://sets/old/a", []))
    assert (taken(history).reply, read in taken(history).evidence) == ("yes", True)


def test_a_refused_read_took_nothing_and_a_stranger_is_unknown(history):
    adopt(history)
    history.evidence(
        "storage", (at("24T12:30"), CI, "GetObject refused: 403", "s3://sets/old/a", []), covers=(at("1"), NOW)
    )
    assert taken(history).reply == "no"
    history.evidence("storage", (at("24T12:40"), None, "GetObject", "s3://sets/old/b", []))
    assert taken(history).reply == "unknown"
