"""Signatures over a manifest: a DSSE envelope.

Dead Simple Signing Envelope v1.0.2 (https://github.com/secure-systems-lab/dsse, protocol.md): a signature is
over ``PAE(type, payload)``, so neither can be taken for something else. Ours is read more strictly than DSSE
asks: the file must be the one canonical form of its contents, so that no byte of it can change unseen.

Keys come in through two ports. The vault holds no signing key and knows no key format.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from safehold.model.encoding import canonical_bytes, decode_canonical, resolved
from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed

__all__ = ["PAYLOAD_TYPE", "Envelope", "Signature", "Signer", "Verifier", "check_signature", "parse_envelope", "sign"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_MAX_SIGNATURES: Final = 64


class Signer(Protocol):
    """Whoever can sign: a private key in a file, an agent, a hardware token."""

    @property
    def key_id(self) -> str:
        """The fingerprint of the key, as in ``Verifier.key_id``."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``."""


class Verifier(Protocol):
    """A public key."""

    @property
    def key_id(self) -> str:
        """The fingerprint of the key."""

    def verify(self, signature: bytes, data: bytes, what: str) -> None:
        """Raise ``VerificationFailed`` unless ``signature`` over ``data`` is this key's; ``what`` names it."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature: the fingerprint of its key, and its bytes in base64."""

    keyid: str
    sig: str

    @property
    def raw(self) -> bytes:
        """The signature's bytes."""
        return _unbase64(self.sig)


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"payload_type": "payloadType"}):
    """A payload with its signatures; ``payload`` is base64."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def body(self) -> bytes:
        """The payload's bytes: what is hashed and signed."""
        return _unbase64(self.payload)

    def encode(self) -> bytes:
        """The envelope as it is stored."""
        return canonical_bytes(self)


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged("its base64 is broken") from error
    if base64.b64encode(data).decode() != text:
        raise _damaged("its base64 is not in the one usual form")
    return data


def _damaged(reason: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.manifest_altered", f"the manifest's envelope is damaged: {reason}", "fetch the release again"
    )


def _signed_bytes(body: bytes) -> bytes:
    """PAE of DSSE: lengths first, so that no two pairs of type and payload give the same bytes."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(body), body)


def sign(body: bytes, signer: Signer, present: Sequence[Signature] = ()) -> Envelope:
    """Return ``body`` in an envelope signed by ``signer``, after the signatures that were ``present``.

    A second signature by the same key replaces its first. The payload, and so the release's identity, stays.
    """
    raw = signer.sign(_signed_bytes(body))
    kept = [signature for signature in present if signature.keyid != signer.key_id]
    mine = Signature(signer.key_id, base64.b64encode(raw).decode())
    return Envelope(base64.b64encode(body).decode(), PAYLOAD_TYPE, (*kept, mine))


def parse_envelope(data: bytes) -> Envelope:
    """Return the envelope in ``data``, or raise ``VerificationFailed`` (``vault.manifest_altered``)."""
    try:
        plain: Any = decode_canonical(data)
        envelope = msgspec.convert(plain, resolved(Envelope))
    except (InputInvalid, msgspec.ValidationError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _damaged("its payload is of another type")
    if not 1 <= len(envelope.signatures) <= _MAX_SIGNATURES:
        raise _damaged(f"it has {len(envelope.signatures)} signatures")
    keys = {signature.keyid for signature in envelope.signatures}
    if len(keys) != len(envelope.signatures):
        raise _damaged("a key signed twice")
    for signature in envelope.signatures:
        _unbase64(signature.sig)
    return envelope


def check_signature(envelope: Envelope, verifier: Verifier) -> Signature:
    """Return the signature by ``verifier``'s key.

    Raises ``VerificationFailed``: ``vault.manifest_unsigned`` if that key did not sign,
    ``vault.manifest_signature`` if its signature does not hold.
    """
    for signature in envelope.signatures:
        if signature.keyid == verifier.key_id:
            try:
                verifier.verify(signature.raw, _signed_bytes(envelope.body), "the manifest")
            except SafeholdError as error:
                raise VerificationFailed(
                    "vault.manifest_signature",
                    f"the manifest's signature by {verifier.key_id} does not hold: the manifest was changed",
                    "fetch the release again from the supplier",
                ) from error
            return signature
    raise VerificationFailed(
        "vault.manifest_unsigned",
        f"the manifest is not signed by {verifier.key_id}",
        "ask whose key signed it before you trust it",
    )
