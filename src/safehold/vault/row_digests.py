"""Keyed digests of the records of a part, made so that one record can be proved without telling of any other.

For record ``i`` of a part file:

* ``row key`` = HKDF-Expand-SHA256 (RFC 5869) of the file's key, info ``"safehold row digests v1" ‖ 0x00 ‖ AAD prefix``;
* ``salt`` = HMAC-SHA256(row key, ``i`` as 8 bytes, big-endian);
* ``entry`` = HMAC-SHA256(salt, the record's bytes, ``row_form``).

The entries are the leaves of an RFC 6962 tree; the manifest holds its root (``rows_root``). A proof shows salt, record and
path. *It binds*: two records with one entry, under any salts, are a collision of SHA-256, since a salt has 32 bytes always.
*It hides*: the entries of other records are HMACs under salts that nobody is shown, so a short record cannot be guessed
from them, and one salt tells nothing of another. Who has the key of the file can make every proof, and reads every record
anyway.

The tree itself is the ledger's (``RowTree`` is a port): there is one implementation of it here.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from safehold.model.ids import Digest

__all__ = ["SALT_BYTES", "RowTree", "row_entries", "row_entry", "row_salts"]

SALT_BYTES: Final = 32
_INFO: Final = b"safehold row digests v1\x00"

RowTree = Callable[[Sequence[bytes]], Digest]
"""The root of the RFC 6962 tree over entries."""


def row_salts(key: bytes, aad: str) -> Callable[[int], bytes]:
    """The salt of each record of a part file, by its place in the file from 0."""
    row_key = HKDFExpand(algorithm=SHA256(), length=32, info=_INFO + aad.encode()).derive(key)
    return lambda place: hmac.digest(row_key, place.to_bytes(8, "big"), "sha256")


def row_entry(salt: bytes, row: bytes) -> bytes:
    """What stands in the tree for a record."""
    return hmac.digest(salt, row, "sha256")


def row_entries(rows: Iterable[bytes], key: bytes, aad: str) -> list[bytes]:
    """The entries of all records of a part file, in order."""
    salt, digest = row_salts(key, aad), hmac.digest
    return [digest(salt(place), row, "sha256") for place, row in enumerate(rows)]
