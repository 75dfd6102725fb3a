"""Tables of releases that are no longer given out, and of those whose keys are destroyed."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["RELEASE_TABLES"]

RELEASE_TABLES: Final[tuple[Table, ...]] = (
    Table("retired", columns("release reason idx:I t:I"), ("release",)),
    Table("erased", columns("release keys:I kept:I shared reason idx:I t:I"), ("release",)),
)
