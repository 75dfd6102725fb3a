"""Question 3: in which interval did a host hold the thing? Both ends as bounds: seen within, and at most without."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Span
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import HeldRun, Presence
from safehold.exposure.questions.answer import Answer, Reply, Table, coverage_of, entries_of
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import duration_words, entries_words, list_words, span_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 3
QUESTION: Final = "In which interval?"
FALLBACK: Final = "pip and uv logs, image build times"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: the intervals with their bounds; *unknown*: only unobserved hours; *no*: never there."""
    held, unknown = judgement.hosts_with("held"), judgement.hosts_with("unknown")
    rows = [_run_row(presence, run) for presence in held for run in presence.runs]
    rows += [_gap_row(presence, span) for presence in judgement.presences for span in presence.unknown]
    reply, verdict, summary = _summary(judgement, held, unknown)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "what", "came between", "gone between", "remark", "evidence"), tuple(rows)),
        evidence=entries_of(*(run.entries for presence in held for run in presence.runs)),
        coverage=coverage_of(case, judgement),
        fallback=FALLBACK,
    )


def _summary(
    judgement: Judgement, held: tuple[Presence, ...], unknown: tuple[Presence, ...]
) -> tuple[Reply, Verdict, str]:
    if held:
        spans = [f"{one.host} {list_words([span_words(span) for span in one.held], 3)}" for one in held]
        return "yes", "held", f"At most (UTC): {'; '.join(spans)}. The table gives the time that was seen within."
    if unknown or not judgement.presences:
        hosts = [one.host for one in unknown]
        hours = [f"{one.host} {list_words([span_words(span) for span in one.unknown], 3)}" for one in unknown]
        said = f"It may have been on {list_words(hosts)} in hours that no one observed: {'; '.join(hours)}."
        return "unknown", "unknown", said if unknown else "No host is registered: there are no observations."
    return "no", "not_held", "In none: no host held it while it was observed, and all were."


def _run_row(presence: Presence, run: HeldRun) -> tuple[str, ...]:
    came = _bounds(run.outer.start, run.inner.start, "", "" if run.seen_before or run.early else "at the latest ")
    gone = _bounds(run.inner.end, run.outer.end, "", "") if run.seen_after else "not seen to go"
    remarks = [f"seen for {duration_words(run.inner.end - run.inner.start)}", run.environment]
    if run.early:
        remarks.append("seen before the window that the sources claim")
    if not run.seen_before:
        remarks.append("no clean observation before it")
    if run.path_only:
        remarks.append("path only")
    return (presence.host, list_words(run.things, 4), came, gone, "; ".join(remarks), entries_words(run.entries))


def _bounds(first: int, last: int, before: str, alone: str) -> str:
    return f"{before}{span_words(Span(first, last))}" if first < last else f"{alone}{time_words(last)}"


def _gap_row(presence: Presence, span: Span) -> tuple[str, ...]:
    remark = f"not observed for {duration_words(span.end - span.start)}"
    return (presence.host, "unknown", span_words(span), "–", remark, "–")
