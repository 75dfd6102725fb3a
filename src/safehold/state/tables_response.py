"""The projections of responses: the plan and its steps."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["RESPONSE_TABLES"]

RESPONSE_TABLES: Final[tuple[Table, ...]] = (
    Table(
        "response",
        columns(
            "response course profile proposed advisory reason member? clean_for:I decisions idx:I t:I",
        ),
        ("response",),
        (("advisory",),),
    ),
    Table(
        "response_step",
        columns("response step:I act subject_kind? subject_id? words done_idx:I? done_t:I? proof? document?"),
        ("response", "step"),
    ),
)
