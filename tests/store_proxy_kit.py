"""Two servers on loopback for stores that fail: a proxy that breaks answers, and a server that promises too much."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Asked(NamedTuple):
    """A request that passes: the how-manieth, its method, path with query, and size."""

    number: int
    method: str
    path: str
    size: int


Fault = Callable[[Asked], str]
"""What to do with a request: an empty text passes it on, else one of

``500`` … ``599``  answer so, and pass nothing on
``reset``          pass nothing on, and close the connection
``lose``           pass it on, and close the connection instead of answering
``cut``            pass it on, and close after half of the answer
``stall``          pass it on, and hold the answer back until the client has gone
"""


class Proxy:
    """The proxy and what it saw."""

    def __init__(self, target: str, fault: Fault) -> None:
        self.target = urlsplit(target)
        self.fault = fault
        self.seen: list[Asked] = []
        self.done: list[str] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.endpoint = ""

    def count(self, method: str, path: str, size: int) -> Asked:
        with self.lock:
            asked = Asked(len(self.seen), method, path, size)
            self.seen.append(asked)
            return asked


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Nothing: a test says what it saw."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _forwarder(proxy: Proxy) -> type[_Quiet]:
    class Forwarder(_Quiet):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = proxy.count(self.command, self.path, len(body))
            act = proxy.fault(asked)
            if act:
                proxy.done.append(act)
            if act.isdecimal():
                self.answer(int(act), b"<Error><Code>InternalError</Code></Error>")
                return
            if act == "reset":
                self.close_connection = True
                return
            with closing(
                http.client.HTTPConnection(proxy.target.hostname or "", proxy.target.port, timeout=30)
            ) as server:
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    server.putheader(name, value)
                server.endheaders(body)
                found = server.getresponse()
                data = b"" if self.command == "HEAD" else found.read()
            if act == "stall":
                proxy.ended.wait(30)
            if act in ("lose", "stall"):
                self.close_connection = True
                return
            self.send_response(found.status)
            for name, value in found.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "server", "date", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", found.headers.get("Content-Length") or str(len(data)))
            self.end_headers()
            if act == "cut":
                data = data[: len(data) // 2]
                self.close_connection = True
            self.wfile.write(data)

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Forwarder, f"do_{method}", Forwarder._pass)

    return Forwarder


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have gone are what these tests are about."""


@contextmanager
def _serving(handler: type[_Quiet]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def broken(target: str, fault: Fault) -> Iterator[Proxy]:
    """A proxy before the S3 server ``target`` that treats each request as ``fault`` says."""
    proxy = Proxy(target, fault)
    with _serving(_forwarder(proxy)) as proxy.endpoint:
        try:
            yield proxy
        finally:
            proxy.ended.set()


def _stand_in(objects: dict[str, bytes], honours: frozenset[str]) -> type[_Quiet]:
    class StandIn(_Quiet):
        def _tag(self) -> str:
            return '"' + hashlib.md5(objects[self.path], usedforsecurity=False).hexdigest() + '"'

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            there = self.path in objects
            if "create" in honours and self.headers.get("If-None-Match") == "*" and there:
                self.answer(412)
                return
            match = self.headers.get("If-Match")
            if "replace" in honours and match is not None and (not there or match != self._tag()):
                self.answer(412)
                return
            objects[self.path] = data
            self.answer(200, ETag=self._tag())

        def do_GET(self) -> None:
            if self.path not in objects:
                self.answer(404)
                return
            self.answer(200, objects[self.path], ETag=self._tag(), Last_Modified=formatdate(time.time(), usegmt=True))

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            objects.pop(self.path, None)
            self.answer(204)

        def do_POST(self) -> None:  # DeleteObjects
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with suppress(KeyError):
                objects.clear()
            self.answer(200, b"<DeleteResult></DeleteResult>")

    return StandIn


@contextmanager
def careless_server(*honours: str) -> Iterator[str]:
    """An S3 server in memory that honours only these of ``create`` (If-None-Match) and ``replace`` (If-Match)."""
    with _serving(_stand_in({}, frozenset(honours))) as endpoint:
        yield endpoint
