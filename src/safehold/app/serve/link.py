"""How the front reaches the vault: over the Unix socket, or, in one process, through a thread. The same seam twice.

Calls that come while a frame is being answered wait together and go as the next frame: under load one frame, and so one
commit, carries many requests, and an idle server adds no delay. A few connections work side by side, so that one frame
is being decided while another waits for the disk. Reads and inventories have a connection of their own: whoever reads
the ledger does not delay keys; and so has the question how the vault is, which must not wait for any of them. Whatever
happens to a connection, its askers are told at once, and it is opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from safehold.app.serve.desk import VaultDesk
from safehold.app.serve.frames import Call, Outcome, decode_outcomes, encode_frame, read_frame
from safehold.model.errors import Refused, SafeholdError, StorageFailed

__all__ = ["KEY_LANES", "LocalLink", "SocketLink", "VaultLink", "check_peer", "reach_socket"]

KEY_LANES: Final = 2
_BATCH: Final = 24
_BATCH_BYTES: Final = 48 * 1024 * 1024
"""Together calls take at most so much of a frame, but for one that is larger by itself: all of them must fit in one."""
_KEYS: Final = frozenset({"keys", "lease", "leased"})
_RETRY_SECONDS: Final = 0.2


class VaultLink(Protocol):
    """Where the front sends calls."""

    async def ask(self, call: Call) -> Outcome:
        """The outcome. Raises ``StorageFailed`` (``serve.vault_gone``) or ``Refused`` (``serve.busy``)."""
        ...

    async def close(self) -> None:
        """Let go of the vault."""
        ...


class _Lanes:
    """A queue that several workers empty, each with one frame on its way."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._queue: deque[tuple[Call, asyncio.Future[Outcome]]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()

    def put(self, call: Call) -> asyncio.Future[Outcome]:
        if len(self._queue) >= self._room:
            raise StorageFailed("serve.busy", "the broker has more to do than it can take", "ask again in a moment")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append((call, future))
        while self._idle:
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(None)
                break
        return future

    async def take(self) -> list[tuple[Call, asyncio.Future[Outcome]]]:
        while not self._queue:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiting)
            await waiting
        taken: list[tuple[Call, asyncio.Future[Outcome]]] = []
        room = _BATCH_BYTES
        while self._queue and len(taken) < _BATCH and (not taken or len(self._queue[0][0].body) <= room):
            call, future = self._queue.popleft()
            if not future.done():  # its asker has gone
                taken.append((call, future))
                room -= len(call.body)
        return taken

    def fail(self, error: SafeholdError) -> None:
        while self._queue:
            future = self._queue.popleft()[1]
            if not future.done():
                future.set_exception(error)


class SocketLink:
    """The vault process behind its Unix socket, in ``folder``. Connections are opened again when they end."""

    def __init__(self, folder: Path, room: int) -> None:
        self._folder = folder
        self._keys, self._rest, self._state = _Lanes(room), _Lanes(64), _Lanes(64)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to connect; call it inside the loop."""
        lanes = [self._keys] * KEY_LANES + [self._rest, self._state]
        self._tasks = [asyncio.get_running_loop().create_task(self._work(lane)) for lane in lanes]

    async def ask(self, call: Call) -> Outcome:
        """See ``VaultLink``."""
        lane = self._keys if call.kind in _KEYS else self._state if call.kind == "state" else self._rest
        return await lane.put(call)

    async def close(self) -> None:
        """See ``VaultLink``."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for lane in (self._keys, self._rest, self._state):
            lane.fail(_gone())

    async def _work(self, lane: _Lanes) -> None:
        while True:
            try:
                reader, writer = await self._connect()
            except Exception:  # noqa: BLE001 - refuses: whatever it is, nobody waits for a lane that cannot connect
                lane.fail(_gone())
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                while True:
                    await self._exchange(lane, reader, writer)
            except Exception:  # noqa: BLE001, S112 - refuses: `_exchange` told the askers; a lane that ended would leave all who come
                continue
            finally:
                writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = reach_socket(self._folder)
        check_peer(connection)
        connection.setblocking(False)
        return await asyncio.open_unix_connection(sock=connection, limit=1 << 20)

    async def _exchange(self, lane: _Lanes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = await lane.take()
        if not taken:
            return
        try:
            writer.write(encode_frame([call for call, _ in taken]))
            await writer.drain()
            outcomes = decode_outcomes(await read_frame(reader), len(taken))
        except BaseException:  # re-raises: whatever it is, nobody waits for an answer that does not come
            for _, future in taken:
                if not future.done():
                    future.set_exception(_gone())
            raise
        for (_, future), outcome in zip(taken, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)


class LocalLink:
    """The vault's desk in this process: for tests, and where one process must do."""

    def __init__(self, desk: VaultDesk, threads: int = 4) -> None:
        self._desk = desk
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="vault")

    async def ask(self, call: Call) -> Outcome:
        """See ``VaultLink``."""
        answered = await asyncio.get_running_loop().run_in_executor(self._threads, self._desk.answer, [call])
        return answered[0]

    async def close(self) -> None:
        """See ``VaultLink``."""
        self._threads.shutdown()


def reach_socket(folder: Path) -> socket.socket:
    """A connection to the socket in ``folder``. Raises ``OSError``.

    The name goes through a handle of the folder, since the path of a Unix socket has room for 107 bytes alone.
    """
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{handle}/vault.sock")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(handle)
    return connection


def check_peer(connection: socket.socket) -> int:
    """The process at the other end, of this very user; ``Refused`` (``serve.peer``) for another's."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", raw)
    if user != os.geteuid():
        raise Refused("serve.peer", f"user {user} is at the other end of the vault's socket", "stop that process")
    return int(process)


def _gone() -> StorageFailed:
    return StorageFailed("serve.vault_gone", "the vault process does not answer", "ask again in a moment")
