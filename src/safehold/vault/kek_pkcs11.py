"""A ``Kek`` in a PKCS#11 token: an HSM, a card, or SoftHSM in tests. The key-encryption key never leaves the token.

An AES-256 key of the token wraps with AES-GCM (PKCS#11 3.0, CKM_AES_GCM) under a random nonce of 12 bytes, which stands before
the ciphertext. Nonces are random: safe for far more wraps than one key will ever make (2^32, NIST SP 800-38D §8.3). The
additional data says what it is for, so that nothing else that the token encrypted is taken for a wrapped key.

The library comes with the extra ``pkcs11``.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from safehold.model.errors import InputInvalid, NotFound, StorageFailed, VerificationFailed

__all__ = ["Pkcs11Address", "Pkcs11Kek", "make_token_key"]

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BITS: Final = 128
_WRAPPED_BYTES: Final = _NONCE_BYTES + _KEY_BYTES + _TAG_BITS // 8
_USE: Final = b"safehold part key v1"


class Pkcs11Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where the key is: the token's library (a file), its label, and the key's label."""

    module: str
    token: str
    key: str


class Pkcs11Kek:
    """See ``Kek``. ``pin`` opens the token. A token's session is used by one thread at a time."""

    def __init__(self, address: Pkcs11Address, pin: Callable[[], str]) -> None:
        """Open the token. Raises ``NotFound`` (``vault.kek_missing``, ``vault.no_pkcs11``) or ``StorageFailed``."""
        self._pkcs11 = _library()
        self._address = address
        self._pin = pin
        self._lock = threading.Lock()
        self._session: Any = None
        self._key: Any = None
        self.id = self._begin()

    def _begin(self) -> str:
        """Open a session and find the key in it; its id."""
        address = self._address
        self._session = _open(self._pkcs11, address, self._pin)
        try:
            self._key = self._session.get_key(object_class=self._pkcs11.ObjectClass.SECRET_KEY, label=address.key)
        except self._pkcs11.PKCS11Error as error:
            self._drop()
            raise NotFound(
                "vault.kek_missing", f"the token {address.token} has no one key {address.key}", "make it on the token"
            ) from error
        serial = bytes(self._session.token.serial)
        named = serial + b"\n" + address.token.encode() + b"\n" + address.key.encode()
        return "pkcs11-" + hashlib.sha256(named).hexdigest()[:16]

    def _use(self, act: Callable[[Any], Any]) -> bytes:
        """What ``act`` gets of the token's key. After a failure the next use opens the token anew: a session does not
        outlive a token that was away, and not every library says so in words of its own.
        """
        with self._lock:
            if self._session is None and self._begin() != self.id:
                self._drop()
                raise NotFound(
                    "vault.kek_missing", f"the token {self._address.token} is another one now", "put the token back"
                )
            try:
                return bytes(act(self._key))
            except self._pkcs11.PKCS11Error:
                self._drop()
                raise

    def wrap(self, key: bytes) -> bytes:
        """See ``Kek``; raises ``InputInvalid`` (``vault.key_length``) or ``StorageFailed`` (``vault.kek_failed``)."""
        if len(key) != _KEY_BYTES:
            raise InputInvalid("vault.key_length", f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        try:
            return nonce + self._use(lambda mine: mine.encrypt(key, **self._mechanism(nonce)))
        except self._pkcs11.PKCS11Error as error:
            raise _failed(error) from error

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``Kek``."""
        if len(wrapped) != _WRAPPED_BYTES:
            raise _not_ours(self.id)
        nonce = wrapped[:_NONCE_BYTES]
        broken = (
            self._pkcs11.exceptions.EncryptedDataInvalid,
            self._pkcs11.exceptions.EncryptedDataLenRange,
            self._pkcs11.exceptions.GeneralError,  # what SoftHSM says of a tag that does not fit
        )
        try:
            key = self._use(lambda mine: mine.decrypt(wrapped[_NONCE_BYTES:], **self._mechanism(nonce)))
        except broken as error:
            raise _not_ours(self.id) from error
        except self._pkcs11.PKCS11Error as error:
            raise _failed(error) from error
        if len(key) != _KEY_BYTES:
            raise _not_ours(self.id)
        return key

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """One after the other: a token has no call for many."""
        return [self.unwrap(one) for one in wrapped]

    def _mechanism(self, nonce: bytes) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce=nonce, aad=_USE, tag_bits=_TAG_BITS)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    def close(self) -> None:
        """End the session with the token; the next use opens another."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            with contextlib.suppress(self._pkcs11.PKCS11Error):  # the token may be gone, and its session with it
                session.close()

    def __repr__(self) -> str:
        return f"Pkcs11Kek({self.id})"


def make_token_key(address: Pkcs11Address, pin: Callable[[], str]) -> None:
    """Make the AES-256 key on the token: it cannot be taken out. Raises ``StorageFailed`` or ``NotFound``."""
    pkcs11 = _library()
    session = _open(pkcs11, address, pin)
    try:
        template = {
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
            pkcs11.Attribute.ENCRYPT: True,
            pkcs11.Attribute.DECRYPT: True,
        }
        session.generate_key(pkcs11.KeyType.AES, 256, label=address.key, store=True, template=template)
    except pkcs11.PKCS11Error as error:
        raise _failed(error) from error
    finally:
        session.close()


def _open(pkcs11: Any, address: Pkcs11Address, pin: Callable[[], str]) -> Any:
    try:
        token = pkcs11.lib(address.module).get_token(token_label=address.token)
        try:
            return token.open(user_pin=pin(), rw=True)
        except pkcs11.UserAlreadyLoggedIn:  # a process logs in once; its further sessions share that
            return token.open(rw=True)
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        raise StorageFailed(
            "vault.kek_unreachable",
            f"the token {address.token} cannot be opened: {type(error).__name__}",
            "check the library's path, the token's label and its PIN",
        ) from error


def _library() -> Any:
    """The library: late, since it needs an extra that the core does not bring."""
    try:
        import pkcs11
    except ImportError as error:
        raise NotFound(
            "vault.no_pkcs11",
            "the library for PKCS#11 is not installed here",
            "install Safehold with: safehold[pkcs11]",
        ) from error
    return pkcs11


def _failed(error: Exception) -> StorageFailed:
    return StorageFailed(
        "vault.kek_failed", f"the token failed: {type(error).__name__}", "is it still there, and is its session open?"
    )


def _not_ours(kek: str) -> VerificationFailed:
    return VerificationFailed("vault.unwrap", f"a stored key does not open with {kek}", "was the token's key replaced?")
