"""Leases: a short session after one full proof, so that the next requests need no signature and no key exchange.

A lease is opened by a request that passes all eleven steps. Its *session key* is sealed to the reader as keys are; from
it both sides derive two keys (HKDF, RFC 5869): one authenticates requests (HMAC-SHA-256, RFC 2104), one seals answers
(AES-256-GCM). A request by the lease carries a counter that must rise. So a request that was seen before is refused
without any store of what was seen, and the counter is the nonce of the one answer that it gets: no nonce comes twice.

**Nothing else is saved.** Each request by a lease is decided in the ledger's transaction like any other: holds, grant,
inventory, column groups. In addition its host must still hold what it held when the lease was opened, no hold may have
been placed since on anything that the lease rests on, and its time and its budget of keys bound it. No entry, no key.

Session keys are in this process's memory alone: when it ends, so do its leases, and their holders open new ones.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safehold.broker.grants import VerifiedGrant
from safehold.broker.policy import Denial
from safehold.broker.request import KeyRequest, LeasedRequest
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Refused, VerificationFailed
from safehold.model.ids import Digest, LeaseId, RequestId, parse_lease_id, parse_request_id
from safehold.state.standing import HostRow

__all__ = ["LEASED_PATH", "LeaseProof", "Leases", "Session", "SessionKeys", "new_lease_id"]

LEASED_PATH: Final = "/v1/leased-keys"
_SESSION_BYTES: Final = 32
_MAX_SESSIONS: Final = 10_000
_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(dict[str, bytes])


class LeaseProof(msgspec.Struct, frozen=True):
    """What a request by a lease carries in place of a signature: HMAC-SHA-256 over its body."""

    mac: bytes


class SessionKeys:
    """The two keys of a session, as both sides derive them."""

    def __init__(self, session: bytes) -> None:
        self._requests = _derive(session, b"safehold lease v1 requests")
        self._answers = AESGCM(_derive(session, b"safehold lease v1 answers"))

    def authenticate(self, body: bytes) -> LeaseProof:
        """The proof for a body."""
        return LeaseProof(hmac.digest(self._requests, _base(body), "sha256"))

    def verify(self, body: bytes, proof: LeaseProof) -> None:
        """Raise ``VerificationFailed`` (``broker.lease_proof``) unless this session made the proof over this body."""
        if not hmac.compare_digest(hmac.digest(self._requests, _base(body), "sha256"), proof.mac):
            raise VerificationFailed(
                "broker.lease_proof", "the request was not made by the holder of the lease", "open a new lease"
            )

    def seal(self, keys: Mapping[str, bytes], lease: LeaseId, counter: int, release: Digest) -> bytes:
        """Seal part keys by file name. Once a counter: whoever calls this has taken it from ``Session.take``."""
        return self._answers.encrypt(
            counter.to_bytes(12, "big"), _encoder.encode(keys), _bound(lease, counter, release)
        )

    def open(self, sealed: bytes, lease: LeaseId, counter: int, release: Digest) -> dict[str, bytes]:
        """The part keys; ``VerificationFailed`` (``broker.answer``) if they were not sealed for this request."""
        try:
            plain = self._answers.decrypt(counter.to_bytes(12, "big"), sealed, _bound(lease, counter, release))
            return _decoder.decode(plain)
        except (InvalidTag, msgspec.MsgspecError) as error:
            raise VerificationFailed(
                "broker.answer", "the answer was not sealed to this lease for this request", "open a new lease"
            ) from error


def _derive(session: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(session)


def _base(body: bytes) -> bytes:
    return f"POST {LEASED_PATH}\n{hashlib.sha256(body).hexdigest()}".encode()


def _bound(lease: LeaseId, counter: int, release: Digest) -> bytes:
    return canonical_bytes({"counter": counter, "lease": lease, "release": release})


def new_lease_id() -> LeaseId:
    """A fresh id."""
    return parse_lease_id("l-" + secrets.token_hex(8))


class Session:
    """The broker's side of one lease: what its opening has proven, the last counter, and the keys spent."""

    def __init__(self, lease: LeaseId, request: KeyRequest, token: VerifiedGrant, host: HostRow) -> None:
        self.lease = lease
        self.token = token
        self.host = host
        self.secret = secrets.token_bytes(_SESSION_BYTES)
        self.keys = SessionKeys(self.secret)
        self.member_key: str | None = None  # by which its member signed the opening
        self.until = 0  # µs UTC, as its lease says
        self._opened_by = request
        self._lock = threading.Lock()
        self._counter = 0
        self._spent: dict[RequestId, int] = {}
        self._spent_before = 0

    def take(self, asked: LeasedRequest) -> KeyRequest:
        """The request that ``asked`` stands for; its counter is used up now, whatever comes of it.

        Raises ``Refused`` (``broker.lease_replayed``) for a counter that is not higher than all before.
        """
        with self._lock:
            if asked.counter <= self._counter:
                raise Refused(
                    "broker.lease_replayed", "this request, or a later one, was answered before", "count on, one by one"
                )
            self._counter = asked.counter
        made = hashlib.sha256(f"{self.lease}\n{asked.counter}".encode()).hexdigest()[:32]
        return msgspec.structs.replace(
            self._opened_by, request=parse_request_id("q-" + made), release=asked.release, groups=asked.groups
        )

    def spend(self, request: RequestId, keys: int, budget: int) -> None:
        """Reserve ``keys`` of the budget; deciding the same request again reserves nothing more.

        Raises ``Refused`` (``broker.lease_budget``). What was reserved is not given back: the keys may have left.
        """
        with self._lock:
            others = self._spent_before + sum(number for of, number in self._spent.items() if of != request)
            if others + keys > budget:
                raise Refused(
                    "broker.lease_budget",
                    f"the lease is for {budget} keys; {others} are used, {keys} more were asked for",
                    "open a new lease",
                )
            self._spent[request] = keys
            if len(self._spent) > 64:
                self._spent_before += self._spent.pop(next(iter(self._spent)))


class Leases:
    """The sessions of one process: until their time is over, and at most 10,000; then the oldest goes.

    Whose session is forgotten opens a new one: a lease without a session is refused as one that is unknown.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[LeaseId, Session] = {}

    def add(self, session: Session, now: int) -> None:
        """Keep a session whose lease stands in the ledger; let those go that are over at ``now`` (µs UTC).

        They are looked at from the oldest on, up to the first that goes on: a short one behind a long one waits for it.
        """
        with self._lock:
            while self._sessions and next(iter(self._sessions.values())).until <= now:
                del self._sessions[next(iter(self._sessions))]
            while len(self._sessions) >= _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[session.lease] = session

    def find(self, lease: LeaseId) -> Session:
        """The session, or ``Denial`` (``broker.lease_unknown``)."""
        session = self._sessions.get(lease)
        if session is None:
            raise Denial(
                3, "broker.lease_unknown", f"there is no lease {lease} here, or it has ended", "open a new lease"
            )
        return session

    def drop(self, lease: LeaseId) -> None:
        """Forget a session: nothing comes by it again."""
        with self._lock:
            self._sessions.pop(lease, None)
