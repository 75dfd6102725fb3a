"""The client: a reader's connection to a served broker.

``Connection`` asks for keys, keeps them in memory for their lease and no longer, and asks again when it is over. A
request that got no answer is sent again, the very same bytes, to this broker or to the next one that was named: the
broker answers a request that it has answered before with the same release, sealed anew, so a retry costs no second
exposure. Refusals are raised as they were decided and are never retried.

**Wiping is best effort.** When a lease ends or the connection is closed, the keys that are kept here are overwritten.
Copies that were handed out, and what Python and the libraries copied on the way, are beyond its reach.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import SplitResult

import msgspec

from safehold.broker.client import KeyOrder, OpenedKeys, request_keys
from safehold.broker.http_form import (
    INVENTORY_PATH,
    HoldsAnswer,
    HoldsQuestion,
    InventoryAnswer,
    InventoryMessage,
    Problem,
    error_of,
    proof_headers,
)
from safehold.broker.lease_client import Lease, open_lease
from safehold.broker.leases import LEASED_PATH, LeaseProof
from safehold.broker.proof import HOLDS_PATH, KEYS_PATH, LEASES_PATH, Proof, RequestSigner, Signers, sign_request
from safehold.broker.request import LeasedKeys, LeaseWish, SealedKeys, SealedLease
from safehold.ledger.keys import SigningKey
from safehold.ledger.source import split_url
from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import InputInvalid, Refused, SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import HostId, parse_request_id

__all__ = ["Connection", "Patience", "checked_url", "connect"]

_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_IDLE: Final = 8
_SPARE_SECONDS: Final = 5
"""A lease is used until so long before its end: a read that begins with it should not end with a refusal."""
_Answer = TypeVar("_Answer")
_AGAIN: Final = frozenset({408, 429, 502, 503, 504})


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to try: ``attempts`` in all, each bounded by ``timeout`` seconds a step, waits of at most ``longest``."""

    attempts: int = 6
    timeout: float = 20.0
    shortest: float = 0.05
    longest: float = 2.0


def _now() -> int:
    return time.time_ns() // 1000


class Connection:
    """Asks one or several brokers of the same ledger as one host. Safe from many threads; close it when done."""

    def __init__(
        self,
        urls: Sequence[str],
        signer: RequestSigner | Signers,
        *,
        trust: Path | None = None,
        patience: Patience | None = None,
        clock: Callable[[], int] = _now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``trust``: a PEM file of roots in place of the system's. Raises ``InputInvalid`` (``ledger.url``, ``broker.plain_http``)."""
        self._brokers = [_Broker(checked_url(url), trust) for url in urls]
        if not self._brokers:
            raise InputInvalid("broker.no_url", "no broker was named", "give its URL")
        self._signer = signer
        self._patience = patience or Patience()
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        self._first = 0

    # --- keys

    def keys(self, order: KeyOrder) -> OpenedKeys:
        """The keys of an order: those at hand while their lease lasts, else from a new request.

        Raises ``Refused`` with the broker's reason, ``StorageFailed`` (``broker.unreachable``) or ``VerificationFailed``.
        """
        name = _name(order)
        with self._lock:
            self._forget_ended()
            kept = self._kept.get(name)
            if kept is not None:
                return kept.opened()
        found = self.request(order)
        with self._lock:
            if name in self._kept:
                self._kept[name].wipe()
            self._kept[name] = _Kept(found)
        return found

    def request(self, order: KeyOrder) -> OpenedKeys:
        """A new request for all keys of an order; each is decided, and recorded, anew. Raises as ``keys`` does."""
        return request_keys(self, order, self._signer, self._clock)

    def release_keys(self, body: bytes, proof: Proof) -> SealedKeys:
        """Send a signed request: this is the broker's own door, at a distance."""
        return _decoded(self._post(KEYS_PATH, body, proof_headers(proof, body)), SealedKeys)

    def lease(self, order: KeyOrder, wish: LeaseWish) -> Lease:
        """Open a lease with one full proof; ask by it with ``Lease.request_keys``. Raises as ``keys`` does."""
        return open_lease(self, order, self._signer, self._clock, wish)

    def open_lease(self, body: bytes, proof: Proof) -> SealedLease:
        """Send a signed request for a lease. One that was answered before is refused, so it is sent once."""
        return _decoded(self._post(LEASES_PATH, body, proof_headers(proof, body), once=True), SealedLease)

    def release_leased(self, body: bytes, proof: LeaseProof) -> LeasedKeys:
        """Send a request by a lease, once: its counter is used up by the first that arrives."""
        headers = {"Safehold-Lease": base64.b64encode(proof.mac).decode()}
        return _decoded(self._post(LEASED_PATH, body, headers, once=True), LeasedKeys)

    def check(self, order: KeyOrder) -> None:
        """Raise ``Refused`` (``broker.held_now``) if a hold stops the order now. Nothing is released, so nothing is recorded."""
        for hold in self.holds(order.host, order).holds:
            raise Refused(
                "broker.held_now",
                f"{hold.subject} is suspended since entry {hold.entry}: {hold.reason}",
                "the lab lifts a hold with `safehold lift`; until then nothing opens",
            )

    def holds(self, host: HostId, order: KeyOrder | None = None) -> HoldsAnswer:
        """The holds on a host and its party, and on what an order names."""
        question = HoldsQuestion(
            host=host,
            release=order.release if order else None,
            member=order.member if order else None,
        )
        body = canonical_bytes(question)
        nonce = parse_request_id("q-" + random.SystemRandom().randbytes(16).hex())
        proof = sign_request(body, nonce, self._clock() // 1_000_000, self._signer, HOLDS_PATH)
        return _decoded(self._post(HOLDS_PATH, body, proof_headers(proof, body)), HoldsAnswer)

    def record_inventory(self, host: HostId, message: bytes, signature: str) -> InventoryAnswer:
        """Hand in a signed message of a host's agent. Sending it again is harmless."""
        body = msgspec.json.encode(InventoryMessage(host=host, message=message.decode(), signature=signature))
        return _decoded(self._post(INVENTORY_PATH, body, {}), InventoryAnswer)

    # --- ending

    def forget(self) -> None:
        """Overwrite the keys that are kept."""
        with self._lock:
            for kept in self._kept.values():
                kept.wipe()
            self._kept.clear()

    def close(self) -> None:
        """Forget all keys and close the connections."""
        self.forget()
        for broker in self._brokers:
            broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget_ended(self) -> None:
        end = self._clock() + _SPARE_SECONDS * 1_000_000
        for name in [name for name, kept in self._kept.items() if kept.until <= end]:
            self._kept.pop(name).wipe()

    # --- sending

    def _post(self, path: str, body: bytes, headers: Mapping[str, str], *, once: bool = False) -> bytes:
        """The body of a 200. Tries again where nothing was decided; raises what was.

        ``once``: not after it was sent and got no answer, for it may have been decided.
        """
        last: SafeholdError = _unreachable("nothing was tried")
        for attempt in range(self._patience.attempts):
            if attempt:
                longest = min(self._patience.longest, self._patience.shortest * 2**attempt)
                # Jitter: readers that were cut off together must not come back together.
                self._pause(random.SystemRandom().uniform(self._patience.shortest, longest))
            broker = self._brokers[self._first % len(self._brokers)]
            try:
                status, data = broker.post(path, body, headers, self._patience.timeout)
            except StorageFailed as error:
                if once and error.code == "broker.no_answer":
                    raise
                last = error
            else:
                if status == 200:
                    return data
                last = _problem(status, data)
                if status not in _AGAIN or getattr(last, "entry", None) is not None:
                    raise last
            self._first += 1  # the next one, if there is another
        raise last


class _Kept:
    """Keys in memory that can be overwritten."""

    def __init__(self, opened: OpenedKeys) -> None:
        self._keys = {name: bytearray(key) for name, key in opened.keys.items()}
        self._opened = msgspec.structs.replace(opened, keys={})
        self.until = opened.until

    def opened(self) -> OpenedKeys:
        """A copy for use now."""
        return msgspec.structs.replace(self._opened, keys={name: bytes(key) for name, key in self._keys.items()})

    def wipe(self) -> None:
        """Overwrite."""
        for key in self._keys.values():
            key[:] = bytes(len(key))
        self._keys.clear()


class _Broker:
    """One address, and its idle connections."""

    def __init__(self, parts: SplitResult, trust: Path | None) -> None:
        self._parts = parts
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=str(trust) if trust else None)
            except (OSError, ssl.SSLError) as error:
                raise InputInvalid(
                    "broker.trust", f"the roots in {trust} cannot be used: {error}", "give PEM"
                ) from error

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """Status and body. Raises ``StorageFailed`` (``broker.unreachable``)."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._new(timeout)
        sent = {**headers, "Content-Type": "application/json", "User-Agent": "safehold", "Accept": "application/json"}
        try:
            if connection.sock is None:
                connection.connect()
        except ssl.SSLCertVerificationError as error:  # asking again would get the same certificate
            connection.close()
            raise VerificationFailed(
                "broker.certificate",
                f"{self._parts.netloc} does not prove to be the broker: {error.verify_message}",
                "name the certificate that signed its own: --broker-ca FILE, or trust=FILE; or correct the address",
            ) from error
        except OSError as error:
            connection.close()
            raise _unreachable(f"{self._parts.netloc}: {type(error).__name__}: {error}") from error
        try:
            connection.request("POST", f"{self._parts.path.rstrip('/')}{path}", body=body, headers=sent)
            connection.sock.settimeout(timeout)
            response = connection.getresponse()
            data = response.read(_MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise StorageFailed(
                "broker.no_answer",
                f"the request was sent to {self._parts.netloc}, and no answer came: {type(error).__name__}: {error}",
                "ask again",
            ) from error
        if len(data) > _MAX_ANSWER_BYTES:
            connection.close()
            raise _unreachable(f"{self._parts.netloc} answers more than an answer may be")
        with self._lock:
            if response.will_close or len(self._idle) >= _MAX_IDLE:
                connection.close()
            else:
                self._idle.append(connection)
        return response.status, data

    def _new(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def connect(
    url: str,
    host_key: RequestSigner | Signers | Path | str,
    *,
    also: Sequence[str] = (),
    trust: Path | None = None,
    patience: Patience | None = None,
) -> Connection:
    """A connection to the broker at ``url``, and to those at ``also`` when it cannot serve.

    ``host_key`` is the file of the host's SSH key, or a signer such as ``ledger.ssh_agent.AgentKey``, or
    ``Signers`` of host and member. Nothing is sent yet.
    Raises what reading the key raises, and ``InputInvalid`` for an address that cannot be used.
    """
    signer = SigningKey.load(Path(host_key)) if isinstance(host_key, (str, Path)) else host_key
    return Connection([url, *also], signer, trust=trust, patience=patience)


def checked_url(url: str) -> SplitResult:
    """The parts of a broker's URL: https, or http to this machine. ``InputInvalid`` (``ledger.url``, ``broker.plain_http``)."""
    parts = split_url(url)
    if parts.scheme == "http" and not _is_here(parts.hostname or ""):
        raise InputInvalid("broker.plain_http", f"{url} is not encrypted", "use https, or a broker on this machine")
    return parts


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(order: KeyOrder) -> tuple[Any, ...]:
    return (order.release, tuple(order.groups), order.purpose, order.host, order.member, order.grant)


def _decoded(data: bytes, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(data, type=resolved(kind))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise VerificationFailed("broker.answer_form", "the broker's answer is not of its form", "ask again") from error


def _problem(status: int, data: bytes) -> SafeholdError:
    try:
        return error_of(msgspec.json.decode(data, type=resolved(Problem)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _unreachable(f"it answers with HTTP status {status} and nothing that is a broker's")


def _unreachable(why: str) -> StorageFailed:
    return StorageFailed("broker.unreachable", f"the broker cannot be reached: {why}", "check the address, ask again")
