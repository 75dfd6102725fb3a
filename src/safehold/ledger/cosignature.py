"""Cosignatures: what a witness adds to a checkpoint (C2SP tlog-cosignature), by Ed25519 (0x04) or ML-DSA-44 (0x06).

A cosignature says: at this time, the longest consistent tree that I had seen of this log had this root. The Ed25519 form
covers the whole text of the checkpoint; the ML-DSA-44 form (FIPS 204, good against quantum computers) covers origin,
size and root, and the witness's name too.

Signatures of unknown keys are ignored, as signed-note asks; one of a known key that does not verify spoils the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from safehold.ledger.keys import SigningKey
from safehold.ledger.note import NoteSignature, check_origin, read_head, split_note
from safehold.model.errors import InputInvalid, VerificationFailed

__all__ = [
    "ED25519",
    "ML_DSA_44",
    "Cosignature",
    "Cosigner",
    "CosignerKey",
    "SignatureKind",
    "add_signatures",
    "check_name",
    "open_cosignatures",
    "read_signature_lines",
    "signed_message",
]

SignatureKind = Literal[4, 6]
ED25519: Final[SignatureKind] = 4
"""Signature type 0x04: timestamped Ed25519."""
ML_DSA_44: Final[SignatureKind] = 6
"""Signature type 0x06: timestamped ML-DSA-44."""

_KEY_BYTES: Final[dict[SignatureKind, int]] = {ED25519: 32, ML_DSA_44: 1312}
_SIGNATURE_BYTES: Final[dict[SignatureKind, int]] = {ED25519: 64, ML_DSA_44: 2420}
_SECOND: Final = 1_000_000
_MAX_SECONDS: Final = (1 << 63) - 1
_MAX_ANSWER_BYTES: Final = 1 << 18
_LABEL: Final = b"subtree/v1\n\0"


class CosignerKey(msgspec.Struct, frozen=True):
    """A witness as others know it: ``name``, signature ``kind``, and ``raw``, its public key.

    Text form: ``name+keyid+base64(kind || raw)``, the vkey of signed-note.
    """

    name: str
    kind: SignatureKind
    raw: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || kind || key), its first 4 bytes (tlog-cosignature, Format)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw).digest()[:4]

    @property
    def text(self) -> str:
        """The line that people keep, compare, and write into a policy."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> CosignerKey:
        """Read the text form, or raise ``InputInvalid`` (``ledger.witness_key``)."""
        name, _, rest = text.strip().partition("+")
        _, _, encoded = rest.partition("+")
        try:
            data = base64.b64decode(encoded, validate=True)
            check_origin(name)
        except (binascii.Error, ValueError, InputInvalid) as error:
            raise _bad_key() from error
        kind: SignatureKind | None = next((known for known in _KEY_BYTES if data[:1] == bytes([known])), None)
        if kind is None or len(data) != 1 + _KEY_BYTES[kind]:
            raise _bad_key()
        key = cls(name, kind, data[1:])
        if key.text != text.strip():
            raise _bad_key()
        return key

    def verify(self, signature: bytes, text: bytes) -> Cosignature:
        """Return the cosignature if ``signature`` (with its time) over a checkpoint's ``text`` is by this key.

        Raises ``VerificationFailed`` (``ledger.cosignature``).
        """
        if len(signature) != 8 + _SIGNATURE_BYTES[self.kind]:
            raise _bad_cosignature(self.name)
        seconds = int.from_bytes(signature[:8], "big")
        if seconds > _MAX_SECONDS:
            raise _bad_cosignature(self.name)
        message = signed_message(self, seconds, text)
        try:
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(signature[8:], message)
            else:
                MLDSA44PublicKey.from_public_bytes(self.raw).verify(signature[8:], message)
        except (InvalidSignature, ValueError) as error:
            raise _bad_cosignature(self.name) from error
        return Cosignature(self, seconds, NoteSignature(self.name, self.key_id, signature))


class Cosignature(msgspec.Struct, frozen=True):
    """A verified cosignature: by whom, the ``seconds`` since 1970 at which the witness said so, and its ``line``."""

    key: CosignerKey
    seconds: int
    signature: NoteSignature


class Cosigner:
    """The private half: a witness's name and key. It prints as its public line and never as itself."""

    def __init__(self, key: CosignerKey, sign: Callable[[bytes], bytes]) -> None:
        """``sign`` is the raw signature of the key's private half. See ``ed25519`` and ``ml_dsa_44``."""
        check_name(key.name)
        self.key = key
        self._sign = sign

    @classmethod
    def ed25519(cls, name: str, signer: SigningKey) -> Cosigner:
        """A witness that signs with an Ed25519 key. Raises ``InputInvalid`` for a name that no note can hold."""
        return cls(CosignerKey(name, ED25519, signer.public.raw), signer.sign)

    @classmethod
    def ml_dsa_44(cls, name: str, seed: bytes) -> Cosigner:
        """A witness that signs with the ML-DSA-44 key of 32 secret bytes (FIPS 204, ξ)."""
        private = MLDSA44PrivateKey.from_seed_bytes(seed)
        return cls(CosignerKey(name, ML_DSA_44, private.public_key().public_bytes_raw()), private.sign)

    def cosign(self, text: bytes, at: int) -> Cosignature:
        """Cosign a checkpoint's text at the time ``at`` (µs UTC). The caller has verified that the tree only grew."""
        seconds = max(at // _SECOND, 0)
        made = self._sign(signed_message(self.key, seconds, text))
        signature = NoteSignature(self.key.name, self.key.key_id, seconds.to_bytes(8, "big") + made)
        return Cosignature(self.key, seconds, signature)

    def __repr__(self) -> str:
        return f"Cosigner({self.key.name}, {self.key.key_id.hex()})"


def check_name(name: str) -> str:
    """Return ``name`` if both kinds of cosignature can hold it, as witness or as log: at most 255 bytes of UTF-8.

    Raises ``InputInvalid`` (``ledger.origin``, ``ledger.witness_name``).
    """
    if len(check_origin(name).encode()) > 255:
        raise InputInvalid("ledger.witness_name", f"the name {name[:80]} has more than 255 bytes", "use a shorter one")
    return name


def signed_message(key: CosignerKey, seconds: int, text: bytes) -> bytes:
    """The bytes that a cosignature signs (tlog-cosignature, *signed message*); ``ledger.note_form`` for a bad text."""
    if key.kind == ED25519:
        return b"cosignature/v1\ntime %d\n" % seconds + text
    origin, size, root = read_head(text)
    name, log = key.name.encode(), origin.encode()
    if len(name) > 255 or len(log) > 255:
        raise VerificationFailed("ledger.note_form", "this is not a signed checkpoint: a name longer than 255 bytes")
    return b"".join(
        [
            _LABEL,
            bytes([len(name)]) + name,
            seconds.to_bytes(8, "big"),
            bytes([len(log)]) + log,
            bytes(8),  # start: a checkpoint is the subtree that begins at 0
            size.to_bytes(8, "big"),
            root,
        ]
    )


def open_cosignatures(note: bytes, keys: Iterable[CosignerKey]) -> dict[CosignerKey, Cosignature]:
    """The cosignatures in ``note`` by ``keys``, each verified; of two by one key the later. Others are ignored.

    Raises ``VerificationFailed``: ``ledger.note_form``, or ``ledger.cosignature`` if one by a known key does not hold.
    """
    text, signatures = split_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[CosignerKey, Cosignature] = {}
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        made = key.verify(signature.signature, text)
        if key not in found or found[key].seconds < made.seconds:
            found[key] = made
    return found


def read_signature_lines(answer: bytes) -> list[NoteSignature]:
    """The signature lines that a witness answered with: ``VerificationFailed`` (``ledger.note_form``) for other bytes."""
    if len(answer) > _MAX_ANSWER_BYTES:
        raise VerificationFailed("ledger.note_form", "this is not a signed checkpoint: the answer is too large")
    text, signatures = split_note(b"x\n\n" + answer)
    if text != b"x\n":
        raise VerificationFailed("ledger.note_form", "this is not a signed checkpoint: the answer has an empty line")
    return signatures


def add_signatures(note: bytes, added: Sequence[NoteSignature]) -> bytes:
    """``note`` with signatures added at its end; one of the same name and key takes the place of the one before.

    The first signature is the log's own and stays. The caller has verified what it adds.
    """
    text, signatures = split_note(note)
    own = (signatures[0].name, signatures[0].key_id)
    fresh = {(one.name, one.key_id): one for one in added if (one.name, one.key_id) != own}
    kept = [one for one in signatures if (one.name, one.key_id) not in fresh]
    return text + b"\n" + "".join(one.line for one in (*kept, *fresh.values())).encode()


def _bad_key() -> InputInvalid:
    return InputInvalid(
        "ledger.witness_key",
        "this is not the key line of a witness",
        "copy the line that `safehold witness init` printed",
    )


def _bad_cosignature(name: str) -> VerificationFailed:
    return VerificationFailed("ledger.cosignature", f"the cosignature of {name[:80]} does not hold")
