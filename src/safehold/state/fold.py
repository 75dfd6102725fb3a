"""The fold: what one entry changes in the projections. Pure: an entry and its payload in, row changes out.

One small function a kind, found by type. A kind without a function does not exist (a test compares the two
sets), and an ``Unknown`` entry leaves one row in ``unknown_entry`` and changes nothing else. The fold never
fails on what the ledger holds: a payload that is missing or damaged leaves the rows that depend on it out, and
whoever reads them sees an inventory without items, which counts as not observed.
"""

from __future__ import annotations

from safehold.ledger.storage import Entry
from safehold.model.contents import contents_items
from safehold.model.errors import SafeholdError
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
    Unknown,
)
from safehold.state import fold_access as _access  # noqa: F401 - registers its functions
from safehold.state import fold_inventory as _inventory  # noqa: F401 - registers its functions
from safehold.state import fold_outside as _outside  # noqa: F401 - registers its functions
from safehold.state import fold_releases as _releases  # noqa: F401 - registers its functions
from safehold.state import fold_response as _response  # noqa: F401 - registers its functions
from safehold.state import fold_serve as _serve  # noqa: F401 - registers its functions
from safehold.state import fold_stores as _stores  # noqa: F401 - registers its functions
from safehold.state.fold_base import Payloads, Place, RowChange, fold_statement, put

__all__ = ["Payloads", "RowChange", "fold"]


def fold(entry: Entry, payloads: Payloads) -> list[RowChange]:
    """The changes of one entry, in the order in which to make them."""
    statement = entry.statement
    if isinstance(statement, Unknown):
        row = {"idx": entry.index, "kind": statement.kind, "version": statement.version}
        return [RowChange("put", "unknown_entry", row)]
    return fold_statement(statement, Place(entry.index, payloads))


@fold_statement.register
def _(_statement: LedgerOpened, _at: Place) -> list[RowChange]:
    return []


@fold_statement.register
def _(statement: LedgerRestored, at: Place) -> list[RowChange]:
    return [put("restoration", statement, at.index)]


@fold_statement.register
def _(statement: PartyRegistered, at: Place) -> list[RowChange]:
    return [put("party", statement, at.index)]


@fold_statement.register
def _(statement: MemberRegistered, at: Place) -> list[RowChange]:
    return [put("member", statement, at.index)]


@fold_statement.register
def _(statement: HostRegistered, at: Place) -> list[RowChange]:
    # Every registration is kept beside the newest: what a host promised before, and since when it is known, still counts.
    return [put("host", statement, at.index), put("host_registration", statement, at.index, key=...)]


@fold_statement.register
def _(statement: DatasetRegistered, at: Place) -> list[RowChange]:
    return [put("dataset", statement, at.index)]


@fold_statement.register
def _(statement: ReleaseSealed, at: Place) -> list[RowChange]:
    return [put("release", statement, at.index)]


@fold_statement.register
def _(statement: GrantIssued, at: Place) -> list[RowChange]:
    return [put("grant", statement, at.index)]


@fold_statement.register
def _(statement: InventoryRecorded, at: Place) -> list[RowChange]:
    changes = [
        put(
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
            "family": item.family,
        }
        changes.append(RowChange("add", "item", row))
    return changes


@fold_statement.register
def _(statement: InventoryConfirmed, at: Place) -> list[RowChange]:
    return [put("observation", statement, at.index)]


@fold_statement.register
def _(statement: AdvisoryRecorded, at: Place) -> list[RowChange]:
    return [put("advisory", statement, at.index, withdrawn=int(statement.withdrawn))]


@fold_statement.register
def _(statement: FindingRecorded, at: Place) -> list[RowChange]:
    return [put("finding", statement, at.index)]


@fold_statement.register
def _(statement: KeyReleased, at: Place) -> list[RowChange]:
    return [put("key_release", statement, at.index)]


@fold_statement.register
def _(statement: KeyRefused, at: Place) -> list[RowChange]:
    return [put("key_refusal", statement, at.index)]


@fold_statement.register
def _(statement: DecisionMade, at: Place) -> list[RowChange]:
    subject = {"subject_kind": statement.subject.kind, "subject_id": statement.subject.id}
    return [put("decision", statement, at.index, subject=..., **subject)]


@fold_statement.register
def _(statement: HoldPlaced, at: Place) -> list[RowChange]:
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


@fold_statement.register
def _(statement: HoldLifted, at: Place) -> list[RowChange]:
    lifted = {"lifted_idx": at.index, "lifted_t": statement.t, "lifted_reason": statement.reason}
    return [RowChange("set", "hold", lifted, {"hold": statement.hold})]


@fold_statement.register
def _(statement: RunDeclared, at: Place) -> list[RowChange]:
    links = [
        RowChange("add", "run_release", {"run": statement.run, "release": release}) for release in statement.releases
    ]
    return [put("run", statement, at.index, releases=...), *links]


@fold_statement.register
def _(statement: ModelDeclared, at: Place) -> list[RowChange]:
    links = [RowChange("add", "model_run", {"model": statement.model, "run": run}) for run in statement.runs]
    return [put("model", statement, at.index, runs=...), *links]


@fold_statement.register
def _(statement: SegmentSealed, at: Place) -> list[RowChange]:
    return [put("segment", statement, at.index)]
