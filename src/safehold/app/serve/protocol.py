"""uvicorn's HTTP protocol with the bounds that it leaves open: size of headers, time of a request, open connections.

What is refused here is no request yet: it never reaches the application, and its answer is the same kind of problem.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from safehold.app.serve.front import outcome_of, problem_bytes
from safehold.app.serve.limits import Limits
from safehold.app.serve.metrics import Metrics
from safehold.broker.http_form import PROBLEM_TYPE
from safehold.model.errors import InputInvalid, SafeholdError, StorageFailed

__all__ = ["bounded_protocol", "sweep"]

_WORDS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large", 503: b"Unavailable"}


class _Bounded(HttpToolsProtocol):
    """One connection. ``bounds`` and ``metrics`` are set by ``bounded_protocol``."""

    bounds: Limits
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class does
        super().connection_made(transport)
        self.since: float | None = self.loop.time()
        self._heads = 0
        self._in_head = True
        self.metrics.connections.set(len(self.connections))
        if len(self.connections) > self.bounds.connections:
            self.refuse(StorageFailed("serve.connections", "there are too many connections", "ask again in a moment"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.since = None
        self.metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.since is None:
            self.since = self.loop.time()
        if self._in_head:
            self._heads += len(data)
        super().data_received(data)
        if self._in_head and self._heads > self.bounds.header_bytes and not self.transport.is_closing():
            self.refuse(_too_long(self.bounds))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head, self._heads = False, 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.bounds.header_bytes:
            self.refuse(_too_long(self.bounds))
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.since, self._in_head = None, True
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(InputInvalid("serve.http", "this is no HTTP request that can be served", "see /openapi.json"))

    def refuse(self, error: SafeholdError) -> None:
        """Answer with a problem and close."""
        outcome = outcome_of(error)
        status, body = outcome.status, problem_bytes(outcome)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.metrics.count("none", status, error.code, 0.0)
        self.transport.write(head % (status, _WORDS[status], PROBLEM_TYPE.encode(), len(body)) + body)
        self.transport.close()


def _too_long(bounds: Limits) -> InputInvalid:
    return InputInvalid("serve.headers", f"a request's headers have at most {bounds.header_bytes:,} bytes", "send less")


def bounded_protocol(limits: Limits, metrics: Metrics) -> type[asyncio.Protocol]:
    """The protocol class for ``uvicorn.Config(http=…)``."""
    return type("BoundedProtocol", (_Bounded,), {"bounds": limits, "metrics": metrics})


async def sweep(connections: set[Any], limits: Limits) -> None:
    """Once a second, close connections on which a request takes longer to arrive than it may. Ends by being cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1)
        late = loop.time() - limits.request_seconds
        for connection in list(connections):
            if isinstance(connection, _Bounded) and connection.since is not None and connection.since < late:
                connection.refuse(
                    InputInvalid("serve.too_slow", "the request took too long to arrive", "send it at once")
                )
