"""Proof of possession: a request signed by the asking host's SSH key.

The signature base is that of RFC 9421 §2.5 over a fixed list of components, ``@method``, ``@path`` and
``content-digest`` (RFC 9530), with the parameters ``created``, ``nonce``, ``keyid`` and ``alg``: the claims of DPoP
(RFC 9449 §4.2) in HTTP's own terms. The list is fixed, so there is nothing for an attacker to leave out, and the body,
which holds the grant and the reader's key, is covered by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, NamedTuple, Protocol

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
    "Signers",
    "host_key_id",
    "sign_request",
    "verify_member",
    "verify_proof",
]

KEYS_METHOD: Final = "POST"
KEYS_PATH: Final = "/v1/keys"
LEASES_PATH: Final = "/v1/leases"
HOLDS_PATH: Final = "/v1/holds"
_MEMBER: Final = b"safehold member\n"
"""Before what a member signs: a host's signature is never taken for a member's, nor the other way round."""


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
    """``created`` in whole seconds UTC, ``nonce`` the request's id, ``key`` the fingerprint, ``signature`` 64 bytes.

    ``member_signature``, where the policy asks for it, is by the registered key of the member that the request names.
    """

    created: int
    nonce: RequestId
    key: KeyId
    signature: bytes
    member_signature: bytes | None = None


class Signers(NamedTuple):
    """The host's key, and the member's where he signs, too."""

    host: RequestSigner
    member: RequestSigner | None = None


def _signature_base(body: bytes, created: int, nonce: str, key: str, path: str = KEYS_PATH) -> bytes:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return (
        f'"@method": {KEYS_METHOD}\n'
        f'"@path": {path}\n'
        f'"content-digest": sha-256=:{digest}:\n'
        f'"@signature-params": ("@method" "@path" "content-digest");created={created};nonce="{nonce}";keyid="{key}";alg="ed25519"'
    ).encode()


def host_key_id(signer: RequestSigner | Signers) -> KeyId:
    """The fingerprint of the host's key."""
    return signer.host.key_id if isinstance(signer, Signers) else signer.key_id


def sign_request(
    body: bytes, nonce: RequestId, created: int, signer: RequestSigner | Signers, path: str = KEYS_PATH
) -> Proof:
    """Sign a request body with a host's key, and the member's if given, for one path; ``created`` in whole seconds UTC."""
    signers = signer if isinstance(signer, Signers) else Signers(signer)
    key = signers.host.key_id
    base = _signature_base(body, created, nonce, key, path)
    by_member = None if signers.member is None else signers.member.sign(_MEMBER + base)
    signature = signers.host.sign(base)
    return Proof(created=created, nonce=nonce, key=key, signature=signature, member_signature=by_member)


def verify_member(body: bytes, proof: Proof, key: PublicKey, path: str = KEYS_PATH) -> Proof:
    """Return ``proof`` if the member's ``key`` signed it, too; else ``VerificationFailed`` (``ledger.signature``)."""
    base = _signature_base(body, proof.created, proof.nonce, proof.key, path)
    key.verify(proof.member_signature or b"", _MEMBER + base, "the request as its member")
    return proof


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
