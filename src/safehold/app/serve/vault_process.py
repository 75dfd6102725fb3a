"""The vault process: opens the home, holds the keys, decides. Started by the supervisor as ``python -I -m …``.

It reads the passphrase from its standard input, listens on one Unix socket in a folder that only its user may enter, and
talks to processes of that user alone. It imports no HTTP server and starts no program; a test compares what it loads with
a list. It ends by SIGTERM, when the supervisor ends, or when its standard input is closed: it answers the frames that it
has, records what was counted, and closes the ledger. Being killed loses nothing that was acknowledged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safehold.app.serve.desk import VaultDesk
from safehold.app.serve.frames import decode_calls, encode_outcomes, receive_frame
from safehold.app.serve.hardened import end_with_parent, forbid_programs, forbid_reading, only_connect
from safehold.app.serve.link import check_peer
from safehold.app.wiring import Home, system_clock
from safehold.broker.refusals import RefusalCounter
from safehold.model.errors import SafeholdError, StorageFailed

__all__ = ["VaultServer", "main"]

_CONNECTIONS: Final = 16
_MAX_PASSPHRASE_BYTES: Final = 4096
_TICK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05


class VaultServer:
    """Listens in ``folder`` and answers frames by ``desk``; a thread a connection."""

    def __init__(self, folder: Path, desk: VaultDesk) -> None:
        """Binds at once. Raises ``StorageFailed`` (``serve.socket``)."""
        self._desk = desk
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self.ending = threading.Event()
        self._listener = _listen(folder)

    def run(self) -> None:
        """Accept until ``end`` is called; then wait for the frames that are being answered."""
        ticker = threading.Thread(target=self._tick, name="tick", daemon=True)
        ticker.start()
        while not self.ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                # Either `end` has closed it, or there is no descriptor left, or the other side has gone already: the
                # connections that are open go on, so this is no reason to end.
                self.ending.wait(_PAUSE_SECONDS)
                continue
            try:
                self._welcome(connection)
            except Exception:  # noqa: BLE001 - refuses this connection alone
                connection.close()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def end(self) -> None:
        """Stop taking frames. Safe from a signal's handler: it takes no lock that ``run`` may hold."""
        self.ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # what is being answered can still be sent

    def _welcome(self, connection: socket.socket) -> None:
        try:
            check_peer(connection)
        except SafeholdError:
            connection.close()
            return
        if not self._room.acquire(blocking=False):
            connection.close()
            return
        thread = threading.Thread(target=self._serve, args=(connection,), name="frames", daemon=True)
        with self._lock:
            self._open.add(connection)
            self._threads.add(thread)
        try:
            thread.start()
        except BaseException:  # re-raises: there is no room for a thread now, and the next connection may find some
            self._forget(connection, thread)
            raise

    def _serve(self, connection: socket.socket) -> None:
        try:
            while (body := receive_frame(connection)) is not None:
                connection.sendall(encode_outcomes(self._desk.answer(decode_calls(body))))
                del body
        except Exception:  # noqa: BLE001, S110 - refuses: it has gone, or does not speak our form; the front tells its askers
            pass
        finally:
            connection.close()
            self._forget(connection, threading.current_thread())

    def _forget(self, connection: socket.socket, thread: threading.Thread) -> None:
        with self._lock:
            self._open.discard(connection)
            self._threads.discard(thread)
        self._room.release()

    def _tick(self) -> None:
        while not self.ending.wait(_TICK_SECONDS):
            with contextlib.suppress(Exception):  # whatever it is now, it is tried again at the next tick
                self._desk.tick()


def _listen(folder: Path) -> socket.socket:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        with contextlib.suppress(FileNotFoundError):
            (folder / "vault.sock").unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{handle}/vault.sock")  # see `reach_socket`
        finally:
            os.close(handle)
        listener.listen(_CONNECTIONS)
    except OSError as error:
        raise StorageFailed(
            "serve.socket", f"the vault's socket in {folder} cannot be made: {error.strerror}", "check the folder"
        ) from error
    return listener


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Errors are one line on standard error: ``code`` and message."""
    parser = argparse.ArgumentParser(prog="safehold-vault")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kms-port", type=int, action="append", default=[])
    given = parser.parse_args(arguments)
    end_with_parent()
    forbid_reading()
    try:
        return _serve(given.home, given.folder, _read_line().decode(errors="surrogateescape"), given.kms_port)
    except SafeholdError as error:
        sys.stderr.write(f"{error.code}\t{error.exit_code}\t{error.message}\t{error.hint}\n")
        return error.exit_code


def _serve(path: Path, folder: Path, passphrase: str, ports: Sequence[int]) -> int:
    home = Home(path, system_clock)
    try:
        counter = RefusalCounter(home.log, home.clock, home.registry.by)
        keys = home.part_keys(lambda: passphrase)
        broker = home.broker_over(keys)
        broker.count_unproven(counter)
        broker.answer_again()
        desk = VaultDesk(home, broker, counter, keys.check)
        server = VaultServer(folder, desk)
        forbid_programs()
        only_connect(ports)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.end())
        threading.Thread(target=_watch_input, args=(server,), name="input", daemon=True).start()
        sys.setswitchinterval(0.001)  # frames are short: a thread that returns from the disk must not wait 5 ms
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.run()
        desk.close()
    finally:
        home.close()
    return 0


def _read_line() -> bytes:
    """The first line of standard input, unbuffered: no copy of the passphrase stays in a reader's buffer."""
    line = bytearray()
    while len(line) < _MAX_PASSPHRASE_BYTES and (one := os.read(0, 1)) not in (b"", b"\n"):
        line += one
    return bytes(line).rstrip(b"\r")


def _watch_input(server: VaultServer) -> None:
    """The supervisor keeps our standard input open for as long as it lives."""
    while os.read(0, 1):
        pass
    server.end()


if __name__ == "__main__":
    sys.exit(main())
