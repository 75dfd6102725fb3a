"""When a grant could be used by a host for a release: alive, and under no hold. Pure.

A credential that was in reach of the thing may have been copied, and a copy works for as long as the credential
does. So what counts is the whole *usable* time of the grant that the presence touches, up to its end: its own, or the
first hold. What becomes usable again after a hold was lifted is a new time: people had looked at it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from safehold.exposure.facts import Case, Grant, Hold, Host, Release

__all__ = ["Rights", "Usable", "find_grants", "holds_on", "usable_times"]


class Usable(msgspec.Struct, frozen=True):
    """A longest time, from ``start`` until before ``end`` (µs UTC), in which a grant could be used.

    ``hold`` ended it; None: the grant ran out by itself.
    """

    start: int
    end: int
    hold: Hold | None


def find_grants(case: Case, host: Host, release: Release) -> tuple[Grant, ...]:
    """The grants that let this host open this release at some time, in ledger order."""
    return tuple(
        grant
        for grant in sorted(case.grants, key=lambda grant: grant.idx)
        if grant.dataset == release.dataset
        and (grant.host == host.host if grant.host is not None else grant.party == host.party)
        and grant.until > max(grant.not_before, grant.t, release.t)
    )


def holds_on(case: Case, subjects: Iterable[tuple[str, str]]) -> tuple[Hold, ...]:
    """All holds, lifted ones too, on any of these subjects (kind, id), oldest first."""
    wanted = set(subjects)
    found = [hold for hold in case.holds if (hold.subject_kind, hold.subject_id) in wanted]
    return tuple(sorted(found, key=lambda hold: (hold.placed_t, hold.placed_idx)))


def usable_times(case: Case, host: Host, release: Release, grant: Grant) -> tuple[Usable, ...]:
    """When ``host`` could open ``release`` by ``grant``: the life of the grant less the holds that stop it.

    The holds are those that the broker obeys for such a request (who asks, what is asked for, who made it), but for
    those on a member: another member of the host could still have asked.
    """
    return _times(grant, holds_on(case, _stopping(host, release, grant)))


def _stopping(host: Host, release: Release, grant: Grant) -> tuple[tuple[str, str], ...]:
    return (
        ("party", host.party),
        ("party", release.party),
        ("host", host.host),
        ("dataset", release.dataset),
        ("release", release.release),
        ("grant", grant.grant),
    )


def _times(grant: Grant, stopping: Iterable[Hold]) -> tuple[Usable, ...]:
    start, usable = max(grant.not_before, grant.t), list[Usable]()
    for hold in stopping:
        if hold.placed_t >= grant.until:
            break
        if hold.placed_t > start:
            usable.append(Usable(start, hold.placed_t, hold))
        start = max(start, grant.until if hold.lifted_t is None else hold.lifted_t)
    if start < grant.until:
        usable.append(Usable(start, grant.until, None))
    return tuple(usable)


class Rights:
    """The grants and holds of a case, looked up by whom and what they concern: the same answers as the functions here."""

    def __init__(self, case: Case) -> None:
        self._grants = dict[tuple[str, str], list[Grant]]()
        self._holds = dict[tuple[str, str], list[Hold]]()
        for grant in sorted(case.grants, key=lambda grant: grant.idx):
            self._grants.setdefault(("party", grant.party) if grant.host is None else ("host", grant.host), []).append(
                grant
            )
        for hold in case.holds:
            self._holds.setdefault((hold.subject_kind, hold.subject_id), []).append(hold)

    def of_host(self, host: Host) -> dict[str, list[Grant]]:
        """The grants of a host by dataset, in ledger order."""
        found = dict[str, list[Grant]]()
        own = (*self._grants.get(("host", host.host), ()), *self._grants.get(("party", host.party), ()))
        for grant in sorted(own, key=lambda grant: grant.idx):
            found.setdefault(grant.dataset, []).append(grant)
        return found

    def usable(
        self, host: Host, release: Release, grants: Iterable[Grant]
    ) -> tuple[tuple[Grant, tuple[Usable, ...]], ...]:
        """Those of a host's grants for the dataset of a release that let it open this one, with when."""
        found = list[tuple[Grant, tuple[Usable, ...]]]()
        for grant in grants:
            if grant.until > max(grant.not_before, grant.t, release.t):
                subjects = dict.fromkeys(_stopping(host, release, grant))
                holds = [hold for subject in subjects for hold in self._holds.get(subject, ())]
                holds.sort(key=lambda hold: (hold.placed_t, hold.placed_idx))
                found.append((grant, _times(grant, holds)))
        return tuple(found)
