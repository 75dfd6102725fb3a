"""Reach: by which ways a thing on a host could get at a release. Pure; ``docs/spec/exposure.md`` §4.

For each pair of a host and a release that it opened, sealed or could open, the ways on record into the times in
which the host held the thing (verdict *exposed*) or may have held it unseen (verdict *unknown*):

1. **opened**: keys were released to the host in that time;
2. **lease**: keys were released before, and their lease ran into that time;
3. **sealed**: the release was sealed on the host in that time, so its plaintext was there;
4. **credential**: a grant by which the host could open the release was usable in that time. It counts until the
   grant ended or a hold stopped it, whatever the thing did, since a credential can be copied;
5. **lateral**: a credential that was noted to be in reach in that time opens the release, or its dataset. What lies
   behind another host that such a credential opens is only possible, and so *unknown* (``lateral``).

A pair without such a way has the verdict of its host: *held* if the host held the thing, *unknown* if it may have,
*not held* if it was looked at throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from safehold.exposure.credentials import Rights, Usable
from safehold.exposure.facts import Case, Grant, Host, KeyRelease, Release, Span, Touch
from safehold.exposure.lateral import Target, find_targets, opens_release, opens_through_host
from safehold.exposure.presence import Presence
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, list_words, span_words, time_words

__all__ = ["Pair", "Way", "WayKind", "find_pairs"]

_MOST_TOLD: Final = 5

WayKind = Literal["opened", "lease", "sealed", "credential", "lateral"]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way from the thing to a release: in words, with its entries, from ``start`` until ``end`` (µs UTC).

    ``key_releases``: how many the ledger shows in that time (for a credential this may be 0).
    """

    kind: WayKind
    words: str
    entries: tuple[int, ...]
    start: int
    end: int
    key_releases: int


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A host and a release that it could get at. ``possible`` are the ways if the thing was there unseen."""

    host: str
    release: str
    verdict: Verdict
    words: str
    ways: tuple[Way, ...] = ()
    possible: tuple[Way, ...] = ()
    entries: tuple[int, ...] = ()


class _Meeting(msgspec.Struct, frozen=True):
    """A host and a release with everything on record between them."""

    host: Host
    release: Release
    key_releases: tuple[KeyRelease, ...]
    grants: tuple[tuple[Grant, tuple[Usable, ...]], ...]
    touches: tuple[Touch, ...] | None = None
    lateral: tuple[Way, ...] = ()
    lateral_possible: tuple[Way, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether anything is between the two at all."""
        return bool(
            self.key_releases
            or self.grants
            or self.touches
            or self.sealed_here
            or self.lateral
            or self.lateral_possible
        )

    @property
    def sealed_here(self) -> bool:
        return self.release.host == self.host.host


def find_pairs(case: Case, presences: Iterable[Presence]) -> tuple[Pair, ...]:
    """All pairs in which there is reach at all, by host and release."""
    hosts = {host.host: host for host in case.hosts}
    opened = dict[tuple[str, str], list[KeyRelease]]()
    for released in sorted(case.key_releases, key=lambda released: (released.t, released.idx)):
        opened.setdefault((released.host, released.release), []).append(released)
    touched = dict[tuple[str, str], list[Touch]]()
    for touch in case.touches or ():
        touched.setdefault((touch.host, touch.release), []).append(touch)
    met = dict[str, list[str]]()
    for name, release_id in (*opened, *touched, *case.opened_pairs):
        met.setdefault(name, []).append(release_id)
    book, ever, pairs = _Book(case), set(case.opened_pairs), list[Pair]()
    for presence in presences:
        if case.touches is not None and presence.verdict == "not_held":
            continue  # among so many, pairs that cannot change a verdict are left out
        host = hosts[presence.host]
        held = find_targets(case, host.host, presence.held) if presence.held else ()
        unseen = find_targets(case, host.host, presence.unknown) if presence.unknown else ()
        granted = book.rights.of_host(host)
        for release in book.candidates(host, granted, met.get(host.host, ()), whole=bool(held or unseen)):
            grants = book.rights.usable(host, release, granted.get(release.dataset, ()))
            ways, possible = _lateral(case, hosts, release, held)
            beside = _lateral(case, hosts, release, unseen) if unseen else ((), ())
            key = (host.host, release.release)
            meeting = _Meeting(
                host=host, release=release, key_releases=tuple(opened.get(key, ())), grants=grants,
                touches=None if case.touches is None else tuple(touched.get(key, ())), lateral=ways,
                lateral_possible=(*possible, *beside[0], *beside[1]),
            )  # fmt: skip
            if meeting.is_one or key in ever:
                pairs.append(_judge(meeting, presence))
    return tuple(sorted(pairs, key=lambda pair: (pair.host, pair.release)))


class _Book:
    """The releases of a case by dataset, by the host that sealed them and by digest."""

    def __init__(self, case: Case) -> None:
        self.rights = Rights(case)
        self._all = case.releases
        self._by_dataset = dict[str, list[Release]]()
        self._by_host = dict[str, list[Release]]()
        self._by_digest = {release.release: release for release in case.releases}
        for release in case.releases:
            self._by_dataset.setdefault(release.dataset, []).append(release)
            if release.host is not None:
                self._by_host.setdefault(release.host, []).append(release)

    def candidates(
        self, host: Host, datasets: Iterable[str], opened: Iterable[str], *, whole: bool
    ) -> Iterable[Release]:
        """Releases that may have to do with a host: granted, sealed there, opened; all where credentials lead further."""
        if whole:
            return self._all
        found = [release for dataset in datasets for release in self._by_dataset.get(dataset, ())]
        found += self._by_host.get(host.host, [])
        found += [self._by_digest[release] for release in opened]
        return {release.release: release for release in found}.values()


def _judge(meeting: _Meeting, presence: Presence) -> Pair:
    ways = _find_ways(meeting, presence.held, held=True) + meeting.lateral
    known = {(way.kind, way.entries) for way in ways}
    maybe = _find_ways(meeting, presence.unknown, held=False) + meeting.lateral_possible
    possible = tuple(way for way in maybe if (way.kind, way.entries) not in known)
    entries = {entry for way in (*ways, *possible) for entry in way.entries}
    if ways:
        verdict: Verdict = "exposed"
        words = _ways_words(ways)
    elif possible:
        verdict = "unknown"
        alone = presence.held and all(way.kind == "lateral" for way in possible)
        words = ("" if alone else "if it was there unseen: ") + _ways_words(possible)
    else:
        verdict = presence.verdict
        words, entries = _no_way(meeting, presence)
    return Pair(
        host=meeting.host.host,
        release=meeting.release.release,
        verdict=verdict,
        words=words,
        ways=ways,
        possible=possible,
        entries=tuple(sorted(entries)),
    )


def _lateral(
    case: Case, hosts: dict[str, Host], release: Release, targets: Sequence[Target]
) -> tuple[tuple[Way, ...], tuple[Way, ...]]:
    """Ways by credentials that were noted: those that open the release, and those that lead to a host that could."""
    ways, possible = list[Way](), list[Way]()
    for target in targets:
        direct = opens_release(target, release)
        behind = "" if direct else opens_through_host(case, target, hosts, release)
        if direct or behind:
            words = f"by credentials in reach: {target.path}" + (f"; {behind}" if behind else "")
            start = max(target.start, release.t)
            way = Way(
                kind="lateral", words=words, entries=target.entries, start=start,
                end=min(target.end, max(case.now, start)), key_releases=0,
            )  # fmt: skip
            (ways if direct and target.direct else possible).append(way)
    return tuple(ways), tuple(possible)


def _ways_words(ways: Sequence[Way]) -> str:
    """The ways in words; of many key releases the first and the last are told, and how many there are."""
    said = list[str]()
    for kind in ("opened", "lease", "sealed", "credential", "lateral"):
        alike = [way for way in ways if way.kind == kind]
        if kind in ("opened", "lease") and len(alike) > _MOST_TOLD:
            said.append(
                f"{count_words(len(alike), 'such key release')}: first {alike[0].words}; last {alike[-1].words}"
            )
        else:
            said += [way.words for way in alike]
    return "; ".join(said)


def _within(at: int, spans: Sequence[Span]) -> bool:
    return any(span.start <= at <= span.end for span in spans)


def _find_ways(meeting: _Meeting, spans: Sequence[Span], *, held: bool) -> tuple[Way, ...]:
    ways = list[Way]()
    for touch in meeting.touches or ():
        ways += _summed(touch) if touch.held == held else ()
    for released in meeting.key_releases if meeting.touches is None else ():
        if _within(released.t, spans):
            ways.append(_opened(released))
        elif any(released.t < span.start < released.until for span in spans):
            ways.append(_leased(released))
    if meeting.sealed_here and _within(meeting.release.t, spans):
        ways.append(_sealed(meeting.release))
    for grant, usable in meeting.grants:
        for time in usable:
            touched = [span for span in spans if time.start <= span.end and time.end > span.start]
            if touched and meeting.release.t < time.end:
                ways.append(_credential(meeting, grant, time, touched))
    return tuple(ways)


def _summed(touch: Touch) -> list[Way]:
    """Key releases of which there are too many to tell all: the first one by one, then how many more, and the last."""
    ways = list[Way]()
    for one in touch.told:
        words = f"opened by key release #{one.idx} of {time_words(one.t)}"
        if touch.kind == "lease":
            words = f"the lease of key release #{one.idx} of {time_words(one.t)} was still alive (until {time_words(one.until)})"
        ways.append(Way(kind=touch.kind, words=words, entries=(one.idx,), start=one.t, end=one.until, key_releases=1))
    more, last = touch.count - len(touch.told), touch.last
    if more > 0:
        words = f"{count_words(more, 'more key release')}, the last #{last.idx} of {time_words(last.t)}"
        ways.append(
            Way(kind=touch.kind, words=words, entries=(last.idx,), start=last.t, end=last.until, key_releases=more)
        )
    return ways


def _opened(released: KeyRelease) -> Way:
    groups = f", {list_words(released.groups)}" if released.groups else ""
    return Way(
        kind="opened",
        words=f"opened by key release #{released.idx} of {time_words(released.t)}"
        f" ({count_words(released.parts, 'part')}{groups})",
        entries=(released.idx,),
        start=released.t,
        end=released.until,
        key_releases=1,
    )


def _leased(released: KeyRelease) -> Way:
    return Way(
        kind="lease",
        words=f"the lease of key release #{released.idx} of {time_words(released.t)}"
        f" was still alive (until {time_words(released.until)})",
        entries=(released.idx,),
        start=released.t,
        end=released.until,
        key_releases=1,
    )


def _sealed(release: Release) -> Way:
    return Way(
        kind="sealed",
        words=f"sealed on this host at {time_words(release.t)}: its plaintext was there",
        entries=() if release.idx is None else (release.idx,),
        start=release.t,
        end=release.t,
        key_releases=0,
    )


def _own_end(grant: Grant) -> str:
    return "its own end" if grant.revoked is None else f"revoked by #{grant.revoked}"


def _credential(meeting: _Meeting, grant: Grant, time: Usable, touched: Sequence[Span]) -> Way:
    start = max(time.start, meeting.release.t, min(span.start for span in touched))
    by_it = [
        released
        for released in meeting.key_releases
        if released.grant == grant.grant and start <= released.t <= time.end
    ]
    late = sum(released.t > max(span.end for span in touched) for released in by_it)
    if by_it:
        used = f"{count_words(len(by_it), 'key release')} by it in that time"
        used += f", {late} of them after the host was clean, with credentials that had been in reach" if late else ""
    else:
        before = any(released.t < start for released in meeting.key_releases)
        used = "the ledger shows no key released by it in that time; the host had " + (
            "opened it before" if before else "never opened it before"
        )
    ended = f"hold #{time.hold.placed_idx} was placed" if time.hold else _own_end(grant)
    hold: tuple[int, ...] = () if time.hold is None else (time.hold.placed_idx,)
    hold += () if time.hold is not None or grant.revoked is None else (grant.revoked,)
    return Way(
        kind="credential",
        words=f"grant {grant.grant} #{grant.idx} was in reach, usable until {time_words(time.end)} ({ended}): {used}",
        entries=(grant.idx, *hold, *(released.idx for released in by_it)),
        start=start,
        end=time.end,
        key_releases=len(by_it),
    )


_TIMES: dict[Verdict, str] = {
    "held": "no way on record from this host to it while the thing could be there",
    "unknown": "the host was not observed; but if the thing was there, no way on record leads to this release",
    "not_held": "the host was observed throughout and never held the thing",
    "exposed": "",  # never asked for: such a pair has ways
}


def _no_way(meeting: _Meeting, presence: Presence) -> tuple[str, set[int]]:
    """Why a pair is not exposed, with the entries that show it."""
    entries, reasons = set[int](), list[str]()
    spans = presence.held or presence.unknown
    said = _TIMES[presence.verdict]
    if presence.verdict == "not_held" or not spans:
        return said, {released.idx for released in meeting.key_releases}
    first = spans[0].start
    said += f" ({list_words([span_words(span) for span in spans], 3)})"
    for released in meeting.key_releases:
        entries.add(released.idx)
    if meeting.key_releases:
        newest = [released for released in meeting.key_releases if released.t < first][-1:]
        for released in newest or meeting.key_releases[:1]:
            when = f"its lease ended {time_words(released.until)}, before" if newest else "after"
            reasons.append(f"not exposed by key release #{released.idx} of {time_words(released.t)}: {when}")
    if meeting.sealed_here:
        when = "before" if meeting.release.t < first else "after"
        entries.update(() if meeting.release.idx is None else (meeting.release.idx,))
        reasons.append(
            f"sealed there {time_words(meeting.release.t)}, {when}; whether plaintext stayed there is not recorded"
        )
    for grant, usable in meeting.grants:
        entries.add(grant.idx)
        reasons.append(f"grant {grant.grant} #{grant.idx} {_not_usable(grant, usable, first)}")
    return "; ".join((said, *reasons)), entries


def _not_usable(grant: Grant, usable: Sequence[Usable], first: int) -> str:
    earlier = [time for time in usable if time.end <= first]
    if earlier:
        hold = earlier[-1].hold
        return f"was stopped by hold #{hold.placed_idx} before" if hold else f"ended {time_words(grant.until)}, before"
    return (
        f"could be used only from {time_words(usable[0].start)}, after" if usable else "was under a hold all its life"
    )
