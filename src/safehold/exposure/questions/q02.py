"""Question 2: was the thing running, or only on disk? From recorded starts of programs on the hosts that held it."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.facts_outside import EvidenceLine
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.outside import (
    covers,
    evidence_coverage,
    lines_of,
    mattering,
    named_things,
    names_thing,
    sources_of,
    touched,
)
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 2
QUESTION: Final = "Was it running, or only on disk?"
FALLBACK: Final = "auditd, EDR, systemd, crash logs"
_STARTS_WITH_PYTHON: Final = ".pth"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a start is on record; *no*: the record of starts is complete and has none; else *unknown*."""
    held, unknown = judgement.hosts_with("held"), judgement.hosts_with("unknown")
    rows, ran, quiet, entries = list[tuple[str, ...]](), list[str](), list[str](), list[int]()
    for presence in touched(judgement):
        starts = [line for line in lines_of(case, "start") if _is_start(case, presence, line)]
        entries += [line.idx for line in starts]
        entries += [entry for run in presence.runs for entry in run.entries]
        if starts:
            ran.append(presence.host)
        elif covers(case, "start", presence.host, mattering(presence)):
            quiet.append(presence.host)
        rows += [_row(presence, line) for line in starts] or [_still(presence, presence.host in quiet)]
    reply, verdict, summary = _summary(held, unknown, ran, quiet)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply if judgement.presences else "unknown",
        verdict=verdict,
        summary=summary if judgement.presences else "No host is registered: nothing was looked at.",
        table=Table(("host", "when", "what started", "evidence"), tuple(rows)),
        evidence=entries_of(entries, (one.idx for one in sources_of(case, "start"))),
        coverage=evidence_coverage(case, "start", "record of starts of programs")
        + " An inventory shows what is on disk and would run, not what ran.",
        fallback=FALLBACK,
    )


def _is_start(case: Case, presence: Presence, line: EvidenceLine) -> bool:
    """A start of the thing while it was, or may have been, there; a hook of Python's runs whenever Python does."""
    if line.host != presence.host or not any(span.start <= line.t <= span.end for span in mattering(presence)):
        return False
    things = [thing for run in presence.runs for thing in run.things]
    if names_thing(line.things, named_things(case)) or any(thing and thing in line.object for thing in things):
        return True
    hooked = any(thing.endswith(_STARTS_WITH_PYTHON) for thing in things)
    inner = any(run.inner.start <= line.t <= run.inner.end for run in presence.runs)
    return hooked and inner and "python" in f"{line.object} {line.act}".lower()


def _row(presence: Presence, line: EvidenceLine) -> tuple[str, ...]:
    said = f"{line.act} {line.object} {' '.join(line.things)}".strip()
    return (presence.host, time_words(line.t), said, entries_words([line.idx]))


def _still(presence: Presence, quiet: bool) -> tuple[str, ...]:
    things = sorted({thing for run in presence.runs for thing in run.things})
    hooks = [thing for thing in things if thing.endswith(_STARTS_WITH_PYTHON)]
    said = "no start of it in a complete record" if quiet else "not recorded"
    said += f"; {list_words(hooks)} runs whenever Python starts" if hooks else ""
    return (presence.host, "–", said, entries_words(entry for run in presence.runs for entry in run.entries) or "–")


def _summary(
    held: tuple[Presence, ...], unknown: tuple[Presence, ...], ran: list[str], quiet: list[str]
) -> tuple[Reply, Verdict | None, str]:
    if ran:
        return "yes", "held", f"It ran, or was loaded, on {list_words(ran)}."
    silent = [one.host for one in (*held, *unknown) if one.host not in quiet]
    if silent:
        said = f"Whether it ran is not recorded of {list_words(silent)}; take it that it did."
        return "unknown", "unknown", said
    if held:
        return "no", "held", "Only on disk: the record of starts is complete and has none of it."
    return "no", "not_held", "It was on no host."
