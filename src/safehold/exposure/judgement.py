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
    judged = (_judge(case, release, by_release.get(release.release, [])) for release in case.releases)
    order = sorted(judged, key=lambda one: (one.release.dataset, one.release.version, one.release.release))
    return Judgement(presences=presences, pairs=pairs, releases=tuple(order))


def _judge(case: Case, release: Release, own: list[Pair]) -> Judged:
    unplaced = _sealed_out_of_sight(case, release)
    verdict = worst([pair.verdict for pair in own] + (["unknown"] if unplaced else []), "not_held")
    decisive = [pair for pair in own if pair.verdict == verdict]
    reasons = [f"{pair.host}: {pair.words}" for pair in decisive]
    if unplaced and verdict == "unknown":
        reasons.append(unplaced)
    entries = {entry for pair in decisive for entry in pair.entries}
    if release.idx is not None:
        entries.add(release.idx)
    return Judged(
        release=release,
        verdict=verdict,
        reasons=tuple(reasons) or ("no key of it was released and no grant reached it",),
        hosts=tuple(pair.host for pair in decisive),
        entries=tuple(sorted(entries)),
    )


def _sealed_out_of_sight(case: Case, release: Release) -> str:
    """Why the sealing itself is unknown: a host that no entry names had the plaintext when the thing could be had."""
    if release.host is not None or (case.window is not None and release.t < case.window.start):
        return ""
    if release.idx is None:
        return "its sealing is not in this ledger, so the host that had the plaintext is not known"
    return f"sealed {time_words(release.t)} on a host that was not recorded: its plaintext was there"
