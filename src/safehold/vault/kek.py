"""The key-encryption key: what wraps the keys of part files, behind a small port.

``Kek`` is the port. ``PassphraseKek`` is its adapter for one machine: a random 256-bit key in a small JSON file,
wrapped (AES-KW, RFC 3394) under a key derived from a passphrase by Argon2id (RFC 9106, the parameters of its
second recommended option: 64 MiB, 3 passes, 4 lanes). The passphrase can change without wrapping any part key anew.

AES-KW authenticates what it wraps and needs no nonce; it fits keys, which are uniform and never repeat. It binds
no context, so the store keeps each wrapped key under its release and file, and ``open`` compares the unwrapped
key with the manifest's commitment: a wrapped key moved elsewhere is found there.

Whoever has the file can try passphrases against it, each at the cost of one derivation. Python cannot wipe memory:
a key lives in this process until it ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from msgspec import Meta

from safehold.model.encoding import canonical_bytes, pretty_json, resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed, VerificationFailed
from safehold.vault.disk import storage_failed, sync_folder, write_new

__all__ = ["KdfCost", "Kek", "PassphraseKek"]

_KEY_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 4_096
_MAX_PASSPHRASE: Final = 1_024


class Kek(Protocol):
    """A key that wraps keys. Its own bytes never come out."""

    @property
    def id(self) -> str:
        """Names the key, reveals nothing of it; stored beside what it wrapped."""

    def wrap(self, key: bytes) -> bytes:
        """Return ``key`` (32 bytes) wrapped."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key in ``wrapped``; raises ``VerificationFailed`` (``vault.unwrap``) if it is not this key's."""

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """``unwrap`` of many, in their order; in one round trip where the key is on a server."""


class KdfCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cost of one guess. The bounds hold for reading too: a hostile file must not take a machine's memory."""

    memory_kib: Annotated[int, Meta(ge=8 * 16, le=1024 * 1024)] = 64 * 1024
    passes: Annotated[int, Meta(ge=1, le=16)] = 3
    lanes: Annotated[int, Meta(ge=1, le=16)] = 4


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: Literal[1] = 1
    kdf: Literal["argon2id"] = "argon2id"
    cost: KdfCost
    salt: str
    id: str
    wrapped: str
    check: str = ""


def _checksum(file: _File) -> str:
    """Tells a damaged file from a wrong passphrase; no protection against anyone who writes the file."""
    return hashlib.sha256(canonical_bytes(msgspec.structs.replace(file, check=""))).hexdigest()[:16]


class PassphraseKek:
    """A ``Kek`` in a file behind a passphrase; made by ``create`` or ``load``."""

    def __init__(self, path: Path, key: bytes, cost: KdfCost) -> None:
        self._path = path
        self._key = key
        self._cost = cost
        self._id = "kek-" + hashlib.sha256(b"safehold kek id v1\x00" + key).hexdigest()[:16]

    @classmethod
    def create(cls, path: Path, passphrase: str, cost: KdfCost | None = None) -> PassphraseKek:
        """Make a new key and its file (mode 0600, durable).

        Raises ``Conflict`` (``vault.kek_exists``), ``InputInvalid`` (``vault.passphrase_form``) or
        ``StorageFailed``.
        """
        kek = cls(path, secrets.token_bytes(_KEY_BYTES), cost if cost is not None else KdfCost())
        data = kek._file_bytes(passphrase)
        try:
            write_new(path, data)
        except Conflict as error:
            raise Conflict(
                "vault.kek_exists",
                f"there is a key file at {path} already",
                "losing it would lose every sealed release",
            ) from error
        return kek

    @classmethod
    def load(cls, path: Path, passphrase: str) -> PassphraseKek:
        """Open the key file at ``path``.

        Raises ``NotFound`` (``vault.kek_missing``), ``InputInvalid`` (``vault.kek_damaged``,
        ``vault.passphrase_wrong``, ``vault.passphrase_form``) or ``StorageFailed``.
        """
        file = _read(path)
        derived = _derive(passphrase, _unbase64(file.salt, path), file.cost)
        try:
            kek = cls(path, aes_key_unwrap(derived, _unbase64(file.wrapped, path)), file.cost)
        except (InvalidUnwrap, ValueError) as error:
            raise InputInvalid(
                "vault.passphrase_wrong", f"this passphrase does not open {path}", "try again; case and spaces count"
            ) from error
        if kek.id != file.id:
            raise _damaged(path)
        return kek

    @property
    def id(self) -> str:
        """See ``Kek``."""
        return self._id

    def wrap(self, key: bytes) -> bytes:
        """See ``Kek``; raises ``InputInvalid`` (``vault.key_length``) for anything but 32 bytes."""
        if len(key) != _KEY_BYTES:
            raise InputInvalid("vault.key_length", f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        return aes_key_wrap(self._key, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``Kek``."""
        try:
            return aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise VerificationFailed(
                "vault.unwrap", f"a stored key does not open with {self._id}", "was the key file replaced since?"
            ) from error

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """See ``Kek``."""
        return [self.unwrap(one) for one in wrapped]

    def change_passphrase(self, passphrase: str) -> None:
        """Wrap the same key under another passphrase; the file is replaced whole or not at all.

        Copies of the old file still open with the old passphrase. Raises ``InputInvalid``
        (``vault.passphrase_form``) or ``StorageFailed``.
        """
        data = self._file_bytes(passphrase)
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        write_new(fresh, data)
        try:
            os.rename(fresh, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise storage_failed(error, str(self._path)) from error

    def _file_bytes(self, passphrase: str) -> bytes:
        salt = secrets.token_bytes(16)
        wrapped = aes_key_wrap(_derive(passphrase, salt, self._cost), self._key)
        file = _File(cost=self._cost, salt=_base64(salt), id=self._id, wrapped=_base64(wrapped))
        return (pretty_json(msgspec.structs.replace(file, check=_checksum(file))) + "\n").encode()

    def __repr__(self) -> str:
        return f"PassphraseKek({self._id})"


def _derive(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    # One keyboard writes é as one character, another as two: NFC makes them one passphrase.
    try:
        secret = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError as error:
        raise InputInvalid("vault.passphrase_form", "the passphrase is no valid text", "type it anew") from error
    if not 1 <= len(secret) <= _MAX_PASSPHRASE:
        raise InputInvalid(
            "vault.passphrase_form",
            f"a passphrase has 1 to {_MAX_PASSPHRASE:,} bytes",
            "use some words that you remember",
        )
    try:
        kdf = Argon2id(
            salt=salt, length=_KEY_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
        )
        return kdf.derive(secret)
    except MemoryError as error:
        raise StorageFailed(
            "vault.memory", f"deriving the key needs {cost.memory_kib // 1024} MiB of memory", "free some and try again"
        ) from error


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound("vault.kek_missing", f"there is no key file at {path}", "was this home initialised?") from error
    except OSError as error:
        raise storage_failed(error, str(path)) from error
    if len(data) > _MAX_FILE_BYTES:
        raise _damaged(path)
    try:
        plain: Any = msgspec.json.decode(data)
        if isinstance(plain, dict) and isinstance(plain.get("v"), int) and plain["v"] > 1:
            raise InputInvalid("vault.kek_version", f"{path} is of a newer kind", "open it with a newer Safehold")
        file = msgspec.convert(plain, resolved(_File))
        sound = _checksum(file) == file.check and len(_unbase64(file.salt, path)) == 16
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path) from error
    if not sound:
        raise _damaged(path)
    return file


def _damaged(path: Path) -> InputInvalid:
    return InputInvalid(
        "vault.kek_damaged", f"the key file {path} is damaged or truncated", "put a copy of it back in place"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str, path: Path) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged(path) from error
