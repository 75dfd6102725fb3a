"""A load generator for HTTP/1.1: connections in a closed loop that send prepared requests and time each answer.

One process, asyncio on uvloop, a bare protocol: about 15 µs of CPU a request, so that it takes little from what it measures.
It reads the status and the length of an answer and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import uvloop

__all__ = ["Load", "Measured", "run_load"]


class Load(msgspec.Struct, frozen=True):
    """Where to send: for each connection its prepared requests, in their order."""

    host: str
    port: int
    lanes: Sequence[Sequence[bytes]]
    seconds: float = 60.0


class Measured(msgspec.Struct, frozen=True):
    """What came of it: answers a second, percentiles in ms, and answers that were not 200."""

    count: int
    failed: int
    per_second: float
    p50: float
    p99: float
    first_failure: bytes

    def line(self, name: str, keys: int = 1) -> str:
        """One line for people."""
        more = f" = {self.per_second * keys:,.0f} keys/s" if keys > 1 else ""
        bad = f"  NOT 200: {self.failed} {self.first_failure[-200:]!r}" if self.failed else ""
        return f"{name:<34} {self.per_second:8,.0f}/s{more}  p50 {self.p50:6.2f} ms  p99 {self.p99:6.2f} ms{bad}"


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], stop: float, told: Callable[[float, bytes], None]) -> None:
        self._left = iter(requests)
        self._stop = stop
        self._told = told
        self._data = b""
        self._end = 0
        self._began = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self) -> None:
        """Send the next request, or end."""
        request = next(self._left, None)
        if request is None or time.perf_counter() > self._stop:
            self.transport.close()
            return
        self._began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        if not self._end:
            head = self._data.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self._data.lower().find(b"content-length:", 0, head)
            if at < 0:  # chunked: it ends with an empty chunk
                if not self._data.endswith(b"\r\n0\r\n\r\n"):
                    return
                self._end = len(self._data)
            else:
                self._end = head + 4 + int(self._data[at + 15 : self._data.find(b"\r\n", at)])
        if len(self._data) >= self._end:
            self._told(time.perf_counter() - self._began, self._data)
            self._data, self._end = b"", 0
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _run(load: Load) -> Measured:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    failures: list[bytes] = []

    def told(seconds: float, answer: bytes) -> None:
        times.append(seconds)
        if not answer.startswith(b"HTTP/1.1 200"):
            failures.append(answer)

    made = [
        await loop.create_connection(
            partial(_Connection, lane, time.perf_counter() + load.seconds, told), load.host, load.port
        )
        for lane in load.lanes
    ]
    began = time.perf_counter()
    for _, protocol in made:
        protocol.send()
    await asyncio.gather(*(protocol.done for _, protocol in made))
    took = time.perf_counter() - began
    times.sort()
    if not times:
        raise SystemExit("bench: nothing was answered")
    return Measured(
        len(times),
        len(failures),
        len(times) / took,
        1000 * times[len(times) // 2],
        1000 * times[int(len(times) * 0.99)],
        failures[0] if failures else b"",
    )


def run_load(load: Load) -> Measured:
    """Run it in a loop of its own. Raises ``SystemExit`` if nothing was answered."""
    return uvloop.run(_run(load))
