"""Whether keys can be asked for, which is what ``/readyz`` tells: the ledger takes entries, and stored keys can be unwrapped.

**The keys** are looked at by unwrapping one of them, in a thread of its own: when somebody asks how things are and the last
look is older than a few seconds, and never while another look is under way. So asking costs the key service one call in
these seconds, however many ask; nobody who asks waits for that service; and what was broken is found whole by itself.

**The ledger** is taken at its word: an append that failed for the disk's sake stands until another succeeds, or until a
commit that changes nothing does, which is tried now and then. A ledger that is read-only stays so until a new start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from safehold.ledger.log import Log
from safehold.model.errors import SafeholdError, StorageFailed, Uncertain

__all__ = ["Readiness", "Ready"]

_FRESH_SECONDS: Final = 5.0
_PASSING: Final = frozenset({"ledger.busy", "ledger.not_leader"})
"""Others are writing: that says nothing of the disk."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """How the vault process is: ``code`` is empty if keys can be asked for, else it says with message and hint why not.

    ``pending``: the keys are being looked at, and what is known of them is old.
    """

    size: int = 0
    code: str = ""
    detail: str = ""
    hint: str = ""
    pending: bool = False


class Readiness:
    """Of one vault process. ``check_keys`` unwraps a key, or raises; None where there is none to look at."""

    def __init__(
        self, log: Log, check_keys: Callable[[], None] | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._check_keys = check_keys
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looking = False
        self._looked: float | None = None
        self._keys: SafeholdError | None = None
        self._append: SafeholdError | None = None

    def now(self) -> Ready:
        """How it is. Never waits for the key service. Raises what reading the ledger raises."""
        keys, pending = self._known_keys()
        error = self._log.read_only or self._append or keys
        if error is None and self._log.following:
            error = StorageFailed("serve.follower", "another process leads this ledger", "ask there; see `elsewhere`")
        if error is not None:
            hint = "end this server and serve again" if isinstance(error, Uncertain) else error.hint
            return Ready(code=error.code, detail=error.message, hint=hint)
        with self._log.view() as view:  # last: after some failures nothing can be read, and the reason is told above
            return Ready(size=view.size(), pending=pending)

    def note(self, error: SafeholdError | None) -> None:
        """What became of an append: None if it is durable."""
        if error is None:
            self._append = None
        elif isinstance(error, StorageFailed) and error.code.startswith("ledger.") and error.code not in _PASSING:
            self._append = error

    def try_append(self) -> None:
        """After an append that failed, see whether the disk works again. Raises what it meets."""
        if self._append is not None and self._log.read_only is None and self._log.leads:
            self._log.check_writable()
            self._append = None

    def _known_keys(self) -> tuple[SafeholdError | None, bool]:
        """What the last look found, and whether that is old. A failure that is old is told all the same, until a look
        finds it gone; that all was well is not.
        """
        if self._check_keys is None:
            return None, False
        with self._lock:
            old = self._looked is None or self._monotonic() - self._looked >= _FRESH_SECONDS
            begin = old and not self._looking
            self._looking = self._looking or begin
        if begin:
            try:
                threading.Thread(target=self._look, name="keys", daemon=True).start()
            except RuntimeError:  # no thread to be had now: the next who asks tries again
                self._looking = False
        return self._keys, old

    def _look(self) -> None:
        error: SafeholdError | None = None
        try:
            if self._check_keys is not None:
                self._check_keys()
        except SafeholdError as found:
            error = found
        except Exception:  # noqa: BLE001 - refuses: keys that cannot be looked at are not ready, and no word of why leaves
            error = StorageFailed("serve.internal", "the keys could not be looked at", "ask again")
        with self._lock:
            self._keys, self._looked, self._looking = error, self._monotonic(), False
