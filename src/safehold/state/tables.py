"""The projections: their tables (those of one topic may stand in ``tables_TOPIC``, gathered here) and their version.

A projection holds nothing that the ledger does not; dropping all of them and replaying the ledger is the
migration. Whoever changes a table or the fold raises ``PROJECTION_VERSION``: an older database is then rebuilt
when it is opened.

Lists are stored as canonical JSON text; times are µs UTC; ``idx`` is the place in the ledger, and so the evidence.
"""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns
from safehold.state.tables_access import ACCESS_TABLES
from safehold.state.tables_inventory import INVENTORY_TABLES
from safehold.state.tables_outside import OUTSIDE_TABLES
from safehold.state.tables_releases import RELEASE_TABLES
from safehold.state.tables_response import RESPONSE_TABLES
from safehold.state.tables_serve import SERVE_TABLES
from safehold.state.tables_stores import STORE_TABLES

__all__ = ["PROJECTION_VERSION", "TABLES", "Table"]

PROJECTION_VERSION: Final = 13


TABLES: Final[tuple[Table, ...]] = (
    Table("restoration", columns("idx:I size:I root taken:I witnessed:I? reason t:I"), ("idx",)),
    Table("party", columns("party role title key idx:I t:I"), ("party",)),
    Table("member", columns("member party idx:I t:I"), ("member",)),
    Table("host", columns("host party key expected_every:I idx:I t:I"), ("host",), (("party",),)),
    Table("dataset", columns("dataset party customer title idx:I t:I"), ("dataset",)),
    Table(
        "release",
        columns(
            "release dataset version:I party host? parent? rows:I size:I parts:I groups classification purposes people idx:I t:I"
        ),
        ("release",),
        (("dataset", "version"), ("host",)),
    ),
    Table(
        "grant",
        columns("grant party host? dataset groups purposes not_before:I until:I token revocation idx:I t:I"),
        ("grant",),
        (("party",), ("dataset",)),
    ),
    Table(
        "item",
        # `place` in the payload, and not what a host wrote: PostgreSQL's keys hold 2,700 bytes, and a path may be longer.
        columns("inventory place:I kind name version path sha256 family"),
        ("inventory", "place"),
    ),
    Table(
        "observation",
        columns("idx:I host environment inventory since:I until:I largest_gap:I sweeps:I report t:I"),
        ("idx",),
        (("host", "environment", "until"), ("inventory",)),
    ),
    Table(
        "advisory",
        columns(
            "idx:I advisory document format source aliases joined affected windows summary first_seen:I published:I?"
            " modified:I? withdrawn:I t:I"
        ),
        ("idx",),
        (("advisory",),),
    ),
    Table(
        "finding",
        columns("idx:I advisory document inventory match name version path t:I"),
        ("idx",),
        (("inventory",), ("advisory",)),
    ),
    Table(
        "key_release",
        columns(
            "idx:I request release dataset groups parts:I party host member? grant purpose inventories reader until:I t:I"
        ),
        ("idx",),
        (("host", "t"), ("release",), ("request",), ("grant",)),
    ),
    Table(
        "key_refusal",
        columns("idx:I request? release? host? grant? step:I code reason hint t:I"),
        ("idx",),
        (("host", "t"), ("request",)),
    ),
    Table(
        "decision",
        columns("decision ruling subject_kind subject_id reason member? advisories idx:I t:I"),
        ("decision",),
    ),
    Table(
        "hold",
        columns(
            "hold subject_kind subject_id reason decision placed_idx:I placed_t:I lifted_idx:I? lifted_t:I? lifted_reason?"
        ),
        ("hold",),
        (("subject_kind", "subject_id"),),
    ),
    Table("run", columns("run party host? idx:I t:I"), ("run",)),
    Table("run_release", columns("run release"), ("run", "release"), (("release",),)),
    Table("model", columns("model party idx:I t:I"), ("model",)),
    Table("model_run", columns("model run"), ("model", "run"), (("run",),)),
    Table(
        "segment",
        columns("table begin:I end:I form:I rows:I since:I? until:I? size:I digest idx:I t:I"),
        ("table", "begin"),
    ),
    *ACCESS_TABLES,
    *INVENTORY_TABLES,
    *OUTSIDE_TABLES,
    *STORE_TABLES,
    *SERVE_TABLES,
    *RELEASE_TABLES,
    *RESPONSE_TABLES,
    Table("unknown_entry", columns("idx:I kind version:I"), ("idx",)),
)
