"""Lineage: what was made of a release: later releases, runs, models. Pure; built once for a case, looked up by release."""

from __future__ import annotations

from collections.abc import Iterable

from safehold.exposure.facts import Case, Model, Release, Run

__all__ = ["Lineage"]


class Lineage:
    """The edges of a case, from what was used to what was made of it."""

    def __init__(self, case: Case) -> None:
        self._runs = dict[str, list[Run]]()
        self._models = dict[str, list[Model]]()
        self._children = dict[str, list[Release]]()
        for run in case.runs:
            for release in run.releases:
                self._runs.setdefault(release, []).append(run)
        for model in case.models:
            for name in model.runs:
                self._models.setdefault(name, []).append(model)
        for child in case.releases:
            if child.parent is not None:
                self._children.setdefault(child.parent, []).append(child)

    def runs(self, release: str) -> tuple[Run, ...]:
        """The runs that used a release, in ledger order."""
        return tuple(self._runs.get(release, ()))

    def models(self, run: str) -> tuple[Model, ...]:
        """The models that a run made, in ledger order."""
        return tuple(self._models.get(run, ()))

    def later(self, release: str) -> tuple[Release, ...]:
        """Releases made from this one, and from those, nearest first: parts that did not change have the same keys."""
        found, told, parents = list[Release](), {release}, [release]
        while parents:
            children = [one for parent in parents for one in self._children.get(parent, ()) if one.release not in told]
            fresh = {one.release: one for one in children}
            found += fresh.values()
            told.update(fresh)
            parents = list(fresh)
        return tuple(found)

    def descendants(self, releases: Iterable[str]) -> tuple[set[str], set[str], set[str]]:
        """All later releases, runs and models that come of ``releases``, through one another."""
        later, parents = set[str](), list(releases)
        first = set(parents)
        while parents:
            fresh = {one.release for parent in parents for one in self._children.get(parent, ())} - later - first
            later |= fresh
            parents = list(fresh)
        runs = {run.run for release in first | later for run in self._runs.get(release, ())}
        return later, runs, {model.model for run in runs for model in self._models.get(run, ())}
