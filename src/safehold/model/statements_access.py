"""Statements about access besides the key release itself: leases, revocations, approvals, keys of members, rewraps.

They belong to the closed set that ``statements`` gathers; the same rules hold.
"""

from __future__ import annotations

from typing import Literal

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
)
from safehold.model.statement import Statement

__all__ = [
    "AccessApproved",
    "AccessStatement",
    "EnvironmentRetired",
    "GrantRevoked",
    "KeysRewrapped",
    "LeaseEnded",
    "LeaseOpened",
    "MemberKeyed",
    "PolicyRecorded",
]


class LeaseOpened(Statement, frozen=True, kw_only=True, tag="lease.opened"):
    """A session after a full proof: until ``until`` (µs UTC) its host may ask for up to ``keys`` part keys by it.

    ``reader`` is the digest of the ephemeral key that the session key was sealed to. Each release by the lease is a
    ``key.released`` with this same ``reader``. ``inventories`` are those that the host held: another one ends the lease.
    """

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


class LeaseEnded(Statement, frozen=True, kw_only=True, tag="lease.ended"):
    """The end of a lease before its time, and why: a broker's code (``broker.held`` …) or ``asked``."""

    lease: LeaseId
    code: str
    reason: str


class GrantRevoked(Statement, frozen=True, kw_only=True, tag="grant.revoked"):
    """From this place on no token opens anything that has the block with this ``revocation`` id (hex, Biscuit's own).

    The first block's id revokes the whole grant; a later one what was narrowed from there on.
    """

    grant: GrantId
    revocation: str
    reason: str


class MemberKeyed(Statement, frozen=True, kw_only=True, tag="member.keyed"):
    """The OpenSSH public key that a member signs with from here on; an earlier key counts no more."""

    member: MemberId
    key: str


class AccessApproved(Statement, frozen=True, kw_only=True, tag="access.approved"):
    """A second member's word that ``member`` may open ``dataset`` on ``host`` until ``until`` (µs UTC).

    ``approval`` is the digest of the signed text, kept as payload; its signature was verified with the approver's key.
    """

    dataset: DatasetId
    host: HostId
    member: MemberId
    approver: MemberId
    until: int
    approval: Digest


class EnvironmentRetired(Statement, frozen=True, kw_only=True, tag="environment.retired"):
    """The operator's word that a host has this environment no more: what it held stays on record and counts no longer.

    A later report of the same name counts again.
    """

    host: HostId
    environment: str
    reason: str


class KeysRewrapped(Statement, frozen=True, kw_only=True, tag="keys.rewrapped"):
    """The part keys of a release were wrapped anew by the key-encryption key ``kek``; ``of`` says what was rotated."""

    release: Digest
    kek: str
    keys: int
    of: Literal["kek"]


class PolicyRecorded(Statement, frozen=True, kw_only=True, tag="policy.recorded"):
    """The broker decides by this policy from here on: the digest of its file, which is kept as payload."""

    policy: Digest


AccessStatement = (
    AccessApproved
    | EnvironmentRetired
    | GrantRevoked
    | KeysRewrapped
    | LeaseEnded
    | LeaseOpened
    | MemberKeyed
    | PolicyRecorded
)
"""All of them: a part of ``statements.AnyStatement``."""
