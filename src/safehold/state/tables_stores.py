"""Tables of where data lies: copies of releases in stores, and adopted data that was not sealed yet."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["STORE_TABLES"]

STORE_TABLES: Final[tuple[Table, ...]] = (
    Table("release_store", columns("release location endpoint? idx:I t:I"), ("release", "location")),
    Table(
        "adopted",
        columns(
            "listing dataset location endpoint? host? files:I size:I rows:I? release? sealed_idx:I? sealed_t:I?"
            " removed_idx:I? removed_t:I? idx:I t:I"
        ),
        ("listing",),
        (("dataset",), ("release",)),
    ),
)
