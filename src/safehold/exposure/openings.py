"""Key releases, asked narrowly: the port that exposure reads them through when there are too many to read them all.

What the judgement needs of millions of key releases is little: which of them met the times in which a host held the thing,
or may have. ``touching`` gives that, summed for each host and release, the first ones row by row. ``ViewOpenings`` asks the
projection by its index of host and time; ``SegmentOpenings`` asks the sealed segments, sorted by time, and the tail. Both
give the same, which a test compares with the rows read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from safehold.exposure.facts import KeyRelease, Opening, Span, Touch
from safehold.ledger.segments.query import Beside, Offer, QueryLimits, Window, run_query
from safehold.ledger.segments.seal import Segments
from safehold.ledger.storage import View
from safehold.model.errors import Refused

__all__ = [
    "BY_INDEX",
    "COLUMNS",
    "FEW",
    "LONGEST_LEASE",
    "TOLD",
    "HostSpans",
    "MemoryOpenings",
    "Openings",
    "SegmentOpenings",
    "ViewOpenings",
    "first_times",
    "has_few",
    "read_rows",
    "read_told",
    "touching_sql",
]

FEW: Final = 200_000
"""Up to so many key releases are read whole: every one of them then stands in the answer."""
TOLD: Final = 16
"""Of more than so many for one host, release and kind the first are told one by one, and the rest with the last."""
BY_INDEX: Final = 50_000
"""Up to so many rows the index of host and time is the shorter way to them than a scan of segments."""
LONGEST_LEASE: Final = 86_400_000_000
"""µs. A lease that is longer than a day is cut to it here; the broker gives minutes."""

COLUMNS: Final = 'idx, t, "release", dataset, groups, parts, party, host, member, "grant", purpose, until'


class HostSpans(msgspec.Struct, frozen=True):
    """The times of one host that matter: ``held`` and ``unknown``, each merged."""

    host: str
    held: tuple[Span, ...]
    unknown: tuple[Span, ...]


class Openings(Protocol):
    """Where key releases are asked for."""

    def first_times(self, hosts: Iterable[str]) -> dict[str, int]:
        """When the first key left to each host that any key left to, of ``hosts`` and all others."""
        ...

    def unsealed(self) -> tuple[KeyRelease, ...]:
        """One key release of each release whose seal is not in this ledger."""
        ...

    def touching(self, asked: Sequence[HostSpans]) -> tuple[Touch, ...]:
        """The key releases that meet these times, summed, by host, release, kind and whether it was held."""
        ...

    def running(self, hosts: Iterable[str], now: int) -> tuple[KeyRelease, ...]:
        """Key releases to these hosts whose lease still runs."""
        ...

    def pairs(self, hosts: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """These hosts with each release that any key of ever left to them, sorted."""
        ...


def read_rows(rows: Iterable[Sequence[Any]]) -> tuple[KeyRelease, ...]:
    """Key releases from rows with the columns of the projection, ``groups`` as its text."""
    names = KeyRelease.__struct_fields__
    return tuple(
        KeyRelease(**dict(zip(names, (*row[:4], tuple(msgspec.json.decode(row[4])), *row[5:]), strict=True)))
        for row in rows
    )


def first_times(rows: Iterable[KeyRelease]) -> dict[str, int]:
    """When the first of these key releases left, by host."""
    found = dict[str, int]()
    for one in rows:
        found[one.host] = min(one.t, found.get(one.host, one.t))
    return found


def has_few(view: View) -> bool:
    """Whether the key releases are few enough to be read whole."""
    return not view.rows("SELECT 1 FROM key_release LIMIT 1 OFFSET ?", FEW)


def read_told(view: View, places: Iterable[int]) -> tuple[KeyRelease, ...]:
    """The key releases at these places."""
    sql = f"SELECT {COLUMNS} FROM key_release WHERE idx = ?"
    return tuple(released for place in sorted(set(places)) for released in read_rows(view.rows(sql, place)))


def _kind_in(released: KeyRelease, spans: Sequence[Span]) -> str:
    """``opened`` in one of the spans, else ``lease`` if it ran into one, else nothing."""
    if any(span.start <= released.t <= span.end for span in spans):
        return "opened"
    end = min(released.until, released.t + LONGEST_LEASE)
    return "lease" if any(released.t < span.start < end for span in spans) else ""


def _sum(rows: Iterable[KeyRelease], asked: Sequence[HostSpans]) -> tuple[Touch, ...]:
    """The sums of rows; what counts as held in one way is not told as unknown in the same."""
    by_host = {one.host: one for one in asked}
    groups = dict[tuple[str, str, bool, str], list[KeyRelease]]()
    for released in sorted(rows, key=lambda one: (one.t, one.idx)):
        spans = by_host.get(released.host)
        if spans is None:
            continue
        sure, maybe = _kind_in(released, spans.held), _kind_in(released, spans.unknown)
        if sure:
            groups.setdefault((released.host, released.release, True, sure), []).append(released)
        if maybe and maybe != sure:
            groups.setdefault((released.host, released.release, False, maybe), []).append(released)
    return tuple(
        Touch(
            host=host, release=release, held=held, kind="opened" if kind == "opened" else "lease", count=len(found),
            told=tuple(Opening(one.idx, one.t, one.until) for one in found[:TOLD]),
            last=Opening(found[-1].idx, found[-1].t, found[-1].until),
        )
        for (host, release, held, kind), found in sorted(groups.items(), key=lambda one: one[0])
    )  # fmt: skip


class MemoryOpenings:
    """Over rows that were read whole: what the others are compared with."""

    def __init__(self, rows: Sequence[KeyRelease], sealed: Iterable[str] = ()) -> None:
        self._rows = rows
        self._sealed = frozenset(sealed)

    def first_times(self, hosts: Iterable[str]) -> dict[str, int]:
        """See ``Openings``."""
        return first_times(self._rows)

    def unsealed(self) -> tuple[KeyRelease, ...]:
        """See ``Openings``."""
        found = dict[str, KeyRelease]()
        for one in self._rows:
            if one.release not in self._sealed:
                found.setdefault(one.release, one)
        return tuple(found.values())

    def touching(self, asked: Sequence[HostSpans]) -> tuple[Touch, ...]:
        """See ``Openings``."""
        return _sum(self._rows, asked)

    def running(self, hosts: Iterable[str], now: int) -> tuple[KeyRelease, ...]:
        """See ``Openings``."""
        wanted = set(hosts)
        return tuple(one for one in self._rows if one.host in wanted and one.until > now)

    def pairs(self, hosts: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """See ``Openings``."""
        wanted = set(hosts)
        return tuple(sorted({(one.host, one.release) for one in self._rows if one.host in wanted}))


class ViewOpenings:
    """Over the projection, by its indexes: nothing reads the table whole."""

    def __init__(self, view: View) -> None:
        self._view = view

    def first_times(self, hosts: Iterable[str]) -> dict[str, int]:
        """See ``Openings``. Distinct hosts are found by stepping through the index of host and time."""
        known = set(hosts) | {row[0] for row in self._view.rows(_STEPS.format(column="host"))}
        found = dict[str, int]()
        for host in sorted(known):
            first = self._view.rows("SELECT min(t) FROM key_release WHERE host = ?", host)[0][0]
            if first is not None:
                found[host] = first
        return found

    def unsealed(self) -> tuple[KeyRelease, ...]:
        """See ``Openings``."""
        sealed = {row[0] for row in self._view.rows('SELECT "release" FROM "release"')}
        found = list[KeyRelease]()
        for (release,) in self._view.rows(_STEPS.format(column='"release"')):
            if release not in sealed:
                sql = f'SELECT {COLUMNS} FROM key_release WHERE "release" = ? ORDER BY idx LIMIT 1'
                found += read_rows(self._view.rows(sql, release))
        return tuple(found)

    def touching(self, asked: Sequence[HostSpans]) -> tuple[Touch, ...]:
        """See ``Openings``."""
        sql = f"SELECT {COLUMNS} FROM key_release WHERE host = ? AND t >= ? AND t <= ?"
        rows = dict[int, KeyRelease]()
        for one in asked:
            for span in (*one.held, *one.unknown):
                found = self._view.rows(sql, one.host, span.start - LONGEST_LEASE, span.end)
                rows.update((released.idx, released) for released in read_rows(found))
        return _sum(rows.values(), asked)

    def running(self, hosts: Iterable[str], now: int) -> tuple[KeyRelease, ...]:
        """See ``Openings``."""
        sql = f"SELECT {COLUMNS} FROM key_release WHERE host = ? AND t >= ? AND until > ? ORDER BY idx"
        return tuple(
            released
            for host in sorted(set(hosts))
            for released in read_rows(self._view.rows(sql, host, now - LONGEST_LEASE, now))
        )

    def pairs(self, hosts: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """See ``Openings``."""
        sql = 'SELECT DISTINCT "release" FROM key_release WHERE host = ? ORDER BY 1'
        return tuple((host, row[0]) for host in sorted(set(hosts)) for row in self._view.rows(sql, host))


_STEPS: Final = (
    "WITH RECURSIVE step(one) AS (SELECT min({column}) FROM key_release UNION ALL"
    " SELECT (SELECT min({column}) FROM key_release WHERE {column} > step.one) FROM step WHERE step.one IS NOT NULL)"
    " SELECT one FROM step WHERE one IS NOT NULL"
)
"""Distinct values of an indexed column, each found by one look into the index."""


class SegmentOpenings(ViewOpenings):
    """Over sealed segments and the tail for what meets the times; single rows still come from the projection."""

    def __init__(self, view: View, segments: Segments, limits: QueryLimits, few: int = BY_INDEX) -> None:
        super().__init__(view)
        self._segments = segments
        self._limits = limits
        self._few = few

    def _is_few(self, asked: Sequence[HostSpans]) -> bool:
        """Whether so few rows may meet these times that the index is the shorter way to them."""
        found = 0
        for one in asked if self._few >= 0 else ():
            for span in (*one.held, *one.unknown):
                sql = "SELECT count(*) FROM key_release WHERE host = ? AND t >= ? AND t <= ?"
                found += self._view.rows(sql, one.host, span.start - LONGEST_LEASE, span.end)[0][0]
                if found > self._few:
                    return False
        return self._few >= 0

    def touching(self, asked: Sequence[HostSpans]) -> tuple[Touch, ...]:
        """See ``Openings``: one query, over no segment that ends before the first time or begins after the last.

        A few rows are fetched by the index of host and time instead.
        """
        if self._is_few(asked):
            return super().touching(asked)
        spans = [
            (one.host, span.start, span.end, held)
            for one in asked
            for held, own in ((True, one.held), (False, one.unknown))
            for span in own
        ]
        if not spans:
            return ()
        first, last = min(span[1] for span in spans), max(span[2] for span in spans)
        beside = Beside(
            name="span", columns=(("host", "text"), ("start", "integer"), ("end", "integer"), ("held", "boolean")),
            rows=tuple(spans),
        )  # fmt: skip
        window = Window(first - LONGEST_LEASE, last + 1)
        offer = Offer(tables=("key_release",), beside=(beside,))
        answer = run_query(self._segments, touching_sql(first, last), window, self._limits, offer)
        if answer.more:
            raise Refused(
                "exposure.too_many",
                "more hosts and releases were met than an answer can hold",
                "choose a narrower window",
            )
        return tuple(_touch(row) for row in answer.rows)


def touching_sql(first: int, last: int) -> str:
    """The query over ``key_release`` and ``span`` (host, start, end, held) for times from ``first`` to ``last``.

    Two steps: the rows that meet a span, each once with how; then the sums. The times stand in it as constants too, so
    that row groups outside of them are left out by their statistics.
    """
    return f"""
WITH met AS (
  SELECT k.idx, k.t, k.until, k.host, k.release, s.held, CASE WHEN k.t >= s.start THEN 2 ELSE 1 END AS kind
  FROM key_release k JOIN span s ON k.host = s.host
  WHERE k.t <= {last:d} AND k.until >= {first:d} AND k.t <= s."end"
    AND (k.t >= s.start OR least(k.until, k.t + {LONGEST_LEASE:d}) > s.start)),
one AS (
  SELECT idx, t, until, host, release, max(CASE WHEN held THEN kind END) AS sure, max(CASE WHEN NOT held THEN kind END) AS maybe
  FROM met GROUP BY idx, t, until, host, release),
told AS (
  SELECT host, release, true AS held, sure AS kind, t, idx, until FROM one WHERE sure IS NOT NULL
  UNION ALL
  SELECT host, release, false, maybe, t, idx, until FROM one WHERE maybe IS NOT NULL AND maybe IS DISTINCT FROM sure)
SELECT host, release, held, kind, count(*), min({{'t': t, 'idx': idx, 'until': until}}, {TOLD:d}),
       max({{'t': t, 'idx': idx, 'until': until}})
FROM told GROUP BY host, release, held, kind ORDER BY 1, 2, 3, 4"""


def _touch(row: Sequence[Any]) -> Touch:
    host, release, held, kind, count, told, last = row
    return Touch(
        host=host, release=release, held=held, kind="opened" if kind == 2 else "lease", count=count,
        told=tuple(Opening(one["idx"], one["t"], one["until"]) for one in told),
        last=Opening(last["idx"], last["t"], last["until"]),
    )  # fmt: skip
