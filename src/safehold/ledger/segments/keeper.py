"""Keeping segments without being asked: in a thread of whoever serves, beside the appends.

It seals what is due (``SegmentRule``) and nothing else. A failure stops nobody: it is kept as ``problem`` for whoever
shows the state of the service, and the next step tries again. Only the process that leads seals, so that two that serve one
ledger do not write the same files.
"""

from __future__ import annotations

import threading
from typing import Final

from safehold.ledger.segments.seal import SegmentRule, Segments
from safehold.ledger.storage import Entry
from safehold.model.errors import SafeholdError

__all__ = ["SegmentKeeper"]

_PERIOD: Final = 60.0


class SegmentKeeper:
    """Seals what is due in ``segments``, by ``rule``."""

    def __init__(self, segments: Segments, rule: SegmentRule | None = None) -> None:
        self._segments = segments
        self._rule = rule or SegmentRule()
        self.problem: SafeholdError | None = None

    def step(self) -> tuple[Entry, ...]:
        """Seal what is due now; return the new entries. Raises nothing of Safehold's: see ``problem``."""
        if self._segments.log.read_only is not None or not self._segments.log.leads:
            return ()
        try:
            made = self._segments.seal_due(self._rule)
        except SafeholdError as error:  # refuses nothing to anyone: the entries are where they were
            self.problem = error
            return ()
        self.problem = None
        return made

    def keep(self, stop: threading.Event, period: float = _PERIOD) -> None:
        """A step at once and then every ``period`` seconds, until ``stop``."""
        while not stop.is_set():
            self.step()
            stop.wait(period)
