"""Opening a release through the broker: one request for all keys of the read, then the vault. No key on any disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from safehold.broker.client import BrokerDoor, KeyOrder, OpenedKeys, request_keys
from safehold.broker.proof import RequestSigner, Signers
from safehold.vault.open import OpenedRelease, open_loaded
from safehold.vault.verify import expect_release, load_release

__all__ = ["Opening", "open_with_broker"]


class Opening(msgspec.Struct, frozen=True):
    """An opened release and the key release that opened it (its entry, its receipt, the end of its lease)."""

    opened: OpenedRelease
    keys: OpenedKeys


def open_with_broker(
    folder: Path, order: KeyOrder, door: BrokerDoor, signer: RequestSigner | Signers, clock: Callable[[], int]
) -> Opening:
    """Ask the broker, check everything, and return the release ready to read.

    Raises ``Refused`` with the broker's reason, and what ``vault.open`` raises.
    """
    # Before asking: a release that is not there, or is another one, must not cost a key release on record.
    loaded = expect_release(load_release(folder), order.release)
    keys = request_keys(door, order, signer, clock)
    return Opening(open_loaded(loaded, order.release, keys.keys, order.groups), keys)
