"""Question 16: was anything altered? From checks of the files against their signed manifests since the thing was there."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.facts_outside import Check
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.outside import mattering, touched
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 16
QUESTION: Final = "Was anything altered?"
FALLBACK: Final = "comparison with backups"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a check found an alteration; *no*: all affected releases were found intact since; else *unknown*."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    ended = max((span.end for one in touched(judgement) for span in mattering(one)), default=0)
    newest = {judged.release.release: _newest(case, judged) for judged in affected}
    altered = [one for one in affected if (check := newest[one.release.release]) and check.outcome == "altered"]
    unchecked = [one for one in affected if not _is_intact(newest[one.release.release], ended)]
    reply, verdict, summary = _summary(judgement, affected, altered, unchecked)
    rows = tuple(_row(judged, newest[judged.release.release], ended) for judged in affected)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("release", "verdict", "sealed", "checked", "what came of it", "evidence"), rows),
        evidence=entries_of(
            (judged.release.idx for judged in affected), (check.idx for check in newest.values() if check)
        ),
        coverage=f"{len(affected) - len(unchecked)} of {count_words(len(affected), 'affected release')} checked since."
        " A release that is altered does not open: each part is held against the signed manifest.",
        fallback=FALLBACK,
    )


def _newest(case: Case, judged: Judged) -> Check | None:
    """An alteration that was found is not undone by a later check of another copy."""
    own = [check for check in case.checks if check.release == judged.release.release]
    altered = [check for check in own if check.outcome == "altered"]
    return max(altered or own, key=lambda check: (check.at, check.idx), default=None)


def _is_intact(check: Check | None, ended: int) -> bool:
    return check is not None and check.outcome == "intact" and check.at >= ended


def _row(judged: Judged, check: Check | None, ended: int) -> tuple[str, ...]:
    release = judged.release
    sealed = "not recorded" if release.idx is None else f"{time_words(release.t)}"
    entries = [entry for entry in (release.idx, check.idx if check else None) if entry is not None]
    said = (
        "not checked" if check is None else f"{check.outcome}, {count_words(check.parts, 'part')} {check.words}".strip()
    )
    said += ", before the thing was gone" if check and check.at < ended and check.outcome == "intact" else ""
    when = time_words(check.at if check else None)
    return (release.name, VERDICT_WORDS[judged.verdict], sealed, when, said, entries_words(entries) or "–")


def _summary(
    judgement: Judgement, affected: tuple[Judged, ...], altered: list[Judged], unchecked: list[Judged]
) -> tuple[Reply, Verdict | None, str]:
    if altered:
        return "yes", "exposed", f"Altered: {list_words([one.release.name for one in altered])}."
    if unchecked:
        names = list_words([one.release.name for one in unchecked])
        return "unknown", "unknown", f"Not checked since the thing was there: {names}. `safehold verify` checks them."
    if affected:
        return "no", "held", "No: every affected release was found as it was sealed, after the thing was gone."
    if not judgement.presences and not judgement.releases:
        return "unknown", "unknown", "Neither hosts nor releases are registered: there is nothing to judge."
    return "no", "not_held", "No release is affected."
