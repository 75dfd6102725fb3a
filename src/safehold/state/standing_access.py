"""Standing of leases, revocations and approvals: read like the rest of ``standing``, and decided on in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from safehold.ledger.storage import View
from safehold.model.ids import (
    DatasetId,
    Digest,
    GrantId,
    HostId,
    LeaseId,
    MemberId,
    PartyId,
    Purpose,
    RequestId,
    Subject,
)

__all__ = [
    "ApprovalRow",
    "Break",
    "LeaseRow",
    "LeaseUse",
    "PolicyRow",
    "ReadingRow",
    "find_lease",
    "find_member_key",
    "find_policy",
    "keys_released_since",
    "lease_broken",
    "list_leases",
    "list_readings",
    "list_revocations",
    "read_approvals",
    "revoked_blocks",
]


class LeaseRow(msgspec.Struct, frozen=True):
    """A lease as opened, and where and why it was ended before its time. Times in µs UTC."""

    lease: LeaseId
    request: RequestId
    party: PartyId
    host: HostId
    member: MemberId | None
    grant: GrantId
    dataset: DatasetId
    purpose: Purpose
    inventories: tuple[Digest, ...]
    reader: Digest
    until: int
    keys: int
    idx: int
    t: int
    ended_idx: int | None
    ended_t: int | None
    code: str | None
    reason: str | None


class PolicyRow(msgspec.Struct, frozen=True):
    """The policy in force: the digest of its file, and the entry that set it."""

    policy: Digest
    idx: int


class LeaseUse(msgspec.Struct, frozen=True):
    """A lease with what was released by it so far."""

    lease: LeaseRow
    releases: int
    last_idx: int | None


class ReadingRow(msgspec.Struct, frozen=True):
    """A host that may hold keys of a release in memory until ``until`` (µs UTC), by ``releases`` key releases."""

    host: HostId
    until: int
    releases: int


class Break(msgspec.Struct, frozen=True):
    """What ended a lease: a hold, or another inventory or an advisory about it; and the reason in words."""

    by: Literal["hold", "inventory"]
    reason: str


class ApprovalRow(msgspec.Struct, frozen=True):
    """A second member's word in force until ``until`` (µs UTC)."""

    idx: int
    member: MemberId
    approver: MemberId
    until: int


_LEASE = (
    'lease, request, party, host, member, "grant", dataset, purpose, inventories, reader, until, keys, idx, t,'
    " ended_idx, ended_t, code, reason"
)


def _lease(row: Sequence[Any]) -> LeaseRow:
    fields: list[Any] = list(row)
    fields[8] = tuple(msgspec.json.decode(fields[8]))
    return LeaseRow(*fields)


def find_lease(view: View, lease: LeaseId) -> LeaseRow | None:
    """The lease with this id."""
    rows = view.rows(f"SELECT {_LEASE} FROM lease WHERE lease = ?", lease)
    return _lease(rows[0]) if rows else None


def list_leases(view: View, host: HostId | None = None) -> tuple[LeaseUse, ...]:
    """All leases, or those of one host, oldest first, with what was released by each."""
    sql = f"SELECT {_LEASE} FROM lease WHERE host = ?1 OR ?1 IS NULL ORDER BY idx"
    used = "SELECT count(*), max(idx) FROM key_release WHERE host = ? AND reader = ?"
    leases = [_lease(row) for row in view.rows(sql, host)]
    return tuple(LeaseUse(lease, *view.rows(used, lease.host, lease.reader)[0]) for lease in leases)


def lease_broken(view: View, lease: LeaseRow) -> Break | None:
    """What has happened since a lease was opened that ends it, or None.

    Looks at everything that came after, not only at what is so now: a hold that was lifted again, a package that was
    there for a minute, an advisory that was withdrawn have ended the lease all the same.
    """
    subjects = [Subject("party", lease.party), Subject("host", lease.host), Subject("grant", lease.grant)]
    subjects += [Subject("dataset", lease.dataset), Subject("party", PartyId(lease.dataset.partition("/")[0]))]
    if lease.member is not None:
        subjects.append(Subject("member", lease.member))
    placed = view.rows("SELECT subject_kind, subject_id, placed_idx FROM hold WHERE placed_idx > ?", lease.idx)
    for kind, name, idx in placed:
        if Subject(kind, name) in subjects:
            return Break("hold", f"{kind}:{name} was suspended in entry {idx}, after the lease was opened")
    # By place and not by host: little was reported since the lease was opened, and much by this host ever.
    sql = "SELECT inventory, idx FROM observation WHERE idx > ? AND host || '' = ?"
    seen = view.rows(sql, lease.idx, lease.host)
    for inventory, idx in seen:
        if inventory not in lease.inventories:
            return Break("inventory", f"{lease.host} holds something else since entry {idx}")
    named = view.rows("SELECT inventory, advisory, idx FROM finding WHERE idx > ?", lease.idx)
    for inventory, advisory, idx in named:
        if inventory in lease.inventories:
            return Break("inventory", f"{advisory} names what {lease.host} holds (entry {idx})")
    return None


def revoked_blocks(view: View) -> frozenset[str]:
    """The revocation ids of all blocks that open nothing any more."""
    return frozenset(row[0] for row in view.rows("SELECT revocation FROM revocation"))


def list_revocations(view: View) -> dict[str, tuple[int, str]]:
    """Entry and reason by revocation id."""
    return {row[0]: (row[1], row[2]) for row in view.rows("SELECT revocation, idx, reason FROM revocation")}


def find_member_key(view: View, member: MemberId) -> str | None:
    """The OpenSSH public key that a member signs with, or None."""
    rows = view.rows("SELECT key FROM member_key WHERE member = ?", member)
    return rows[0][0] if rows else None


def read_approvals(view: View, dataset: DatasetId, hosts: Iterable[HostId]) -> tuple[ApprovalRow, ...]:
    """Approvals of opening ``dataset`` on one of ``hosts``, oldest first."""
    sql = "SELECT idx, member, approver, until FROM approval WHERE dataset = ? AND host = ? ORDER BY idx"
    return tuple(ApprovalRow(*row) for host in hosts for row in view.rows(sql, dataset, host))


def find_policy(view: View) -> PolicyRow | None:
    """The policy in force, or None: nobody has set one."""
    rows = view.rows("SELECT policy, idx FROM policy ORDER BY idx DESC LIMIT 1")
    return PolicyRow(*rows[0]) if rows else None


def keys_released_since(view: View, host: HostId, since: int) -> int:
    """How many key releases a host had after ``since`` (µs UTC)."""
    return int(view.rows("SELECT count(*) FROM key_release WHERE host = ? AND t > ?", host, since)[0][0])


def list_readings(view: View, release: Digest, now: int) -> tuple[ReadingRow, ...]:
    """The hosts whose lease on keys of ``release`` has not ended at ``now`` (µs UTC), by name."""
    sql = (
        "SELECT host, max(until), count(*) FROM key_release WHERE release = ? AND until > ? GROUP BY host ORDER BY host"
    )
    return tuple(ReadingRow(*row) for row in view.rows(sql, release, now))
