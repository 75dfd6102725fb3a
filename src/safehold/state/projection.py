"""Keeping the projections: the fold's changes, made in the transaction that appends the entry.

``rebuild`` empties and replays everything inside one transaction: a crash leaves the old projections, and readers
see the old ones until it commits. ``digest_projections`` is what "byte-identical" means: SHA-256 over all rows of
all tables, in key order, in canonical form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from safehold.ledger.storage import Entry, Transaction, View
from safehold.model.encoding import canonical_bytes
from safehold.model.ids import Digest
from safehold.model.statements import decode
from safehold.state.fold import fold
from safehold.state.tables import PROJECTION_VERSION, TABLES, Table

__all__ = ["StateProjector", "digest_projections", "dump_projections", "rebuild"]

_BATCH: Final = 2048
_META: Final = "CREATE TABLE IF NOT EXISTS projection_version(version INTEGER PRIMARY KEY)"


class StateProjector:
    """The ledger's ``Projector`` port, over the tables of this room."""

    def prepare(self, transaction: Transaction) -> None:
        """Create what is missing; rebuild if the projections are of another version."""
        transaction.execute(_META)
        if _versions(transaction) != [PROJECTION_VERSION]:
            rebuild(transaction)

    def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Fold entries into the tables.

        Changes of one table are made in their order. Those of different tables may be made in another one: no change
        depends on another table, and nobody looks before all are made.
        """
        runs: list[tuple[str, list[tuple[Any, ...]]]] = []
        last: dict[str, tuple[str, list[tuple[Any, ...]]]] = {}
        for entry in entries:
            for change in fold(entry, transaction.payload):
                values, where = change.values, change.where
                sql = _sql(change.act, change.table, tuple(values), tuple(where))
                run = last.get(change.table)
                if run is None or run[0] is not sql:
                    last[change.table] = run = (sql, [])
                    runs.append(run)
                run[1].append((*values.values(), *where.values()))
        for sql, rows in runs:
            transaction.execute_many(sql, rows)


def _versions(view: View) -> list[int]:
    return [row[0] for row in view.rows("SELECT version FROM projection_version")]


def rebuild(transaction: Transaction, progress: Callable[[int, int], None] | None = None) -> int:
    """Empty all projections and fold every entry again; return their number. ``progress(done, all)`` if given.

    Tables of another version are dropped and made anew. Those of this version stay: dropping one would wait for all
    who read it, where a store locks tables.
    """
    same = _versions(transaction) == [PROJECTION_VERSION]
    for table in TABLES:
        if not same:
            transaction.execute(f'DROP TABLE IF EXISTS "{table.name}"')
        for sql in table.create():
            transaction.execute(sql)
        transaction.execute(f'DELETE FROM "{table.name}"')
    transaction.execute("DELETE FROM projection_version")
    transaction.execute("INSERT INTO projection_version(version) VALUES(?)", PROJECTION_VERSION)
    projector, size = StateProjector(), transaction.size()
    for begin in range(0, size, _BATCH):
        bodies = transaction.bodies(begin, min(begin + _BATCH, size))
        projector.apply(transaction, [Entry(at, body, decode(body)) for at, body in enumerate(bodies, begin)])
        if progress is not None:
            progress(min(begin + _BATCH, size), size)
    return size


def dump_projections(view: View) -> Iterator[bytes]:
    """Every row of every table in key order, each in canonical form, each table after its name."""
    for table in TABLES:
        yield table.name.encode() + b"\n"
        columns = ", ".join(f'"{name}"' for name, _ in table.columns)
        order = ", ".join(f'"{name}"' for name in table.key)
        for row in view.rows(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}'):
            yield canonical_bytes(row) + b"\n"


def digest_projections(view: View) -> Digest:
    """SHA-256 of ``dump_projections``: equal digests, equal projections."""
    digest = hashlib.sha256()
    for line in dump_projections(view):
        digest.update(line)
    return Digest("sha256:" + digest.hexdigest())


_BY_NAME: Final[dict[str, Table]] = {table.name: table for table in TABLES}


@cache
def _sql(act: str, table: str, names: tuple[str, ...], where: tuple[str, ...]) -> str:
    """The statement for a shape of change. Names come from ``tables`` and never from data."""
    known: set[Any] = {name for name, _ in _BY_NAME[table].columns}
    if not known.issuperset(names) or not known.issuperset(where):
        raise ValueError(f"the fold names columns that {table} does not have: {set(names) - known}")
    if act == "set":
        assigned = ", ".join(f'"{name}" = ?' for name in names)
        condition = " AND ".join(f'"{name}" = ?' for name in where)
        return f'UPDATE "{table}" SET {assigned} WHERE {condition}'
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" * len(names))
    key = _BY_NAME[table].key
    replaced = ", ".join(f'"{name}" = excluded."{name}"' for name, _ in _BY_NAME[table].columns if name not in key)
    on = ", ".join(f'"{name}"' for name in key)
    then = f"UPDATE SET {replaced}" if act == "put" and replaced else "NOTHING"
    return f'INSERT INTO "{table}"({columns}) VALUES({marks}) ON CONFLICT({on}) DO {then}'
