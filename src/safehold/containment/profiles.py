"""Response profiles: which course to propose, and why. Pure, small and the same for everybody who asks.

====================== ==========================================================================================
profile                proposes
====================== ==========================================================================================
strict                 the supplier, as soon as one of its hosts held it, or is silent
measured               the hosts concerned; the supplier where most of its hosts are, or one that seals its data is
watchful               the hosts that hold it now; otherwise to watch
====================== ==========================================================================================

A proposal binds nobody: a member decides, and the plan keeps what was proposed beside what was decided.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from safehold.containment.concern import Concern, HostConcern
from safehold.model.ids import PartyId
from safehold.model.statements_response import Course

__all__ = ["CLEAN_FOR", "PROFILES", "Profile", "Proposal", "propose"]

Profile = Literal["strict", "measured", "watchful"]
PROFILES: Final[tuple[str, ...]] = get_args(Profile)

_DAY: Final = 86_400
CLEAN_FOR: Final[dict[str, int]] = {"strict": 7 * _DAY, "measured": _DAY, "watchful": 0}
"""Seconds for which a host must have been observed clean before a hold of the plan is lifted."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile proposes, with its reason in words, and the condition for lifting in seconds."""

    profile: Profile
    course: Course
    why: str
    clean_for: int


def propose(concern: Concern, profile: Profile, sealing: frozenset[str] = frozenset()) -> Proposal:
    """The course that ``profile`` proposes. ``sealing``: hosts that sealed a release of their party."""
    course, why = _RULES[profile](concern, sealing)
    return Proposal(profile=profile, course=course, why=why, clean_for=CLEAN_FOR[profile])


def _strict(concern: Concern, _sealing: frozenset[str]) -> tuple[Course, str]:
    if not concern.concerned:
        return "watch", "no host is known to have held it, and none is silent"
    return "suspend-supplier", f"{_named(concern.concerned)} held it or cannot be seen: strict stops all of its party"


def _measured(concern: Concern, sealing: frozenset[str]) -> tuple[Course, str]:
    if not concern.concerned:
        return "watch", "no host is known to have held it, and none is silent"
    touched = [host for host in concern.concerned if host.touched or host.holding]
    sealers = [host for host in touched if host.host in sealing]
    if sealers:
        return "suspend-supplier", f"{_named(sealers)} held it and seals the data of its party"
    for party in concern.parties:
        ours, bad = _count(concern, party)
        if bad * 2 > ours and bad > 1:
            return "suspend-supplier", f"{bad} of {ours} hosts of {party} held it"
    if not touched:
        return "suspend-hosts", f"nobody saw what {_named(concern.concerned)} held: stop them until they report"
    return "suspend-hosts", f"{_named(touched)} held it; the other hosts of the party were seen clean"


def _watchful(concern: Concern, _sealing: frozenset[str]) -> tuple[Course, str]:
    now = [host for host in concern.concerned if host.holding]
    if now:
        return "suspend-hosts", f"{_named(now)} holds it now"
    if any(host.touched for host in concern.concerned):
        return "revoke-and-rotate", "no host holds it now; what was in reach while one did may have been copied"
    return "watch", "no host holds it now"


def _count(concern: Concern, party: PartyId) -> tuple[int, int]:
    ours = [host for host in concern.hosts if host.party == party]
    return len(ours), sum(host.touched or bool(host.holding) for host in ours)


def _named(hosts: list[HostConcern] | tuple[HostConcern, ...]) -> str:
    names = [host.host for host in hosts]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


_RULES: Final = {"strict": _strict, "measured": _measured, "watchful": _watchful}
