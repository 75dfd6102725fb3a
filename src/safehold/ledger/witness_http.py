"""The witness over HTTP: ``POST /add-checkpoint`` (C2SP tlog-witness), by the standard library's server.

Small on purpose, and made for loopback or behind a reverse proxy that ends TLS: bounded bodies, bounded time for each
step and each body, a bounded number of connections. A failure inside is a 503 and never a cosignature.

====== ======================================================================
status when
====== ======================================================================
200    signature lines
400    not a request, or the old size is larger than the checkpoint's
403    not signed by a key known for this log
404    unknown log, or another path
405    another method
409    wrong old size, or two roots for one size; the body is the known size
411    a body without a length
413    a body larger than 256 KiB
422    the consistency proof does not hold
503    the witness cannot store; nothing was cosigned
====== ======================================================================
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final

from safehold.ledger.witness import MAX_REQUEST_BYTES, Witness, WitnessConflict
from safehold.model.errors import SafeholdError, StorageFailed

__all__ = ["ADD_CHECKPOINT", "WitnessServer"]

ADD_CHECKPOINT: Final = "/add-checkpoint"
_STATUS: Final = {
    "ledger.witness_request": 400,
    "ledger.witness_signature": 403,
    "ledger.witness_origin": 404,
    "ledger.witness_size": 409,
    "ledger.split_view": 409,
    "ledger.witness_proof": 422,
}
_STEP_SECONDS: Final = 10
_BODY_SECONDS: Final = 30
_CONNECTIONS: Final = 64
_TEXT: Final = "text/plain; charset=utf-8"


class WitnessServer(ThreadingHTTPServer):
    """Serves one witness. ``note`` is told one line about each answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], witness: Witness, note: Callable[[str], None]) -> None:
        """Binds at once. Raises ``StorageFailed`` (``ledger.witness_address``)."""
        self.witness = witness
        self.note = note
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        try:
            super().__init__(address, _Exchange)
        except (OSError, OverflowError) as error:
            raise StorageFailed(
                "ledger.witness_address",
                f"{address[0]}:{address[1]} cannot be used: {error}",
                "choose another --listen",
            ) from error

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """A thread for the connection, if there is room; else it is closed."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # re-raises: no thread was started, so nobody else makes room again
            self._room.release()
            raise

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Serve the connection and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away in the middle; nothing was promised to it."""
        self.note("a connection ended in the middle")


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "safehold"
    sys_version = ""
    timeout = _STEP_SECONDS

    def do_POST(self) -> None:
        if self.path.partition("?")[0] != ADD_CHECKPOINT:
            self._refuse(404, "there is nothing here but /add-checkpoint")
            return
        length = self.headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in self.headers:
            self._refuse(411, "give the length of the body")
            return
        if not length.isascii() or not length.isdigit() or len(self.headers.get_all("Content-Length") or ()) != 1:
            self._refuse(400, "the length of the body is no number")
            return
        if len(length) > 9 or int(length) > MAX_REQUEST_BYTES:
            self._refuse(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")
            return
        body = self._body(int(length))
        if body is None:
            self._refuse(400, "the body is shorter than it said, or takes too long")
            return
        self._add(body)

    def do_GET(self) -> None:
        status = 405 if self.path.partition("?")[0] == ADD_CHECKPOINT else 404
        self._refuse(status, "POST a checkpoint to /add-checkpoint")

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - names that the standard library calls

    def _body(self, length: int) -> bytes | None:
        data, end = bytearray(), time.monotonic() + _BODY_SECONDS
        while len(data) < length:
            chunk = self.rfile.read1(length - len(data)) if time.monotonic() < end else b""
            if not chunk:
                return None
            data += chunk
        return bytes(data)

    def _add(self, body: bytes) -> None:
        try:
            lines = self.server.witness.add_checkpoint(body)
        except WitnessConflict as error:
            self.server.note(f"409 {error}")
            self._answer(409, "text/x.tlog.size", b"%d\n" % error.size)
        except SafeholdError as error:
            status = _STATUS.get(error.code, 503)
            self.server.note(f"{status} {error}")
            self._answer(status, _TEXT, f"{error.code}\n".encode())
        except Exception as error:  # noqa: BLE001 - refuses: a fault of ours must not end in silence or in a cosignature
            self.server.note(f"503 {type(error).__name__}: {error}")
            self._answer(503, _TEXT, b"internal\n")
        else:
            self.server.note("200 cosigned")
            self._answer(200, _TEXT, lines)

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # a body that was not read would be taken for the next request
        self.server.note(f"{status} {why}")
        self._answer(status, _TEXT, why.encode() + b"\n")

    def _answer(self, status: int, form: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", form)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name is the base class's
        """Nothing: ``WitnessServer.note`` says it in our words."""
