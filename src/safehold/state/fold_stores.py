"""Folds of the statements about where data lies (``model.statements_stores``)."""

from __future__ import annotations

from safehold.model.statements_stores import AdoptionRemoved, AdoptionSealed, DatasetAdopted, ReleaseStored
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: ReleaseStored, at: Place) -> list[RowChange]:
    return [put("release_store", statement, at.index)]


@fold_statement.register
def _(statement: DatasetAdopted, at: Place) -> list[RowChange]:
    open_ends = {"release": None, "sealed_idx": None, "sealed_t": None, "removed_idx": None, "removed_t": None}
    # `add`: a listing that is adopted again stays the row that it was, with what was sealed of it.
    return [RowChange("add", "adopted", put("adopted", statement, at.index, **open_ends).values)]


@fold_statement.register
def _(statement: AdoptionSealed, at: Place) -> list[RowChange]:
    sealed = {"release": statement.release, "sealed_idx": at.index, "sealed_t": statement.t}
    return [RowChange("set", "adopted", sealed, {"listing": statement.listing})]


@fold_statement.register
def _(statement: AdoptionRemoved, at: Place) -> list[RowChange]:
    removed = {"removed_idx": at.index, "removed_t": statement.t}
    return [RowChange("set", "adopted", removed, {"listing": statement.listing})]
