"""A slow twin of exposure, which answers from the list of entries alone.

It shares no code with the product but the statements: no SQL, no spans. It looks at every moment of a grid (whole ticks
are moments, the quarters between them lie between two) and asks what was so.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safehold.exposure.as_of import view_as_of
from safehold.exposure.case import load_case
from safehold.exposure.report import Report, answer_all
from safehold.ledger.log import Draft, Log
from safehold.model import statements as s
from safehold.model.ids import sha256_digest
from safehold.model.statement import Statement
from tests.exposure_maker_kit import BLIND, NAMED, NOW, TICK, Maker
from tests.ledger_kit import open_log


class Twin:
    """Answers from ``entries`` (statements in their order) as of ``now`` ticks; ``payloads`` by digest."""

    def __init__(self, entries: Sequence[Statement], payloads: Iterable[bytes], advisory: str, now: int = NOW) -> None:
        self.entries = list(enumerate(entries))
        self.payloads = {sha256_digest(body): body for body in payloads}
        self.now = now
        self.incident = self._incident(advisory)
        newest: dict[str, Any] = {}
        for _, one in self.of(s.AdvisoryRecorded):
            if one.advisory in self.incident:
                newest[one.advisory] = one
        self.standing = [one for one in newest.values() if not one.withdrawn]
        documents = {(one.advisory, one.document) for one in self.standing}
        counting = [one for _, one in self.of(s.FindingRecorded) if (one.advisory, one.document) in documents]
        self.bad = {one.inventory for one in counting}
        ends = [end for one in self.standing for claim in one.windows for end in (claim.start, claim.end)]
        self.window = (min(ends) / TICK, max(ends) / TICK) if ends else None
        self.hosts = self._hosts()
        self.twins = {host: TwinHost(self, host) for host in self.hosts}
        self.sealed = {one.release: (index, one) for index, one in self.of(s.ReleaseSealed)}
        self.pairs = self._pairs()
        self.verdicts = {release: self._verdict(release) for release in self.release_ids()}

    def of(self, kind: type[Statement]) -> list[tuple[int, Any]]:
        return [(index, one) for index, one in self.entries if isinstance(one, kind)]

    def _incident(self, asked: str) -> set[str]:
        group = {asked}
        for _ in range(20):
            for _, one in self.of(s.AdvisoryRecorded):
                names = {one.advisory, *one.aliases, *one.joined}
                if names & group:
                    group |= names
        return group

    def _hosts(self) -> list[str]:
        named = [one.host for _, one in self.of(s.HostRegistered)]
        named += [one.host for _, one in self.of(s.KeyReleased)]
        named += [one.host for kind in (s.InventoryRecorded, s.InventoryConfirmed) for _, one in self.of(kind)]
        named += [one.host for _, one in self.of(s.ReleaseSealed) if one.host is not None]
        return sorted(set(named))

    def release_ids(self) -> list[str]:
        return sorted({*self.sealed, *(one.release for _, one in self.of(s.KeyReleased))})

    def release(self, release: str) -> tuple[str, str, str | None, float]:
        """Dataset, party, host, time (ticks) of a release; of one whose seal is not here, what a key release says."""
        if release in self.sealed:
            one = self.sealed[release][1]
            return one.dataset, one.party, one.host, one.t / TICK
        first = next(one for _, one in self.of(s.KeyReleased) if one.release == release)
        return first.dataset, first.dataset.partition("/")[0], None, first.t / TICK

    def _pairs(self) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for host in self.hosts:
            for release in self.release_ids():
                verdict = self.twins[host].pair(release)
                if verdict:
                    found[host, release] = verdict
        return found

    def _verdict(self, release: str) -> str:
        met = [verdict for (_, one), verdict in self.pairs.items() if one == release]
        _, _, host, t = self.release(release)
        if host is None and not (self.window and t < self.window[0]):
            met.append("unknown")
        return min(met, key=["exposed", "unknown", "held", "not_held"].index, default="not_held")

    def stopped(self, subjects: set[tuple[str, str]], at: float) -> bool:
        """Whether a hold on one of the subjects was in force."""
        for placed, one in self.of(s.HoldPlaced):
            lifted = [lift.t for index, lift in self.of(s.HoldLifted) if lift.hold == one.hold and index > placed]
            mine = (one.subject.kind, one.subject.id) in subjects and one.t <= at * TICK
            if mine and (not lifted or at * TICK < lifted[-1]):
                return True
        return False

    def replies(self) -> dict[int, str]:
        """The replies that a plain reading of the entries gives."""
        verdicts = [one.verdict for one in self.twins.values()]
        affected = [one for one, verdict in self.verdicts.items() if verdict in ("exposed", "unknown")]
        found = {1: "yes" if "held" in verdicts else "unknown" if "unknown" in verdicts or not verdicts else "no"}
        worst = set(self.verdicts.values())
        found[14] = "yes" if "exposed" in worst else "unknown" if "unknown" in worst else "no"
        found[16] = self._altered(affected)
        found[17] = self._used(affected)
        if not affected:
            found[18] = "no"
        else:
            found[18] = (
                "yes" if all(one in self.sealed and self.sealed[one][1].people for one in affected) else "unknown"
            )
        found[20] = self._stopped()
        found[2] = self._ran()
        found[21] = "unknown"
        return found

    def _altered(self, affected: list[str]) -> str:
        checks = [one for _, one in self.of(s.ReleaseChecked)]
        if any(one.release in affected and one.outcome == "altered" for one in checks):
            return "yes"
        moments = [at for twin in self.twins.values() for at in (*twin.held, *twin.unknown)]
        ended = max(moments, default=0)
        intact = {one.release for one in checks if one.outcome == "intact" and one.at >= ended * TICK}
        return "no" if set(affected) <= intact else "unknown"

    def _used(self, affected: list[str]) -> str:
        if not affected:
            return "no"
        runs = [one for _, one in self.of(s.RunDeclared)]
        for _, key in self.of(s.KeyReleased):
            declared = any(run.party == key.party and key.release in run.releases for run in runs)
            if key.release in affected and key.purpose == "training" and not declared:
                return "unknown"
        used = any(set(run.releases) & set(affected) for run in runs)
        derived = any(one.parent in affected for _, one in self.of(s.ReleaseSealed))
        return "yes" if used or derived else "no"

    def _stopped(self) -> str:
        held = [one for one in self.twins.values() if one.verdict == "held"]
        unknown = [one for one in self.twins.values() if one.verdict == "unknown"]
        free = {
            one.host for one in (*held, *unknown)
            if not self.stopped({("party", one.host.partition("/")[0]), ("host", one.host)}, self.now + 1000)
        }  # fmt: skip
        if held:
            return "no" if any(one.host in free for one in held) else "yes"
        if any(one.host in free for one in unknown) or not self.hosts:
            return "unknown"
        return "yes"

    def _ran(self) -> str:
        rows = [
            (row, one)
            for _, one in self.of(s.EvidenceRecorded)
            for row in json.loads(self.payloads[one.rows])
            if not self.window or row["t"] >= self.window[0] * TICK
        ]
        touched = [one for one in self.twins.values() if one.verdict in ("held", "unknown")]
        quiet = []
        for twin in touched:
            moments = twin.held | twin.unknown
            for row, _ in rows:
                thing = bool(self.standing) and f"{NAMED}==1.82.8" in row["things"]
                if row.get("host") == twin.host and row["t"] / TICK in moments and thing:
                    return "yes"
            quiet.append(all(self._complete(twin.host, at) for at in moments))
        if not self.hosts or not all(quiet):
            return "unknown"
        return "no"

    def _complete(self, host: str, at: float) -> bool:
        return any(
            one.covers_from is not None
            and one.covers_from <= at * TICK <= one.covers_until
            and one.unread == 0
            and (not one.subjects or any(host.startswith(name) for name in one.subjects))
            for _, one in self.of(s.EvidenceRecorded)
        )


class TwinHost:
    """One host, moment by moment."""

    def __init__(self, world: Twin, host: str) -> None:
        self.world, self.host, self.party = world, host, host.partition("/")[0]
        self.promised = [
            (one.t / TICK, one.expected_every / 60) for _, one in world.of(s.HostRegistered) if one.host == host
        ]
        seen = [self._observation(index, one) for index, one in world.entries if self._is_mine(one)]
        moments = [t for t, _ in self.promised]
        moments += [one.t / TICK for _, one in world.of(s.KeyReleased) if one.host == host]
        moments += [one.t / TICK for _, one in world.of(s.ReleaseSealed) if one.host == host]
        if not self.promised:
            moments += [since for _, _, since, *_ in seen]
        self.known = min(moments)
        self.begin = min([self.known, *(min(since, received, world.now) for _, _, since, _, _, received in seen)])
        names = {name for name, *_ in seen} or {"none"}
        self.environments = [[self._look(seen, name, place / 4) for place in self._places()] for name in sorted(names)]
        self.held = {at for at in self._grid() if any(self._may_be_held(one, at) for one in self.environments)}
        inside = {at for at in self._quarters() if any(self._is_unknown(one, at) for one in self.environments)}
        self.inside = inside
        self.unknown = {at for at in self._grid() if {at, at - 0.25, at + 0.25} & inside}
        never = any(not any(one) for one in self.environments)
        self.verdict = "held" if self.held else "unknown" if inside or never else "not_held"
        if never and not self.held:
            # Without any evidence it is unknown at every moment that matters, be it the last one alone.
            start = self.known if world.window is None else max(self.known, world.window[0])
            self.unknown |= {at for at in self._grid() if at >= min(start, world.now)}
        elif never:
            self.unknown |= set()

    def _places(self) -> range:
        return range(4 * self.world.now + 1)

    def _grid(self) -> list[float]:
        return [place / 2 for place in range(2 * self.world.now + 1)]

    def _quarters(self) -> list[float]:
        return [place / 4 for place in self._places()]

    def _is_mine(self, one: Statement) -> bool:
        return isinstance(one, s.InventoryRecorded | s.InventoryConfirmed) and one.host == self.host

    def _observation(self, _index: int, one: Any) -> tuple[str, str, float, float, float, float]:
        """Environment, inventory, since, until, largest gap, received; all in ticks."""
        if isinstance(one, s.InventoryRecorded):
            return one.environment, one.inventory, one.observed / TICK, one.observed / TICK, 0, one.t / TICK
        gap = one.largest_gap / TICK
        return one.environment, one.inventory, one.since / TICK, one.until / TICK, gap, one.t / TICK

    def allowed(self, start: float, end: float) -> float:
        """Three times the strictest promise in force at any moment from ``start`` to ``end``; never registered: none."""
        if not self.promised:
            return 0
        made = sorted(enumerate(self.promised), key=lambda one: (one[1][0], one[0]))
        strictest = []
        for place, (_, (t, every)) in enumerate(made):
            until = made[place + 1][1][0] if place + 1 < len(made) else float("inf")
            begins = t if place else min(t, start)
            if begins <= end and until > start and (begins < until):
                strictest.append(every)
        return 3 * min(strictest)

    def _look(self, seen: list[tuple[str, str, float, float, float, float]], environment: str, at: float) -> str:
        found = ""
        for name, inventory, since, until, gap, received in seen:
            if name != environment:
                continue
            last = min(received, self.world.now)
            if inventory in self.world.bad:
                if min(since, last) <= at <= min(until, last):
                    return "bad"
            elif inventory not in BLIND:
                dense = gap <= self.allowed(since, min(until, last)) if since <= min(until, last) else False
                if (since <= at <= min(until, last)) if dense else (at in (since, until) and at <= last):
                    found = "clean"
        return found

    def _may_be_held(self, seen: list[str], at: float) -> bool:
        place = round(at * 4)
        if seen[place] == "bad":
            return True
        for step in (-1, 1) if at >= self.begin else ():
            other = place + step if not seen[place] or seen[place] == "clean" else place
            while 0 <= other < len(seen) and not seen[other]:
                other += step
            if 0 <= other < len(seen) and seen[other] == "bad":
                window = self.world.window
                if window is None or at >= window[0] or self._bad_before_window(seen, other):
                    return True
        return False

    def _bad_before_window(self, seen: list[str], place: int) -> bool:
        while place >= 0 and seen[place] != "clean":
            if seen[place] == "bad" and self.world.window and place / 4 < self.world.window[0]:
                return True
            place -= 1
        return False

    def _is_unknown(self, seen: list[str], at: float) -> bool:
        """Whether a moment between two is in a gap that matters."""
        place, window = round(at * 4), self.world.window
        if place % 4 == 0 or seen[place] or at in self.held or at < self.known:
            return False
        if any(self._may_be_held(other, at) for other in self.environments):
            return False
        before = next((p / 4 for p in range(place, -1, -1) if seen[p]), None)
        after = next((p / 4 for p in range(place, len(seen)) if seen[p]), None)
        start, end = self.known if before is None else before, self.world.now if after is None else after
        if (before is not None or after is not None) and end - start <= self.allowed(start, end):
            return False
        return window is None or (at >= window[0] and (before is None or before <= window[1]))

    def pair(self, release: str) -> str | None:
        """The verdict of this host and a release; None if nothing is between them."""
        world = self.world
        dataset, _, sealed_on, t = world.release(release)
        opened = [one for _, one in world.of(s.KeyReleased) if (one.host, one.release) == (self.host, release)]
        granted = [
            one
            for _, one in world.of(s.GrantIssued)
            if one.dataset == dataset
            and (one.host == self.host if one.host else one.party == self.party)
            and one.until > max(one.not_before, one.t, t * TICK)
        ]
        sure, maybe = self._lateral(release, self.held)
        unseen = self._lateral(release, self.unknown)
        possible = maybe or any(unseen)
        if not (opened or granted or sealed_on == self.host or sure or possible):
            return None
        if sure or self._reaches(release, self.held, opened, granted):
            return "exposed"
        if possible or self._reaches(release, self.unknown, opened, granted):
            return "unknown"
        return self.verdict

    def _reaches(self, release: str, moments: set[float], opened: list[Any], granted: list[Any]) -> bool:
        _, party, sealed_on, t = self.world.release(release)
        for one in opened:
            if any(at * TICK == one.t or one.t < at * TICK < one.until for at in moments):
                return True
        if sealed_on == self.host and t in moments:
            return True
        return any(self._by_grant(one, release, party, t, moments) for one in granted)

    def alive(self, grant: Any, release: str, party: str, at: float) -> bool:
        """Whether this host could use a grant for a release at a moment."""
        if not max(grant.not_before, grant.t) <= at * TICK < grant.until:
            return False
        subjects = {("party", self.party), ("party", party), ("host", self.host), ("dataset", grant.dataset)}
        return not self.world.stopped(subjects | {("release", release), ("grant", grant.grant)}, at)

    def _by_grant(self, grant: Any, release: str, party: str, t: float, moments: set[float]) -> bool:
        for first in moments:
            at = first
            while at <= 2 * NOW and self.alive(grant, release, party, at):
                if t <= at:
                    return True
                at += 0.5
        return False

    def _lateral(self, release: str, moments: set[float]) -> tuple[bool, bool]:
        """Whether credentials in reach at ``moments`` open a release by themselves, or only behind another host."""
        dataset, _, _, t = self.world.release(release)
        sure = maybe = False
        seen: set[tuple[str, float]] = set()
        places = [(self.host, frozenset(moments), 0)]
        while places:
            host, times, steps = places.pop()
            for note, end in self._lives(host):
                meets = [at for at in times if note.at / TICK <= at < end]
                if not meets:
                    continue
                for _, opens in self.world.of(s.CredentialNoted):
                    if opens.act != "opens" or opens.credential != note.credential:
                        continue
                    about = (opens.subject.kind, opens.subject.id)
                    if about == ("dataset", dataset) and t < end:
                        sure, maybe = sure or steps == 0, maybe or steps > 0
                    if about[0] == "host" and about[1] != self.host:
                        maybe = maybe or self._behind(about[1], release, min(meets))
                        if (about[1], min(meets)) not in seen:
                            seen.add((about[1], min(meets)))
                            later = frozenset(place / 2 for place in range(round(2 * min(meets)), 8 * NOW))
                            places.append((about[1], later, steps + 1))
        return sure, maybe

    def _lives(self, host: str) -> list[tuple[Any, float]]:
        notes = [one for _, one in self.world.of(s.CredentialNoted)]
        found = []
        for note in notes:
            if note.act == "reach" and note.host == host:
                ends = [
                    one.at / TICK for one in notes
                    if one.credential == note.credential and one.act in ("revoked", "dead") and one.at >= note.at
                ]  # fmt: skip
                found.append((note, min(ends, default=float("inf"))))
        return found

    def _behind(self, host: str, release: str, start: float) -> bool:
        """Whether another host, entered at ``start``, had the plaintext or could open the release from then on."""
        twin = self.world.twins.get(host) if hasattr(self.world, "twins") else None
        if twin is None:
            return False
        dataset, party, sealed_on, t = self.world.release(release)
        if sealed_on == host and t >= start and release in self.world.sealed:
            return True
        for _, grant in self.world.of(s.GrantIssued):
            fits = grant.dataset == dataset and (grant.host == host if grant.host else grant.party == twin.party)
            if fits and any(
                twin.alive(grant, release, party, at / 2) and (at / 2 >= t) for at in range(round(2 * start), 4 * NOW)
            ):
                return True
        return False


def tell(log: Log, maker: Maker) -> list[Statement]:
    """Append a history in one go; every payload that it names is there, but for the one that is lost."""
    statements = maker.history()
    log.append(lambda _view: Draft(tuple(statements), tuple(maker.payloads)))
    return statements


def compare(report: Report, twin: Twin) -> list[str]:
    """The differences between an answer and its twin's; empty if there are none."""
    said = []
    hosts = {one.host: one.verdict for one in report.hosts}
    expected = {host: one.verdict for host, one in twin.twins.items()}
    if hosts != expected:
        said.append(f"hosts: {hosts} and not {expected}")
    for line in report.hosts:
        grid = {
            at for at in twin.twins[line.host]._grid()
            if any(run.outer.start <= at * TICK <= run.outer.end for run in line.held)
        }  # fmt: skip
        if line.host in twin.twins and grid != twin.twins[line.host].held:
            said.append(f"{line.host} held: {sorted(grid ^ twin.twins[line.host].held)} differ")
    pairs = {(one.pair.host, one.pair.release): one.pair.verdict for one in report.pairs}
    if pairs != twin.pairs:
        differing = {key for key in pairs.keys() | twin.pairs.keys() if pairs.get(key) != twin.pairs.get(key)}
        said += [f"pair {key}: {pairs.get(key)} and not {twin.pairs.get(key)}" for key in sorted(differing)]
    releases = {one.release: one.verdict for one in report.releases}
    if releases != twin.verdicts:
        said.append(f"releases: {releases} and not {twin.verdicts}")
    replies = {one.number: one.reply for one in report.answers}
    for number, reply in twin.replies().items():
        if replies[number] != reply:
            said.append(f"question {number}: {replies[number]} and not {reply}")
    return said


def differences(seed: int, folder: Path) -> list[str]:
    """Make the history of ``seed``, ask the product and the twin, now and as of an earlier time."""
    maker = Maker(seed)
    log = open_log(folder)
    try:
        statements = tell(log, maker)
        said = []
        advisory = next((one.advisory for one in statements if isinstance(one, s.AdvisoryRecorded)), None)
        if advisory is None:
            return []
        with log.view() as view:
            report = answer_all(load_case(view, advisory, NOW * TICK))
            said += [f"seed {seed}: {one}" for one in compare(report, Twin(statements, maker.payloads, advisory))]
            then = 2 * random.Random(seed).randrange(NOW // 2 + 1)
            known = [one for one in statements if one.t <= then * TICK]
            if any(isinstance(one, s.AdvisoryRecorded) and one.advisory == advisory for one in known):
                with view_as_of(view, then * TICK) as cut:
                    report = answer_all(load_case(cut, advisory, then * TICK))
                twin = Twin(known, maker.payloads, advisory, then)
                said += [f"seed {seed} as of {then}: {one}" for one in compare(report, twin)]
        return said
    finally:
        log.close()
