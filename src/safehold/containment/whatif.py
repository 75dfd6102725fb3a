"""What-if: the courses that one may take after an incident, side by side. Pure: a ``Concern`` in, options out.

Four courses, from the widest stop to none: suspend the suppliers that are concerned, suspend their concerned hosts
alone, revoke the grants those hosts could use and rotate what they had in reach, or go on and watch. For each: whom it
would hold, what work that stops, which open ways to data it ends, and what stays whatever one does. Keys that left
cannot be called back, and what a host read stays read: no option hides that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from safehold.containment.concern import Concern, HostConcern, Lease, OpenPair, held_by
from safehold.model.ids import Subject
from safehold.model.statements_response import Course

__all__ = ["COURSES", "COURSE_WORDS", "Option", "Stops", "compare", "option_of"]

COURSES: Final[tuple[Course, ...]] = ("suspend-supplier", "suspend-hosts", "revoke-and-rotate", "watch")

COURSE_WORDS: Final[dict[Course, str]] = {
    "suspend-supplier": "suspend the supplier",
    "suspend-hosts": "suspend the hosts",
    "revoke-and-rotate": "revoke grants and rotate",
    "watch": "go on and watch",
}


class Stops(msgspec.Struct, frozen=True, kw_only=True):
    """The work that a course stops. ``bystanders`` are hosts that nothing is known against and that it stops too.

    ``leases`` could not be renewed (their keys stay out until they end). ``runs`` and ``models`` rest on datasets that
    could not be opened any more; ``customers`` ordered them.
    """

    hosts: tuple[str, ...]
    bystanders: tuple[str, ...]
    grants: tuple[str, ...]
    datasets: tuple[str, ...]
    customers: tuple[str, ...]
    releases: int
    leases: int
    runs: tuple[str, ...]
    models: tuple[str, ...]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One course. ``holds`` are new ones; ``ends`` the open ways of concerned hosts that it closes, ``stays`` the rest."""

    course: Course
    holds: tuple[Subject, ...]
    stops: Stops
    ends: tuple[OpenPair, ...]
    stays: tuple[OpenPair, ...]
    keys_out: tuple[Lease, ...]
    left: tuple[str, ...]


def compare(concern: Concern) -> tuple[Option, ...]:
    """All courses in the order of ``COURSES``."""
    return tuple(option_of(concern, course) for course in COURSES)


def option_of(concern: Concern, course: Course) -> Option:
    """One course, weighed."""
    wanted = _subjects(concern, course)
    holds = tuple(subject for subject in wanted if subject not in concern.holds)
    names = {host.host for host in concern.concerned}
    ways = [pair for pair in concern.pairs if pair.host in names]
    ended = tuple(pair for pair in ways if held_by(holds, pair.host, pair.dataset, pair.grant))
    stays = tuple(pair for pair in ways if pair not in ended)
    keys_out = tuple(lease for lease in concern.leases if lease.host in names)
    return Option(
        course=course,
        holds=holds,
        stops=_stops(concern, holds),
        ends=ended,
        stays=stays,
        keys_out=keys_out,
        left=tuple(_left(concern, course, stays, keys_out)),
    )


def _subjects(concern: Concern, course: Course) -> tuple[Subject, ...]:
    match course:
        case "suspend-supplier":
            ours = [host for host in concern.concerned if host.party not in concern.suppliers]
            parties = [Subject("party", party) for party in concern.parties]
            return (*parties, *(Subject("host", host.host) for host in ours))
        case "suspend-hosts":
            return tuple(Subject("host", host.host) for host in concern.concerned)
        case "revoke-and-rotate":
            names = {host.host for host in concern.concerned}
            return tuple(
                Subject("grant", grant) for grant in sorted({p.grant for p in concern.pairs if p.host in names})
            )
        case "watch":
            return ()


def _stops(concern: Concern, holds: Sequence[Subject]) -> Stops:
    stopped = [pair for pair in concern.pairs if held_by(holds, pair.host, pair.dataset, pair.grant)]
    still = {(pair.host, pair.dataset) for pair in concern.pairs if pair not in stopped}
    hosts = sorted({pair.host for pair in stopped})
    concerned = {host.host for host in concern.concerned}
    lost = {pair.dataset for pair in stopped if (pair.host, pair.dataset) not in still}
    # A dataset of a party that is held is closed to all, also where no grant is alive now: nothing of it can be delivered.
    lost |= {stake.dataset for stake in concern.stakes if Subject("party", stake.dataset.partition("/")[0]) in holds}
    stakes = [stake for stake in concern.stakes if stake.dataset in lost]
    return Stops(
        hosts=tuple(hosts),
        bystanders=tuple(host for host in hosts if host not in concerned),
        grants=tuple(sorted({pair.grant for pair in stopped})),
        datasets=tuple(stake.dataset for stake in stakes),
        customers=tuple(sorted({stake.customer for stake in stakes})),
        releases=sum(stake.releases for stake in stakes),
        leases=sum(held_by(holds, one.host, one.dataset, one.grant) for one in concern.leases),
        runs=tuple(sorted({run for stake in stakes for run in stake.runs})),
        models=tuple(sorted({model for stake in stakes for model in stake.models})),
    )


def _left(concern: Concern, course: Course, stays: Sequence[OpenPair], keys_out: Sequence[Lease]) -> list[str]:
    """What the course leaves, in words, the gravest first."""
    left = []
    dirty = [host.host for host in concern.concerned if host.holding]
    if stays:
        open_dirty = sorted({pair.host for pair in stays if pair.host in dirty})
        beside = f", {', '.join(open_dirty)} while holding what the advisory names" if open_dirty else ""
        left.append(f"{len(stays)} ways to data stay open to {len({pair.host for pair in stays})} hosts{beside}")
    if keys_out:
        left.append(f"keys of {len(keys_out)} leases are out and cannot be called back")
    unknown = [host.host for host in concern.concerned if _silent_only(host)]
    if unknown and course != "suspend-supplier":
        left.append(f"not observed, so not known to be clean: {', '.join(unknown)}")
    if course != "revoke-and-rotate" and any(host.credentials for host in concern.concerned):
        left.append("credentials that were in reach of these hosts work on until they are rotated")
    if course == "revoke-and-rotate":
        left.append("a grant that is issued anew opens the same ways: give it to clean hosts alone")
    left.append("what these hosts have read stays read: see `safehold exposure`")
    return left


def _silent_only(host: HostConcern) -> bool:
    return host.silent_since is not None and not host.holding
