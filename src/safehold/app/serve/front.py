"""The front: HTTP in, calls to the vault process, HTTP out. It holds no key, no grant and no ledger.

The data path is a raw ASGI callable; what is rare goes through Starlette. The front bounds, counts and forwards. It
decides nothing: a proof is taken apart here, so that the vault process need not, and verified there over its own
reconstruction of what was signed. Whoever rules the front can therefore deny service, and nothing else: keys pass it
sealed to their reader.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from safehold.app.serve.frames import Call, Outcome
from safehold.app.serve.limits import Buckets, Limits
from safehold.app.serve.link import VaultLink
from safehold.app.serve.metrics import Metrics
from safehold.app.serve.routes import CALLS, CallRoute
from safehold.broker.http_form import PROBLEM_TYPE, Problem, parse_proof, problem_of
from safehold.model.errors import InputInvalid, SafeholdError, StorageFailed

__all__ = ["App", "Front", "Receive", "Scope", "Send", "internal", "outcome_of", "problem_bytes"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ROUTES: Final = {route.path.encode(): route for route in CALLS}
_MAC: Final = re.compile(r"[A-Za-z0-9+/]{43}=")
_LARGE_AT_ONCE: Final = 4
_json: Final = msgspec.json.Encoder()
_OK: Final = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Front:
    """The ASGI application. ``rest`` serves whatever is no call; ``monotonic`` gives seconds."""

    def __init__(
        self,
        link: VaultLink,
        limits: Limits,
        metrics: Metrics,
        rest: App,
        *,
        elsewhere: tuple[str, ...] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._limits = limits
        self._metrics = metrics
        self._rest = rest
        self._elsewhere = elsewhere
        self._monotonic = monotonic
        self._addresses = Buckets(limits.address_rate, limits.address_burst, monotonic)
        self._hosts = Buckets(limits.host_rate, limits.host_burst, monotonic)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        route = _ROUTES.get(scope.get("raw_path", b"")) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        began = self._monotonic()
        try:
            outcome = await self._call(route, scope, receive)
        except SafeholdError as error:
            outcome = outcome_of(error)
        except Exception:  # noqa: BLE001 - refuses: what is wrong inside is not told outside
            outcome = outcome_of(internal())
        await self._answer(outcome, send)
        with contextlib.suppress(Exception):  # it has been answered: a wrong count must not end the connection
            self._metrics.count(route.kind, outcome.status, outcome.code, self._monotonic() - began)

    async def _call(self, route: CallRoute, scope: Scope, receive: Receive) -> Outcome:
        if scope["method"] != "POST":
            raise InputInvalid("serve.method", f"{route.path} takes POST alone", "see /openapi.json")
        if scope["query_string"]:
            raise InputInvalid("serve.query", "a query is not signed, and not taken", "put everything into the body")
        headers = _headers(scope)
        address = scope["client"][0] if scope["client"] else ""
        self._addresses.check(address, "this address")
        if route.kind != "inventory":
            return await self._forward(route, headers, await _body(headers, receive, self._limits.body), address)
        async with self._large:  # bodies of this size wait outside of our memory
            body = await _body(headers, receive, self._limits.inventory_body)
            return await self._forward(route, headers, body, address)

    async def _forward(self, route: CallRoute, headers: dict[str, str], body: bytes, address: str) -> Outcome:
        try:
            call = _call_of(route, headers, body)
        except SafeholdError:
            self._addresses.pay(address)
            raise
        if call.key:
            self._hosts.check(call.key, "this host")
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                outcome = await self._link.ask(call)
        except TimeoutError as error:
            raise StorageFailed("serve.busy", "the broker did not answer in time", "ask again in a moment") from error
        if not outcome.proven:
            self._addresses.pay(address)
        elif call.key:
            self._hosts.pay(call.key)
        return outcome

    async def _answer(self, outcome: Outcome, send: Send) -> None:
        if outcome.status == 200:
            headers, body = [*_OK, (b"content-length", b"%d" % len(outcome.body))], outcome.body
        else:
            body = problem_bytes(outcome, self._elsewhere)
            headers = [
                (b"content-type", PROBLEM_TYPE.encode()),
                (b"cache-control", b"no-store"),
                (b"content-length", b"%d" % len(body)),
            ]
            if outcome.status in (429, 503):
                headers.append((b"retry-after", b"1"))
            if outcome.status == 405:
                headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": outcome.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def internal() -> StorageFailed:
    """What is told of a fault of our own: nothing but that there was one."""
    return StorageFailed("serve.internal", "the request could not be served", "ask again")


def outcome_of(error: SafeholdError) -> Outcome:
    """An error of the front as an outcome."""
    said = problem_of(error)
    return Outcome(said.status, code=said.code, detail=said.detail, hint=said.hint, entry=said.entry)


def problem_bytes(outcome: Outcome, elsewhere: tuple[str, ...] = ()) -> bytes:
    """The RFC 9457 body of an outcome that is an error; ``elsewhere`` are other brokers, told when this cannot serve."""
    problem = Problem(
        type=f"urn:safehold:error:{outcome.code}",
        title="refused" if outcome.status == 403 else "not served",
        status=outcome.status,
        code=outcome.code,
        detail=outcome.detail,
        hint=outcome.hint,
        entry=outcome.entry,
        elsewhere=elsewhere if outcome.status == 503 else (),
    )
    return _json.encode(problem)


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name. One that comes twice is refused: two readers could read two different ones."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1")
        if key in found and key in _SINGLE:
            raise InputInvalid("serve.header_twice", f"the header {key} comes twice", "send it once")
        found[key] = value.decode("latin-1")
    return found


_SINGLE: Final = frozenset(
    {
        "content-digest",
        "content-length",
        "content-type",
        "safehold-lease",
        "safehold-member",
        "signature",
        "signature-input",
    }
)


async def _body(headers: dict[str, str], receive: Receive, limit: int) -> bytes:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InputInvalid("serve.media_type", "the body must be application/json", "set Content-Type")
    length = headers.get("content-length")
    if length is None:
        raise InputInvalid("serve.no_length", "the request must give the length of its body", "set Content-Length")
    if not length.isascii() or not length.isdigit() or len(length) > 12 or int(length) > limit:
        raise InputInvalid("serve.too_large", f"this request has at most {limit:,} bytes", "send less at once")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        while message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
        body = b"".join(parts)
    if len(body) != int(length):
        raise InputInvalid("serve.cut_short", "the body is shorter than it said", "send it whole")
    return body


def _call_of(route: CallRoute, headers: dict[str, str], body: bytes) -> Call:
    if route.proof == "none":
        return Call(route.kind, body)
    if route.proof == "lease":
        mac = headers.get("safehold-lease", "")
        if not _MAC.fullmatch(mac):
            raise InputInvalid("broker.proof_missing", "the request carries no proof of its lease", "see the guide")
        try:
            return Call(route.kind, body, signature=base64.b64decode(mac, validate=True))
        except binascii.Error as error:
            raise InputInvalid("broker.proof_form", "the proof is not base64", "see the guide") from error
    proof = parse_proof(headers, body)
    by_member = proof.member_signature or b""
    return Call(route.kind, body, "", proof.created, proof.nonce, proof.key, proof.signature, by_member)
