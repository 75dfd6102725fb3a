"""Question 9: did it talk out? Recorded connections of the hosts, matched with the places that the advisories name."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.facts_outside import EvidenceLine
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.outside import covers, evidence_coverage, lines_of, mattering, sources_of, touched
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 9
QUESTION: Final = "Did it talk out?"
FALLBACK: Final = "firewall, resolver, flow logs"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a connection to a named place; *no*: a complete record without one; else *unknown*."""
    hits = [line for line in lines_of(case, "egress") if _is_named(line, case.indicators.places)]
    hosts = touched(judgement)
    open_hosts = [one.host for one in hosts if not covers(case, "egress", one.host, mattering(one))]
    reply, verdict, summary = _summary(case, judgement, hits, open_hosts)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "when", "to", "what", "evidence"), tuple(_row(line) for line in hits)),
        evidence=entries_of(
            (line.idx for line in hits), (one.idx for one in sources_of(case, "egress")), case.indicators.entries
        ),
        coverage=evidence_coverage(case, "egress", "record of connections")
        + f" Looked for: {list_words(case.indicators.places, 6) or 'no place is named by the advisories'}.",
        fallback=FALLBACK,
    )


def _is_named(line: EvidenceLine, places: tuple[str, ...]) -> bool:
    """The place itself, or a name below a named domain; a port behind it changes nothing."""
    told = {line.object.lower().rstrip("."), line.object.lower().rsplit(":", 1)[0].rstrip(".")}
    return any(one == place or one.endswith("." + place) for one in told for place in places)


def _row(line: EvidenceLine) -> tuple[str, ...]:
    said = f"{line.act} {line.detail}".strip() or "–"
    return (line.host or line.actor or "–", time_words(line.t), line.object, said, entries_words([line.idx]))


def _summary(
    case: Case, judgement: Judgement, hits: list[EvidenceLine], open_hosts: list[str]
) -> tuple[Reply, Verdict | None, str]:
    if hits:
        hosts = list(dict.fromkeys(line.host or line.actor for line in hits))
        first = min(line.t for line in hits)
        return "yes", "exposed", f"Yes: {list_words(hosts)} reached a named place, first {time_words(first)}."
    if not judgement.presences:
        return "unknown", "unknown", "No host is registered: whose connections to look at is not known."
    if open_hosts:
        return "unknown", "unknown", f"The connections of {list_words(open_hosts)} are not on record for that time."
    if touched(judgement) and not case.indicators.places:
        return "unknown", "unknown", "No advisory names a place, so there is nothing to look for in the record."
    if not touched(judgement):
        return "no", "not_held", "It was on no host, so it could not talk."
    return "no", "held", "No: the record of that time is complete, and no connection goes to a named place."
