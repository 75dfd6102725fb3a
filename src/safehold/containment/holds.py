"""Holds: a ruling with its reason, and the stop that follows from it, in one append.

The decision and the hold stand next to each other in the ledger, all or nothing. From the hold's place on no key
is released to or of its subject: the broker reads holds inside the transaction that appends its answer, so there
is no time in between, and ``fsck`` checks it (``fsck.released_under_hold``).

Lifting has a condition (``cleanness``): every host that the hold covers must have reported and be clean, for as long as
the response that placed the hold asked. A member may rule otherwise with ``despite_findings``; the reason then says so in the ledger for good.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from safehold.containment.cleanness import Clean, check_clean, clean_for
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, NotFound
from safehold.model.ids import (
    DecisionId,
    Digest,
    HoldId,
    HostId,
    KeyId,
    MemberId,
    PartyId,
    Subject,
    parse_hold_id,
    party_of,
)
from safehold.model.statements import DecisionMade, HoldLifted, HoldPlaced
from safehold.state.standing import GrantRow, active_holds, list_grants, list_hosts

__all__ = ["Containment", "Effect", "Lifted", "Suspended", "preview"]

_MAX_REASON = 2000


class Effect(msgspec.Struct, frozen=True):
    """What a hold on ``subject`` stops as of now: hosts, grants that are alive, leases still running.

    A hold on a party stops its hosts, and its data in everybody's hands: grants and leases of both are named.
    """

    subject: Subject
    hosts: tuple[HostId, ...]
    grants: tuple[str, ...]
    leases: int
    already_held: tuple[HoldId, ...]


class Suspended(msgspec.Struct, frozen=True):
    """A hold that is in force: its id, what it stopped, its entry."""

    hold: HoldId
    effect: Effect
    entry: Entry


class Lifted(msgspec.Struct, frozen=True):
    """Holds that ended, and the entry of the decision."""

    holds: tuple[HoldId, ...]
    subject: Subject
    entry: Entry


class Containment:
    """Appends decisions and holds for the operator ``by``. ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def suspend(self, subject: Subject, reason: str, member: MemberId | None = None) -> Suspended:
        """Place a hold. It counts from its entry on.

        Raises ``NotFound`` (``containment.no_subject``), ``Conflict`` (``containment.held``) if it is held
        already, ``InputInvalid`` (``containment.reason``) without a reason.
        """
        _check_reason(reason)
        effects: list[Effect] = []
        hold = parse_hold_id("h-" + secrets.token_hex(8))

        def propose(view: View) -> Draft:
            now = self._clock()
            effect = preview(view, subject, now)
            if effect.already_held:
                raise Conflict(
                    "containment.held",
                    f"{subject} is held already by {effect.already_held[0]}",
                    "see: safehold log list",
                )
            effects.append(effect)
            decision = self._decision(view, "suspend", subject, reason, member, now)
            placed = HoldPlaced(
                t=now, by=self._by, hold=hold, subject=subject, reason=reason, decision=decision.decision
            )
            return Draft((decision, placed))

        entries = self._log.append(propose)
        return Suspended(hold, effects[-1], entries[-1])

    def lift(
        self, subject: Subject, reason: str, member: MemberId | None = None, *, despite_findings: bool = False
    ) -> Lifted:
        """End all holds on ``subject``.

        Raises ``Conflict`` (``containment.not_held``) if there is none, ``Refused`` (``containment.not_clean``)
        if a host that it covers has no clean inventory since, or not for as long as the response asks
        (``containment.not_clean_long``), and ``despite_findings`` is not given.
        """
        _check_reason(reason)

        def propose(view: View) -> Draft:
            now = self._clock()
            _check_subject(view, subject)
            holds = active_holds(view, [subject])
            if not holds:
                raise Conflict("containment.not_held", f"{subject} is not held", "see: safehold log list")
            if not despite_findings:
                check_clean(
                    view,
                    _covered_hosts(view, subject),
                    Clean(max(hold.placed_t for hold in holds), clean_for(view, [hold.hold for hold in holds]), now),
                )
            decision = self._decision(view, "lift", subject, reason, member, now)
            lifted = [
                HoldLifted(
                    t=now, by=self._by, hold=hold.hold, subject=subject, reason=reason, decision=decision.decision
                )
                for hold in holds
            ]
            return Draft((decision, *lifted))

        entries = self._log.append(propose)
        lifted = tuple(entry.statement.hold for entry in entries if isinstance(entry.statement, HoldLifted))
        return Lifted(lifted, subject, entries[0])

    def _decision(
        self, view: View, ruling: str, subject: Subject, reason: str, member: MemberId | None, now: int
    ) -> DecisionMade:
        known = view.rows(
            "SELECT document FROM advisory a WHERE idx ="
            " (SELECT max(idx) FROM advisory b WHERE b.advisory = a.advisory) ORDER BY idx DESC LIMIT 200"
        )
        return DecisionMade(
            t=now,
            by=self._by,
            decision=DecisionId("d-" + secrets.token_hex(8)),
            ruling="suspend" if ruling == "suspend" else "lift",
            subject=subject,
            reason=reason,
            member=member,
            advisories=tuple(Digest(row[0]) for row in known),
        )


def preview(view: View, subject: Subject, now: int) -> Effect:
    """What a hold on ``subject`` would stop; changes nothing. ``NotFound`` for a subject that is not known."""
    _check_subject(view, subject)
    hosts = _covered_hosts(view, subject)
    grants = tuple(grant.grant for grant in list_grants(view) if grant.until > now and _stops(subject, grant))
    running = view.rows(
        "SELECT count(*) FROM key_release k LEFT JOIN release r ON r.release = k.release"
        f' WHERE k.until > ?1 AND (k."{subject.kind}" = ?2 OR (?3 AND r.party = ?2))',
        now,
        subject.id,
        subject.kind == "party",
    )
    held = tuple(hold.hold for hold in active_holds(view, [subject]))
    return Effect(subject, hosts, grants, running[0][0], held)


def _stops(subject: Subject, grant: GrantRow) -> bool:
    """Whether a hold on ``subject`` stops all that ``grant`` allows. Compared by kind: ids of two kinds may be equal."""
    match subject.kind:
        case "party":
            return subject.id in (grant.party, party_of(grant.dataset))
        case "host":
            return grant.host == subject.id
        case "dataset":
            return grant.dataset == subject.id
        case "grant":
            return grant.grant == subject.id
    return False  # a member or one release: the grant goes on for others


def _covered_hosts(view: View, subject: Subject) -> tuple[HostId, ...]:
    if subject.kind == "party":
        return tuple(host.host for host in list_hosts(view, PartyId(subject.id)))
    return (HostId(subject.id),) if subject.kind == "host" else ()


def _check_subject(view: View, subject: Subject) -> None:
    if not view.rows(f'SELECT 1 FROM "{subject.kind}" WHERE "{subject.kind}" = ?', subject.id):
        raise NotFound(
            "containment.no_subject", f"{subject} is not known here", "check the name; see: safehold log list"
        )


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > _MAX_REASON:
        raise InputInvalid(
            "containment.reason", f"a ruling needs a reason of at most {_MAX_REASON} characters", 'add --reason "…"'
        )
