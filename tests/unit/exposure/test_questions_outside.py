"""The questions that outside evidence answers: each with a true, a false and an unknown case; unknown is never no."""

from __future__ import annotations

from itertools import pairwise

import pytest

from safehold.exposure.facts import Span
from safehold.exposure.judgement import judge
from safehold.exposure.lateral import find_targets
from safehold.exposure.questions import QUESTIONS, q02, q04, q05, q06, q08, q09, q10, q11, q12, q13, q16, q18, q19, q21
from safehold.model.contents import Contents, FoundFile
from safehold.model.ids import Subject
from tests.exposure_kit import BAD, CLEAN, WINDOW, History, at, digest

NOW = at("31")
CI = "quill-works/ci-1"
DB = "quill-works/db-1"
NAME = "quill-works/word-problems@1"
DATASET = Subject("dataset", "quill-works/word-problems")
ALWAYS = (at("1"), NOW)
INDICATORS = (
    b'{"domains":["models.bad.example"],"addresses":["192.0.2.7"],"kubernetes":{"pod_prefix":"node-setup-"},'
    b'"malicious":{"domains":["not.this.example"]}}'
)


def ask(history, question, now=NOW):
    case = history.case(now)
    return question.answer(case, judge(case))


def held(history, **advisory):
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.advisory(**advisory)
    history.finding()
    if "document" in advisory:
        history.advisory("MAL-1", windows=(), aliases=("PYSEC-2026-2",))
        history.finding(advisory="MAL-1")
    return history


def held_with_indicators(history):
    history.observe(CI, CLEAN, at("1"), at("24T10:50"))
    history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
    history.observe(CI, CLEAN, at("25T09:10"), NOW)
    history.advisory()
    history.finding()
    history.advisory("IND-1", document=INDICATORS, aliases=("PYSEC-2026-2",), windows=())
    return history


def clean(history):
    history.observe(CI, CLEAN, at("1"), NOW)
    history.advisory()
    return history


def silent(history):
    history.observe(CI, CLEAN, at("1"), at("24T11:00"))
    history.observe(CI, CLEAN, at("24T15:00"), NOW)
    history.advisory()
    return history


def exposed(history, **sealed):
    history.seal(NAME, CI, at("24T12:00"), **sealed)
    return held(history)


@pytest.mark.parametrize("question", QUESTIONS)
def test_zero_hosts_is_never_no(tmp_path, question):
    history = History(tmp_path)
    history.advisory()
    case = history.case(NOW)
    answer = question(case, judge(case))
    history.close()
    if answer.number not in (7, 13, 15, 17, 20, 23):  # of releases or decisions alone, or told apart in their own tests
        assert answer.reply == "unknown", answer


@pytest.mark.parametrize("question", [q02, q04, q05, q06, q09, q10, q11, q12, q16])
def test_what_was_not_recorded_is_unknown_with_its_fallback(history, question):
    answer = ask(exposed(history), question)
    assert (answer.reply, answer.verdict) == ("unknown", "unknown")
    assert answer.fallback


class TestRunning:
    def test_yes_by_a_start_of_it(self, history):
        held(history)
        entry = history.evidence("start", (at("24T12:00"), CI, "exec", "/usr/bin/litellm 1.82.8", ["litellm==1.82.8"]))
        answer = ask(history, q02)
        assert (answer.reply, answer.verdict) == ("yes", "held")
        assert entry in answer.evidence

    def test_yes_by_python_where_a_hook_of_its_own_lay(self, history):
        history.observe(CI, BAD, at("24T11:02"), at("25T09:00"))
        history.advisory()
        history.finding(match="path", path="lib/litellm_init.pth")
        history.evidence("start", (at("24T12:00"), CI, "exec", "/usr/bin/python3", []))
        assert ask(history, q02).reply == "yes"

    def test_a_start_elsewhere_or_later_is_not_one(self, history):
        held(history)
        history.evidence(
            "start",
            (at("26T12:00"), CI, "exec", "x", ["litellm==1.82.8"]),
            (at("24T12:00"), DB, "exec", "x", ["litellm==1.82.8"]),
        )
        assert ask(history, q02).reply == "unknown"

    def test_no_if_the_record_is_complete(self, history):
        held(history)
        history.evidence("start", (at("24T12:00"), CI, "exec", "bash", []), covers=ALWAYS, subjects=[CI])
        assert ask(history, q02).reply == "no"

    def test_a_record_with_unread_lines_is_not_complete(self, history):
        held(history)
        history.evidence("start", covers=ALWAYS, unread=1)
        assert ask(history, q02).reply == "unknown"

    def test_no_if_it_was_nowhere(self, history):
        assert ask(clean(history), q02).reply == "no"


@pytest.mark.parametrize(("question", "topic"), [(q04, "ci"), (q05, "image"), (q06, "cache")])
class TestByThings:
    def test_yes(self, history, question, topic):
        held(history)
        history.evidence(topic, (at("24T12:00"), CI, "made", "sha256:aa", ["rich==15.0.0", "LiteLLM==1.82.8"]))
        answer = ask(history, question)
        assert (answer.reply, answer.verdict) == ("yes", "held")
        assert "sha256:aa" in answer.summary

    def test_no_only_if_complete(self, history, question, topic):
        held(history)
        history.evidence(topic, (at("24T12:00"), CI, "made", "sha256:aa", ["litellm==1.82.6"]))
        assert ask(history, question).reply == "unknown"
        history.evidence(topic, covers=ALWAYS)
        assert ask(history, question).reply == "no"

    def test_complete_for_one_host_is_not_complete_for_all(self, history, question, topic):
        held(history)
        history.evidence(topic, covers=ALWAYS, subjects=[CI])
        assert ask(history, question).reply == "unknown"

    def test_unknown_if_one_does_not_name_its_packages(self, history, question, topic):
        held(history)
        history.evidence(topic, (at("24T12:00"), CI, "made", "sha256:bb", []), covers=ALWAYS)
        assert ask(history, question).reply == "unknown"

    def test_unknown_if_the_advisory_names_a_range(self, history, question, topic):
        clean_history = clean(history)
        clean_history.advisory(version=2, affected=(("litellm", ">=1.82.7,<1.83"),))
        clean_history.evidence(topic, (at("24T12:00"), CI, "made", "sha256:bb", ["litellm==1.82.7"]), covers=ALWAYS)
        assert ask(clean_history, question).reply == "unknown"


class TestHooks:
    HOOKED = Contents(distributions=CLEAN.distributions, hooks=(FoundFile(path="lib/x.pth", sha256="00"),))

    def test_yes_a_new_hook(self, history):
        history.observe(CI, CLEAN, at("1"), at("24T11:00"))
        entry = history.observe(CI, self.HOOKED, at("24T11:01"), NOW)
        history.advisory()
        answer = ask(history, q08)
        assert answer.reply == "yes"
        assert "lib/x.pth on quill-works/ci-1" in answer.summary
        assert entry - 1 in answer.evidence

    def test_no_the_hook_was_there_before(self, history):
        history.observe(CI, self.HOOKED, at("1"), NOW)
        history.advisory()
        assert ask(history, q08).reply == "no"

    def test_unknown_without_a_baseline_or_unseen(self, history):
        assert ask(silent(history), q08).reply == "unknown"

    def test_unknown_if_the_first_sweep_is_too_late(self, history):
        history.observe(CI, self.HOOKED, at("24T12:00"), NOW)
        history.advisory()
        assert ask(history, q08).reply == "unknown"


class TestTalk:
    def test_yes(self, history):
        held_with_indicators(history)
        history.evidence("egress", (at("24T12:00"), CI, "connect", "MODELS.bad.example:443", []))
        answer = ask(history, q09)
        assert (answer.reply, answer.verdict) == ("yes", "exposed")

    def test_a_name_that_merely_ends_alike_is_another(self, history):
        held_with_indicators(history)
        history.evidence("egress", (at("24T12:00"), CI, "connect", "xmodels.bad.example", []), covers=ALWAYS)
        assert ask(history, q09).reply == "no"

    def test_what_stands_elsewhere_in_the_document_is_not_looked_for(self, history):
        held_with_indicators(history)
        history.evidence("egress", (at("24T12:00"), CI, "connect", "not.this.example", []), covers=ALWAYS)
        assert ask(history, q09).reply == "no"

    def test_unknown_if_no_place_is_named(self, history):
        held(history)
        history.evidence("egress", covers=ALWAYS)
        assert ask(history, q09).reply == "unknown"

    def test_unknown_if_the_record_ends_early(self, history):
        held_with_indicators(history)
        history.evidence("egress", covers=(at("24T11:00"), at("24T20:00")))
        assert ask(history, q09).reply == "unknown"


class TestCluster:
    def test_yes(self, history):
        held_with_indicators(history)
        history.evidence("cluster", (at("24T12:00"), None, "create pods", "default/node-setup-1", []))
        assert ask(history, q10).reply == "yes"

    def test_yes_in_the_clusters_own_namespace(self, history):
        held(history)
        history.evidence("cluster", (at("24T12:00"), None, "pods create", "kube-system/any", []))
        assert ask(history, q10).reply == "yes"

    def test_no(self, history):
        held_with_indicators(history)
        history.evidence("cluster", (at("24T12:00"), None, "get", "pods/a", []), covers=ALWAYS)
        assert ask(history, q10).reply == "no"

    def test_unknown_if_secrets_were_read(self, history):
        held_with_indicators(history)
        history.evidence("cluster", (at("24T12:00"), None, "get secrets", "prod/db", []), covers=ALWAYS)
        assert ask(history, q10).reply == "unknown"


class TestCredentials:
    def test_yes_with_what_they_open(self, history):
        exposed(history)
        history.host(DB)
        history.observe(DB, CLEAN, at("1"), NOW)
        history.credential("k-1", "reach", at("20"), host=CI, rank="cloud")
        history.credential("k-1", "opens", at("20"), opens=Subject("host", DB))
        history.credential("k-2", "reach", at("20"), host=DB)
        history.credential("k-2", "opens", at("20"), opens=DATASET)
        answer = ask(history, q11)
        assert answer.reply == "yes"
        paths = [row[2] for row in answer.table.rows if row[1] == "opens"]
        assert paths[-1] == f"{CI} → k-1 → {DB} → k-2 → quill-works/word-problems"

    def test_no(self, history):
        assert ask(clean(history), q11).reply == "no"
        assert ask(history, q12).reply == "no"
        assert ask(history, q13).reply == "yes"

    def test_unknown_though_grants_are_known(self, history):
        history.grant(1, DATASET.id, at("10"), at("30"), party="quill-works")
        answer = ask(exposed(history), q11)
        assert answer.reply == "unknown"
        assert "g-0000000000000001" in answer.summary

    def test_one_that_ended_before_was_not_in_reach(self, history):
        held(history)
        history.credential("k-1", "reach", at("20"), host=CI)
        history.credential("k-1", "revoked", at("22"), action="a")
        assert "k-1" not in ask(history, q11).summary

    def test_used_after_and_still_alive(self, history):
        held(history)
        history.credential("k-1", "reach", at("20"), host=CI, rank="ssh")
        history.credential("k-1", "used", at("26"))
        answer = ask(history, q12)
        assert (answer.reply, answer.verdict) == ("yes", "exposed")
        assert "Not revoked: k-1" in answer.summary
        assert ask(history, q13).reply == "no"

    def test_out_of_order_and_not_atomic(self, history):
        held(history)
        for number, rank, day in ((1, "publishing", "28"), (2, "ssh", "27")):
            history.credential(f"k-{number}", "reach", at("20"), host=CI, rank=rank)
            history.credential(f"k-{number}", "revoked", at(day), action=f"a-{number}", proof=digest("p"))
        assert "Out of order: k-2 (ssh) before k-1 (publishing)" in ask(history, q12).summary
        answer = ask(history, q13)
        assert (answer.reply, "2 acts" in answer.summary) == ("no", True)

    def test_atomic(self, history):
        held(history)
        for number in (1, 2):
            history.credential(f"k-{number}", "reach", at("20"), host=CI)
            history.credential(f"k-{number}", "revoked", at("27"), action="all", proof=digest("p"))
        assert ask(history, q13).reply == "yes"

    def test_one_that_was_not_shown_dead(self, history):
        held(history)
        history.credential("k-1", "reach", at("20"), host=CI)
        history.credential("k-1", "revoked", at("27"), action="all")
        answer = ask(history, q13)
        assert (answer.reply, "not shown" in answer.summary) == ("no", True)

    def test_a_key_that_left_by_a_grant_in_reach_is_a_use(self, history):
        exposed(history)
        history.grant(1, DATASET.id, at("10"), at("30"), party="quill-works")
        opened = history.open(NAME, CI, 1, at("25T17:00"))
        answer = ask(history, q12)
        assert answer.reply == "yes"
        assert opened in answer.evidence


class TestLateralReach:
    def test_a_credential_in_reach_that_opens_the_dataset_exposes_it(self, history):
        history.seal(NAME, DB, at("20"))
        held(history)
        history.credential("k-1", "reach", at("20"), host=CI)
        entry = history.credential("k-1", "opens", at("20"), opens=DATASET)
        case = history.case(NOW)
        pair = next(pair for pair in judge(case).pairs if pair.host == CI)
        assert pair.verdict == "exposed"
        assert entry in pair.entries
        assert f"{CI} → k-1 → quill-works/word-problems" in pair.words

    def test_what_lies_behind_another_host_is_unknown(self, history):
        history.host(DB)
        history.observe(DB, CLEAN, at("1"), NOW)
        history.grant(1, DATASET.id, at("10"), at("04-30"), party="quill-works", host=DB)
        history.seal(NAME, "north-lab/x", at("20"))
        held(history)
        history.credential("k-1", "reach", at("20"), host=CI)
        history.credential("k-1", "opens", at("20"), opens=Subject("host", DB))
        pair = next(pair for pair in judge(history.case(NOW)).pairs if pair.host == CI)
        assert pair.verdict == "unknown"
        assert "could be used there" in pair.words
        history.credential("k-1", "dead", at("21"))
        assert all(pair.host != CI for pair in judge(history.case(NOW)).pairs)

    def test_circles_end(self, history):
        history.host(DB)
        held(history)
        for name, here, there in (("k-1", CI, DB), ("k-2", DB, CI)):
            history.credential(name, "reach", at("20"), host=here)
            history.credential(name, "opens", at("20"), opens=Subject("host", there))
        assert ask(history, q11).reply == "yes"


class TestAltered:
    def test_yes(self, history):
        exposed(history)
        history.check(NAME, "altered", at("26"))
        history.check(NAME, "intact", at("27"))
        assert ask(history, q16).reply == "yes"

    def test_no(self, history):
        exposed(history)
        history.check(NAME, "intact", at("26"))
        assert ask(history, q16).reply == "no"

    def test_unknown_if_it_was_checked_while_the_thing_was_there(self, history):
        exposed(history)
        history.check(NAME, "intact", at("24T20:00"))
        assert ask(history, q16).reply == "unknown"

    def test_no_release_affected(self, history):
        assert ask(clean(history), q16).reply == "no"


class TestPeople:
    def test_yes(self, history):
        answer = ask(exposed(history), q18)
        assert (answer.reply, answer.table.rows[0][:3]) == ("yes", ("DE", "experts", "3"))

    def test_no(self, history):
        assert ask(clean(history), q18).reply == "no"

    def test_unknown(self, history):
        assert ask(exposed(history, people=()), q18).reply == "unknown"


class TestTold:
    def test_yes(self, history):
        exposed(history)
        history.clock("awareness", at("26"))
        for to in ("north-lab", "experts (DE)"):
            history.notice(to, at("27"))
        answer = ask(history, q19)
        assert answer.reply == "yes"
        assert "Aware since 2026-03-26 00:00" in answer.summary

    def test_no(self, history):
        assert ask(clean(history), q19).reply == "no"

    def test_unknown_without_a_clock_or_a_notice(self, history):
        assert ask(exposed(history), q19).reply == "unknown"
        history.clock("awareness", at("26"))
        answer = ask(history, q19)
        assert (answer.reply, "north-lab" in answer.summary) == ("unknown", True)


class TestWhoseCopy:
    def test_always_unknown_and_says_who_had_one(self, history):
        answer = ask(exposed(history), q21)
        assert answer.reply == "unknown"
        assert answer.table.rows[0][2:4] == (CI, "sealed there 2026-03-24 12:00")
        assert WINDOW


def test_a_long_chain_of_credentials_is_followed_to_its_end(history):
    """However many hosts lie between: a way that is not followed would make what lies behind it look safe."""
    history.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T12:00"))
    history.advisory(windows=(("a source", *WINDOW),))
    history.finding()
    hosts = ["quill-works/ci-1", *(f"quill-works/step-{number}" for number in range(40))]
    for number, (here, there) in enumerate(pairwise(hosts)):
        history.credential(f"key-{number}", "reach", at("23T10:00"), host=here)
        history.credential(f"key-{number}", "opens", at("23T10:00"), opens=Subject("host", there))
    history.credential("key-last", "reach", at("23T10:00"), host=hosts[-1])
    history.credential("key-last", "opens", at("23T10:00"), opens=Subject("dataset", "quill-works/texts"))
    case = history.case(at("31T12:00"))
    found = find_targets(case, hosts[0], (Span(at("24T11:00"), at("24T12:00")),))
    assert [one.id for one in found] == [*hosts[1:], "quill-works/texts"]
    assert [one.direct for one in found] == [True] + [False] * 40
