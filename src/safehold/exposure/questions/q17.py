"""Question 17: which models and later releases used the affected ones? From declared runs, models and parents."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Grant, Release
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.lineage import Lineage
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
    lineage, book = Lineage(case), _Trained(case)
    verdicts = {one.release.release: one.verdict for one in judgement.releases}
    for judged in affected:
        rows += _runs(lineage, judged) + _children(lineage, verdicts, judged)
        opened = _undeclared(lineage, book, judged)
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


def _runs(lineage: Lineage, judged: Judged) -> list[tuple[str, ...]]:
    rows, said = list[tuple[str, ...]](), (judged.release.name, VERDICT_WORDS[judged.verdict])
    for run in lineage.runs(judged.release.release):
        on = f" on {run.host}" if run.host else ""
        rows.append((*said, "run", f"{run.run} by {run.party}{on}, {time_words(run.t)}", entries_words([run.idx])))
        rows += [
            (*said, "model", f"{model.model} by {run.run}", entries_words([model.idx]))
            for model in lineage.models(run.run)
        ]
    return rows


def _children(lineage: Lineage, verdicts: dict[str, Verdict], judged: Judged) -> list[tuple[str, ...]]:
    """Later releases made from this one, and from those: parts that did not change have the same keys."""
    rows = list[tuple[str, ...]]()
    for child in lineage.later(judged.release.release):
        own = f"{child.name}, itself {VERDICT_WORDS[verdicts.get(child.release, 'unknown')]}"
        row = (judged.release.name, VERDICT_WORDS[judged.verdict], "later release", own)
        rows.append((*row, entries_words([] if child.idx is None else [child.idx])))
    return rows


class _Trained:
    """Who opened a release for training; of too many key releases, who had a grant to."""

    def __init__(self, case: Case) -> None:
        self.whole = case.touches is None
        self._opened = dict[str, dict[str, list[int]]]()
        self._granted = dict[str, list[Grant]]()
        for released in case.key_releases if self.whole else ():
            if released.purpose == _TRAINING:
                self._opened.setdefault(released.release, {}).setdefault(released.party, []).append(released.idx)
        for grant in case.grants if not self.whole else ():
            if _TRAINING in grant.purposes:
                self._granted.setdefault(grant.dataset, []).append(grant)

    def by_party(self, release: Release) -> dict[str, list[int]]:
        """The parties, each with its entries."""
        if self.whole:
            return self._opened.get(release.release, {})
        found = dict[str, list[int]]()
        for grant in self._granted.get(release.dataset, ()):
            if grant.until > max(grant.not_before, grant.t, release.t):
                found.setdefault(grant.party, []).append(grant.idx)
        return found


def _undeclared(lineage: Lineage, trained: _Trained, judged: Judged) -> list[tuple[str, ...]]:
    """Openings for training by a party that declared no run with this release."""
    declared = {run.party for run in lineage.runs(judged.release.release)}
    said = (judged.release.name, VERDICT_WORDS[judged.verdict], "run not declared")
    return [
        (*said, _trained_words(party, entries, whole=trained.whole), entries_words(entries))
        for party, entries in sorted(trained.by_party(judged.release).items())
        if party not in declared
    ]


def _trained_words(party: str, entries: list[int], *, whole: bool) -> str:
    if not whole:
        return f"{party} had a grant for training"
    return f"opened for training by {party} {count_words(len(entries), 'time')}"


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
