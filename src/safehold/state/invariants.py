"""Invariants of order: what must never be seen in a ledger, whatever its writer did. Part of ``fsck``.

A pure pass over the statements in order, with its own small memory: it does not use the projections, so that a
fault in the fold cannot hide a fault in the broker.
"""

from __future__ import annotations

from collections.abc import Iterable

from safehold.ledger.fsck import Problem
from safehold.ledger.storage import Entry
from safehold.model.ids import DatasetId, GrantId, HoldId, HostId, PartyId, Subject
from safehold.model.statements import (
    GrantIssued,
    HoldLifted,
    HoldPlaced,
    HostRegistered,
    InventoryConfirmed,
    InventoryRecorded,
    KeyReleased,
    ReleaseSealed,
)

__all__ = ["check_order"]


class _Memory:
    def __init__(self) -> None:
        self.holds: dict[HoldId, Subject] = {}
        self.grants: dict[GrantId, tuple[PartyId, DatasetId]] = {}
        self.hosts: dict[HostId, PartyId] = {}
        self.releases: dict[str, tuple[DatasetId, PartyId]] = {}
        self.inventories: set[tuple[HostId, str]] = set()
        self.requests: set[str] = set()


def check_order(entries: Iterable[Entry]) -> list[Problem]:
    """Problems of order, each with its code.

    ``fsck.released_under_hold``, ``fsck.released_without_grant``, ``fsck.released_unknown_release``,
    ``fsck.released_without_inventory``, ``fsck.released_twice``, ``fsck.released_unknown_host``.
    """
    memory, problems = _Memory(), list[Problem]()
    for entry in entries:
        match entry.statement:
            case HoldPlaced(hold=hold, subject=subject):
                memory.holds[hold] = subject
            case HoldLifted(hold=hold):
                memory.holds.pop(hold, None)
            case GrantIssued() as grant:
                memory.grants[grant.grant] = (grant.party, grant.dataset)
            case HostRegistered(host=host, party=party):
                memory.hosts[host] = party
            case ReleaseSealed(release=release, dataset=dataset, party=party):
                memory.releases[release] = (dataset, party)
            case InventoryRecorded(host=host, inventory=inventory) | InventoryConfirmed(host=host, inventory=inventory):
                memory.inventories.add((host, inventory))
            case KeyReleased() as released:
                problems += _check_release(entry.index, released, memory)
                memory.requests.add(released.request)
    return problems


def _check_release(index: int, released: KeyReleased, memory: _Memory) -> list[Problem]:
    where, problems = f"entry {index}", list[Problem]()
    subjects = {
        Subject("party", released.party),
        Subject("host", released.host),
        Subject("dataset", released.dataset),
        Subject("release", released.release),
        Subject("grant", released.grant),
    }
    made_by = memory.releases.get(released.release)
    if made_by is not None:  # a hold on whoever made the data stops it too
        subjects |= {Subject("dataset", made_by[0]), Subject("party", made_by[1])}
    if released.member is not None:
        subjects.add(Subject("member", released.member))
    for hold, subject in memory.holds.items():
        if subject in subjects:
            problems.append(Problem("fsck.released_under_hold", where, f"keys left while {hold} held {subject}"))
    if memory.grants.get(released.grant) != (released.party, released.dataset):
        problems.append(Problem("fsck.released_without_grant", where, f"{released.grant} does not cover this release"))
    if memory.hosts.get(released.host) != released.party:
        problems.append(
            Problem("fsck.released_unknown_host", where, f"{released.host} was no host of {released.party}")
        )
    if made_by is None or made_by[0] != released.dataset:
        problems.append(Problem("fsck.released_unknown_release", where, "keys of a release that was not sealed before"))
    for inventory in released.inventories:
        if (released.host, inventory) not in memory.inventories:
            problems.append(
                Problem("fsck.released_without_inventory", where, f"{inventory} was not reported by the host")
            )
    if not released.inventories:
        problems.append(Problem("fsck.released_without_inventory", where, "no inventory is named"))
    if released.request in memory.requests:
        problems.append(Problem("fsck.released_twice", where, f"request {released.request} was answered before"))
    return problems
