"""Keys on their way: HPKE (RFC 9180) to the reader's ephemeral key, hybrid ML-KEM-768 + X25519.

One suite, no negotiation: there is nothing to downgrade to. The ``info`` binds the answer to its request and release,
so that an answer cannot be passed off as that of another request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from safehold.broker.request import READER_KEY_BYTES
from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.model.ids import Digest, RequestId

__all__ = ["KEYS_PURPOSE", "LEASE_PURPOSE", "ReaderKey", "seal_keys"]

_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_MLKEM_BYTES: Final = 1184
KEYS_PURPOSE: Final = "safehold keys v1"
LEASE_PURPOSE: Final = "safehold lease v1"
_encoder: Final = msgspec.json.Encoder(order="sorted")


def _info(request: RequestId, release: Digest, purpose: str = KEYS_PURPOSE) -> bytes:
    # Canonical JSON, written out: none of the three can hold a character that would need an escape.
    return f'{{"purpose":"{purpose}","release":"{release}","request":"{request}"}}'.encode()


def seal_keys(
    keys: Mapping[str, bytes], reader: bytes, request: RequestId, release: Digest, purpose: str = KEYS_PURPOSE
) -> bytes:
    """Seal part keys (by file name) to ``reader``; ``InputInvalid`` (``broker.request_reader``) for a bad key."""
    try:
        public = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(reader[:_MLKEM_BYTES]),
            X25519PublicKey.from_public_bytes(reader[_MLKEM_BYTES:]),
        )
        plain = _encoder.encode(keys)  # canonical: names of part files are ASCII, bytes become base64
        return bytes(_SUITE.encrypt(plain, public, info=_info(request, release, purpose)))
    except ValueError as error:
        raise InputInvalid("broker.request_reader", "the reader's key is not a key of the one suite in use") from error


class ReaderKey:
    """A reader's ephemeral key pair: made for one request, kept in memory alone."""

    def __init__(self) -> None:
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self._private = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        if len(self.public) != READER_KEY_BYTES:
            raise InputInvalid("broker.request_reader", "this build of cryptography writes keys of another length")

    def open(self, sealed: bytes, request: RequestId, release: Digest, purpose: str = KEYS_PURPOSE) -> dict[str, bytes]:
        """The part keys by file name; ``VerificationFailed`` (``broker.answer``) if they were not sealed for this."""
        try:
            plain = _SUITE.decrypt(sealed, self._private, info=_info(request, release, purpose))
            encoded = msgspec.json.decode(plain, type=dict[str, str])
            return {name: base64.b64decode(key, validate=True) for name, key in encoded.items()}
        except (InvalidTag, ValueError, msgspec.DecodeError, binascii.Error) as error:
            raise VerificationFailed(
                "broker.answer", "the answer was not sealed to this reader for this request", "ask again"
            ) from error
