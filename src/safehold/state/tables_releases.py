"""Tables of releases that are no longer given out, of those whose keys are destroyed, and of records under new keys."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["RELEASE_TABLES"]

RELEASE_TABLES: Final[tuple[Table, ...]] = (
    Table("retired", columns("release reason idx:I t:I"), ("release",)),
    Table("erased", columns("release keys:I kept:I shared reason idx:I t:I"), ("release",)),
    Table("rekeyed", columns("before release keys:I reason idx:I t:I"), ("before",), (("release",),)),
)
