"""What questions 11, 12 and 13 share: the credentials in reach of the hosts that held the thing, grants among them.

A grant is a credential of Safehold's own: its use is a key release and its end a hold, so that its life is complete. Of all
others the ledger knows what somebody noted.
"""

from __future__ import annotations

from typing import Final

import msgspec

from safehold.exposure.credentials import Rights
from safehold.exposure.facts import Case, Release
from safehold.exposure.judgement import Judgement
from safehold.exposure.lateral import credentials_in_reach
from safehold.exposure.presence import Presence

__all__ = ["RANKS", "Life", "lives_of", "without_record"]

RANKS: Final = ("publishing", "cloud", "model", "database", "ssh", "staging", "other")
"""The order of rotation: what can publish or write first."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A credential in reach of ``host`` from ``start`` on. ``uses``: (when, entry) since then; ``late``: those after it ended.

    ``revoked`` and ``dead``: when, or None. ``actions``: what revoked it. ``proven``: whether something shows that it is.
    """

    name: str
    kind: str
    rank: str
    host: str
    start: int
    uses: tuple[tuple[int, int], ...]
    revoked: int | None
    dead: int | None
    actions: tuple[str, ...]
    proven: bool
    entries: tuple[int, ...]

    @property
    def ended(self) -> int | None:
        """When it was revoked or shown to be dead, whichever is known first."""
        return min((at for at in (self.revoked, self.dead) if at is not None), default=None)


def lives_of(case: Case, judgement: Judgement) -> tuple[Life, ...]:
    """Credentials in reach of the hosts that held the thing, in the order of rotation."""
    found, book = list[Life](), _Book(case)
    for presence in judgement.hosts_with("held"):
        found += _noted(case, presence) + _grants(case, presence, book)
    return tuple(sorted(found, key=lambda one: (RANKS.index(one.rank), one.name, one.host)))


def without_record(case: Case, judgement: Judgement) -> list[str]:
    """Hosts that held the thing, or may have, of which nobody noted a credential."""
    noted = {note.host for note in case.credential_notes if note.act == "reach"}
    return [one.host for one in judgement.hosts_with("held", "unknown") if one.host not in noted]


def _noted(case: Case, presence: Presence) -> list[Life]:
    lives = list[Life]()
    for one in credentials_in_reach(case, presence.host, presence.held):
        own = [note for note in case.credential_notes if note.credential == one.credential]
        revoked = [note for note in own if note.act == "revoked" and note.at >= one.start]
        dead = [note for note in own if note.act == "dead" and note.at >= one.start]
        uses = tuple((note.at, note.idx) for note in own if note.act == "used" and note.at >= one.start)
        lives.append(
            Life(
                name=one.credential,
                kind="noted",
                rank=one.rank,
                host=presence.host,
                start=one.start,
                uses=uses,
                revoked=min((note.at for note in revoked), default=None),
                dead=min((note.at for note in dead), default=None),
                actions=tuple(sorted({note.action for note in revoked})),
                proven=bool(dead) or any(note.proof for note in revoked),
                entries=tuple(sorted({*one.entries, *(note.idx for note in own)})),
            )
        )
    return lives


class _Book:
    """What is looked up for each host: it, its grants, the releases of a dataset, the uses of a grant."""

    def __init__(self, case: Case) -> None:
        self.rights = Rights(case)
        self.hosts = {host.host: host for host in case.hosts}
        self.releases = dict[str, list[Release]]()
        self.uses = dict[str, list[tuple[int, int]]]()
        for release in case.releases:
            self.releases.setdefault(release.dataset, []).append(release)
        for one in case.key_releases:
            self.uses.setdefault(one.grant, []).append((one.t, one.idx))


def _grants(case: Case, presence: Presence, book: _Book) -> list[Life]:
    """Grants that were usable on this host while the thing was there."""
    lives, host = dict[str, Life](), book.hosts[presence.host]
    granted = book.rights.of_host(host)
    for release in (one for dataset in granted for one in book.releases.get(dataset, ())):
        for grant, times in book.rights.usable(host, release, granted[release.dataset]):
            touched = [
                (time, span)
                for time in times
                for span in presence.held
                if time.start <= span.end and time.end > span.start
            ]
            if not touched or grant.grant in lives:
                continue
            time, span = touched[0]
            start = max(time.start, span.start)
            uses = tuple(use for use in book.uses.get(grant.grant, ()) if start <= use[0] <= time.end)
            hold = time.hold
            ends = [hold.placed_idx] if hold else [] if grant.revoked is None else [grant.revoked]
            lives[grant.grant] = Life(
                name=grant.grant,
                kind="grant",
                rank="other",
                host=presence.host,
                start=start,
                uses=uses,
                revoked=hold.placed_t if hold else grant.until if grant.revoked is not None else None,
                dead=grant.until if hold is None and grant.until <= case.now else None,
                actions=(hold.hold,) if hold else () if grant.revoked is None else (f"revocation #{grant.revoked}",),
                proven=hold is not None or grant.until <= case.now,
                entries=(grant.idx, *ends, *(idx for _, idx in uses)),
            )
    return [lives[name] for name in sorted(lives)]
