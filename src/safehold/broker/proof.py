"""Proof of possession: a request signed by the asking host's SSH key.

The signature base is that of RFC 9421 §2.5 over a fixed list of components, ``@method``, ``@path`` and
``content-digest`` (RFC 9530), with the parameters ``created``, ``nonce``, ``keyid`` and ``alg``: the claims of DPoP
(RFC 9449 §4.2) in HTTP's own terms. The list is fixed, so there is nothing for an attacker to leave out, and the body,
which holds the grant and the reader's key, is covered by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Protocol

import msgspec

from safehold.ledger.keys import PublicKey
from safehold.model.errors import VerificationFailed
from safehold.model.ids import KeyId, RequestId

__all__ = [
    "HOLDS_PATH",
    "KEYS_METHOD",
    "KEYS_PATH",
    "LEASES_PATH",
    "Proof",
    "RequestSigner",
    "sign_request",
    "verify_proof",
]

KEYS_METHOD: Final = "POST"
KEYS_PATH: Final = "/v1/keys"
LEASES_PATH: Final = "/v1/leases"
HOLDS_PATH: Final = "/v1/holds"


class RequestSigner(Protocol):
    """A host key that signs: a file here, an agent or a TPM elsewhere."""

    @property
    def key_id(self) -> KeyId:
        """The key's fingerprint."""
        ...

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519."""
        ...


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """``created`` in whole seconds UTC, ``nonce`` the request's id, ``key`` the fingerprint, ``signature`` 64 bytes."""

    created: int
    nonce: RequestId
    key: KeyId
    signature: bytes


def _signature_base(body: bytes, created: int, nonce: str, key: str, path: str = KEYS_PATH) -> bytes:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return (
        f'"@method": {KEYS_METHOD}\n'
        f'"@path": {path}\n'
        f'"content-digest": sha-256=:{digest}:\n'
        f'"@signature-params": ("@method" "@path" "content-digest");created={created};nonce="{nonce}";keyid="{key}";alg="ed25519"'
    ).encode()


def sign_request(body: bytes, nonce: RequestId, created: int, signer: RequestSigner, path: str = KEYS_PATH) -> Proof:
    """Sign a request body with a host's key for one path; ``created`` in whole seconds UTC."""
    base = _signature_base(body, created, nonce, signer.key_id, path)
    return Proof(created=created, nonce=nonce, key=signer.key_id, signature=signer.sign(base))


def verify_proof(body: bytes, proof: Proof, key: PublicKey, path: str = KEYS_PATH) -> Proof:
    """Return ``proof`` if ``key`` made it over this body.

    Raises ``VerificationFailed``: ``broker.proof_key`` (another key) or ``ledger.signature``.
    """
    if proof.key != key.key_id:
        raise VerificationFailed(
            "broker.proof_key",
            f"the request is signed by {proof.key}, which is not this host's key",
            "sign with the key that the host was registered with",
        )
    key.verify(proof.signature, _signature_base(body, proof.created, proof.nonce, proof.key, path), "the request")
    return proof
