"""The fold of responses: a plan with its steps, and what was shown to be done."""

from __future__ import annotations

from safehold.model.statements_response import ResponsePlanned, ResponseProven
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: ResponsePlanned, at: Place) -> list[RowChange]:
    steps = [
        RowChange(
            "put",
            "response_step",
            {
                "response": statement.response,
                "step": number,
                "act": step.act,
                "subject_kind": step.subject.kind if step.subject else None,
                "subject_id": step.subject.id if step.subject else None,
                "words": step.words,
                # A hold is in force since this very append.
                "done_idx": at.index if step.act == "hold" else None,
                "done_t": statement.t if step.act == "hold" else None,
                "proof": None,
                "document": None,
            },
        )
        for number, step in enumerate(statement.steps)
    ]
    return [put("response", statement, at.index, steps=...), *steps]


@fold_statement.register
def _(statement: ResponseProven, at: Place) -> list[RowChange]:
    done = {"done_idx": at.index, "done_t": statement.t, "proof": statement.proof, "document": statement.document}
    return [RowChange("set", "response_step", done, {"response": statement.response, "step": statement.step})]
