"""Open a store, and refuse one whose promises do not hold.

Publishing rests on two: a second ``create`` fails, and so does a ``replace`` with a stale tag. Some servers that speak S3
accept the headers and ignore them; there two sealers would both win, and a signature could vanish. So the probe
tries both, on an object of its own, before anything is written. Reading needs no probe: readers check digests.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from safehold.model.errors import Conflict, SafeholdError, StorageFailed
from safehold.vault.store import Location, Store
from safehold.vault.store_local import FolderStore
from safehold.vault.store_s3 import BucketStore, S3Access, StoreLimits

__all__ = ["open_store", "probe_store"]


def open_store(location: Location, access: S3Access, limits: StoreLimits | None = None) -> Store:
    """The store at ``location``. Raises ``NotFound`` (``vault.no_s3``) or ``InputInvalid`` (``vault.store_credentials``)."""
    return FolderStore(location) if location.bucket is None else BucketStore(location, access, limits)


def probe_store(store: Store) -> Store:
    """Return ``store`` if its conditional writes hold; the probe's object is removed again.

    Raises ``StorageFailed`` (``vault.store_unsafe``), or what the store raises.
    """
    name = f"probe-{secrets.token_hex(8)}"
    try:
        tag = store.create(name, b"one")
        try:
            store.create(name, b"two")
        except Conflict:
            pass
        else:
            raise _unsafe(store, "it lets a second writer replace what a first one created")
        newer = store.replace(name, b"three", tag)
        if store.read(name, 16)[0] != b"three" or newer == tag:
            raise _unsafe(store, "what was written is not what is read")
        try:
            store.replace(name, b"four", tag)
        except Conflict:
            return store
        raise _unsafe(store, "it replaces an object that has changed since it was read")
    finally:
        with suppress(SafeholdError):
            store.delete(name)


def _unsafe(store: Store, reason: str) -> StorageFailed:
    return StorageFailed(
        "vault.store_unsafe",
        f"{store.location.url} does not honour conditional writes: {reason}",
        "use a store that does, such as Amazon S3 or SeaweedFS: here two releases could both win",
    )
