"""What the tests of segments share: a log with a few key releases and a folder of segments beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safehold.ledger.log import Draft, Log
from safehold.ledger.segments.query import Answer, QueryLimits, Window, run_query
from safehold.ledger.segments.seal import Segments
from safehold.model.statements import KeyReleased, Statement
from safehold.state.segments import sealed_segments
from tests.ledger_kit import BY, digest, open_log, party

LIMITS = QueryLimits(threads=1, memory=256)
OF_TIME = 10**15


def key_release(number: int, t: int) -> KeyReleased:
    """A key release that differs by its number."""
    values: dict[str, Any] = {
        "request": f"q-{number:032x}", "release": digest(number % 3), "dataset": "quill-works/words", "parts": number,
        "groups": ("text", "labels")[: number % 3], "party": "quill-works", "host": f"quill-works/ci-{number % 2}",
        "member": None, "grant": "g-0123456789abcdef", "purpose": "training", "inventories": (digest("inventory"),),
        "reader": digest("reader"), "until": t + 60,
    }  # fmt: skip
    return KeyReleased(t=t, by=BY, **values)


def segments_of(log: Log, folder: Path) -> Segments:
    """The segments of a log, kept in ``folder/segments``."""
    return Segments(log, folder / "segments", sealed_segments, lambda: OF_TIME, BY)


def filled(folder: Path, count: int = 9) -> Segments:
    """A log of ``count`` entries, every other a key release, with times that go backwards."""
    log = open_log(folder)
    made: Sequence[Statement] = [
        key_release(number, 1000 - number) if number % 2 else party(number) for number in range(count)
    ]
    log.append(lambda _view: Draft(tuple(made)))
    return segments_of(log, folder)


def ask(segments: Segments, sql: str, window: Window | None = None, limits: QueryLimits = LIMITS) -> Answer:
    """The answer to a query with little memory and one thread."""
    return run_query(segments, sql, window or Window(), limits)
