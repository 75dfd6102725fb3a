"""The projections: their tables, in one place, and their version.

A projection holds nothing that the ledger does not; dropping all of them and replaying the ledger is the
migration. Whoever changes a table or the fold raises ``PROJECTION_VERSION``: an older database is then rebuilt
when it is opened.

Lists are stored as canonical JSON text; times are µs UTC; ``idx`` is the place in the ledger, and so the evidence.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["PROJECTION_VERSION", "TABLES", "Table"]

PROJECTION_VERSION: Final = 3


class Table(msgspec.Struct, frozen=True):
    """A projection table: ``columns`` as name and SQL type, the leading ``key`` columns, and extra ``indexes``."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    def create(self) -> list[str]:
        """The SQL that makes the table and its indexes if they are missing."""
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.columns)
        key = ", ".join(f'"{name}"' for name in self.key)
        made = [f'CREATE TABLE IF NOT EXISTS "{self.name}"({columns}, PRIMARY KEY({key}))']
        for index in self.indexes:
            on = ", ".join(f'"{name}"' for name in index)
            made.append(f'CREATE INDEX IF NOT EXISTS "{self.name}_{"_".join(index)}" ON "{self.name}"({on})')
        return made


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    """``name:I`` is an integer, ``name`` a text; a ``?`` after either allows NULL."""
    made = []
    for word in text.split():
        nullable = word.endswith("?")
        name, _, kind = word.rstrip("?").partition(":")
        made.append((name, ("INTEGER" if kind == "I" else "TEXT") + ("" if nullable else " NOT NULL")))
    return tuple(made)


TABLES: Final[tuple[Table, ...]] = (
    Table("restoration", _columns("idx:I size:I root taken:I witnessed:I? reason t:I"), ("idx",)),
    Table("party", _columns("party role title key idx:I t:I"), ("party",)),
    Table("member", _columns("member party idx:I t:I"), ("member",)),
    Table("host", _columns("host party key expected_every:I idx:I t:I"), ("host",), (("party",),)),
    Table("dataset", _columns("dataset party customer title idx:I t:I"), ("dataset",)),
    Table(
        "release",
        _columns(
            "release dataset version:I party host? parent? rows:I size:I parts:I groups classification purposes people idx:I t:I"
        ),
        ("release",),
        (("dataset", "version"), ("host",)),
    ),
    Table(
        "grant",
        _columns("grant party host? dataset groups purposes not_before:I until:I token revocation idx:I t:I"),
        ("grant",),
        (("party",), ("dataset",)),
    ),
    Table(
        "item",
        _columns("inventory kind name version path sha256"),
        ("inventory", "kind", "name", "version", "path"),
        (("name", "version"), ("sha256",)),
    ),
    Table(
        "observation",
        _columns("idx:I host environment inventory since:I until:I largest_gap:I sweeps:I report t:I"),
        ("idx",),
        (("host", "environment", "until"), ("inventory",)),
    ),
    Table(
        "advisory",
        _columns(
            "idx:I advisory document format source aliases joined affected windows summary first_seen:I published:I?"
            " modified:I? withdrawn:I t:I"
        ),
        ("idx",),
        (("advisory",),),
    ),
    Table(
        "finding",
        _columns("idx:I advisory document inventory match name version path t:I"),
        ("idx",),
        (("inventory",), ("advisory",)),
    ),
    Table(
        "key_release",
        _columns(
            "idx:I request release dataset groups parts:I party host member? grant purpose inventories reader until:I t:I"
        ),
        ("idx",),
        (("host", "t"), ("release",), ("request",), ("grant",)),
    ),
    Table(
        "key_refusal",
        _columns("idx:I request? release? host? grant? step:I code reason hint t:I"),
        ("idx",),
        (("host", "t"), ("request",)),
    ),
    Table(
        "decision",
        _columns("decision ruling subject_kind subject_id reason member? advisories idx:I t:I"),
        ("decision",),
    ),
    Table(
        "hold",
        _columns(
            "hold subject_kind subject_id reason decision placed_idx:I placed_t:I lifted_idx:I? lifted_t:I? lifted_reason?"
        ),
        ("hold",),
        (("subject_kind", "subject_id"),),
    ),
    Table("run", _columns("run party host? idx:I t:I"), ("run",)),
    Table("run_release", _columns("run release"), ("run", "release"), (("release",),)),
    Table("model", _columns("model party idx:I t:I"), ("model",)),
    Table("model_run", _columns("model run"), ("model", "run"), (("run",),)),
    Table("unknown_entry", _columns("idx:I kind version:I"), ("idx",)),
)
