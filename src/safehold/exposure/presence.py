"""Presence: when a host held the thing, when it did not, and when nobody looked. Pure; ``docs/spec/exposure.md`` §3.

Evidence of one environment is of two kinds. A segment whose inventory has a finding that counts is *bad* from its
first sweep to its last. A segment without one is *clean*: throughout, if its sweeps were never further apart than
the host's tolerance (three times the interval that it promised); else only at its first and its last sweep.

* A **held run** is a longest row of bad segments without clean evidence between them. Its *inner* span was seen;
  its *outer* span reaches to the nearest clean evidence on either side, since the thing came and went unseen.
* **Unobserved** is every time between two pieces of evidence further apart than the tolerance.
* **Unknown** is the unobserved time in which the thing may have been there unseen: what begins before the window
  ends (it could have come then, and stayed), from the window's start on, and is not within a held run's outer span.

The order in which reports arrive, and reports that arrive twice, change nothing: evidence is a set.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from safehold.exposure.facts import WEAK_MATCHES, Case, Finding, Host, Observation, Span
from safehold.exposure.verdict import Verdict

__all__ = ["HeldRun", "Presence", "counting_findings", "find_presences", "merge_spans", "tolerance"]

_SWEEPS_MISSED: Final = 3
_SECOND: Final = 1_000_000


class HeldRun(msgspec.Struct, frozen=True, kw_only=True):
    """The thing on one environment of a host: seen throughout ``inner``, and there no longer than ``outer``.

    ``seen_before`` / ``seen_after``: whether clean evidence bounds it on that side. ``early``: it was seen before
    the window starts, which contradicts the claim. ``path_only``: nothing but file paths says so.
    """

    environment: str
    inner: Span
    outer: Span
    things: tuple[str, ...]
    entries: tuple[int, ...]
    seen_before: bool
    seen_after: bool
    early: bool
    path_only: bool


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one host. ``unobserved`` is all of it since ``begin``, ``unknown`` the part that matters.

    ``last``: the end of the newest evidence, None if there is none. ``entries``: the observations it rests on.
    """

    host: str
    party: str
    verdict: Verdict
    begin: int
    runs: tuple[HeldRun, ...] = ()
    unknown: tuple[Span, ...] = ()
    unobserved: tuple[Span, ...] = ()
    environments: tuple[str, ...] = ()
    last: int | None = None
    entries: tuple[int, ...] = ()

    @property
    def held(self) -> tuple[Span, ...]:
        """The outer spans of all runs, joined."""
        return merge_spans(run.outer for run in self.runs)


class _Known(msgspec.Struct, frozen=True):
    """A host, and since when it can have had keys or data."""

    host: Host
    since: int


class _Environment(msgspec.Struct, frozen=True):
    """One environment's part of a presence."""

    runs: tuple[HeldRun, ...]
    unknown: tuple[Span, ...]
    unobserved: tuple[Span, ...]
    last: int | None


def tolerance(host: Host, during: Span | None = None) -> int:
    """How long a host may be silent before the silence counts, in µs: by its newest promise, or the strictest ``during``.

    A promise holds until the next registration replaces it; the first one holds before it too.
    """
    every = host.expected_every
    if during is not None and host.promises:
        made = sorted(host.promises, key=lambda promise: promise.t)
        ends = [promise.t for promise in made[1:]] + [max(during.end, made[-1].t) + 1]
        starts = [min(during.start, made[0].t), *(promise.t for promise in made[1:])]
        every = min(
            promise.every
            for promise, start, end in zip(made, starts, ends, strict=True)
            if start <= during.end and end > during.start
        )
    return _SWEEPS_MISSED * every * _SECOND


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same times as sorted spans that neither overlap nor touch."""
    merged = list[Span]()
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def _without(spans: Iterable[Span], taken: Sequence[Span]) -> tuple[Span, ...]:
    """What is left of ``spans`` outside ``taken`` (merged); a span that nothing touches stays, be it a moment."""
    left = list[Span]()
    for span in spans:
        start, touched = span.start, False
        for hole in taken:
            if hole.start <= span.end and hole.end >= span.start:
                touched = True
                if hole.start > start:
                    left.append(Span(start, hole.start))
                start = max(start, hole.end)
        if start < span.end or not touched:
            left.append(Span(start, span.end))
    return tuple(left)


def counting_findings(case: Case) -> dict[str, tuple[Finding, ...]]:
    """Findings that count now, by inventory: of the newest version of each advisory, unless it is withdrawn."""
    newest = {version.advisory: version for version in sorted(case.advisories, key=lambda version: version.idx)}
    standing = {(version.advisory, version.document) for version in newest.values() if not version.withdrawn}
    found = dict[str, tuple[Finding, ...]]()
    for finding in case.findings:
        if (finding.advisory, finding.document) in standing:
            found[finding.inventory] = (*found.get(finding.inventory, ()), finding)
    return found


def find_presences(case: Case) -> tuple[Presence, ...]:
    """The presence of each host, by name."""
    findings = counting_findings(case)
    by_host = dict[str, list[Observation]]()
    for observation in case.observations:
        by_host.setdefault(observation.host, []).append(observation)
    known = _known_from(case)
    return tuple(
        _find_presence(case, _Known(host, known[host.host]), by_host.get(host.host, []), findings)
        for host in sorted(case.hosts, key=lambda host: host.host)
    )


def _find_presence(
    case: Case, known: _Known, observations: Sequence[Observation], findings: dict[str, tuple[Finding, ...]]
) -> Presence:
    host = known.host
    begin = min([known.since, *(min(one.since, _seen_until(one, case.now)) for one in observations)])
    by_environment = dict[str, list[Observation]]()
    for observation in observations:
        by_environment.setdefault(observation.environment, []).append(observation)
    judged = [
        _judge(_while_there(case, host, name, own), known, begin, own, findings)
        for name, own in sorted(by_environment.items())
    ]
    if not judged:
        judged = [_judge(case, known, begin, [], findings)]
    runs = tuple(run for environment in judged for run in environment.runs)
    held = merge_spans(run.outer for run in runs)
    unknown = _without(merge_spans(span for environment in judged for span in environment.unknown), held)
    return Presence(
        host=host.host,
        party=host.party,
        verdict="held" if runs else "unknown" if unknown else "not_held",
        begin=begin,
        runs=tuple(sorted(runs, key=lambda run: (run.inner, run.environment))),
        unknown=unknown,
        unobserved=merge_spans(span for environment in judged for span in environment.unobserved),
        environments=tuple(sorted(by_environment)),
        last=max((environment.last for environment in judged if environment.last is not None), default=None),
        entries=tuple(sorted({observation.idx for observation in observations})),
    )


def _while_there(case: Case, host: Host, environment: str, own: Sequence[Observation]) -> Case:
    """The case until an environment was retired, if nothing of that name was reported afterwards.

    What was not seen before that stays unknown. One that reports again is judged as if it had always been there.
    """
    gone = [one for one in case.retirements if (one.host, one.environment) == (host.host, environment)]
    if not gone or any(observation.idx > gone[-1].idx for observation in own) or gone[-1].t >= case.now:
        return case
    return msgspec.structs.replace(case, now=max(gone[-1].t, min(observation.since for observation in own)))


def _known_from(case: Case) -> dict[str, int]:
    """Since when each host can have had keys or data, and so since when silence of it counts."""
    known = {host.host: host.t for host in case.hosts}
    times = [(released.host, released.t) for released in case.key_releases]
    times += [(release.host, release.t) for release in case.releases if release.host is not None]
    for host, t in (*times, *case.first_opened):
        known[host] = min(t, known.get(host, t))
    return known


def _judge(
    case: Case,
    known: _Known,
    begin: int,
    observations: Sequence[Observation],
    findings: dict[str, tuple[Finding, ...]],
) -> _Environment:
    bad = [observation for observation in observations if observation.inventory in findings]
    clean = merge_spans(
        span
        for observation in observations
        if observation.readable and observation.inventory not in findings
        for span in _clean_evidence(known.host, observation, case.now)
    )
    # Where two reports contradict each other, the bad one is believed: the clean one bounds nothing there.
    clean = _without(clean, merge_spans(_bad_evidence(observation, case.now) for observation in bad))
    runs = _held_runs(case, begin, bad, clean, findings)
    seen = merge_spans((*clean, *(_bad_evidence(observation, case.now) for observation in bad)))
    unobserved, unknown = _unobserved(case, known, seen)
    return _Environment(runs, unknown, unobserved, seen[-1].end if seen else None)


def _clean_evidence(host: Host, observation: Observation, now: int) -> list[Span]:
    """When the segment shows the absence of the thing. A time after it was received shows nothing: that clock is wrong."""
    last = _seen_until(observation, now)
    end = min(observation.until, last)
    if observation.since > end:
        return []
    if observation.largest_gap <= tolerance(host, Span(observation.since, end)):
        return [Span(observation.since, end)]
    return [Span(at, at) for at in (observation.since, observation.until) if at <= last]


def _seen_until(observation: Observation, now: int) -> int:
    """No report has seen anything after it was received, whatever its clock says."""
    return now if observation.received is None else min(observation.received, now)


def _bad_evidence(observation: Observation, now: int) -> Span:
    last = _seen_until(observation, now)
    start, end = sorted((min(observation.since, last), min(observation.until, last)))
    return Span(start, end)


def _held_runs(
    case: Case,
    begin: int,
    bad: Sequence[Observation],
    clean: Sequence[Span],
    findings: dict[str, tuple[Finding, ...]],
) -> tuple[HeldRun, ...]:
    groups = list[tuple[Span, list[Observation]]]()
    for span, observation in sorted(((_bad_evidence(seen, case.now), seen) for seen in bad), key=lambda pair: pair[0]):
        if groups and not _clean_between(clean, groups[-1][0].end, span.start):
            inner, members = groups[-1]
            groups[-1] = (Span(inner.start, max(inner.end, span.end)), [*members, observation])
        else:
            groups.append((span, [observation]))
    return tuple(_held_run(case, begin, group, clean, findings) for group in groups)


def _clean_between(clean: Sequence[Span], after: int, before: int) -> bool:
    """Whether there is clean evidence from ``after`` to ``before``; overlapping spans have nothing between them."""
    at = _next_clean(clean, after)
    return at is not None and at < before


def _next_clean(clean: Sequence[Span], end: int) -> int | None:
    """Where clean evidence begins after a bad span that ends at ``end``; ``clean`` is merged and leaves bad spans out."""
    place = bisect_left(clean, end, key=lambda span: span.start)
    return clean[place].start if place < len(clean) else None


def _last_clean(clean: Sequence[Span], start: int) -> int | None:
    """Where clean evidence ends before a bad span that begins at ``start``."""
    place = bisect_right(clean, start, key=lambda span: span.end)
    return clean[place - 1].end if place else None


def _held_run(
    case: Case,
    begin: int,
    group: tuple[Span, list[Observation]],
    clean: Sequence[Span],
    findings: dict[str, tuple[Finding, ...]],
) -> HeldRun:
    inner, members = group
    before, after = _last_clean(clean, inner.start), _next_clean(clean, inner.end)
    start = begin if before is None else before
    early = case.window is not None and inner.start < case.window.start
    if case.window is not None and not early:
        start = max(start, case.window.start)
    named = [finding for inventory in {seen.inventory for seen in members} for finding in findings[inventory]]
    return HeldRun(
        environment=members[0].environment,
        inner=inner,
        outer=Span(start, case.now if after is None else after),
        things=tuple(sorted({finding.what for finding in named})),
        entries=tuple(sorted({*(seen.idx for seen in members), *(finding.idx for finding in named)})),
        seen_before=before is not None,
        seen_after=after is not None,
        early=early,
        path_only=all(finding.match in WEAK_MATCHES for finding in named),
    )


def _unobserved(case: Case, known: _Known, seen: Sequence[Span]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """All unobserved spans, and of them the parts that may hide the thing."""
    host, start = known.host, min(known.since, case.now)
    if not seen:
        # Nothing was ever seen: unknown however short the time, since there is no evidence to be near to.
        begin = start if case.window is None else min(max(start, case.window.start), case.now)
        return (Span(start, case.now),), (Span(begin, case.now),)
    unobserved, unknown = list[Span](), list[Span]()
    edges = [(None, seen[0].start), *((a.end, b.start) for a, b in pairwise(seen))]
    for after, before in (*edges, (seen[-1].end, case.now)):
        gap = Span(start if after is None else max(after, start), before)
        whole = Span(gap.start if after is None else min(after, gap.end), gap.end)
        if gap.start >= gap.end or whole.end - whole.start <= tolerance(host, whole):
            continue
        unobserved.append(gap)
        if case.window is None:
            unknown.append(gap)
            continue
        # Before its first observation a host may have held anything for any time: that gap began before the window.
        clipped = Span(max(gap.start, case.window.start), gap.end)
        if clipped.start < clipped.end and (after is None or after <= case.window.end):
            unknown.append(clipped)
    return tuple(unobserved), tuple(unknown)
