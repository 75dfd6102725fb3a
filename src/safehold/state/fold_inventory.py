"""Folds of the statements about what is near a host (``model.statements_inventory``)."""

from __future__ import annotations

from safehold.model.statements_inventory import AdvisoriesSynced, IndicatorsRecorded, LatentRecorded, SourceTrusted
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: LatentRecorded, at: Place) -> list[RowChange]:
    return [put("latent", statement, at.index)]


@fold_statement.register
def _(statement: IndicatorsRecorded, at: Place) -> list[RowChange]:
    kinds = (("domain", statement.domains), ("address", statement.addresses), ("path", statement.paths))
    found = [(kind, value) for kind, values in kinds for value in dict.fromkeys(values)]
    return [
        RowChange(
            "put",
            "indicator",
            {
                "idx": at.index,
                "place": place,
                "advisory": statement.advisory,
                "document": statement.document,
                "kind": kind,
                "value": value,
                "t": statement.t,
            },
        )
        for place, (kind, value) in enumerate(found)
    ]


@fold_statement.register
def _(statement: SourceTrusted, at: Place) -> list[RowChange]:
    return [put("advisory_source", statement, at.index)]


@fold_statement.register
def _(statement: AdvisoriesSynced, at: Place) -> list[RowChange]:
    return [put("advisory_sync", statement, at.index)]
