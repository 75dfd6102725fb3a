"""Who waits for a commit: drafts, the bounded queue of those who want to append, and who of them leads.

One queue for both faces of the log. Threads wait at a gate of their own; tasks of an event loop wait for a future, and a
``Desk`` speaks for all of one loop. Whoever finds no leader leads: a thread commits all that wait and hands the lead to the
first of those who came meanwhile; a desk has a thread for it. So there is one writer at any time, whoever it is.

**Bounded.** At most ``capacity`` proposals wait. Who comes then waits for room, in the order that threads wake in; who does
not want to wait is refused with ``ledger.busy`` and nothing of his was queued.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from safehold.ledger.storage import Entry, View
from safehold.model.errors import NotAppended
from safehold.model.statements import Statement

__all__ = ["CAPACITY", "Desk", "Draft", "GroupQueue", "Proposal", "Waiting", "answer", "busy"]

CAPACITY: Final = 4096
"""How many proposals may wait for a commit, for each face of the log."""


class Draft(msgspec.Struct, frozen=True):
    """What a proposal wants to be true: statements in order, and the payloads that they name by digest."""

    statements: tuple[Statement, ...]
    payloads: tuple[bytes, ...] = ()


Proposal = Callable[[View], Draft]
"""Reads the state as it is at its place in the order and returns what to append. It may run more than once."""


class Desk(Protocol):
    """Speaks for many who wait in another way than at a gate."""

    def lead(self) -> None:
        """Begin to lead, in a thread of the desk."""
        ...

    def tell(self, told: Sequence[Waiting]) -> None:
        """These have their outcome."""
        ...


class Waiting:
    """A proposal in the queue, or a ``Draft`` that needs to read nothing; later, its outcome."""

    __slots__ = ("_gate", "desk", "done", "entries", "error", "leads", "proposal")

    def __init__(self, proposal: Proposal | Draft, desk: Desk | None = None) -> None:
        self.proposal = proposal
        self.desk = desk
        self.leads = False
        self.done = False
        self.entries: tuple[Entry, ...] = ()
        self.error: BaseException | None = None
        self._gate: threading.Lock | None = None
        if desk is None:
            self._gate = threading.Lock()
            self._gate.acquire()

    def wait(self) -> None:
        """Return when there is an outcome, or when it is this one's turn to lead."""
        if self._gate is not None:
            self._gate.acquire()

    def wake(self) -> None:
        """Let ``wait`` return. Called once at most: by whoever leads, or by whoever hands the lead on."""
        if self._gate is not None:
            self._gate.release()

    def lead(self) -> None:
        """Take the lead: by its desk, or by itself when it wakes."""
        if self.desk is not None:
            self.desk.lead()
        else:
            self.leads = True
            self.wake()


class GroupQueue:
    """All who wait, in order, and whether somebody leads."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._crowd = 0  # threads that wait for room
        self._all: list[Waiting] = []
        self._led = False

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, waiting: Waiting, *, wait: bool) -> bool:
        """Queue up; return whether it is the caller who leads now. Raises ``NotAppended`` (``ledger.busy``)."""
        with self._lock:
            while len(self._all) >= self.capacity:
                if not wait:
                    raise busy(self.capacity)
                self._crowd += 1
                try:
                    self._room.wait()
                finally:
                    self._crowd -= 1
            self._all.append(waiting)
            waiting.leads, self._led = not self._led, True
            return waiting.leads

    def join(self, many: Sequence[Waiting]) -> bool:
        """Queue up all of a desk, which bounds them itself; return whether the desk leads now."""
        with self._lock:
            self._all += many
            leads, self._led = not self._led, True
            return leads

    def take(self) -> list[Waiting]:
        """All who wait. Only for whoever leads."""
        with self._lock:
            group, self._all = self._all, []
            if self._crowd:
                self._room.notify_all()
        return group

    def hand_on(self) -> None:
        """Let the first in the queue lead, or nobody."""
        with self._lock:
            self._led = bool(self._all)
            if self._led:
                self._all[0].lead()

    def take_back(self, waiting: Waiting) -> bool:
        """Take out of the queue whoever waits no longer; False if he is not in it."""
        with self._lock:
            try:
                self._all.remove(waiting)
            except ValueError:
                return False
        return True

    def withdraw(self, waiting: Waiting) -> None:
        """Take out of the queue whoever waits no longer, and hand on what he led."""
        self.take_back(waiting)
        if waiting.leads:
            waiting.leads = False
            self.hand_on()


def answer(group: Sequence[Waiting], leader: Waiting | None) -> None:
    """Let all of a group have their outcomes; the ``leader`` knows his."""
    desks: dict[Desk, list[Waiting]] = {}
    for waiting in group:
        if waiting.desk is not None:
            desks.setdefault(waiting.desk, []).append(waiting)
        elif waiting is not leader:
            waiting.wake()
    for desk, told in desks.items():
        desk.tell(told)


def busy(capacity: int) -> NotAppended:
    """The refusal of one who does not wait."""
    return NotAppended(
        "ledger.busy",
        f"{capacity} appends are waiting already: nothing was appended",
        "try again a little later, or let the caller wait",
    )
