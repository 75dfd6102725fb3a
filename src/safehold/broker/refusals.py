"""Refusals of requests that proved nothing: the first of a window stand as entries, the rest as a count.

Anybody may send a request, and each refusal is an entry; so whoever has no key could still fill the ledger. A request
whose host has not proven its key (steps 1 to 3) is therefore recorded singly only while the window's allowance lasts.
What comes after is counted by its code and recorded when the window ends, one entry a code. Requests that did prove
possession are never counted: each of their refusals stands for itself.

What was counted and not recorded yet is lost when the process is killed: at most one window of refusals that released
nothing. A process that ends in order records them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from safehold.ledger.log import Log
from safehold.model.ids import KeyId
from safehold.model.statements import RefusalsCounted

__all__ = ["UNPROVEN_STEP", "RefusalCounter"]

UNPROVEN_STEP: Final = 3
"""The last step in which nothing is proven yet."""
_MAX_CODES: Final = 64


class RefusalCounter:
    """Counts what is beyond the allowance of a window; ``clock`` gives µs UTC, ``by`` signs for the entries."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId, *, window: int = 60, singly: int = 20) -> None:
        """``window`` in seconds; ``singly`` refusals of each window stand as entries of their own."""
        self._log = log
        self._clock = clock
        self._by = by
        self._window = window * 1_000_000
        self._singly = singly
        self._lock = threading.Lock()
        self._since = clock()
        self._single = 0
        self._counts: dict[str, int] = {}

    def stands_singly(self, code: str) -> bool:
        """Whether this refusal is to be recorded as an entry of its own; otherwise it is counted now."""
        with self._lock:
            if self._single < self._singly:
                self._single += 1
                return True
            if code not in self._counts and len(self._counts) >= _MAX_CODES:
                code = "broker.other"
            self._counts[code] = self._counts.get(code, 0) + 1
            return False

    def flush(self, *, end: bool = False) -> int:
        """Record the counts of a window that is over (or of this one, at the ``end``); return how many entries.

        Raises what ``Log.append`` raises; the counts are kept then.
        """
        with self._lock:
            now = self._clock()
            if now - self._since < self._window and not end:
                return 0
            since, counts = self._since, self._counts
            self._since, self._single, self._counts = now, 0, {}
        if not counts:
            return 0
        said = [
            RefusalsCounted(t=now, by=self._by, code=code, count=count, since=since, until=now)
            for code, count in sorted(counts.items())
        ]
        try:
            self._log.append_statements(*said)
        except BaseException:  # re-raises: what was not recorded is counted on
            with self._lock:
                self._since = min(self._since, since)
                for code, count in counts.items():
                    self._counts[code] = self._counts.get(code, 0) + count
            raise
        return len(said)
