"""Question 17: which models and later releases used the affected ones? From declared runs, models and parents."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 17
QUESTION: Final = "Which models and derived datasets used it?"
FALLBACK: Final = "job configurations"
_TRAINING: Final = "training"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: uses are on record; *unknown*: it was opened for training and no run says so; *no*: neither."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    rows, undeclared = list[tuple[str, ...]](), list[str]()
    for judged in affected:
        rows += _runs(case, judged) + _children(case, judgement, judged)
        opened = _undeclared(case, judged)
        undeclared += [row[0] for row in opened]
        rows += opened
    declared = [row for row in rows if row[2] != "run not declared"]
    reply, verdict, summary = _summary(affected, declared, undeclared)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("release", "verdict", "use", "what", "evidence"), tuple(rows)),
        evidence=_evidence(case, affected),
        coverage=f"{count_words(len(case.runs), 'run')} and {count_words(len(case.models), 'model')} are declared;"
        " a run that no one declared is not seen.",
        fallback=FALLBACK,
    )


def _summary(
    affected: tuple[Judged, ...], declared: list[tuple[str, ...]], undeclared: list[str]
) -> tuple[Reply, Verdict | None, str]:
    models = sorted({row[3].partition(" by ")[0] for row in declared if row[2] == "model"})
    if not affected:
        return "no", "not_held", "No release is affected, so none of them was used."
    uses = f"{count_words(len(declared), 'use')} on record"
    uses += f"; models: {list_words(models)}" if models else "; no model among them"
    if undeclared:
        return "unknown", "unknown", f"{uses}. Opened for training, but no run is declared: {list_words(undeclared)}."
    if declared:
        return "yes", None, f"{uses}."
    return "no", "not_held", "No run, model or later release on record used an affected release."


def _runs(case: Case, judged: Judged) -> list[tuple[str, ...]]:
    rows, said = list[tuple[str, ...]](), (judged.release.name, VERDICT_WORDS[judged.verdict])
    for run in case.runs:
        if judged.release.release not in run.releases:
            continue
        on = f" on {run.host}" if run.host else ""
        rows.append((*said, "run", f"{run.run} by {run.party}{on}, {time_words(run.t)}", entries_words([run.idx])))
        rows += [
            (*said, "model", f"{model.model} by {run.run}", entries_words([model.idx]))
            for model in case.models
            if run.run in model.runs
        ]
    return rows


def _children(case: Case, judgement: Judgement, judged: Judged) -> list[tuple[str, ...]]:
    """Later releases made from this one, and from those: parts that did not change have the same keys."""
    rows, parents, told = list[tuple[str, ...]](), [judged.release.release], {judged.release.release}
    verdicts = {one.release.release: one.verdict for one in judgement.releases}
    while parents:
        children = [one for one in case.releases if one.parent in parents and one.release not in told]
        for child in children:
            own = f"{child.name}, itself {VERDICT_WORDS[verdicts.get(child.release, 'unknown')]}"
            row = (judged.release.name, VERDICT_WORDS[judged.verdict], "later release", own)
            rows.append((*row, entries_words([] if child.idx is None else [child.idx])))
        parents = [child.release for child in children]
        told.update(parents)
    return rows


def _undeclared(case: Case, judged: Judged) -> list[tuple[str, ...]]:
    """Openings for training by a party that declared no run with this release."""
    declared = {run.party for run in case.runs if judged.release.release in run.releases}
    opened = dict[str, list[int]]()
    for released in case.key_releases:
        silent = released.party not in declared and released.purpose == _TRAINING
        if silent and released.release == judged.release.release:
            opened.setdefault(released.party, []).append(released.idx)
    said = (judged.release.name, VERDICT_WORDS[judged.verdict], "run not declared")
    return [
        (*said, f"opened for training by {party} {count_words(len(entries), 'time')}", entries_words(entries))
        for party, entries in sorted(opened.items())
    ]


def _evidence(case: Case, affected: tuple[Judged, ...]) -> tuple[int, ...]:
    digests = {judged.release.release for judged in affected}
    runs = [run for run in case.runs if digests.intersection(run.releases)]
    names = {run.run for run in runs}
    return entries_of(
        (judged.release.idx for judged in affected),
        (run.idx for run in runs),
        (model.idx for model in case.models if names.intersection(model.runs)),
        (child.idx for child in case.releases if child.parent in digests),
    )
