"""The decision: pure. Facts in; the keys' terms out, or a ``Denial`` with a reason and the one thing to do next.

Steps 4 to 7 of design §6 are judged here, in order, on values that were read inside the transaction that will hold
the answer. There is no default that allows: what is not established is denied. A second, naive version of this
function lives in the tests and must agree on random facts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from safehold.broker.grants import TokenRequest, VerifiedGrant
from safehold.broker.request import KeyRequest
from safehold.model.errors import Refused
from safehold.model.ids import DatasetId, Digest, GrantId, Purpose, Subject, party_of
from safehold.state.standing import CurrentInventory, GrantRow, HoldRow, HostRow, ReleaseRow
from safehold.state.standing_access import ApprovalRow

__all__ = ["BrokerPolicy", "DatasetRule", "Denial", "Facts", "decide", "hold_subjects"]

_SECOND = 1_000_000


class DatasetRule(msgspec.Struct, frozen=True, kw_only=True):
    """What one dataset asks for besides: ``purposes`` None allows what the grant allows."""

    dataset: DatasetId
    purposes: tuple[Purpose, ...] | None = None
    inventory_max_age: int | None = None
    member_signature: bool = False
    two_person: bool = False


class BrokerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits in seconds: age of an inventory, difference of clocks, life of released keys and of a lease; and the part
    keys that a lease may give. ``response``: the profile that proposes what to do after an incident.
    """

    inventory_max_age: int = 3600
    clock_tolerance: int = 60
    lease: int = 300
    lease_keys: int = 100_000
    releases_per_hour: int | None = None
    datasets: tuple[DatasetRule, ...] = ()
    response: Literal["strict", "measured", "watchful"] = "measured"

    def rule_for(self, dataset: DatasetId) -> DatasetRule | None:
        """What is said of this dataset besides, or None."""
        return next((rule for rule in self.datasets if rule.dataset == dataset), None)


class Denial(Refused):
    """A refusal with the step (1 - 11) that made it."""

    def __init__(self, step: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.step = step


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when the decision is made. ``now`` in µs UTC, ``created`` in seconds."""

    request: KeyRequest
    created: int
    now: int
    replayed: bool
    host: HostRow
    release: ReleaseRow | None
    grant: GrantRow | None
    token: VerifiedGrant
    inventories: tuple[CurrentInventory, ...]
    holds: tuple[HoldRow, ...]
    policy: BrokerPolicy
    revoked: frozenset[str] = frozenset()
    member_proven: bool = False
    approvals: tuple[ApprovalRow, ...] = ()
    released_this_hour: int = 0


def hold_subjects(request: KeyRequest, host: HostRow, release: ReleaseRow | None, grant: GrantId) -> list[Subject]:
    """Everything whose hold would stop this request: whoever asks, and whatever is asked for and by whom it was made."""
    subjects = [
        Subject("party", host.party),
        Subject("host", host.host),
        Subject("release", request.release),
        Subject("grant", grant),
    ]
    if request.member is not None:
        subjects.append(Subject("member", request.member))
    if release is not None:
        subjects += [Subject("dataset", release.dataset), Subject("party", release.party)]
    return subjects


def decide(facts: Facts) -> tuple[Digest, ...]:
    """Return the inventories that the release rests on, or raise ``Denial``."""
    _check_freshness(facts)
    inventories = _check_inventories(facts)
    _check_holds(facts)
    _check_grant(facts)
    _check_policy(facts)
    return inventories


def _check_freshness(facts: Facts) -> None:  # step 4
    difference = facts.created - facts.now // _SECOND
    if abs(difference) > facts.policy.clock_tolerance:
        side = "ahead of" if difference > 0 else "behind"
        raise Denial(
            4,
            "broker.stale",
            f"the request was made {abs(difference)} s {side} the broker's clock; {facts.policy.clock_tolerance} s are allowed",
            "set the host's clock (NTP), then ask again",
        )
    if facts.replayed:
        raise Denial(
            4, "broker.replayed", "this request was answered before", "make a new request; each has an id of its own"
        )


def _check_inventories(facts: Facts) -> tuple[Digest, ...]:  # step 5
    if not facts.inventories:
        raise Denial(
            5,
            "broker.inventory_absent",
            f"{facts.host.host} has never reported what it holds",
            f"run: safehold inventory record {facts.host.host} --environment FOLDER --key KEY",
        )
    rule = facts.policy.rule_for(facts.release.dataset) if facts.release else None
    allowed = min(facts.policy.inventory_max_age, (rule.inventory_max_age if rule else None) or 10**9)
    for seen in facts.inventories:
        # The older of the two times counts: a host cannot look fresh by a clock set forward,
        # nor by sending an old report late.
        age = (facts.now - min(seen.until, seen.t)) // _SECOND
        if age > allowed:
            raise Denial(
                5,
                "broker.inventory_old",
                f"the newest inventory of {facts.host.host} ({seen.environment}) is {age} s old;"
                f" {allowed} s are allowed",
                "run the agent there and record its report, then ask again",
            )
        if not seen.readable:
            raise Denial(
                5,
                "broker.inventory_unreadable",
                f"the contents of the newest inventory of {facts.host.host} ({seen.environment}) are not kept here",
                "run the agent there with --full and record its report, then ask again",
            )
        for finding in seen.findings:
            raise Denial(
                5,
                "broker.inventory_unclean",
                f"{facts.host.host} holds {finding.what}, named by {finding.advisory} (entry {finding.idx})",
                f"remove {finding.what} from {seen.environment}, rebuild the host if it ran, run the agent again",
            )
    return tuple(seen.inventory for seen in facts.inventories)


def _check_holds(facts: Facts) -> None:  # step 6
    for hold in facts.holds:
        raise Denial(
            6,
            "broker.held",
            f"{hold.subject} is suspended since entry {hold.placed_idx}: {hold.reason}",
            "the lab lifts a hold with `safehold lift`; until then nothing opens",
        )


def _check_retired(release: ReleaseRow) -> None:  # step 7
    if release.retired is not None:
        raise Denial(
            7,
            "broker.retired",
            f"{release.name} was retired in entry {release.retired}",
            f"open {release.successor}: it holds the same records under new keys"
            if release.successor is not None
            else "open a later release: safehold dataset list",
        )


def _check_grant(facts: Facts) -> None:  # step 7
    request, grant, release, now = facts.request, facts.grant, facts.release, facts.now
    if release is None:
        raise Denial(7, "broker.no_release", "there is no such release", "see: safehold dataset list")
    _check_retired(release)
    if grant is None or grant.grant != facts.token.grant or grant.revocation != facts.token.revocations[0]:
        raise Denial(7, "broker.grant_unknown", "this grant is not in the ledger", "ask the lab for a new grant")
    for place, block in enumerate(facts.token.revocations):
        if block in facts.revoked:
            what = f"block {place} of this grant" if place else "this grant"
            raise Denial(7, "broker.grant_revoked", f"{what} was revoked", "ask whoever gave it for another one")
    if now >= grant.until or now < grant.not_before:
        word = "has ended" if now >= grant.until else "has not begun"
        raise Denial(7, "broker.grant_time", f"{grant.grant} {word}", "ask the lab for a grant for this time")
    if grant.party != facts.host.party or grant.host not in (None, facts.host.host):
        raise Denial(
            7, "broker.grant_holder", f"{grant.grant} is for {grant.host or grant.party}", "use the grant of this host"
        )
    if request.member is not None and party_of(request.member) != facts.host.party:
        # Who sits at the host is its party's word. Nobody else's people may be named into the ledger by it.
        raise Denial(
            7,
            "broker.member_party",
            f"{request.member} is not of {facts.host.party}, whose host asks",
            "name a member of the host's own party, or none",
        )
    if grant.dataset != release.dataset:
        raise Denial(7, "broker.grant_dataset", f"{grant.grant} is for {grant.dataset}", "ask for a release of that")
    missing = [group for group in request.groups if group not in grant.groups or group not in release.groups]
    if missing:
        raise Denial(
            7,
            "broker.grant_groups",
            f"{grant.grant} does not cover the column group {missing[0]} of {release.name}",
            f"it covers: {', '.join(grant.groups)}; name them with --groups",
        )
    if request.purpose not in grant.purposes:
        raise Denial(
            7,
            "broker.grant_purpose",
            f"{grant.grant} is not for the purpose {request.purpose}",
            f"it is for: {', '.join(grant.purposes)}",
        )
    try:
        facts.token.authorize(
            TokenRequest(
                party=facts.host.party,
                host=facts.host.host,
                host_key=request.host_key,
                member=request.member,
                dataset=release.dataset,
                groups=request.groups,
                purpose=request.purpose,
                now=now,
            )
        )
    except Refused as error:
        raise Denial(7, error.code, error.message, error.hint) from error


def _check_policy(facts: Facts) -> None:  # step 7
    """What the lab asks for besides the grant: see ``policy_file``."""
    most = facts.policy.releases_per_hour
    if most is not None and facts.released_this_hour >= most:
        raise Denial(
            7,
            "broker.budget",
            f"{facts.host.host} had {facts.released_this_hour} key releases within an hour; {most} are allowed",
            "ask again later, for more keys at a time, or ask the lab for another policy",
        )
    rule = facts.policy.rule_for(facts.release.dataset) if facts.release else None
    if rule is None:
        return
    request = facts.request
    if rule.purposes is not None and request.purpose not in rule.purposes:
        raise Denial(
            7,
            "broker.policy_purpose",
            f"the policy does not open {rule.dataset} for the purpose {request.purpose}",
            f"it opens it for: {', '.join(rule.purposes) or 'none'}",
        )
    if not (rule.member_signature or rule.two_person):
        return
    if request.member is None:
        raise Denial(
            7, "broker.member_needed", f"{rule.dataset} opens for a named member only", "name who asks: --member"
        )
    if rule.member_signature and not facts.member_proven:
        raise Denial(
            7,
            "broker.member_unproven",
            f"{rule.dataset} asks for the signature of {request.member}",
            "sign with the member's key, too: --member-key FILE",
        )
    if rule.two_person and not any(_approves(facts, one) for one in facts.approvals):
        raise Denial(
            7,
            "broker.not_approved",
            f"no second member has approved that {request.member} opens {rule.dataset} on {facts.host.host}",
            "ask for an approval: safehold approval write",
        )


def _approves(facts: Facts, approval: ApprovalRow) -> bool:
    member = facts.request.member
    return approval.member == member and approval.approver != member and facts.now < approval.until
