"""The judgement against a slow twin that knows no intervals: it asks every moment, on a grid, what was so.

All times are even seconds; the twin looks at every whole second (a bound or a moment between two bounds), and where
it must see *between* two moments it looks at half seconds. It shares no code with the room but the value structs.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.exposure.facts import (
    AdvisoryVersion,
    Case,
    Finding,
    Grant,
    Hold,
    Host,
    KeyRelease,
    Observation,
    Release,
    Span,
)
from safehold.exposure.judgement import judge

SECOND = 1_000_000
NOW = 48
GRID = [at / 2 for at in range(2 * NOW + 1)]
"""Every half second: whole ones are moments, the others lie between two."""
HOSTS = ("quill-works/ci-1", "north-lab/trainer-1")
RELEASES = ("r-1", "r-2")

times = st.integers(0, NOW // 2).map(lambda half: 2 * half)


@st.composite
def observations(draw, host: str) -> list[Observation]:
    made = []
    for _ in range(draw(st.integers(0, 6))):
        since = draw(times)
        length = draw(st.sampled_from([0, 0, 2, 6, 10, 20]))
        made.append(
            Observation(
                idx=0,
                host=host,
                environment=draw(st.sampled_from(["a", "a", "b"])),
                inventory=draw(st.sampled_from(["clean", "clean", "bad", "other"])),
                since=since * SECOND,
                until=(since + length) * SECOND,
                largest_gap=draw(st.sampled_from([0, 2, min(length, 20)])) * SECOND,
                readable=draw(st.sampled_from([True, True, True, True, False])),
            )
        )
    return made


@st.composite
def cases(draw) -> Case:
    hosts = tuple(
        Host(host=host, party=host.partition("/")[0], expected_every=draw(st.sampled_from([1, 2])), idx=0, t=t * SECOND)
        for host in HOSTS
        for t in [draw(st.sampled_from([0, 0, 0, 10, 30]))]
    )
    seen = [one for host in HOSTS for one in draw(observations(host))]
    releases = tuple(
        Release(
            release=release,
            dataset="d",
            version=place,
            party="quill-works",
            host=draw(st.sampled_from([None, *HOSTS])),
            idx=50 + place,
            t=draw(times) * SECOND,
        )
        for place, release in enumerate(RELEASES)
    )
    window = draw(st.one_of(st.none(), st.tuples(times, times).map(sorted)))
    grants = []
    for place in range(draw(st.integers(0, 3))):
        start, end = sorted(draw(st.tuples(times, times)))
        host = draw(st.sampled_from([None, *HOSTS]))
        grants.append(
            Grant(
                grant=f"g-{place}",
                party=host.partition("/")[0] if host else draw(st.sampled_from(["quill-works", "north-lab"])),
                host=host,
                dataset=draw(st.sampled_from(["d", "d", "elsewhere"])),
                not_before=start * SECOND,
                until=end * SECOND,
                idx=60 + place,
                t=draw(st.sampled_from([start, 0, end])) * SECOND,
            )
        )
    released = []
    for place in range(draw(st.integers(0, 3))):
        at, host = draw(times), draw(st.sampled_from(HOSTS))
        released.append(
            KeyRelease(
                idx=100 + place,
                t=at * SECOND,
                release=draw(st.sampled_from(RELEASES)),
                dataset="d",
                party=host.partition("/")[0],
                host=host,
                grant="g-0",
                until=(at + draw(st.sampled_from([2, 6, 20]))) * SECOND,
            )
        )
    holds = []
    for place in range(draw(st.integers(0, 2))):
        start, end = sorted(draw(st.tuples(times, times)))
        kind, subject = draw(
            st.sampled_from(
                [
                    ("party", "quill-works"),
                    ("party", "north-lab"),
                    ("host", HOSTS[0]),
                    ("dataset", "d"),
                    ("release", "r-1"),
                    ("grant", "g-0"),
                    ("member", "quill-works/m-0"),
                ]
            )
        )
        lifted = draw(st.booleans())
        holds.append(
            Hold(
                hold=f"h-{place}",
                subject_kind=kind,
                subject_id=subject,
                placed_idx=200 + place,
                placed_t=start * SECOND,
                lifted_idx=300 + place if lifted else None,
                lifted_t=end * SECOND if lifted else None,
            )
        )
    versions = (
        AdvisoryVersion(idx=1, advisory="A-1", document="old"),
        AdvisoryVersion(idx=2, advisory="A-1", document="new", withdrawn=draw(st.sampled_from([False] * 5 + [True]))),
    )
    return Case(
        now=NOW * SECOND,
        incident=("A-1",),
        advisories=versions,
        window=None if window is None else Span(window[0] * SECOND, window[1] * SECOND),
        findings=(
            Finding(idx=3, advisory="A-1", document="new", inventory="bad", name="litellm", version="1.82.8"),
            Finding(idx=4, advisory="A-1", document="old", inventory="other", name="litellm", version="1.82.6"),
        ),
        hosts=hosts,
        observations=tuple(seen),
        releases=releases,
        grants=tuple(grants),
        key_releases=tuple(released),
        holds=tuple(holds),
    )


# --- the slow twin -----------------------------------------------------------------------------------


def is_bad(case: Case, inventory: str) -> bool:
    """The one finding that counts is of the newer document, unless that one is withdrawn."""
    return inventory == "bad" and not case.advisories[1].withdrawn


class TwinEnvironment:
    """What was seen of one environment at every quarter of a second: bad, clean or nothing."""

    def __init__(self, case: Case, observations: list[Observation], allowed: float) -> None:
        self.seen = [self.look(case, observations, place / 4, allowed) for place in range(4 * NOW + 1)]

    @staticmethod
    def look(case: Case, observations: list[Observation], at: float, allowed: float) -> str:
        seen = ""
        for one in observations:
            since, until = one.since / SECOND, one.until / SECOND
            dense = one.largest_gap / SECOND <= allowed
            if is_bad(case, one.inventory):
                if since <= at <= until:
                    return "bad"
            elif one.readable and ((since <= at <= until) if dense else at in (since, until)):
                seen = "clean"
        return seen


class TwinHost:
    """Every question about one host, answered by looking at moments (in seconds, halves too)."""

    def __init__(self, case: Case, host: Host) -> None:
        self.case, self.host = case, host
        self.allowed = 3 * host.expected_every
        self.window = None if case.window is None else (case.window.start / SECOND, case.window.end / SECOND)
        own = [one for one in case.observations if one.host == host.host]
        names = {one.environment for one in own} or {"none"}
        self.environments = [
            TwinEnvironment(case, [one for one in own if one.environment == name], self.allowed) for name in names
        ]
        moments = [host.t, *(one.t for one in case.key_releases if one.host == host.host)]
        moments += [one.t for one in case.releases if one.host == host.host]
        self.known = min(moments) / SECOND
        self.begin = min([self.known, *(one.since / SECOND for one in own)])
        self.held = {at for at in GRID if any(self.may_be_held(one.seen, at) for one in self.environments)}
        inside = {at for at in GRID if any(self.is_unknown(one.seen, at) for one in self.environments)}
        self.unknown = {at for at in GRID if {at, at - 0.5, at + 0.5} & inside}
        never = any(not any(one.seen) for one in self.environments)
        self.verdict = "held" if self.held else "unknown" if inside or never else "not_held"

    def may_be_held(self, seen: list[str], at: float) -> bool:
        """A bad moment can be reached from here without meeting a clean one; the window bounds what was not seen."""
        start = int(at * 4)
        if seen[start] == "bad":
            return True
        for step in (-1, 1) if at >= self.begin else ():
            place = start + step
            while 0 <= place < len(seen) and not seen[place]:
                place += step
            if 0 <= place < len(seen) and seen[place] == "bad":
                return self.window is None or at >= self.window[0] or self.seen_before_window(seen, place)
        return False

    def seen_before_window(self, seen: list[str], place: int) -> bool:
        """Walking back from a bad moment until a clean one, was it bad before the window?"""
        while place >= 0 and seen[place] != "clean":
            if seen[place] == "bad" and place / 4 < self.window[0]:
                return True
            place -= 1
        return False

    def is_unknown(self, seen: list[str], at: float) -> bool:
        """A half second within a gap: how far is it to the evidence on both sides, and when did the gap begin?"""
        if at == int(at) or seen[int(at * 4)] or at in self.held:
            return False
        before = next((place / 4 for place in range(int(at * 4), -1, -1) if seen[place]), None)
        after = next((place / 4 for place in range(int(at * 4), len(seen)) if seen[place]), None)
        if at < self.known:
            return False
        start, end = self.known if before is None else before, NOW if after is None else after
        if (before is not None or after is not None) and end - start <= self.allowed:
            return False
        return self.window is None or (at >= self.window[0] and (before is None or before <= self.window[1]))


def usable(case: Case, host: Host, release: Release, grant: Grant, at: float) -> bool:
    if grant.dataset != release.dataset or not max(grant.not_before, grant.t) <= at * SECOND < grant.until:
        return False
    if (grant.host or host.host) != host.host or (grant.host is None and grant.party != host.party):
        return False
    stopped = {
        ("party", host.party),
        ("party", release.party),
        ("host", host.host),
        ("dataset", release.dataset),
        ("release", release.release),
        ("grant", grant.grant),
    }
    return not any(
        (hold.subject_kind, hold.subject_id) in stopped
        and hold.placed_t <= at * SECOND
        and (hold.lifted_t is None or at * SECOND < hold.lifted_t)
        for hold in case.holds
    )


def reaches(case: Case, twin: TwinHost, release: Release, moments: set[float]) -> bool:
    """Whether any way leads from one of these moments to the release."""
    for released in case.key_releases:
        if (released.host, released.release) == (twin.host.host, release.release):
            start, end = released.t / SECOND, released.until / SECOND
            if any(start <= at < end for at in moments):
                return True
    if release.host == twin.host.host and release.t / SECOND in moments:
        return True
    for grant in case.grants:
        alive = {at for at in GRID if usable(case, twin.host, release, grant, at)}
        for at in moments & alive:
            place = at
            while place in alive:
                if release.t <= place * SECOND:
                    return True
                place += 0.5
    return False


def twin_pairs(case: Case, twins: dict[str, TwinHost]) -> dict[tuple[str, str], str]:
    verdicts = {}
    for twin in twins.values():
        for release in case.releases:
            opened = any((k.host, k.release) == (twin.host.host, release.release) for k in case.key_releases)
            granted = any(
                grant.dataset == release.dataset
                and (grant.host == twin.host.host if grant.host else grant.party == twin.host.party)
                and any(max(grant.not_before, grant.t, release.t) <= at * SECOND < grant.until for at in GRID)
                for grant in case.grants
            )
            if not (opened or granted or release.host == twin.host.host):
                continue
            verdict = twin.verdict
            if reaches(case, twin, release, twin.held):
                verdict = "exposed"
            elif reaches(case, twin, release, twin.unknown):
                verdict = "unknown"
            verdicts[twin.host.host, release.release] = verdict
    return verdicts


def compare(case: Case) -> None:
    judgement = judge(case)
    twins = {host.host: TwinHost(case, host) for host in case.hosts}
    assert {one.host: one.verdict for one in judgement.presences} == {
        name: twin.verdict for name, twin in twins.items()
    }
    for presence in judgement.presences:
        assert grid_of(presence.held) == twins[presence.host].held
    assert {(pair.host, pair.release): pair.verdict for pair in judgement.pairs} == twin_pairs(case, twins)


def grid_of(spans: tuple[Span, ...]) -> set[float]:
    return {at for at in GRID if any(span.start <= at * SECOND <= span.end for span in spans)}


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_judgement_is_that_of_the_slow_twin(case):
    compare(case)


WORSE = ("exposed", "unknown", "held", "not_held")


@settings(max_examples=150, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_late_shuffled_and_repeated_reports_change_nothing(case, random):
    """Order of arrival is not order of events: entries get other places, and some arrive twice."""
    seen = [*case.observations, *case.observations[: len(case.observations) // 2]]
    random.shuffle(seen)
    changed = Case(**{name: getattr(case, name) for name in case.__struct_fields__} | {"observations": tuple(seen)})
    assert verdicts(judge(changed)) == verdicts(judge(case))


@settings(max_examples=150, deadline=None)
@given(cases(), st.data())
def test_less_observation_never_makes_a_host_look_cleaner(case, data):
    """Whatever clean report is lost: what was not *not held* before does not become it."""
    clean = [one for one in case.observations if not is_bad(case, one.inventory)]
    kept = [one for one in case.observations if is_bad(case, one.inventory) or data.draw(st.booleans())]
    if len(kept) == len(case.observations) or not clean:
        return
    fewer = Case(**{name: getattr(case, name) for name in case.__struct_fields__} | {"observations": tuple(kept)})
    before = {one.host: one.verdict for one in judge(case).presences}
    for one in judge(fewer).presences:
        environments = {o.environment for o in case.observations if o.host == one.host}
        left = {o.environment for o in kept if o.host == one.host}
        if left == environments:  # an environment that never reported is not known to exist
            assert WORSE.index(one.verdict) <= WORSE.index(before[one.host])  # unknown stays, held stays


@settings(max_examples=150, deadline=None)
@given(cases())
def test_unknown_is_never_reported_as_not_held(case):
    judgement = judge(case)
    unseen = {one.host for one in judgement.presences if one.unknown}
    assert all(one.verdict != "not_held" for one in judgement.presences if one.host in unseen)
    assert all(pair.verdict != "not_held" for pair in judgement.pairs if pair.host in unseen)
    for judged in judgement.releases:
        met = [pair.verdict for pair in judgement.pairs if pair.release == judged.release.release]
        assert met.count("unknown") == 0 or judged.verdict in ("unknown", "exposed")
        assert all(WORSE.index(judged.verdict) <= WORSE.index(verdict) for verdict in met)


def verdicts(judgement) -> tuple:
    return (
        [(one.host, one.verdict, one.held, one.unknown) for one in judgement.presences],
        [(pair.host, pair.release, pair.verdict, pair.words) for pair in judgement.pairs],
        [(one.release.release, one.verdict) for one in judgement.releases],
    )
