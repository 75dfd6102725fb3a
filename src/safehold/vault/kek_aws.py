"""A ``Kek`` in AWS KMS: ``Encrypt`` and ``Decrypt`` with an encryption context that says what the key is for.

Over a small port, ``KmsClient``, which a client of boto3 (``boto3.client("kms")``) fits as it is; Safehold brings none. The
tests run against recorded shapes of the API's answers (AWS KMS API reference, "Encrypt", "Decrypt"). **What they cannot show:**
that the service enforces the context and the key's policy, its limits of requests a second, and its latency.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from safehold.model.errors import InputInvalid, StorageFailed, VerificationFailed

__all__ = ["AwsKek", "KmsClient"]

_KEY_BYTES: Final = 32
_CONTEXT: Final = {"safehold": "part key v1"}
_NOT_OURS: Final = ("InvalidCiphertextException", "IncorrectKeyException")


class KmsClient(Protocol):
    """What is used of boto3's client for KMS."""

    def encrypt(self, **arguments: Any) -> Mapping[str, Any]:
        """``CiphertextBlob`` and ``KeyId``."""
        ...

    def decrypt(self, **arguments: Any) -> Mapping[str, Any]:
        """``Plaintext`` and ``KeyId``."""
        ...


class AwsKek:
    """See ``Kek``. ``key`` is the ARN of a symmetric key: an alias could come to mean another one."""

    def __init__(self, client: KmsClient, key: str) -> None:
        """Raises ``InputInvalid`` (``vault.kek_address``) for anything but a key's ARN."""
        if not key.startswith("arn:") or ":key/" not in key:
            raise InputInvalid("vault.kek_address", f"{key[:80]} is no ARN of a key", "write arn:aws:kms:…:key/…")
        self._client = client
        self._key = key
        self.id = "aws-" + hashlib.sha256(key.encode()).hexdigest()[:16]

    def wrap(self, key: bytes) -> bytes:
        """See ``Kek``; raises ``InputInvalid`` (``vault.key_length``) or ``StorageFailed`` (``vault.kek_failed``)."""
        if len(key) != _KEY_BYTES:
            raise InputInvalid("vault.key_length", f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        try:
            answer = self._client.encrypt(KeyId=self._key, Plaintext=key, EncryptionContext=_CONTEXT)
        except Exception as error:
            raise self._failed(error) from error
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``Kek``."""
        try:
            answer = self._client.decrypt(CiphertextBlob=wrapped, KeyId=self._key, EncryptionContext=_CONTEXT)
        except Exception as error:
            if _code(error) in _NOT_OURS:
                raise self._not_ours() from error
            raise self._failed(error) from error
        key = bytes(answer.get("Plaintext") or b"")
        # The service names the key that it used. A stand-in that ignores what was asked for must not pass.
        if answer.get("KeyId") != self._key or len(key) != _KEY_BYTES:
            raise self._not_ours()
        return key

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """One after the other: the service has no call for many."""
        return [self.unwrap(one) for one in wrapped]

    def _not_ours(self) -> VerificationFailed:
        return VerificationFailed("vault.unwrap", f"a stored key does not open with {self.id}", "was the key replaced?")

    def _failed(self, error: Exception) -> StorageFailed:
        told = _code(error) or type(error).__name__
        return StorageFailed("vault.kek_failed", f"AWS KMS failed: {told}", "check the key's policy and the account")

    def __repr__(self) -> str:
        return f"AwsKek({self.id})"


def _code(error: Exception) -> str:
    """The code in a botocore ``ClientError``: ``error.response["Error"]["Code"]``."""
    response = getattr(error, "response", None)
    told = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return str(told)
