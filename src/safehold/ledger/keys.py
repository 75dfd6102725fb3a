"""Ed25519 keys in OpenSSH form: of the ledger, of parties, of hosts.

One key form for all: hosts have SSH keys already, people know how to guard them, and ``ssh-keygen -l`` shows
the same fingerprint as Safehold does. RFC 8032 signatures through ``cryptography``; no cipher of our own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from safehold.ledger.disk import sync_folder
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import KeyId

__all__ = ["PublicKey", "SigningKey"]

_MAX_KEY_FILE_BYTES = 64 * 1024


class PublicKey:
    """An Ed25519 public key; made from an OpenSSH line or from its 32 raw bytes."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise InputInvalid("ledger.public_key", "an Ed25519 public key has 32 bytes")
        self.raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Read ``ssh-ed25519 AAAA… [comment]``; ``InputInvalid`` (``ledger.public_key``) for anything else."""
        try:
            key = serialization.load_ssh_public_key(line.strip().encode())
        except (ValueError, UnsupportedAlgorithm, UnicodeEncodeError) as error:
            raise _not_ed25519() from error
        if not isinstance(key, Ed25519PublicKey):
            raise _not_ed25519()
        return cls(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))

    @property
    def wire(self) -> bytes:
        """The key as SSH sends it (RFC 8709 §4): what the fingerprint is taken of."""
        name = b"ssh-ed25519"
        return len(name).to_bytes(4, "big") + name + len(self.raw).to_bytes(4, "big") + self.raw

    @property
    def line(self) -> str:
        """The OpenSSH line without a comment."""
        return "ssh-ed25519 " + base64.b64encode(self.wire).decode()

    @cached_property
    def key_id(self) -> KeyId:
        """The fingerprint that ``ssh-keygen -l`` prints: ``SHA256:`` and unpadded base64."""
        return KeyId("SHA256:" + base64.b64encode(hashlib.sha256(self.wire).digest()).decode().rstrip("="))

    def verify(self, signature: bytes, data: bytes, what: str) -> None:
        """Raise ``VerificationFailed`` (``ledger.signature``) unless ``signature`` over ``data`` is this key's."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature as error:
            raise VerificationFailed("ledger.signature", f"the signature on {what} is not by {self.key_id}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class SigningKey:
    """An Ed25519 private key. It prints as its fingerprint and never as itself."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(
            key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: bytes | None = None) -> SigningKey:
        """Read an OpenSSH private key file.

        Raises ``NotFound`` (``ledger.key_file``) or ``InputInvalid`` (``ledger.private_key``) for a file that is
        no Ed25519 key or needs another passphrase.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_KEY_FILE_BYTES)
        except FileNotFoundError as error:
            raise NotFound("ledger.key_file", f"no key file at {path}", "name another with --key") from error
        except OSError as error:
            raise StorageFailed("ledger.key_read", f"the key file {path} cannot be read: {error.strerror}") from error
        try:
            key = serialization.load_ssh_private_key(data, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputInvalid(
                "ledger.private_key",
                f"{path} is not an OpenSSH private key that can be opened",
                "make one with: ssh-keygen -t ed25519",
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputInvalid(
                "ledger.private_key", f"{path} is not an Ed25519 key", "make one with: ssh-keygen -t ed25519"
            )
        return cls(key)

    def save(self, path: Path) -> None:
        """Write an unencrypted OpenSSH key file, mode 0600, durable; never over an existing file (``Conflict``)."""
        data = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link gives the whole key its name or fails: half a key under this name would stand in the way for ever.
            os.link(fresh, path)
            sync_folder(path.parent)
        except FileExistsError as error:
            raise Conflict("ledger.key_exists", f"there is a key at {path} already") from error
        except OSError as error:
            raise StorageFailed(
                "ledger.key_write", f"the key file {path} cannot be written: {error.strerror}"
            ) from error
        finally:
            fresh.unlink(missing_ok=True)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte RFC 8032 signature of ``data``."""
        return self._key.sign(data)

    @property
    def key_id(self) -> KeyId:
        """The fingerprint of the public half."""
        return self.public.key_id

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


def _not_ed25519() -> InputInvalid:
    return InputInvalid(
        "ledger.public_key",
        "this is not an OpenSSH Ed25519 public key",
        "give the one line of a .pub file that starts with ssh-ed25519",
    )
