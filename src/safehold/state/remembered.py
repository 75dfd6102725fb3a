"""Standing remembered between decisions, and never beyond the entry that could change it.

A decision reads who a host is, what it holds, what is held, what a grant says. Little of that changes from one key
release to the next, so it is remembered; but a hold must bite at its very place. So what is remembered is *of a place*
in the ledger, and whoever uses it at a later one first looks at every entry in between:

* kinds that change no standing (key releases, refusals, segments …) are passed over;
* a message about one host's inventory forgets the inventories of that host, and what is known of its leases;
* **anything else, known or not, forgets everything.**

``at`` is called inside the transaction that appends the answer, so "every entry in between" includes those staged
before it in the same commit. What is read there is kept (``keep``) only after that commit has succeeded: what was seen
in a transaction that was rolled back never happened. Entries are never changed, so what was true at a committed place
stays true of it. A property test compares every answer with one that was read afresh.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from safehold.ledger.storage import View
from safehold.model.ids import DatasetId, Digest, GrantId, HostId, LeaseId, MemberId, Subject
from safehold.state.standing import (
    CurrentInventory,
    GrantRow,
    HoldRow,
    HostRow,
    ReleaseRow,
    active_holds,
    find_grant,
    find_host,
    find_release,
    read_inventories,
)
from safehold.state.standing_access import (
    ApprovalRow,
    Break,
    LeaseRow,
    find_lease,
    find_member_key,
    find_policy,
    keys_released_since,
    lease_broken,
    read_approvals,
    revoked_blocks,
)

__all__ = ["LeaseStanding", "Remembered", "Standing"]

_QUIET: Final = frozenset(
    {
        *("key.released", "key.refused", "lease.opened", "segment.sealed", "run.declared", "model.declared"),
        *("keys.rewrapped", "release.stored"),
    }
)
_OF_ONE_HOST: Final = frozenset({"inventory.recorded", "inventory.confirmed"})
_MAX_LOOKED_AT: Final = 4096
_MAX_ROWS: Final = 20_000
_HOSTS, _RELEASES, _GRANTS, _INVENTORIES, _HOLDS = "hosts", "releases", "grants", "inventories", "holds"
_LEASES, _REVOKED, _MEMBER_KEYS, _APPROVALS, _POLICY = (*("leases", "revoked", "member keys", "approvals", "policy"),)
_TABLES: Final = (
    _HOSTS,
    _RELEASES,
    _GRANTS,
    _INVENTORIES,
    _HOLDS,
    _LEASES,
    _REVOKED,
    _MEMBER_KEYS,
    _APPROVALS,
    _POLICY,
)
_WHOLE: Final = (_HOLDS, _REVOKED, _POLICY)


class _Head(msgspec.Struct):
    """What decides whether an entry changes a standing. Other members are passed over."""

    kind: str
    host: str | None = None


_head: Final = msgspec.json.Decoder(_Head)

_Facts = dict[str, dict[Any, Any]]


def _nothing() -> _Facts:
    return {name: {} for name in _TABLES}


class Standing:
    """What is true at one place. Made by ``Remembered.at``; good for as long as its view is."""

    def __init__(self, view: View, place: int, known: _Facts) -> None:
        self.place = place
        self._view = view
        self._known = known
        self._read = _nothing()

    def host(self, host: HostId) -> HostRow | None:
        """The host, or None if it was never registered."""
        row: HostRow | None = self._find(_HOSTS, host, find_host)
        return row

    def release(self, release: Digest) -> ReleaseRow | None:
        """The release with this manifest digest."""
        row: ReleaseRow | None = self._find(_RELEASES, release, find_release)
        return row

    def grant(self, grant: GrantId) -> GrantRow | None:
        """The grant with this id, as issued."""
        row: GrantRow | None = self._find(_GRANTS, grant, find_grant)
        return row

    def inventories(self, host: HostId) -> tuple[CurrentInventory, ...]:
        """The newest observation of each environment of a host."""
        rows: tuple[CurrentInventory, ...] = self._find(_INVENTORIES, host, read_inventories) or ()
        return rows

    def holds(self, subjects: Iterable[Subject]) -> tuple[HoldRow, ...]:
        """Holds in force on any of ``subjects``, oldest first."""
        held: dict[Subject, list[HoldRow]] = self._find(_HOLDS, "", _all_holds)
        if not held:
            return ()
        found = [hold for subject in dict.fromkeys(subjects) for hold in held.get(subject, ())]
        return tuple(sorted(found, key=lambda hold: hold.placed_idx))

    def lease(self, lease: LeaseId) -> LeaseStanding | None:
        """A lease, and what has happened since that ends it."""
        row: LeaseStanding | None = self._find(_LEASES, lease, _lease_standing)
        return row

    def revoked(self) -> frozenset[str]:
        """The revocation ids of all blocks that open nothing any more."""
        blocks: frozenset[str] = self._find(_REVOKED, "", lambda view, _key: revoked_blocks(view))
        return blocks

    def member_key(self, member: MemberId) -> str | None:
        """The OpenSSH public key that a member signs with."""
        key: str | None = self._find(_MEMBER_KEYS, member, find_member_key)
        return key

    def approvals(self, dataset: DatasetId, host: HostId) -> tuple[ApprovalRow, ...]:
        """Approvals of opening ``dataset`` on ``host``."""
        rows: tuple[ApprovalRow, ...] = (
            self._find(_APPROVALS, (dataset, host), lambda view, key: read_approvals(view, key[0], [key[1]])) or ()
        )
        return rows

    def policy(self) -> tuple[Digest | None, bytes]:
        """The digest and the bytes of the policy in force; None and none if nobody has set one."""
        found: tuple[Digest | None, bytes] = self._find(_POLICY, "", _policy)
        return found

    def released_since(self, host: HostId, since: int) -> int:
        """How many key releases a host had after ``since`` (µs UTC). Not remembered: it changes with each."""
        return keys_released_since(self._view, host, since)

    def _find(self, table: str, key: Any, read: Callable[[View, Any], Any]) -> Any:
        found = self._known[table].get(key)
        if found is None:
            found = self._read[table].get(key)
        if found is None:
            found = read(self._view, key)
            if found or table in _WHOLE:  # what is not there is asked for again: nobody fills a memory with names
                self._read[table][key] = found
        return found

    def merged(self) -> _Facts:
        """What was known before with what was read since; the very same where nothing was read."""
        if not any(self._read.values()):
            return self._known
        made = {}
        for table, read in self._read.items():
            old = self._known[table]
            made[table] = ({**old, **read} if len(old) < _MAX_ROWS else read) if read else old
        return made


def _all_holds(view: View, _key: str) -> dict[Subject, list[HoldRow]]:
    held: dict[Subject, list[HoldRow]] = {}
    for hold in active_holds(view):
        held.setdefault(hold.subject, []).append(hold)
    return held


def _policy(view: View, _key: str) -> tuple[Digest | None, bytes]:
    row = find_policy(view)
    return (None, b"") if row is None else (row.policy, view.payload(row.policy) or b"")


class LeaseStanding(msgspec.Struct, frozen=True):
    """A lease as opened, and what has ended it since, or None."""

    row: LeaseRow
    broken: Break | None


def _lease_standing(view: View, lease: LeaseId) -> LeaseStanding | None:
    row = find_lease(view, lease)
    return None if row is None else LeaseStanding(row, lease_broken(view, row))


class Remembered:
    """The memory of one process over one ledger. Safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place = 0
        self._known = _nothing()

    def at(self, view: View) -> Standing:
        """The standing at the place where ``view`` ends: inside a transaction, all that is staged included."""
        with self._lock:
            place, known = self._place, self._known
        size = view.size()
        if size < place or size - place > _MAX_LOOKED_AT:
            known = _nothing()  # another ledger was put in its place, or too much happened to look at
        elif size > place:
            known = _after(known, view.bodies(place, size))
        return Standing(view, size, known)

    def keep(self, standing: Standing, size: int) -> None:
        """Remember what ``standing`` read, as of ``size``: after its commit, whose own entries changed no standing."""
        with self._lock:
            if standing.place >= self._place:
                self._place, self._known = size, standing.merged()

    def known_host(self, host: HostId) -> HostRow | None:
        """The host as last seen by a decision, or None. For what is decided again in the transaction, and only that."""
        row: HostRow | None = self._known[_HOSTS].get(host)
        return row


def _after(known: _Facts, bodies: Iterable[bytes]) -> _Facts:
    """``known`` without what these entries may have changed."""
    for body in bodies:
        try:
            head = _head.decode(body)
        except msgspec.MsgspecError:
            return _nothing()
        if head.kind in _QUIET:
            continue
        if head.kind not in _OF_ONE_HOST or head.host is None:
            return _nothing()
        # Contents that arrive may be those of another host's inventory that could not be read until now.
        kept = {
            host: seen
            for host, seen in known[_INVENTORIES].items()
            if host != head.host and all(one.readable for one in seen)
        }
        leases = {name: one for name, one in known[_LEASES].items() if one.row.host != head.host}
        known = {**known, _INVENTORIES: kept, _LEASES: leases}
    return known
