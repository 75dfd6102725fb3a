"""What is no call for keys: health, metrics, the OpenAPI document, the ledger as static files. Starlette's routing.

Hashes and checkpoints of the ledger are for everyone: they are how an outsider sees that it only grows. What entries and
payloads say names parties, hosts and datasets; it is served only where the operator publishes the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safehold.app.serve.frames import Call, Outcome
from safehold.app.serve.front import internal, outcome_of, problem_bytes
from safehold.app.serve.link import VaultLink
from safehold.app.serve.metrics import FORM, Metrics
from safehold.app.serve.openapi import openapi_document
from safehold.app.serve.readiness import Ready
from safehold.app.serve.routes import READS
from safehold.broker.http_form import PROBLEM_TYPE
from safehold.ledger.static import MAX_NAME_CHARACTERS, needs_publishing, never_changes
from safehold.model.encoding import resolved
from safehold.model.errors import InputInvalid, NotFound, Refused, SafeholdError, StorageFailed

__all__ = ["Pages"]

_CACHE_BYTES: Final = 32 * 1024 * 1024
_ANSWER_SECONDS: Final = 30.0
_READY_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 2.0
_LOOK_AGAIN: Final = 0.05
_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
_SECURE: Final = {"x-content-type-options": "nosniff"}


class Pages:
    """The Starlette application in ``app``. ``publish``: serve entries and payloads as well."""

    def __init__(
        self, link: VaultLink, metrics: Metrics, version: str, *, publish: bool, begin: Callable[[], None] | None = None
    ) -> None:
        self._link = link
        self._metrics = metrics
        self._publish = publish
        self._begin = begin
        self._document = openapi_document(version)
        self._tiles: OrderedDict[str, bytes] = OrderedDict()
        self._kept = 0
        self._asking: asyncio.Task[tuple[Outcome, Ready | None]] | None = None
        self.draining = False
        serve: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "healthz": self._health,
            "readyz": self._ready,
            "metrics": self._show_metrics,
            "openapi": self._openapi,
            "log": self._log,
        }
        self.app = Starlette(
            routes=[
                Route(read.path.replace("{name}", "{name:path}"), _guarded(serve[read.name]), methods=["GET"])
                for read in READS
            ],
            exception_handlers={HTTPException: _problem_page},
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        if self._begin is not None:
            self._begin()
        yield
        await self._link.close()

    async def _health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        self._metrics.ready.set(0)
        if self.draining:
            return _error(
                outcome_of(StorageFailed("serve.draining", "this broker is about to end", "ask another broker"))
            )
        outcome, state = await self._ask_ready()
        if state is None:
            return _error(outcome)
        if state.code:
            # Its words may name a server or a file: they are for whoever runs this broker.
            detail = state.detail if _is_here(request) else "keys cannot be asked for here now"
            return _error(Outcome(503, code=state.code, detail=detail, hint=state.hint))
        self._metrics.ready.set(1)
        return _json({"status": "ready", "size": state.size})

    async def _ask_ready(self) -> tuple[Outcome, Ready | None]:
        """How the vault is, asked once for all who want to know at the same time: a crowd that asks crowds nobody out."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._look())
        return await asyncio.shield(self._asking)  # it goes on for the others when one of them goes away

    async def _look(self) -> tuple[Outcome, Ready | None]:
        """How the vault is. While the keys are being looked at, it is asked again for a moment, and then that is told."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LOOK_SECONDS
        while True:
            outcome = await self._ask(Call("state"), _READY_SECONDS)
            if outcome.status != 200:
                return outcome, None
            state = msgspec.json.decode(outcome.body, type=resolved(Ready))
            if not state.pending:
                return outcome, state
            if loop.time() >= until:
                return outcome_of(
                    StorageFailed(
                        "serve.keys_slow",
                        "the service that guards the keys does not answer in time",
                        "look at that service; ask again in a moment",
                    )
                ), None
            await asyncio.sleep(_LOOK_AGAIN)

    async def _show_metrics(self, request: Request) -> Response:
        if not _is_here(request):
            refused = Refused("serve.metrics_here", "metrics are shown to this machine alone", "ask on loopback")
            return _error(outcome_of(refused))
        return Response(self._metrics.text(), media_type=FORM)

    async def _openapi(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    async def _log(self, request: Request) -> Response:
        name = request.path_params["name"][: MAX_NAME_CHARACTERS + 1]
        if needs_publishing(name) and not self._publish:
            refused = Refused(
                "serve.log_not_public",
                "this ledger's entries are not published here; its hashes and checkpoints are",
                "ask its operator for an export, or serve with --publish-log",
            )
            return _error(outcome_of(refused))
        kept = self._tiles.get(name)
        if kept is None:
            began = time.monotonic()
            outcome = await self._ask(Call("read", name=name))
            self._metrics.count("log", outcome.status, outcome.code, time.monotonic() - began)
            if outcome.status != 200:
                return _error(outcome)
            kept = outcome.body
            if never_changes(name):
                self._keep(name, kept)
        text = name in ("checkpoint", "verifier")
        caching = "public, max-age=31536000, immutable" if never_changes(name) else "no-store"
        return Response(
            kept,
            media_type="text/plain; charset=utf-8" if text else "application/octet-stream",
            headers=_SECURE | {"cache-control": caching},
        )

    def _keep(self, name: str, data: bytes) -> None:
        if len(data) > _CACHE_BYTES // 8:
            return
        self._tiles[name] = data
        self._kept += len(data)
        while self._kept > _CACHE_BYTES:
            self._kept -= len(self._tiles.popitem(last=False)[1])

    async def _ask(self, call: Call, seconds: float = _ANSWER_SECONDS) -> Outcome:
        try:
            async with asyncio.timeout(seconds):
                return await self._link.ask(call)
        except TimeoutError:
            return outcome_of(StorageFailed("serve.busy", "the broker did not answer in time", "ask again in a moment"))
        except SafeholdError as error:
            return outcome_of(error)


def _guarded(page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The page, or the problem that it could not be served: a fault of ours shows nothing of what is inside."""

    async def guarded(request: Request) -> Response:
        try:
            return await page(request)
        except Exception:  # noqa: BLE001 - refuses: what is wrong inside is not told outside
            return _error(outcome_of(internal()))

    return guarded


def _is_here(request: Request) -> bool:
    """Whether somebody on this machine asks."""
    return (request.client.host if request.client else "").startswith(_LOOPBACK)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers={"cache-control": "no-store"})


def _error(outcome: Outcome) -> Response:
    headers = {"cache-control": "no-store"} | ({"retry-after": "1"} if outcome.status == 503 else {})
    return Response(problem_bytes(outcome), outcome.status, media_type=PROBLEM_TYPE, headers=headers)


async def _problem_page(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    told: SafeholdError
    if status == 404:
        told = NotFound("serve.no_route", "there is nothing at this path", "see /openapi.json")
    elif status == 405:
        told = InputInvalid("serve.method", "this path does not take that method", "see /openapi.json")
    else:
        told = InputInvalid("serve.http", "this is no HTTP request that can be served", "see /openapi.json")
    answer = _error(outcome_of(told))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
