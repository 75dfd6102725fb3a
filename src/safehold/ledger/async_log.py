"""The log for an event loop: ``await`` in place of a waiting thread, over the same queue and the same one writer.

What tasks want appended is gathered while the loop runs them, and queued together; a thread of this desk leads and commits
when no other does. A commit is told to the loop once, however many wait for it, and each gets its own outcome. The promises
are those of ``Log``: entries are durable when ``await`` returns, adjacent, and in the order of the calls.

**Bounded.** At most ``capacity`` appends are under way. Who comes then waits for room, first come, first served; with
``wait`` False he is refused with ``ledger.busy``, and nothing of his was queued.

**Cancelled.** A task that is cancelled before its append was taken into a commit has appended nothing. Afterwards the commit goes
on, and the append has happened unless the commit fails: who must know looks, as after a crash.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Self

from safehold.ledger.log import Log
from safehold.ledger.storage import Entry
from safehold.ledger.waiting import CAPACITY, Draft, Proposal, Waiting, busy
from safehold.model.errors import StorageFailed
from safehold.model.statements import Statement

__all__ = ["AsyncLog"]

_GATHERED: Final = 64  # so many are queued at once without waiting for the rest of the loop's turn


class _Asked(Waiting):
    """A proposal of a task, and the future that the task waits for."""

    __slots__ = ("future",)

    def __init__(self, proposal: Proposal | Draft, desk: AsyncLog, future: asyncio.Future[tuple[Entry, ...]]) -> None:
        super().__init__(proposal, desk)
        self.future = future


class AsyncLog:
    """The face of ``log`` for one event loop: made inside of it, used by its tasks alone, and closed before the log."""

    def __init__(self, log: Log, *, capacity: int = CAPACITY) -> None:
        self.log = log
        self.capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._new: list[Waiting] = []
        self._flushing = False
        self._under_way = 0
        self._crowd: deque[asyncio.Future[None]] = deque()
        self._turns: SimpleQueue[bool] = SimpleQueue()  # True: lead; False: end
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="safehold-writer", daemon=True)
        self._writer.start()

    async def append(self, proposal: Proposal, *, wait: bool = True) -> tuple[Entry, ...]:
        """See ``Log.append``. ``proposal`` runs in the writer's thread, inside the commit."""
        return await self._append(proposal, wait)

    async def append_statements(self, *statements: Statement, wait: bool = True) -> tuple[Entry, ...]:
        """Append statements that depend on nothing. See ``Log.append_statements``."""
        return await self._append(Draft(statements), wait)

    async def _append(self, proposal: Proposal | Draft, wait: bool) -> tuple[Entry, ...]:
        if self._under_way < self.capacity and not self._crowd:
            self._under_way += 1
        else:
            await self._room(wait)
        if self._closed:
            self._leave(1)
            raise StorageFailed("ledger.closed", "the ledger is closed", "open it again")
        future: asyncio.Future[tuple[Entry, ...]] = self._loop.create_future()
        asked = _Asked(proposal, self, future)
        self._new.append(asked)
        if len(self._new) >= _GATHERED:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        try:
            return await future
        except asyncio.CancelledError:
            self._forget(asked)
            raise

    async def _room(self, wait: bool) -> None:
        """Return when there is a place, and it is this one's."""
        if not wait:
            raise busy(self.capacity)
        turn: asyncio.Future[None] = self._loop.create_future()
        self._crowd.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(1)  # a place was given, and is given back
            raise

    def _leave(self, places: int) -> None:
        """Give places back, and let those who wait for one have them."""
        self._under_way -= places
        while self._crowd and (self._under_way < self.capacity or self._closed):
            turn = self._crowd.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)
        if self._closed and not self._under_way:
            self._turns.put(False)

    def _flush(self) -> None:
        """Queue up what was gathered."""
        self._flushing = False
        new, self._new = self._new, []
        if new and self.log.queue.join(new):
            self.lead()

    def _forget(self, asked: _Asked) -> None:
        """A task does not wait any more: what no commit has taken yet is taken back."""
        if asked in self._new:
            self._new.remove(asked)
        elif not self.log.queue.take_back(asked):
            return  # a commit has it, and tells it
        self._leave(1)

    # --- called by whoever leads, in any thread

    def lead(self) -> None:
        """See ``Desk``."""
        self._turns.put(True)

    def tell(self, told: Sequence[Waiting]) -> None:
        """See ``Desk``."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            self._loop.call_soon_threadsafe(self._told, told)

    def _write(self) -> None:
        while self._turns.get():
            # Whatever is raised here was given to all who waited, and the next ones need this thread.
            with suppress(BaseException):
                self.log.commit_waiting(None)

    # --- in the loop

    def _told(self, told: Sequence[Waiting]) -> None:
        for asked in told:
            if not isinstance(asked, _Asked) or asked.future.done():
                continue  # cancelled
            if asked.error is None:
                asked.future.set_result(asked.entries)
            elif isinstance(asked.error, StopIteration):  # which no future takes
                asked.future.set_exception(RuntimeError("a proposal raised StopIteration"))
            else:
                asked.future.set_exception(asked.error)
        self._leave(len(told))

    async def close(self) -> None:
        """Take nothing more, wait for what is under way, and end the writer's thread. The log stays open."""
        if not self._closed:
            self._flush()
            self._closed = True
            self._leave(0)
        await self._loop.run_in_executor(None, self._writer.join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
