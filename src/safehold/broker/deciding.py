"""Steps 4 to 8 for one request: the facts as they stand at its place, the ruling, and the statement that says so.

Called inside the ledger's transaction. ``policy.decide`` rules on values; here they are gathered, and what the ruling
became is put into words for the ledger.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from safehold.broker.attempt import Attempt
from safehold.broker.grants import VerifiedGrant
from safehold.broker.leases import new_lease_id
from safehold.broker.policy import BrokerPolicy, Denial, Facts, decide, hold_subjects
from safehold.broker.proof import Proof
from safehold.broker.request import KeyRequest
from safehold.model.errors import Refused
from safehold.model.ids import Digest, HostId, KeyId, RequestId, Subject, sha256_digest
from safehold.model.statements import KeyReleased, Statement
from safehold.model.statements_access import LeaseEnded, LeaseOpened
from safehold.state.remembered import Standing
from safehold.state.standing import GrantRow, HostRow, ReleaseRow

__all__ = ["Moment", "decide_attempt", "lease_end"]

_MICROSECONDS = 1_000_000
_HOUR = 3600 * _MICROSECONDS
_ENDING = frozenset({"broker.grant_revoked", "broker.grant_time", "broker.lease_over"})


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of one commit are decided by: the standing there, the time, the ids used before, the limits."""

    standing: Standing
    now: int
    used: AbstractSet[RequestId]
    policy: BrokerPolicy
    by: KeyId
    given: dict[HostId, int] = {}

    def released(self, host: HostId) -> int:
        """Key releases of a host within the hour, those of this commit included."""
        return self.standing.released_since(host, self.now - _HOUR) + self.given.get(host, 0)


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    request: KeyRequest
    token: VerifiedGrant
    host: HostRow
    release: ReleaseRow
    grant: GrantRow
    inventories: tuple[Digest, ...]


def decide_attempt(attempt: Attempt, moment: Moment) -> Statement:
    """The statement that answers this request, or ``Denial``."""
    terms = _decide(attempt, moment)
    moment.given[terms.host.host] = moment.given.get(terms.host.host, 0) + 1
    if attempt.session is not None:
        return _released(terms, moment, _check_lease(attempt, terms, moment))
    if attempt.wish is not None:
        return _opened(attempt, terms, moment)
    return _released(terms, moment, moment.now + moment.policy.lease * _MICROSECONDS)


def _decide(attempt: Attempt, moment: Moment) -> _Terms:
    standing, request, token, proven = moment.standing, attempt.request, attempt.token, attempt.host
    if request is None or token is None or proven is None:
        raise Denial(4, "broker.internal", "the request was not proven")
    host = standing.host(request.host)
    if host is None or host.key != proven.key:
        raise Denial(
            3, "broker.host_changed", f"the key of {request.host} was changed in this moment", "ask again with its key"
        )
    release, grant = standing.release(request.release), standing.grant(token.grant)
    facts = Facts(
        request=request,
        created=attempt.proof.created if isinstance(attempt.proof, Proof) else moment.now // _MICROSECONDS,
        now=moment.now,
        replayed=request.request in moment.used,
        host=host,
        release=release,
        grant=grant,
        token=token,
        inventories=standing.inventories(request.host),
        holds=standing.holds(hold_subjects(request, host, release, token.grant)),
        policy=moment.policy,
        revoked=standing.revoked(),
        **_asked_besides(attempt, moment, release),
    )
    inventories = decide(facts)  # 4 - 7
    if release is None or grant is None:  # decided above; said again for whoever changes the decision
        raise Denial(7, "broker.no_release", "there is no such release")
    return _Terms(request=request, token=token, host=host, release=release, grant=grant, inventories=inventories)


def _asked_besides(attempt: Attempt, moment: Moment, release: ReleaseRow | None) -> dict[str, Any]:
    """What only a policy asks for: read only where one does."""
    policy, standing, request = moment.policy, moment.standing, attempt.request
    facts: dict[str, Any] = {}
    if request is None:
        return facts
    if policy.releases_per_hour is not None:
        facts["released_this_hour"] = moment.released(request.host)
    rule = policy.rule_for(release.dataset) if release else None
    if rule is None or request.member is None:
        return facts
    if attempt.member_key is not None:
        facts["member_proven"] = attempt.member_key == standing.member_key(request.member)
    if rule.two_person:
        # A hold on a member stops his word for others, too.
        given = standing.approvals(rule.dataset, request.host)
        facts["approvals"] = tuple(one for one in given if not standing.holds([Subject("member", one.approver)]))
    return facts


def _released(terms: _Terms, moment: Moment, until: int) -> KeyReleased:
    request, release = terms.request, terms.release
    return KeyReleased(
        t=moment.now,
        by=moment.by,
        request=request.request,
        release=request.release,
        dataset=release.dataset,
        groups=request.groups,
        parts=release.parts,
        party=terms.host.party,
        host=terms.host.host,
        member=request.member,
        grant=terms.token.grant,
        purpose=request.purpose,
        inventories=terms.inventories,
        reader=sha256_digest(request.reader),
        until=min(until, terms.grant.until),
    )


def _opened(attempt: Attempt, terms: _Terms, moment: Moment) -> LeaseOpened:
    request, wish, policy = terms.request, attempt.wish, moment.policy
    seconds, keys = (wish.seconds, wish.keys) if wish else (0, 0)
    return LeaseOpened(
        t=moment.now,
        by=moment.by,
        lease=new_lease_id(),
        request=request.request,
        party=terms.host.party,
        host=terms.host.host,
        member=request.member,
        grant=terms.token.grant,
        dataset=terms.release.dataset,
        purpose=request.purpose,
        inventories=terms.inventories,
        reader=sha256_digest(request.reader),
        until=min(moment.now + min(seconds, policy.lease) * _MICROSECONDS, terms.grant.until),
        keys=min(keys, policy.lease_keys),
    )


def _check_lease(attempt: Attempt, terms: _Terms, moment: Moment) -> int:
    """What a lease asks for besides: that it goes on, that nothing broke it, that its budget has room. Its end."""
    session = attempt.session
    found = moment.standing.lease(session.lease) if session else None
    if session is None or found is None:
        raise Denial(4, "broker.lease_unknown", "there is no such lease", "open a new lease")
    lease = found.row
    if lease.ended_idx is not None:
        raise Denial(
            4,
            "broker.lease_ended",
            f"{lease.lease} was ended in entry {lease.ended_idx}: {lease.reason}",
            "open a new lease",
        )
    if moment.now >= lease.until:
        raise Denial(4, "broker.lease_over", f"the time of {lease.lease} is over", "open a new lease")
    if found.broken is not None:
        if found.broken.by == "hold":
            raise Denial(6, "broker.held", found.broken.reason, "open a new lease")
        raise Denial(5, "broker.lease_inventory", found.broken.reason, "open a new lease")
    try:
        session.spend(terms.request.request, terms.release.parts * len(terms.request.groups), lease.keys)
    except Refused as error:
        raise Denial(7, error.code, error.message, error.hint) from error
    return lease.until


def lease_end(attempt: Attempt, denial: Denial, moment: Moment) -> LeaseEnded | None:
    """The end of the lease that a refused request came by, if what refused it ends the lease too."""
    session = attempt.session
    if session is None or not (denial.step in (5, 6) or denial.code in _ENDING):
        return None
    found = moment.standing.lease(session.lease)
    if found is None or found.row.ended_idx is not None:
        return None
    return LeaseEnded(t=moment.now, by=moment.by, lease=session.lease, code=denial.code, reason=denial.message[:1000])
