"""A ``Kek`` in AWS KMS: ``Encrypt`` and ``Decrypt`` with an encryption context that says what the key is for.

Over a small port, ``KmsClient``, which a client of boto3 (``boto3.client("kms")``) fits as it is. ``open_aws_kek`` makes one; the
library comes with the extra ``aws``. Credentials come from the environment or from the role of the container or machine, and
from no file of a person's: whose home the process happens to run in must not decide who unwraps keys. The endpoint is what
is named here, or the region's own; what a profile names is not looked at.

The tests run against recorded shapes of the API's answers (AWS KMS API reference, "Encrypt", "Decrypt"), in this process and
through boto3 from a server on loopback. **What they cannot show:** that the service enforces the context and the key's policy
(IAM), its limits of requests a second, and its latency. There is one call a key, for the service has none for many.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from safehold.model.errors import InputInvalid, NotFound, StorageFailed, VerificationFailed

__all__ = ["AwsAddress", "AwsKek", "KmsClient", "open_aws_kek"]

_KEY_BYTES: Final = 32
_CONTEXT: Final = {"safehold": "part key v1"}
_NOT_OURS: Final = ("InvalidCiphertextException", "IncorrectKeyException")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_CREDENTIALS: Final = frozenset({"env", "assume-role-with-web-identity", "container-role", "iam-role"})
"""Where botocore may take credentials from, by its names: the environment and what it names, and the two kinds of role."""
_DENIED: Final = frozenset({
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId",
    "InvalidSignatureException", "MissingAuthenticationTokenException", "NoCredentialsError", "PartialCredentialsError",
    "UnrecognizedClientException", "MetadataRetrievalError",
})  # fmt: skip
_AWAY: Final = frozenset({
    "ConnectTimeoutError", "ConnectionClosedError", "ConnectionError", "EndpointConnectionError", "HTTPClientError",
    "ProxyConnectionError", "ReadTimeoutError", "SSLError",
})  # fmt: skip


class KmsClient(Protocol):
    """What is used of boto3's client for KMS."""

    def encrypt(self, **arguments: Any) -> Mapping[str, Any]:
        """``CiphertextBlob`` and ``KeyId``."""
        ...

    def decrypt(self, **arguments: Any) -> Mapping[str, Any]:
        """``Plaintext`` and ``KeyId``."""
        ...


class AwsAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the key is: its ARN, the region (that of the ARN), and an endpoint other than the region's own."""

    key: str
    region: str | None = None
    endpoint: str | None = None


class AwsKek:
    """See ``Kek``. ``key`` is the ARN of a symmetric key: an alias could come to mean another one."""

    def __init__(self, client: KmsClient, key: str) -> None:
        """Raises ``InputInvalid`` (``vault.kek_address``) for anything but a key's ARN."""
        _region_of(key)
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
        wrapped = bytes(answer.get("CiphertextBlob") or b"")
        if answer.get("KeyId") != self._key or not wrapped:
            raise StorageFailed("vault.kek_failed", "AWS KMS wrapped by another key", "check the endpoint")
        return wrapped

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
        if told in _DENIED:
            return StorageFailed(
                "vault.kek_denied",
                f"AWS KMS does not accept who asks: {told}",
                "give credentials by the environment or a role that may use the key for Encrypt and Decrypt",
            )
        if told in _AWAY:
            return StorageFailed(
                "vault.kek_unreachable",
                f"AWS KMS cannot be reached: {told}",
                "check the network and the endpoint; a served home allows its port with --kms-port",
            )
        return StorageFailed("vault.kek_failed", f"AWS KMS failed: {told}", "check the key's policy and the account")

    def __repr__(self) -> str:
        return f"AwsKek({self.id})"


def _code(error: Exception) -> str:
    """The code in a botocore ``ClientError``: ``error.response["Error"]["Code"]``."""
    response = getattr(error, "response", None)
    told = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return str(told)


def open_aws_kek(address: AwsAddress) -> AwsKek:
    """The key at an address, by a client of boto3; nothing is asked of the service yet.

    Raises ``InputInvalid`` (``vault.kek_address``), ``NotFound`` (``vault.no_boto3``) or ``StorageFailed``.
    """
    region = _region_of(address.key)
    if address.region not in (None, region):
        raise InputInvalid(
            "vault.kek_address",
            f"the key is in {region}, not in {address.region}",
            "leave the region out, or name that",
        )
    return AwsKek(_client(region, _checked_endpoint(address.endpoint)), address.key)


def _region_of(key: str) -> str:
    found = _ARN.fullmatch(key)
    if found is None:
        raise InputInvalid("vault.kek_address", f"{key[:80]} is no ARN of a key", "write arn:aws:kms:…:key/…")
    return found.group(1)


def _checked_endpoint(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        raise InputInvalid("vault.kek_address", f"{endpoint} is no server's address", "write https://HOST:PORT")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InputInvalid(
            "vault.kek_address", f"{endpoint} would send keys in the clear", "use https, or a server on loopback"
        )
    return endpoint


def _client(region: str, endpoint: str | None) -> KmsClient:
    """A client of boto3. Late, since it needs an extra that the core does not bring."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as error:
        raise NotFound(
            "vault.no_boto3", "the library for AWS KMS is not installed here", "install Safehold with: safehold[aws]"
        ) from error
    # Two attempts and short waits: whoever asked for keys waits for this, and asks again if it fails.
    settings = Config(
        connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2}, ignore_configured_endpoint_urls=True
    )
    try:
        session = Session()
        resolver = session.get_component("credential_provider")
        resolver.providers = [one for one in resolver.providers if one.METHOD in _CREDENTIALS]
        made = boto3.Session(botocore_session=session, region_name=region)
        client: KmsClient = made.client("kms", endpoint_url=endpoint, config=settings)
    except Exception as error:
        raise StorageFailed(
            "vault.kek_failed", f"AWS KMS cannot be used: {type(error).__name__}", "check AWS_PROFILE and AWS_CA_BUNDLE"
        ) from error
    return client
