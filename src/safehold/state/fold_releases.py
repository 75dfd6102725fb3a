"""Folds of the statements about what becomes of a release (``model.statements_releases``)."""

from __future__ import annotations

from safehold.model.statements_releases import ReleaseErased, ReleaseRekeyed, ReleaseRetired
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: ReleaseRetired, at: Place) -> list[RowChange]:
    # `add`: who retires a release twice changes nothing; the first entry is the one that counts.
    return [RowChange("add", "retired", put("retired", statement, at.index).values)]


@fold_statement.register
def _(statement: ReleaseErased, at: Place) -> list[RowChange]:
    return [RowChange("add", "erased", put("erased", statement, at.index).values)]


@fold_statement.register
def _(statement: ReleaseRekeyed, at: Place) -> list[RowChange]:
    return [RowChange("add", "rekeyed", put("rekeyed", statement, at.index).values)]
