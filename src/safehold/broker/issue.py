"""Issuing grants: the entry first, then the token. A token that was never recorded opens nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import msgspec

from safehold.broker.grants import GrantKey, GrantTerms, token_digest, verify_grant
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import NotFound
from safehold.model.ids import DatasetId, GroupName, HostId, KeyId, PartyId, Purpose, parse_grant_id
from safehold.model.statements import GrantIssued
from safehold.state.standing import find_dataset_party, find_host, find_party_key

__all__ = ["GrantOrder", "IssuedGrant", "issue_grant"]


class GrantOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be granted to whom; ``host`` None lets any registered host of ``party`` use it. Times in µs UTC."""

    party: PartyId
    host: HostId | None
    dataset: DatasetId
    groups: Sequence[GroupName]
    purposes: Sequence[Purpose]
    not_before: int
    until: int


class IssuedGrant(msgspec.Struct, frozen=True):
    """A grant in force: its terms, its token, the public key that it verifies under, its entry."""

    terms: GrantTerms
    token: str
    root: bytes
    entry: Entry


def issue_grant(log: Log, key: GrantKey, order: GrantOrder, clock: Callable[[], int], by: KeyId) -> IssuedGrant:
    """Record and sign a grant. Raises ``NotFound`` (``broker.grant_to``, ``broker.grant_of``) or ``InputInvalid``."""
    issued: list[tuple[GrantTerms, str]] = []

    def propose(view: View) -> Draft:
        issued.clear()
        terms = _terms(view, order)
        token = key.issue(terms)
        revocation = verify_grant(token, key.public_bytes).revocations[0]
        issued.append((terms, token))
        statement = GrantIssued(
            t=clock(),
            by=by,
            grant=terms.grant,
            party=terms.party,
            host=terms.host,
            dataset=terms.dataset,
            groups=terms.groups,
            purposes=terms.purposes,
            not_before=terms.not_before,
            until=terms.until,
            token=token_digest(token),
            revocation=revocation,
        )
        return Draft((statement,))

    entry = log.append(propose)[0]
    return IssuedGrant(*issued[-1], key.public_bytes, entry)


def _terms(view: View, order: GrantOrder) -> GrantTerms:
    if find_party_key(view, order.party) is None:
        raise NotFound("broker.grant_to", f"{order.party} is not registered", "register it: safehold party add")
    if find_dataset_party(view, order.dataset) is None:
        raise NotFound("broker.grant_of", f"{order.dataset} is not registered", "register it: safehold dataset add")
    host_key = None
    if order.host is not None:
        host = find_host(view, order.host)
        if host is None or host.party != order.party:
            raise NotFound(
                "broker.grant_to", f"{order.host} is not a host of {order.party}", "register it: safehold host add"
            )
        host_key = PublicKey.parse(host.key).key_id
    return GrantTerms(
        grant=parse_grant_id("g-" + secrets.token_hex(8)),
        party=order.party,
        host=order.host,
        host_key=host_key,
        dataset=order.dataset,
        groups=tuple(dict.fromkeys(order.groups)),
        purposes=tuple(dict.fromkeys(order.purposes)),
        not_before=order.not_before,
        until=order.until,
    )
