"""Any history, cut anywhere: segments and tail together hold what the ledger holds. A twin in plain Python says what that is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.ledger.segments.check import check_segments, find_sealed
from safehold.ledger.segments.query import Window
from safehold.ledger.segments.seal import Segments
from safehold.model.statements import Statement
from safehold.state.segments import sealed_segments
from tests.ledger_kit import memory_folder, open_log, party
from tests.segments_kit import LIMITS, ask, key_release, segments_of

TIMES = st.integers(0, 9)
STATEMENTS = st.builds(key_release, st.integers(0, 5), TIMES) | st.builds(party, TIMES)
STEPS = st.lists(
    st.lists(STATEMENTS, min_size=1, max_size=5) | st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=8
)
WINDOWS = st.builds(Window, st.none() | TIMES, st.none() | TIMES)
COLUMNS = {
    "entry": ("idx", "t", "kind", "body"),
    "key_release": ("idx", "t", "host", "member", "release", "grant", "groups", "inventories", "parts", "until"),
}


def _twin(segments: Segments, table: str, window: Window) -> list[tuple[Any, ...]]:
    """What the ledger holds, by reading every stored byte."""
    with segments.log.view() as view:
        bodies = [view.body(index) or b"" for index in range(view.size())]
    rows = []
    for index, body in enumerate(bodies):
        plain = json.loads(body)
        inside = (window.since is None or plain["t"] >= window.since) and (
            window.until is None or plain["t"] < window.until
        )
        if inside and (table == "entry" or plain["kind"] == "key.released"):
            row = plain | {"idx": index, "body": body.decode()}
            rows.append(tuple(row[name] for name in COLUMNS[table]))
    return rows


@settings(max_examples=25)
@given(STEPS, WINDOWS)
def test_segments_and_tail_are_the_ledger(steps: list[list[Statement] | tuple[int, bool]], window: Window) -> None:
    with memory_folder() as folder:
        log = open_log(folder)
        segments = segments_of(log, folder)
        for step in steps:
            if isinstance(step, tuple):
                segments.seal(step[0], rest=step[1])
            else:
                log.append_statements(*step)
        for table, columns in COLUMNS.items():
            said = ask(segments, f"SELECT {', '.join(columns)} FROM {table} ORDER BY idx", window, LIMITS)
            assert list(said.rows) == _twin(segments, table, window)
        with log.view() as view:
            assert find_sealed(view) == list(sealed_segments(view))
            assert check_segments(view, segments.folder) == []
        log.close()
