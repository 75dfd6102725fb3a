"""One projection table as a value, and the SQL that makes it. The tables themselves stand in ``tables``."""

from __future__ import annotations

import msgspec

__all__ = ["Table", "columns"]


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


def columns(text: str) -> tuple[tuple[str, str], ...]:
    """``name:I`` is an integer, ``name`` a text; a ``?`` after either allows NULL."""
    made = []
    for word in text.split():
        nullable = word.endswith("?")
        name, _, kind = word.rstrip("?").partition(":")
        made.append((name, ("INTEGER" if kind == "I" else "TEXT") + ("" if nullable else " NOT NULL")))
    return tuple(made)
