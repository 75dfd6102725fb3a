"""Question 1: did any host ever hold the thing? Yes with evidence, no only if every host was looked at throughout."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.questions.answer import Answer, Reply, Table, coverage_of, entries_of, unknown_words
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 1
QUESTION: Final = "Did any host ever hold this name and version, or this file hash?"
FALLBACK: Final = "dist-info times, a search of site-packages, EDR file events"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a host held it; *unknown*: none was seen to, but not all were seen; *no*: all were, throughout."""
    held, unknown = judgement.hosts_with("held"), judgement.hosts_with("unknown")
    reply, verdict, summary = _summary(judgement, held, unknown)
    rows = tuple(_row(presence) for presence in judgement.presences)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "verdict", "what was found", "evidence"), rows),
        evidence=entries_of(*(run.entries for presence in held for run in presence.runs)),
        coverage=coverage_of(case, judgement),
        fallback=FALLBACK,
    )


def _summary(
    judgement: Judgement, held: tuple[Presence, ...], unknown: tuple[Presence, ...]
) -> tuple[Reply, Verdict, str]:
    hosts = count_words(len(judgement.presences), "host")
    beside = f" Of {list_words([one.host for one in unknown])} it is not known." if unknown else ""
    if held:
        weak = all(run.path_only for presence in held for run in presence.runs)
        remark = " Only file paths say so, which is the weakest sign." if weak else ""
        return "yes", "held", f"Yes: {list_words([one.host for one in held])} held it.{remark}{beside}"
    if unknown:
        return "unknown", "unknown", f"No host was seen to hold it, but not all were seen.{beside}"
    if not judgement.presences:
        return "unknown", "unknown", "No host is registered: nothing was looked at, so nothing can be said."
    return "no", "not_held", f"No: {hosts} reported throughout, and none held it."


def _row(presence: Presence) -> tuple[str, ...]:
    found = []
    for run in presence.runs:
        remark = " (path only)" if run.path_only else ""
        found.append(f"{list_words(run.things, 4)} in {run.environment}{remark}")
    if presence.unknown:
        found.append(f"not observed for {unknown_words(presence)}")
    entries = [entry for run in presence.runs for entry in run.entries]
    return (presence.host, VERDICT_WORDS[presence.verdict], "; ".join(found) or "–", entries_words(entries) or "–")
