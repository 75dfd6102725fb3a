"""The keys of one read: fetched in one request, renewed when their lease ends, stopped by a hold at the next part.

``keys`` is asked before each part and each block. It does one of four things: gives the keys that it has; asks the
broker whether a hold has been placed (at most every ``check_every`` seconds); asks for the keys again, because their
lease has ended; or raises ``ReadingStopped``, and from then on nothing else. A key that was given for a part cannot be
taken back from whoever copied it; what a stop promises is that this reader opens no further part.

Keys are in memory alone. A ring is never pickled with them: a process that is made from a pickle asks for its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from safehold.broker.client import KeyOrder, OpenedKeys
from safehold.broker.key_source import KeySource
from safehold.model.errors import Refused

__all__ = ["KeyRing", "ReadingStopped"]

_SECOND: Final = 1_000_000


class ReadingStopped(Refused):
    """The broker gives no further keys. ``opened``: the part files that this reader had opened by then."""

    def __init__(
        self, code: str, message: str, hint: str = "", *, entry: int | None = None, opened: tuple[str, ...] = ()
    ) -> None:
        super().__init__(code, message, hint, entry=entry)
        self.opened = opened


class KeyRing:
    """Keys of ``order`` from ``source``; ``clock`` gives µs UTC, as the broker's lease does."""

    def __init__(self, source: KeySource, order: KeyOrder, clock: Callable[[], int], check_every: int = 1) -> None:
        self.order = order
        self._source = source
        self._clock = clock
        self._check_every = check_every * _SECOND
        self._lock = threading.Lock()
        self._keys: OpenedKeys | None = None
        self._asked = 0
        self._stop: ReadingStopped | None = None
        self._opened: dict[str, None] = {}
        self.requests = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_keys": None, "_lock": None, "_opened": {}, "requests": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def use(self, source: KeySource) -> None:
        """Ask ``source`` from now on; the keys that are here stay."""
        self._source = source
        self._lock = threading.Lock()  # after a fork, the old one may be held by a thread that is not here

    @property
    def opened(self) -> tuple[str, ...]:
        """The part files that were opened with these keys, in the order in which they were."""
        return tuple(self._opened)

    def note(self, file: str) -> None:
        """A part file is about to be opened."""
        self._opened[file] = None

    def current(self) -> OpenedKeys:
        """The keys, in their lease and with no hold known. Raises ``ReadingStopped`` or what the source raises."""
        with self._lock:
            if self._stop is not None:
                raise self._stop
            now = self._clock()
            try:
                if self._keys is None or now >= self._keys.until:
                    self._keys = None  # not used past its lease, even if the next request fails
                    self._keys = self._source.request(self.order)
                    self.requests += 1
                    self._asked = now
                elif now - self._asked >= self._check_every:
                    self._source.check(self.order)
                    self._asked = now
                return self._keys
            except Refused as error:
                self._keys = None
                self._stop = self._stopped(error)
                raise self._stop from error

    def keys(self) -> Mapping[str, bytes]:
        """The part keys by file name; as ``current``."""
        return self.current().keys

    def forget(self) -> None:
        """Drop the keys. Python may leave copies in freed memory: this is best effort."""
        with self._lock:
            self._keys = None

    def _stopped(self, error: Refused) -> ReadingStopped:
        count = len(self._opened)
        if not count:
            return ReadingStopped(error.code, error.message, error.hint, entry=error.entry)
        return ReadingStopped(
            "readers.stopped",
            f"reading stopped: {error.message} ({error.code}). It had opened {count} part files: {_listed(self.opened)}",
            error.hint,
            entry=error.entry,
            opened=self.opened,
        )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
