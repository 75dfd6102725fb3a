"""What the folds of all kinds share: the changes of rows, the place of a statement, and the table of functions.

The functions themselves stand in ``fold`` and, by topic, in the modules that it gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, singledispatch
from operator import attrgetter
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

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


class RowChange(msgspec.Struct, frozen=True, gc=False):
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
    """A row with the statement's own fields, lists as text, and its place. A field ``changed`` to ``...`` is left out."""
    names, values, lists = _plan(type(statement))
    row: dict[str, Any] = dict(zip(names, values(statement), strict=True))
    for name in lists:
        if row[name] is not None:
            # The statement came out of a typed decoder, or reads back as itself: its lists have a canonical form.
            row[name] = _list_encoder.encode(row[name]).decode()
    row["idx"] = index
    for name, value in changed.items():
        if value is ...:
            del row[name]
        else:
            row[name] = value
    return RowChange("put", table, row)


@cache
def _plan(kind: type[Statement]) -> tuple[tuple[str, ...], Callable[[Statement], tuple[Any, ...]], tuple[str, ...]]:
    """The fields of a kind that become columns, how to read all of them, and which are lists."""
    names = tuple(name for name in kind.__struct_fields__ if name not in ("v", "by"))
    types = get_type_hints(kind)
    return names, attrgetter(*names), tuple(name for name in names if _is_list(types[name]))


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(_is_list(one) for one in get_args(kind) if get_origin(kind) is not Literal)


_list_encoder: Final = msgspec.json.Encoder(order="sorted")
