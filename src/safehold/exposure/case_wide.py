"""A case with too many key releases to read them all: those that met the times in question, summed.

First it is judged where the thing was, which needs no key release; then the key releases of those hosts and times are asked
for. The verdicts are those of the rows read whole. What differs: of many key releases the first are told one by one and the
rest is counted, and pairs of hosts that never held the thing are left out.
"""

from __future__ import annotations

from typing import Final

import msgspec

from safehold.exposure.facts import Case
from safehold.exposure.openings import HostSpans, Openings, read_told
from safehold.exposure.presence import find_presences
from safehold.ledger.storage import View

__all__ = ["host_spans", "widen"]

_MOST_ROWS: Final = 2_000
"""Key releases that are read row by row, for the timeline and the questions on single ones."""


def host_spans(case: Case) -> tuple[HostSpans, ...]:
    """The hosts that held the thing or may have, with when."""
    return tuple(
        HostSpans(presence.host, presence.held, presence.unknown)
        for presence in find_presences(case)
        if presence.held or presence.unknown
    )


def widen(view: View, case: Case, openings: Openings) -> Case:
    """The case with the sums of the key releases that matter, and some of them row by row."""
    asked = host_spans(case)
    touches = openings.touching(asked)
    places = [opening.idx for touch in touches for opening in (*touch.told, touch.last)]
    told = read_told(view, places[:_MOST_ROWS])
    running = openings.running((one.host for one in asked), case.now)
    rows = {released.idx: released for released in (*told, *running)}
    return msgspec.structs.replace(
        case,
        touches=touches,
        opened_pairs=openings.pairs(one.host for one in asked),
        key_releases=tuple(rows[idx] for idx in sorted(rows)),
    )
