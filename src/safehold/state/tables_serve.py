"""The table of refusals that stand as a count."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["SERVE_TABLES"]

SERVE_TABLES: Final[tuple[Table, ...]] = (
    Table("refusal_count", columns("idx:I code count:I since:I until:I t:I"), ("idx",)),
)
