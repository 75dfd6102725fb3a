"""Tables of what is near hosts: caches and lockfiles that could bring a version back, and what advisories point to."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["INVENTORY_TABLES"]

INVENTORY_TABLES: Final[tuple[Table, ...]] = (
    Table(
        "latent",
        columns("idx:I advisory document inventory item match name version path t:I"),
        ("idx",),
        (("inventory",), ("advisory",)),
    ),
    Table("advisory_source", columns("source key idx:I t:I"), ("source",)),
    Table(
        "advisory_sync",
        columns("idx:I source bundle number:I made:I key files:I unread:I t:I"),
        ("idx",),
        (("source",),),
    ),
    # `kind`: domain, address or path. `place` in the statement, and not the value: it may be longer than a key holds.
    Table(
        "indicator",
        columns("idx:I place:I advisory document kind value t:I"),
        ("idx", "place"),
        (("advisory",), ("document",)),
    ),
)
