"""Lateral reach: from a host to the credentials in its reach, and on to what those open, transitively. Pure.

A path is a row of recorded steps: this credential was in reach of this host, this credential opens that dataset or that
host, and there is the next credential. Each step counts while the credential lived: from when it is said to have been in
reach until it was revoked or shown to be dead. Whoever took it may have used it at any time between.

What a credential opens by itself is *on record* as open. What lies behind another host is only possible: that host was
not seen to be entered, and an inventory does not show a person who logs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from safehold.exposure.credentials import find_grants, usable_times
from safehold.exposure.facts import Case, Host, Release, Span
from safehold.exposure.facts_outside import CredentialNote
from safehold.exposure.words import list_words, time_words

__all__ = ["InReach", "Target", "credentials_in_reach", "find_targets", "opens_release", "opens_through_host"]

_FOR_EVER: Final = 1 << 53


class InReach(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that was in reach of a host from ``start`` until before ``end`` (revoked, or never), by its entries."""

    credential: str
    rank: str
    host: str
    start: int
    end: int
    entries: tuple[int, ...]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a path leads to, ``kind`` and ``id`` as in a subject; open from ``start`` until before ``end``.

    ``steps`` are the names on the path from the first host on; ``direct``: no other host lies between.
    """

    kind: str
    id: str
    start: int
    end: int
    steps: tuple[str, ...]
    entries: tuple[int, ...]
    direct: bool

    @property
    def path(self) -> str:
        """The steps in words."""
        return " → ".join(self.steps)


def credentials_in_reach(case: Case, host: str, spans: Sequence[Span]) -> tuple[InReach, ...]:
    """Credentials that were in reach of ``host`` at some moment of ``spans``, by name."""
    found = list[InReach]()
    for note in case.credential_notes:
        if note.act != "reach" or note.host != host:
            continue
        end, ended_by = _end(case, note.credential, note.at)
        touched = [span for span in spans if note.at <= span.end and end > max(note.at, span.start)]
        if touched:
            start = max(note.at, min(span.start for span in touched))
            found.append(
                InReach(
                    credential=note.credential, rank=note.rank, host=host, start=start, end=end,
                    entries=(note.idx, *ended_by),
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda one: (one.credential, one.start, one.entries)))


def _end(case: Case, credential: str, since: int) -> tuple[int, tuple[int, ...]]:
    """When a credential was first revoked or shown dead after ``since``, and the entry that says so."""
    ends = [
        (note.at, note.idx)
        for note in case.credential_notes
        if note.credential == credential and note.act in ("revoked", "dead") and note.at >= since
    ]
    return (min(ends)[0], (min(ends)[1],)) if ends else (_FOR_EVER, ())


def find_targets(case: Case, host: str, spans: Sequence[Span]) -> tuple[Target, ...]:
    """All that can be reached from ``host`` in ``spans`` by credentials, nearest first; each once for each life of a credential,
    by its shortest path.
    """
    if not any(note.act == "reach" and note.host == host for note in case.credential_notes):
        return ()
    opens = dict[str, list[CredentialNote]]()
    for note in case.credential_notes:
        if note.act == "opens" and note.subject_id is not None:
            opens.setdefault(note.credential, []).append(note)
    found, seen = list[Target](), set[tuple[str, str, int, int]]()
    frontier: list[tuple[str, tuple[Span, ...], tuple[str, ...], tuple[int, ...]]] = [(host, tuple(spans), (host,), ())]
    first = True
    while (
        frontier
    ):  # it ends: starts and ends of lives are those of notes and of the first spans, and each is seen once
        following = list[tuple[str, tuple[Span, ...], tuple[str, ...], tuple[int, ...]]]()
        for at, times, steps, entries in frontier:
            for credential in credentials_in_reach(case, at, times):
                for note in opens.get(credential.credential, ()):
                    key = (str(note.subject_kind), str(note.subject_id))
                    # One place may be reached in two lives of a credential, or later by another: each counts once.
                    life = (*key, credential.start, credential.end)
                    if key == ("host", host) or life in seen:
                        continue
                    seen.add(life)
                    path = (*steps, credential.credential, key[1])
                    shown = (*entries, *credential.entries, note.idx)
                    found.append(
                        Target(
                            kind=key[0], id=key[1], start=credential.start, end=credential.end, steps=path,
                            entries=shown, direct=first,
                        )
                    )  # fmt: skip
                    if key[0] == "host":
                        # Whoever came in may stay: what is there later is in reach too.
                        following.append((key[1], (Span(credential.start, _FOR_EVER),), path, shown))
        frontier, first = following, False
    return tuple(found)


def opens_release(target: Target, release: Release) -> bool:
    """Whether a credential opens this release by itself: it, its dataset, or all that its party makes."""
    named = {"release": release.release, "dataset": release.dataset, "party": release.party}
    return named.get(target.kind) == target.id and release.t < target.end


def opens_through_host(case: Case, target: Target, hosts: dict[str, Host], release: Release) -> str:
    """By what another host on the path could get at a release after it was reached, in words; empty for nothing."""
    host = hosts.get(target.id) if target.kind == "host" else None
    if host is None:
        return ""
    said = list[str]()
    if release.host == host.host and release.t >= target.start:
        said.append(f"it was sealed there {time_words(release.t)}")
    for grant in find_grants(case, host, release):
        times = [time for time in usable_times(case, host, release, grant) if time.end > target.start]
        if any(release.t < time.end for time in times):
            said.append(f"grant {grant.grant} #{grant.idx} could be used there")
    return list_words(said, 3)
