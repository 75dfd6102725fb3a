"""The reader's side of a lease: opens it with one full proof, then asks by it. Keys stay in memory.

One lease is used by one thread at a time: its counter must rise in the order in which the broker sees it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from safehold.broker.client import KeyOrder
from safehold.broker.leases import LeaseProof, SessionKeys
from safehold.broker.proof import LEASES_PATH, Proof, RequestSigner, Signers, host_key_id, sign_request
from safehold.broker.request import (
    KeyRequest,
    LeasedKeys,
    LeasedRequest,
    LeaseWish,
    SealedLease,
    format_lease_request,
    format_leased_request,
)
from safehold.broker.sealing import LEASE_PURPOSE, ReaderKey
from safehold.model.errors import VerificationFailed
from safehold.model.ids import Digest, GroupName, LeaseId, parse_request_id

__all__ = ["Lease", "LeaseDoor", "LeasedOpening", "open_lease"]


class LeaseDoor(Protocol):
    """Where requests for leases and by leases go: the broker itself in one process, or a connection to it."""

    def open_lease(self, body: bytes, proof: Proof) -> SealedLease:
        """Answer, or raise ``Refused``."""
        ...

    def release_leased(self, body: bytes, proof: LeaseProof) -> LeasedKeys:
        """Answer, or raise ``Refused``."""
        ...


class LeasedOpening(msgspec.Struct, frozen=True):
    """Part keys by file name, until when they may be used (µs UTC), and the entry of their release."""

    keys: Mapping[str, bytes]
    until: int
    entry: int


class Lease:
    """An open lease. ``until`` (µs UTC) and ``budget`` (part keys) are the broker's word. Safe from many threads."""

    def __init__(self, door: LeaseDoor, opened: SealedLease, session: bytes) -> None:
        self.id: LeaseId = opened.lease
        self.until = opened.until
        self.budget = opened.keys
        self.entry = opened.entry
        self._door = door
        self._keys: SessionKeys | None = SessionKeys(session)
        self._counter = 0
        self._lock = threading.Lock()

    def request_keys(self, release: Digest, groups: Sequence[GroupName]) -> LeasedOpening:
        """All keys of a read, by the lease. Raises ``Refused``, or ``VerificationFailed`` for a wrong answer."""
        with self._lock:
            keys = self.session
            self._counter += 1
            asked = LeasedRequest(lease=self.id, counter=self._counter, release=release, groups=tuple(groups))
            body = format_leased_request(asked)
            answer = self._door.release_leased(body, keys.authenticate(body))
        if (answer.lease, answer.counter, answer.release) != (asked.lease, asked.counter, asked.release):
            raise VerificationFailed("broker.answer", "this is the answer to another request", "ask again")
        return LeasedOpening(
            keys.open(answer.sealed, asked.lease, asked.counter, asked.release), answer.until, answer.entry
        )

    @property
    def session(self) -> SessionKeys:
        """The session's keys: for whoever sends by himself. ``VerificationFailed`` once it was closed."""
        if self._keys is None:
            raise VerificationFailed("broker.answer", "the lease was closed", "open a new lease")
        return self._keys

    def close(self) -> None:
        """Forget the session key. The broker's side goes with its time; Python cannot wipe memory."""
        with self._lock:
            self._keys = None


def open_lease(
    door: LeaseDoor, order: KeyOrder, signer: RequestSigner | Signers, clock: Callable[[], int], wish: LeaseWish
) -> Lease:
    """Prove everything once and open a lease. Raises ``Refused``, or ``VerificationFailed`` for a wrong answer."""
    reader = ReaderKey()
    request = KeyRequest(
        request=parse_request_id("q-" + secrets.token_hex(16)),
        release=order.release,
        groups=tuple(order.groups),
        purpose=order.purpose,
        member=order.member,
        host=order.host,
        host_key=host_key_id(signer),
        grant=order.grant,
        reader=reader.public,
    )
    body = format_lease_request(request, wish)
    proof = sign_request(body, request.request, clock() // 1_000_000, signer, LEASES_PATH)
    answer = door.open_lease(body, proof)
    if answer.request != request.request or answer.release != request.release:
        raise VerificationFailed("broker.answer", "this is the answer to another request", "ask again")
    opened = reader.open(answer.sealed, request.request, request.release, LEASE_PURPOSE)
    return Lease(door, answer, opened["session"])
