"""Question 10: did it reach the cluster? From the cluster's own audit: pods made, secrets read."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Span
from safehold.exposure.facts_outside import EvidenceLine
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import merge_spans
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.outside import covers, evidence_coverage, lines_of, mattering, sources_of, touched
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 10
QUESTION: Final = "Did it reach the cluster?"
FALLBACK: Final = "cluster queries today"
_SYSTEM: Final = "kube-system"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a named pod, or one made in the cluster's own namespace; *no*: a complete audit without; else *unknown*."""
    spans = merge_spans(span for presence in touched(judgement) for span in mattering(presence))
    lines = [line for line in lines_of(case, "cluster") if any(s.start <= line.t <= s.end for s in spans)]
    pods = [line for line in lines if _is_pod(case, line)]
    secrets = [line for line in lines if "secret" in f"{line.act} {line.object}".lower()]
    complete = bool(sources_of(case, "cluster")) and covers(case, "cluster", "", spans)
    reply, verdict, summary = _summary(spans, pods, secrets, complete=complete)
    rows = tuple(_row(line, "pod") for line in pods) + tuple(_row(line, "secret") for line in secrets)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply if judgement.presences else "unknown",
        verdict=verdict if judgement.presences else "unknown",
        summary=summary if judgement.presences else "No host is registered: when to look is not known.",
        table=Table(("when", "who", "what", "object", "evidence"), rows),
        evidence=entries_of((line.idx for line in (*pods, *secrets)), (one.idx for one in sources_of(case, "cluster"))),
        coverage=evidence_coverage(case, "cluster", "audit of a cluster"),
        fallback=FALLBACK,
    )


def _is_pod(case: Case, line: EvidenceLine) -> bool:
    """A pod whose name begins as an advisory says, or one that was made in the cluster's own namespace."""
    name = line.object.rsplit("/", 1)[-1]
    made = "pod" in line.act.lower() and ("create" in line.act.lower() or "made" in line.act.lower())
    return any(name.startswith(pod) for pod in case.indicators.pods) or (made and _SYSTEM in line.object)


def _row(line: EvidenceLine, kind: str) -> tuple[str, ...]:
    who = line.actor or line.host or "–"
    return (time_words(line.t), who, f"{kind}: {line.act}", line.object, entries_words([line.idx]))


def _summary(
    spans: tuple[Span, ...], pods: list[EvidenceLine], secrets: list[EvidenceLine], *, complete: bool
) -> tuple[Reply, Verdict | None, str]:
    read = f" Secrets were read by {list_words(sorted({line.actor for line in secrets}))}." if secrets else ""
    if pods:
        names = list(dict.fromkeys(line.object for line in pods))
        return "yes", "exposed", f"Yes: {list_words(names)}.{read}"
    if not spans:
        return "no", "not_held", "It was on no host."
    if not complete:
        return "unknown", "unknown", f"The cluster's audit of that time is not on record as a whole.{read}"
    if secrets:
        return "unknown", "unknown", f"No such pod was made.{read} Whether that was its owner is to be looked at."
    return "no", "held", "No: the audit of that time is complete; no such pod was made and no secret was read."
