"""The judgement of a case: hosts, pairs and releases with their verdicts. Pure; ``docs/spec/exposure.md`` §5."""

from __future__ import annotations

import msgspec

from safehold.exposure.facts import Case, Release
from safehold.exposure.presence import Presence, find_presences
from safehold.exposure.reach import Pair, find_pairs
from safehold.exposure.verdict import Verdict, worst
from safehold.exposure.words import time_words

__all__ = ["Judged", "Judgement", "judge"]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A release with the worst verdict of its pairs, by what (a reason a host), and the entries that show it."""

    release: Release
    verdict: Verdict
    reasons: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    entries: tuple[int, ...] = ()


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the questions are answered from, beside the case itself."""

    presences: tuple[Presence, ...]
    pairs: tuple[Pair, ...]
    releases: tuple[Judged, ...]

    def hosts_with(self, *verdicts: Verdict) -> tuple[Presence, ...]:
        """The hosts with one of these verdicts, by name."""
        return tuple(presence for presence in self.presences if presence.verdict in verdicts)

    def releases_with(self, *verdicts: Verdict) -> tuple[Judged, ...]:
        """The releases with one of these verdicts, by name."""
        return tuple(judged for judged in self.releases if judged.verdict in verdicts)


def judge(case: Case) -> Judgement:
    """The judgement of a case. The same case gives the same judgement."""
    presences = find_presences(case)
    pairs = find_pairs(case, presences)
    by_release = dict[str, list[Pair]]()
    for pair in pairs:
        by_release.setdefault(pair.release, []).append(pair)
    same = _same_records(case)
    judged = (
        _judge(case, release, by_release.get(release.release, []), same.get(release.release, []))
        for release in case.releases
    )
    order = sorted(judged, key=lambda one: (one.release.dataset, one.release.version, one.release.release))
    return Judgement(presences=presences, pairs=pairs, releases=tuple(order))


def _judge(case: Case, release: Release, own: list[Pair], same: list[tuple[str, int]]) -> Judged:
    unplaced = _sealed_out_of_sight(case, release)
    verdict = worst([pair.verdict for pair in own] + (["unknown"] if unplaced else []), "not_held")
    decisive = [pair for pair in own if pair.verdict == verdict]
    reasons = [f"{pair.host}: {pair.words}" for pair in decisive]
    if unplaced and verdict == "unknown":
        reasons.append(unplaced)
    entries = {entry for pair in decisive for entry in pair.entries}
    entries.update(idx for _, idx in same)
    if release.idx is not None:
        entries.add(release.idx)
    return Judged(
        release=release,
        verdict=verdict,
        reasons=(*(reasons or ["no key of it was released and no grant reached it"]), *(words for words, _ in same)),
        hosts=tuple(pair.host for pair in decisive),
        entries=tuple(sorted(entries)),
    )


_Same = dict[str, list[tuple[str, int]]]


def _same_records(case: Case) -> _Same:
    """For each release what is said of one that holds the same records under other keys, and the entry that shows it.

    A verdict is on the keys of one of them alone.
    """
    names = {release.release: release.name for release in case.releases}
    said: _Same = {}
    for one in case.releases:
        if one.before is not None and one.rekeyed is not None:
            before = names.get(one.before, one.before)
            mine = f"its records are those of {before} under new keys: whoever could read that one could read these"
            said.setdefault(one.release, []).append((mine, one.rekeyed))
            theirs = f"{one.name} holds the same records under new keys"
            said.setdefault(one.before, []).append((theirs, one.rekeyed))
    return said


def _sealed_out_of_sight(case: Case, release: Release) -> str:
    """Why the sealing itself is unknown: a host that no entry names had the plaintext when the thing could be had."""
    if release.host is not None or (case.window is not None and release.t < case.window.start):
        return ""
    if release.idx is None:
        return "its sealing is not in this ledger, so the host that had the plaintext is not known"
    return f"sealed {time_words(release.t)} on a host that was not recorded: its plaintext was there"
