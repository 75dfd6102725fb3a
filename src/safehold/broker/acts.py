"""Acts on what the broker has given out: revoke a block of a grant, end a lease. Entries, and nothing besides.

They count from their place on: the broker reads them inside the transaction that appends its answer.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from safehold.broker.grants import token_blocks, verify_grant
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, NotFound
from safehold.model.ids import GrantId, KeyId, LeaseId
from safehold.model.statements_access import GrantRevoked, LeaseEnded
from safehold.state.standing import find_grant
from safehold.state.standing_access import find_lease, list_revocations

__all__ = ["GrantActs", "Node", "grant_tree"]

_MAX_REASON = 1000


class GrantActs:
    """Revokes and ends for the operator ``by``. ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def revoke_grant(self, grant: GrantId, reason: str) -> Entry:
        """Revoke a whole grant: every token of it, however it was narrowed. ``NotFound`` (``broker.revoke_unknown``)."""

        def propose(view: View) -> Draft:
            row = find_grant(view, grant)
            if row is None:
                raise NotFound("broker.revoke_unknown", f"there is no grant {grant}", "see: safehold grant list")
            return self._revoked(view, grant, row.revocation, reason)

        return self._log.append(propose)[0]

    def revoke_block(self, token: str, root: bytes, block: int, reason: str) -> Entry:
        """Revoke what was narrowed from block ``block`` of ``token`` on; 0 is the grant as issued.

        Raises ``InputInvalid`` (``broker.revoke_block``), ``NotFound`` (``broker.revoke_unknown``) or ``Conflict``
        (``broker.revoke_again``).
        """
        verified = verify_grant(token, root)
        if not 0 <= block < len(verified.revocations):
            raise InputInvalid(
                "broker.revoke_block",
                f"the grant has the blocks 0 to {len(verified.revocations) - 1}, and no block {block}",
                "see them with: safehold grant tree FILE",
            )

        def propose(view: View) -> Draft:
            if find_grant(view, verified.grant) is None:
                raise NotFound(
                    "broker.revoke_unknown", f"{verified.grant} is not of this ledger", "is it another lab's?"
                )
            return self._revoked(view, verified.grant, verified.revocations[block], reason)

        return self._log.append(propose)[0]

    def _revoked(self, view: View, grant: GrantId, revocation: str, reason: str) -> Draft:
        _check_reason(reason)
        known = list_revocations(view).get(revocation)
        if known is not None:
            raise Conflict(
                "broker.revoke_again", f"it was revoked in entry {known[0]}: {known[1]}", "nothing is to be done"
            )
        return Draft((GrantRevoked(t=self._clock(), by=self._by, grant=grant, revocation=revocation, reason=reason),))

    def end_lease(self, lease: LeaseId, reason: str) -> Entry:
        """End a lease now. Raises ``NotFound`` (``broker.no_lease``) or ``Conflict`` (``broker.lease_over_already``)."""
        _check_reason(reason)

        def propose(view: View) -> Draft:
            now, row = self._clock(), find_lease(view, lease)
            if row is None:
                raise NotFound("broker.no_lease", f"there is no lease {lease}", "see: safehold lease list")
            if row.ended_idx is not None or row.until <= now:
                raise Conflict("broker.lease_over_already", f"{lease} has ended already", "see: safehold lease list")
            return Draft((LeaseEnded(t=now, by=self._by, lease=lease, code="asked", reason=reason),))

        return self._log.append(propose)[0]


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > _MAX_REASON:
        raise InputInvalid(
            "broker.reason", f"it needs a reason of at most {_MAX_REASON:,} characters", 'add --reason "…"'
        )


class Node(msgspec.Struct):
    """A block in the tree of tokens: what it says in words, its revocation id, which files end in it, what follows."""

    block: int
    says: tuple[str, ...]
    revocation: str
    files: list[str]
    children: list[Node]


def grant_tree(tokens: list[tuple[str, str, bytes]]) -> list[Node]:
    """The blocks of several tokens (name, token, root key) as trees: tokens that share their first blocks share nodes."""
    roots: list[Node] = []
    for name, token, root in tokens:
        level = roots
        node: Node | None = None
        for number, (revocation, says) in enumerate(token_blocks(token, root)):
            node = next((one for one in level if one.revocation == revocation), None)
            if node is None:
                node = Node(number, says, revocation, [], [])
                level.append(node)
            level = node.children
        if node is not None:
            node.files.append(name)
    return roots
