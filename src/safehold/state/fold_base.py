"""What the folds of all kinds share: the changes of rows, the place of a statement, and the table of functions.

The functions themselves stand in ``fold`` and, by topic, in the modules that it gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, Literal

import msgspec

from safehold.model.encoding import canonical_bytes
from safehold.model.ids import Digest
from safehold.model.statement import Statement

__all__ = ["Payloads", "Place", "RowChange", "as_text", "fold_statement", "put"]

Payloads = Callable[[Digest], bytes | None]
"""Look up a payload by digest; None if it is not here."""


class Place(msgspec.Struct, frozen=True):
    """Where a statement stands, and how to read the payloads that it names."""

    index: int
    payloads: Payloads


class RowChange(msgspec.Struct, frozen=True):
    """``put`` replaces the row with this key, ``add`` keeps the one that is there, ``set`` updates where key matches."""

    act: Literal["put", "add", "set"]
    table: str
    values: dict[str, Any]
    where: dict[str, Any] = {}


@singledispatch
def fold_statement(statement: Statement, _at: Place) -> list[RowChange]:
    """The changes of one statement: one registered function a kind."""
    raise TypeError(f"no fold for {type(statement).__name__}")  # a bug here, caught by the house test


def as_text(values: Sequence[Any]) -> str:
    """A list as a column holds it: canonical JSON."""
    return canonical_bytes(values).decode()


def put(table: str, statement: Statement, index: int, **changed: Any) -> RowChange:
    """A row with the statement's own fields, lists as text, and its place."""
    row: dict[str, Any] = {"idx": index, "t": statement.t}
    for name in statement.__struct_fields__:
        if name not in ("v", "by"):
            value = getattr(statement, name)
            row[name] = as_text(value) if isinstance(value, tuple) else value
    row.update(changed)
    return RowChange("put", table, {name: value for name, value in row.items() if value is not ...})
