"""Question 19: who must be told, and by when? Customers and people of the affected releases, the clocks, what was sent.

The periods themselves are law and contracts, and not here: this answers from when they run, to whom, and what was sent.
"""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 19
QUESTION: Final = "Who must be told, and by when?"
FALLBACK: Final = "a lawyer"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: the clocks are on record and all that are known to be owed a notice got one; *no*: nobody; else *unknown*."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    owed = _owed(case, affected)
    told = {notice.to for notice in case.notices}
    waiting = [name for name in owed if name not in told]
    reply, verdict, summary = _summary(case, judgement, affected, waiting)
    rows = [_clock_row(case, clock) for clock in ("alert", "awareness")]
    rows += [(name, why, "not sent" if name in waiting else "sent", "–", "–") for name, why in owed.items()]
    rows += [
        (
            notice.to,
            notice.duty or "–",
            f"sent {time_words(notice.at)}",
            notice.document[:19],
            entries_words([notice.idx]),
        )
        for notice in case.notices
    ]
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("who", "why", "when", "document", "evidence"), tuple(rows)),
        evidence=entries_of(
            (clock.idx for clock in case.clocks),
            (notice.idx for notice in case.notices),
            (judged.release.idx for judged in affected),
        ),
        coverage="Clocks and notices are here only if somebody noted them. Periods of law and contract are not.",
        fallback=FALLBACK,
    )


def _owed(case: Case, affected: tuple[Judged, ...]) -> dict[str, str]:
    """Customers of the affected releases; people are told through them or by category."""
    customers = {dataset.dataset: dataset.customer for dataset in case.datasets}
    owed = dict[str, str]()
    for judged in affected:
        customer = customers.get(judged.release.dataset)
        if customer:
            owed.setdefault(customer, f"customer of {judged.release.name}, {VERDICT_WORDS[judged.verdict]}")
    for judged in affected:
        for count in judged.release.people:
            name = f"{count.category} ({count.jurisdiction})"
            owed.setdefault(name, f"people in {judged.release.name}, {VERDICT_WORDS[judged.verdict]}")
    return owed


def _clock_row(case: Case, name: str) -> tuple[str, ...]:
    found = min(
        (clock for clock in case.clocks if clock.clock == name), key=lambda one: (one.at, one.idx), default=None
    )
    what = "first alert" if name == "alert" else "awareness"
    if found is None:
        seen = min((version.first_seen for version in case.advisories), default=None)
        said = f"not noted; the first advisory was seen {time_words(seen)}" if name == "alert" else "not noted"
        return (what, "clock", said, "–", "–")
    return (what, found.words or "clock", time_words(found.at), "–", entries_words([found.idx]))


def _summary(
    case: Case, judgement: Judgement, affected: tuple[Judged, ...], waiting: list[str]
) -> tuple[Reply, Verdict | None, str]:
    noted = {clock.clock: clock.at for clock in sorted(case.clocks, key=lambda one: -one.at)}
    said = f"{count_words(len(case.notices), 'notice')} sent"
    if affected and "awareness" not in noted:
        rest = f"; not told: {list_words(waiting)}" if waiting else ""
        return (
            "unknown",
            "unknown",
            f"Since when somebody was aware is not noted, so no period can be told; {said}{rest}.",
        )
    if waiting:
        since = time_words(noted["awareness"])
        return "unknown", "unknown", f"Aware since {since}; {said}; no notice on record to {list_words(waiting)}."
    if affected:
        return (
            "yes",
            None,
            f"Aware since {time_words(noted['awareness'])}; all that are known got their notice ({said}).",
        )
    if not judgement.presences and not judgement.releases:
        return "unknown", "unknown", "Neither hosts nor releases are registered: there is nothing to judge."
    return "no", "not_held", f"No release is affected, so nobody is owed a notice for its data; {said}."
