"""Question 14: which releases could those hosts open? The pairs of host and release, with the ways on record."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, coverage_of, entries_of
from safehold.exposure.unguarded import Unguarded, judge_adopted
from safehold.exposure.verdict import VERDICT_WORDS, VERDICTS, Verdict, worst
from safehold.exposure.words import count_words, entries_words, list_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 14
QUESTION: Final = "Which dataset releases could that host open?"
FALLBACK: Final = "storage access logs (import them)"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: releases were exposed; *unknown*: some may have been; *no*: no way on record, and nothing unseen."""
    names = {judged.release.release: judged.release.name for judged in judgement.releases}
    pairs = sorted(judgement.pairs, key=lambda pair: (VERDICTS.index(pair.verdict), names[pair.release], pair.host))
    rows: tuple[tuple[str, ...], ...] = tuple(
        (names[pair.release], pair.host, VERDICT_WORDS[pair.verdict], pair.words, entries_words(pair.entries) or "–")
        for pair in pairs
    )
    exposed, unknown = judgement.releases_with("exposed"), judgement.releases_with("unknown")
    unguarded = judge_adopted(case, judgement.presences)
    rows += tuple(_adopted_row(one) for one in unguarded)
    sealed = worst((judged.verdict for judged in judgement.releases), "not_held")
    verdict = worst((sealed, *(one.verdict for one in unguarded)), "not_held")
    reply, summary = _with_adopted(_summary(judgement, exposed, unknown, sealed), unguarded)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict if judgement.presences or judgement.releases else "unknown",
        summary=summary,
        table=Table(("release", "host", "verdict", "by what", "evidence"), rows),
        evidence=entries_of(*(one.entries for one in (*exposed, *unknown)), *(one.entries for one in unguarded)),
        coverage=coverage_of(case, judgement)
        + " Key releases are complete: no key leaves without an entry. Copies made outside are not in the ledger."
        + (
            "" if case.touches is None else " There are too many to tell each: the first are told, the rest is counted."
        ),
        fallback=FALLBACK,
    )


def _adopted_row(one: Unguarded) -> tuple[str, ...]:
    adopted = one.adopted
    name = f"{adopted.dataset} (unsealed: {count_words(adopted.files, 'file')} at {adopted.location})"
    return (name, adopted.host or "–", VERDICT_WORDS[one.verdict], one.words, entries_words(one.entries))


def _with_adopted(said: tuple[Reply, str], unguarded: tuple[Unguarded, ...]) -> tuple[Reply, str]:
    """The answer with data that no key guards: it can only make it worse."""
    reply, summary = said
    taken = [one.adopted.dataset for one in unguarded if one.verdict == "exposed"]
    unclear = [one.adopted.dataset for one in unguarded if one.verdict == "unknown"]
    summary += f" Unsealed data in reach: {list_words(taken)}." if taken else ""
    summary += f" Of unsealed data of {list_words(unclear)} it is not known." if unclear else ""
    worse: Reply = "yes" if taken else "unknown" if unclear and reply == "no" else reply
    return worse, summary


def _summary(
    judgement: Judgement, exposed: tuple[Judged, ...], unknown: tuple[Judged, ...], verdict: Verdict
) -> tuple[Reply, str]:
    every = count_words(len(judgement.releases), "release")
    beside = f" Of {_listed(unknown)} it is not known." if unknown else ""
    if exposed:
        return "yes", f"{_listed(exposed)} could be taken: {len(exposed)} of {every}.{beside}"
    if unknown:
        return "unknown", f"None is shown to be exposed, but not all could be seen.{beside}"
    if not judgement.presences and not judgement.releases:
        return "unknown", "Neither hosts nor releases are registered: there is nothing to judge."
    if verdict == "held":
        return "no", f"None of {every}: the thing was on a host, but no way from it to a release is on record."
    return "no", f"None of {every}: no host that could open them held the thing."


def _listed(releases: tuple[Judged, ...]) -> str:
    return list_words([judged.release.name for judged in releases])
