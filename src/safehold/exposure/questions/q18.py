"""Question 18: which people and jurisdictions? The counts that were sealed with the affected releases."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 18
QUESTION: Final = "Which people and jurisdictions?"
FALLBACK: Final = "by hand"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: all affected releases count their people; *unknown*: one does not; *no*: none is affected."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    missing = [judged.release.name for judged in affected if not judged.release.people]
    sums = dict[tuple[str, str], list[tuple[int, Judged]]]()
    for judged in affected:
        for count in judged.release.people:
            sums.setdefault((count.jurisdiction, count.category), []).append((count.count, judged))
    rows = tuple(_row(place, category, counts) for (place, category), counts in sorted(sums.items()))
    reply, verdict, summary = _summary(judgement, affected, missing, sums)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("jurisdiction", "category", "people at most", "in releases", "evidence"), rows),
        evidence=entries_of(judged.release.idx for judged in affected),
        coverage=f"{len(affected) - len(missing)} of {count_words(len(affected), 'affected release')} count their people."
        " One person may be counted in several releases.",
        fallback=FALLBACK,
    )


def _row(place: str, category: str, counts: list[tuple[int, Judged]]) -> tuple[str, ...]:
    releases = [f"{judged.release.name} {VERDICT_WORDS[judged.verdict]}" for _, judged in counts]
    entries = entries_words(judged.release.idx for _, judged in counts if judged.release.idx is not None)
    return (place, category, f"{sum(count for count, _ in counts):,}", list_words(releases, 4), entries)


def _summary(
    judgement: Judgement,
    affected: tuple[Judged, ...],
    missing: list[str],
    sums: dict[tuple[str, str], list[tuple[int, Judged]]],
) -> tuple[Reply, Verdict | None, str]:
    people = sum(count for counts in sums.values() for count, _ in counts)
    said = f"At most {count_words(people, 'person', 'people')} in {list_words(sorted({place for place, _ in sums}))}"
    if missing:
        rest = f"no count was sealed with {list_words(missing)}"
        return "unknown", "unknown", f"{said}; {rest}." if sums else f"Not known: {rest}."
    if affected:
        return "yes", None, f"{said}."
    if not judgement.presences and not judgement.releases:
        return "unknown", "unknown", "Neither hosts nor releases are registered: there is nothing to judge."
    return "no", "not_held", "No release is affected."
