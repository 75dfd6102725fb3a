"""Folds of the statements about the served broker (``model.statements_serve``)."""

from __future__ import annotations

from safehold.model.statements_serve import RefusalsCounted
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: RefusalsCounted, at: Place) -> list[RowChange]:
    return [put("refusal_count", statement, at.index)]
