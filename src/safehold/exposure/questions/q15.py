"""Question 15: what exactly was in the releases that were, or may have been, exposed? From what was sealed."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Dataset
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 15
QUESTION: Final = "What exactly was in them?"
FALLBACK: Final = "none"
_NOT_RECORDED: Final = "not recorded"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: all is on record; *unknown*: something about an affected release is not; *no*: none was affected."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    datasets = {dataset.dataset: dataset for dataset in case.datasets}
    rows = tuple(_row(judged, datasets.get(judged.release.dataset)) for judged in affected)
    missing = [row[0] for row in rows if _NOT_RECORDED in row]
    reply, summary = _summary(judgement, affected, missing)
    verdict: Verdict | None = "not_held" if reply == "no" else "unknown" if reply == "unknown" else None
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(
            ("release", "verdict", "rows", "columns", "classification", "supplier", "customer", "people", "evidence"),
            rows,
        ),
        evidence=entries_of(judged.release.idx for judged in affected),
        coverage=f"{len(rows) - len(missing)} of {count_words(len(rows), 'affected release')} fully described."
        " People are counted only where the seal says so: no count is not none.",
        fallback=FALLBACK,
    )


def _summary(judgement: Judgement, affected: tuple[Judged, ...], missing: list[str]) -> tuple[Reply, str]:
    if not affected:
        if judgement.hosts_with("unknown"):
            return "no", "No release is affected: no way on record leads to one, even from the hosts not observed."
        return "no", "No release is affected."
    total = sum(judged.release.rows for judged in affected if judged.verdict == "exposed")
    unknown = sum(judged.release.rows for judged in affected if judged.verdict == "unknown")
    people = sum(count.count for judged in affected for count in judged.release.people)
    said = f"{total:,} rows in exposed releases"
    said += f" and {unknown:,} in releases not known" if unknown else ""
    said += f"; {count_words(people, 'person', 'people')} counted in them"
    if missing:
        return "unknown", f"{said}. Not all is recorded of {list_words(missing)}."
    return "yes", f"{said}."


def _row(judged: Judged, dataset: Dataset | None) -> tuple[str, ...]:
    release = judged.release
    customer = dataset.customer if dataset else _NOT_RECORDED
    if release.idx is None:
        blank = (_NOT_RECORDED,) * 3
        return (release.name, VERDICT_WORDS[judged.verdict], *blank, release.party, customer, _NOT_RECORDED, "–")
    people = [f"{one.count:,} {one.category} ({one.jurisdiction})" for one in release.people]
    return (
        release.name,
        VERDICT_WORDS[judged.verdict],
        f"{release.rows:,}",
        ", ".join(release.groups) or "–",
        release.classification or "–",
        release.party,
        customer,
        "; ".join(people) or _NOT_RECORDED,
        entries_words([release.idx]),
    )
