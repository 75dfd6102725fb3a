"""Key releases read whole, asked for in the projection, and asked for in sealed segments: the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.exposure.case import load_case
from safehold.exposure.case_wide import host_spans
from safehold.exposure.facts import Case, KeyRelease, Span, Touch
from safehold.exposure.openings import (
    TOLD,
    HostSpans,
    MemoryOpenings,
    Openings,
    SegmentOpenings,
    ViewOpenings,
)
from safehold.exposure.report import Report, answer_all
from safehold.ledger.log import Draft, Log
from safehold.ledger.segments.query import QueryLimits
from safehold.ledger.segments.seal import Segments
from safehold.ledger.storage import View
from safehold.model import statements as s
from safehold.state.segments import sealed_segments
from tests.exposure_maker_kit import NOW, TICK, Maker
from tests.exposure_twin_kit import tell
from tests.ledger_kit import BY, digest, memory_folder, open_log

LIMITS = QueryLimits(memory=400, threads=1)


@contextmanager
def told(seed: int) -> Iterator[tuple[Log, Segments]]:
    """A history in a ledger of which the most is sealed in segments of 16 entries."""
    with memory_folder() as folder:
        log = open_log(folder)
        try:
            tell(log, Maker(seed))
            segments = Segments(log, folder / "segments", sealed_segments, lambda: NOW * TICK, BY)
            segments.seal(16)
            yield log, segments
        finally:
            log.close()


def seen(report: Report) -> tuple[object, ...]:
    """What must not depend on how key releases are read."""
    worse = ("exposed", "unknown")
    return (
        [(one.host, one.verdict, one.held, one.unknown) for one in report.hosts],
        [(one.release, one.verdict if one.verdict in worse else "neither") for one in report.releases],
        [
            (one.pair.host, one.pair.release, one.pair.verdict, sorted((w.kind, w.entries) for w in one.pair.ways if w.kind != "credential"),
             sorted((w.kind, w.entries) for w in one.pair.possible if w.kind != "credential"))
            for one in report.pairs if one.pair.verdict in worse
        ],
    )  # fmt: skip


def whole_touches(view: View, case: Case) -> tuple[Touch, ...]:
    assert case.touches is None
    return MemoryOpenings(case.key_releases).touching(host_spans(case))


@pytest.mark.parametrize("seed", range(24))
def test_three_ways_of_reading_give_the_same(seed: int) -> None:
    with told(seed) as (log, segments), log.view() as view:
        case = load_case(view, "A-1", NOW * TICK)
        expected, touches = seen(answer_all(case)), whole_touches(view, case)
        for openings in (
            ViewOpenings(view),
            SegmentOpenings(view, segments, LIMITS, few=-1),
            SegmentOpenings(view, segments, LIMITS),
        ):
            narrow = load_case(view, "A-1", NOW * TICK, None, openings)
            assert narrow.touches == touches
            assert narrow.first_opened == tuple(sorted(MemoryOpenings(case.key_releases).first_times(()).items()))
            assert seen(answer_all(narrow)) == expected
            assert len(narrow.key_releases) <= len(case.key_releases)


def test_many_are_counted_and_the_first_are_told() -> None:
    count = 3 * TOLD
    with memory_folder() as folder:
        log = open_log(folder)
        host, release = "quill-works/ci-1", digest("r")
        log.append(
            lambda _view: Draft(
                tuple(
                    s.KeyReleased(
                        t=number * TICK, by=BY, request=f"q-{number:032x}", release=release, dataset="quill-works/d",
                        groups=("text",), parts=1, party="quill-works", host=host, member=None,
                        grant="g-0000000000000001", purpose="training", inventories=(), reader=digest("x"),
                        until=number * TICK + 1,
                    )
                    for number in range(count)
                )
            )
        )  # fmt: skip
        segments = Segments(log, folder / "segments", sealed_segments, lambda: 0, BY)
        segments.seal(20)
        asked = (HostSpans(host, (Span(2 * TICK, (count - 2) * TICK),), (Span((count - 2) * TICK, count * TICK),)),)
        with log.view() as view:
            view_touches = ViewOpenings(view).touching(asked)
            assert SegmentOpenings(view, segments, LIMITS, few=-1).touching(asked) == view_touches
            assert SegmentOpenings(view, segments, LIMITS, few=count).touching(asked) == view_touches
            assert [one.host for one in ViewOpenings(view).unsealed()] == [host]
            running = ViewOpenings(view).running([host], (count - 1) * TICK)
        log.close()
    by_kind = {(one.held, one.kind): one for one in view_touches}
    assert by_kind[True, "opened"].count == count - 3
    assert len(by_kind[True, "opened"].told) == TOLD
    assert by_kind[True, "opened"].last.idx == count - 2
    assert by_kind[False, "opened"].count == 1  # what is held already is not told again
    assert [one.idx for one in running] == [count - 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=12), st.data())
def test_what_meets_a_time_is_what_a_plain_look_finds(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    released = [
        KeyRelease(idx=place, t=t, release="r", dataset="d", party="p", host="p/h", grant="g", until=t + lease)
        for place, (t, lease) in enumerate(rows)
    ]
    start = data.draw(st.integers(0, 30))
    span = Span(start, start + data.draw(st.integers(0, 10)))
    touches = MemoryOpenings(released).touching((HostSpans("p/h", (span,), ()),))
    opened = {one.idx for one in released if span.start <= one.t <= span.end}
    leased = {one.idx for one in released if one.t < span.start < one.until}
    assert {(one.kind, one.count) for one in touches} == {
        (kind, len(found)) for kind, found in (("opened", opened), ("lease", leased)) if found
    }


def test_every_port_has_the_same_face() -> None:
    for kind in (MemoryOpenings, ViewOpenings, SegmentOpenings):
        assert all(hasattr(kind, name) for name in ("first_times", "unsealed", "touching", "running", "pairs")), kind
    assert Openings
