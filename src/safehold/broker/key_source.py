"""Where a reader gets keys from: a port, and the broker in the same process behind it.

A reader asks in two ways. ``request`` is a request for keys: decided, recorded, answered or refused. ``check`` asks only
whether a hold stops the order now, so that a long read ends at its next part and not at the end of its lease. It
makes no entry, since nothing is released by it; it never allows anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from safehold.broker.client import BrokerDoor, KeyOrder, OpenedKeys, request_keys
from safehold.broker.grants import verify_grant
from safehold.broker.proof import RequestSigner
from safehold.ledger.log import Log
from safehold.model.errors import Refused
from safehold.model.ids import Subject, party_of
from safehold.state.standing import active_holds, find_release

__all__ = ["KeySource", "LocalKeys", "check_holds"]


class KeySource(Protocol):
    """Gives keys for an order, or says why not."""

    def request(self, order: KeyOrder) -> OpenedKeys:
        """All keys of the order in one request. Raises ``Refused``, or what the connection raises."""
        ...

    def check(self, order: KeyOrder) -> None:
        """Raise ``Refused`` if a hold stops the order now. No entry, no key."""
        ...


class LocalKeys:
    """The broker in this process; ``check`` looks into its ledger, ``clock`` gives µs UTC."""

    def __init__(
        self,
        door: BrokerDoor,
        signer: RequestSigner,
        clock: Callable[[], int],
        check: Callable[[KeyOrder], None] | None = None,
    ) -> None:
        self._door = door
        self._signer = signer
        self._clock = clock
        self._check = check

    def request(self, order: KeyOrder) -> OpenedKeys:
        """As the port."""
        return request_keys(self._door, order, self._signer, self._clock)

    def check(self, order: KeyOrder) -> None:
        """As the port; without a ledger to look into it finds nothing."""
        if self._check is not None:
            self._check(order)


def check_holds(log: Log, grant_root: bytes, order: KeyOrder) -> None:
    """Raise ``Refused`` (``broker.held_now``) if a hold that stands now covers the order's host, party, member, grant or release."""
    subjects = [
        Subject("party", party_of(order.host)),
        Subject("host", order.host),
        Subject("release", order.release),
        Subject("grant", verify_grant(order.grant, grant_root).grant),
    ]
    if order.member is not None:
        subjects.append(Subject("member", order.member))
    with log.view() as view:
        release = find_release(view, order.release)
        if release is not None:
            subjects += [Subject("dataset", release.dataset), Subject("party", release.party)]
        for hold in active_holds(view, subjects):
            raise Refused(
                "broker.held_now",
                f"{hold.subject} is suspended since entry {hold.placed_idx}: {hold.reason}",
                "the lab lifts a hold with `safehold lift`; until then nothing opens",
            )
