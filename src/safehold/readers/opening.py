"""Opening a release through the broker: one request for all keys of the read, then the vault. No key on any disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from safehold.broker.client import BrokerDoor, KeyOrder, OpenedKeys, request_keys
from safehold.broker.proof import RequestSigner, Signers
from safehold.vault.open import OpenedRelease, checked_keys, needed_files, open_loaded
from safehold.vault.spool import Spool, check_stored_sizes
from safehold.vault.stored_release import expect_stored
from safehold.vault.verify import expect_release, load_release

__all__ = ["Opening", "open_with_broker"]


class Opening(msgspec.Struct, frozen=True):
    """An opened release and the key release that opened it (its entry, its receipt, the end of its lease)."""

    opened: OpenedRelease
    keys: OpenedKeys


def open_with_broker(
    place: Path | Spool, order: KeyOrder, door: BrokerDoor, signer: RequestSigner | Signers, clock: Callable[[], int]
) -> Opening:
    """Ask the broker, check everything, and return the release ready to read: from its folder, or through a spool from a store.

    Raises ``Refused`` with the broker's reason, and what ``vault.open`` raises.
    """
    # Before asking: a release that is not there, or is another one, must not cost a key release on record.
    if isinstance(place, Spool):
        manifest = expect_stored(place.release, order.release).manifest
        needed = needed_files(manifest, order.groups)
        check_stored_sizes(place.release, needed)
        released = request_keys(door, order, signer, clock)
        checked = checked_keys(needed, released.keys)
        return Opening(OpenedRelease(place.folder, manifest, checked, order.groups, place), released)
    loaded = expect_release(load_release(place), order.release)
    keys = request_keys(door, order, signer, clock)
    return Opening(open_loaded(loaded, order.release, keys.keys, order.groups), keys)
