"""Keys of part files: how they are made, what they are bound to, how a manifest commits to them.

**One fresh key a file.** 256 bits from the system's random source, used for one file and never again: GCM with
random nonces is safe for the few thousand modules of one file, and losing a key loses one file.

**Bound data.** The AAD prefix of a file is the canonical form of who made it and where it belongs. It is not
stored in the file, so a file moved to another part, group, version, dataset or party does not decrypt.

**Commitment.** GCM does not commit to its key: one can build a file that decrypts under two keys to two
contents (Len, Grubbs, Ristenpart, "Partitioning Oracle Attacks", USENIX Security 2021). So the signed manifest
holds ``SHA-256("safehold key commitment v1" ‖ 0x00 ‖ key ‖ AAD)`` for each file. It *binds* because two keys
with one commitment are a SHA-256 collision (prefix and key have fixed lengths, so the input parses one way),
and it *hides* because the key is 256 uniform bits: there is nothing to guess. A password would need more.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from safehold.model.errors import VerificationFailed
from safehold.model.ids import DatasetId, Digest, GroupName, PartyId

__all__ = ["KEY_BYTES", "aad_text", "check_key", "key_commitment", "new_part_key"]

KEY_BYTES: Final = 32
_PREFIX: Final = b"safehold key commitment v1\x00"


def new_part_key() -> bytes:
    """A fresh 256-bit key for one part file."""
    return secrets.token_bytes(KEY_BYTES)


def aad_text(party: PartyId, dataset: DatasetId, version: int, part: int, group: GroupName) -> str:
    """The AAD prefix of one part file, as text; its UTF-8 bytes are what Parquet encryption binds."""
    # Written out: a manifest has one for each part file, and ids hold nothing that JSON would escape. A test compares
    # it with the canonical form.
    return (
        f'{{"aad":"safehold part v1","dataset":"{dataset}","group":"{group}","part":{part:d},'
        f'"party":"{party}","version":{version:d}}}'
    )


def key_commitment(key: bytes, aad: str) -> Digest:
    """What a manifest says of the key of one part file (see the module's docstring)."""
    return Digest("sha256:" + hashlib.sha256(_PREFIX + key + aad.encode()).hexdigest())


def check_key(key: bytes, aad: str, commitment: Digest, file: str) -> bytes:
    """Return ``key`` if it is the one committed to, else raise ``VerificationFailed`` (``vault.wrong_key``)."""
    if len(key) != KEY_BYTES or not hmac.compare_digest(key_commitment(key, aad), commitment):
        raise VerificationFailed(
            "vault.wrong_key",
            f"the key given for {file} is not the one that the manifest commits to",
            "ask for the keys of this very release and column group",
        )
    return key
