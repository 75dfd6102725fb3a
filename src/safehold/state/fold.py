"""The fold: what one entry changes in the projections. Pure: an entry and its payload in, row changes out.

One small function a kind, found by type. A kind without a function does not exist (a test compares the two
sets), and an ``Unknown`` entry leaves one row in ``unknown_entry`` and changes nothing else. The fold never
fails on what the ledger holds: a payload that is missing or damaged leaves the rows that depend on it out, and
whoever reads them sees an inventory without items, which counts as not observed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, Literal

import msgspec

from safehold.ledger.storage import Entry
from safehold.model.contents import contents_items
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import SafeholdError
from safehold.model.ids import Digest
from safehold.model.statements import (
    AdvisoryRecorded,
    DatasetRegistered,
    DecisionMade,
    FindingRecorded,
    GrantIssued,
    HoldLifted,
    HoldPlaced,
    HostRegistered,
    InventoryConfirmed,
    InventoryRecorded,
    KeyRefused,
    KeyReleased,
    LedgerOpened,
    LedgerRestored,
    MemberRegistered,
    ModelDeclared,
    PartyRegistered,
    ReleaseSealed,
    RunDeclared,
    SegmentSealed,
    Statement,
    Unknown,
)

__all__ = ["Payloads", "RowChange", "fold"]

Payloads = Callable[[Digest], bytes | None]
"""Look up a payload by digest; None if it is not here."""


class _Place(msgspec.Struct, frozen=True):
    """Where a statement stands, and how to read the payloads that it names."""

    index: int
    payloads: Payloads


class RowChange(msgspec.Struct, frozen=True):
    """``put`` replaces the row with this key, ``add`` keeps the one that is there, ``set`` updates where key matches."""

    act: Literal["put", "add", "set"]
    table: str
    values: dict[str, Any]
    where: dict[str, Any] = {}


def fold(entry: Entry, payloads: Payloads) -> list[RowChange]:
    """The changes of one entry, in the order in which to make them."""
    statement = entry.statement
    if isinstance(statement, Unknown):
        row = {"idx": entry.index, "kind": statement.kind, "version": statement.version}
        return [RowChange("put", "unknown_entry", row)]
    return _fold(statement, _Place(entry.index, payloads))


@singledispatch
def _fold(statement: Statement, _at: _Place) -> list[RowChange]:
    raise TypeError(f"no fold for {type(statement).__name__}")  # a bug here, caught by the house test


def _text(values: Sequence[Any]) -> str:
    return canonical_bytes(values).decode()


def _put(table: str, statement: Statement, index: int, **changed: Any) -> RowChange:
    """A row with the statement's own fields, lists as text, and its place."""
    row: dict[str, Any] = {"idx": index, "t": statement.t}
    for name in statement.__struct_fields__:
        if name not in ("v", "by"):
            value = getattr(statement, name)
            row[name] = _text(value) if isinstance(value, tuple) else value
    row.update(changed)
    return RowChange("put", table, {name: value for name, value in row.items() if value is not ...})


@_fold.register
def _(_statement: LedgerOpened, _at: _Place) -> list[RowChange]:
    return []


@_fold.register
def _(statement: LedgerRestored, at: _Place) -> list[RowChange]:
    return [_put("restoration", statement, at.index)]


@_fold.register
def _(statement: PartyRegistered, at: _Place) -> list[RowChange]:
    return [_put("party", statement, at.index)]


@_fold.register
def _(statement: MemberRegistered, at: _Place) -> list[RowChange]:
    return [_put("member", statement, at.index)]


@_fold.register
def _(statement: HostRegistered, at: _Place) -> list[RowChange]:
    return [_put("host", statement, at.index)]


@_fold.register
def _(statement: DatasetRegistered, at: _Place) -> list[RowChange]:
    return [_put("dataset", statement, at.index)]


@_fold.register
def _(statement: ReleaseSealed, at: _Place) -> list[RowChange]:
    return [_put("release", statement, at.index)]


@_fold.register
def _(statement: GrantIssued, at: _Place) -> list[RowChange]:
    return [_put("grant", statement, at.index)]


@_fold.register
def _(statement: InventoryRecorded, at: _Place) -> list[RowChange]:
    changes = [
        _put(
            "observation",
            statement,
            at.index,
            since=statement.observed,
            until=statement.observed,
            largest_gap=0,
            sweeps=1,
            observed=...,
            distributions=...,
            oddities=...,
        )
    ]
    try:
        items = contents_items(at.payloads(statement.inventory) or b"")
    except SafeholdError:
        return changes  # no items: an inventory that cannot be read is one that was not observed
    for place, item in enumerate(dict.fromkeys(items)):
        row = {
            "inventory": statement.inventory,
            "place": place,
            "kind": item.kind,
            "name": item.name,
            "version": item.version,
            "path": item.path,
            "sha256": item.sha256,
        }
        changes.append(RowChange("add", "item", row))
    return changes


@_fold.register
def _(statement: InventoryConfirmed, at: _Place) -> list[RowChange]:
    return [_put("observation", statement, at.index)]


@_fold.register
def _(statement: AdvisoryRecorded, at: _Place) -> list[RowChange]:
    return [_put("advisory", statement, at.index, withdrawn=int(statement.withdrawn))]


@_fold.register
def _(statement: FindingRecorded, at: _Place) -> list[RowChange]:
    return [_put("finding", statement, at.index)]


@_fold.register
def _(statement: KeyReleased, at: _Place) -> list[RowChange]:
    return [_put("key_release", statement, at.index)]


@_fold.register
def _(statement: KeyRefused, at: _Place) -> list[RowChange]:
    return [_put("key_refusal", statement, at.index)]


@_fold.register
def _(statement: DecisionMade, at: _Place) -> list[RowChange]:
    subject = {"subject_kind": statement.subject.kind, "subject_id": statement.subject.id}
    return [_put("decision", statement, at.index, subject=..., **subject)]


@_fold.register
def _(statement: HoldPlaced, at: _Place) -> list[RowChange]:
    row = {
        "hold": statement.hold,
        "subject_kind": statement.subject.kind,
        "subject_id": statement.subject.id,
        "reason": statement.reason,
        "decision": statement.decision,
        "placed_idx": at.index,
        "placed_t": statement.t,
        "lifted_idx": None,
        "lifted_t": None,
        "lifted_reason": None,
    }
    return [RowChange("put", "hold", row)]


@_fold.register
def _(statement: HoldLifted, at: _Place) -> list[RowChange]:
    lifted = {"lifted_idx": at.index, "lifted_t": statement.t, "lifted_reason": statement.reason}
    return [RowChange("set", "hold", lifted, {"hold": statement.hold})]


@_fold.register
def _(statement: RunDeclared, at: _Place) -> list[RowChange]:
    links = [
        RowChange("add", "run_release", {"run": statement.run, "release": release}) for release in statement.releases
    ]
    return [_put("run", statement, at.index, releases=...), *links]


@_fold.register
def _(statement: ModelDeclared, at: _Place) -> list[RowChange]:
    links = [RowChange("add", "model_run", {"model": statement.model, "run": run}) for run in statement.runs]
    return [_put("model", statement, at.index, runs=...), *links]


@_fold.register
def _(statement: SegmentSealed, at: _Place) -> list[RowChange]:
    return [_put("segment", statement, at.index)]
