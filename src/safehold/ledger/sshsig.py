"""SSHSIG signatures (OpenSSH ``PROTOCOL.sshsig``) by Ed25519 keys: what ``ssh-keygen -Y sign`` makes and checks.

A host signs its inventories with the SSH key that it has already, by a tool that it has already; that tool also
speaks to an ssh-agent, a TPM or a token. The namespace is inside the signed bytes, so a signature made for one
use (git commits, say) is never accepted for another.

``verify`` accepts a signature by the *expected* key alone. The key inside the signature only says who claims it,
and is compared before any arithmetic is done with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from safehold.ledger.keys import PublicKey, SigningKey
from safehold.model.errors import InputInvalid, VerificationFailed

__all__ = ["MAX_ARMOR_BYTES", "sign", "verify"]

MAX_ARMOR_BYTES: Final = 4_096
"""Far above what an Ed25519 signature needs (about 300 bytes), far below what a parser could be hurt with."""

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"-----END SSH SIGNATURE-----"
_LINE: Final = 70
_KEY_TYPE: Final = b"ssh-ed25519"
_HASHES: Final = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}


def sign(key: SigningKey, data: bytes, namespace: str) -> str:
    """The armored signature of ``data`` in ``namespace`` (SHA-512), as ``ssh-keygen -Y sign`` writes it.

    Raises ``InputInvalid`` (``ledger.sshsig_namespace``) for an empty or non-ASCII namespace.
    """
    name = _namespace_bytes(namespace)
    signature = key.sign(_signed_bytes(name, b"", b"sha512", hashlib.sha512(data).digest()))
    blob = b"".join(
        (
            _MAGIC,
            _VERSION.to_bytes(4, "big"),
            _string(key.public.wire),
            _string(name),
            _string(b""),
            _string(b"sha512"),
            _string(_string(_KEY_TYPE) + _string(signature)),
        )
    )
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join((_BEGIN.decode(), *lines, _END.decode(), ""))


def verify(armored: str | bytes, data: bytes, namespace: str, expected: PublicKey) -> PublicKey:
    """Return ``expected`` if ``armored`` is its signature of ``data`` in ``namespace``.

    Raises ``VerificationFailed``: ``ledger.sshsig_form`` (these bytes are no such signature),
    ``ledger.sshsig_algorithm`` (another kind of key or hash), ``ledger.sshsig_key`` (made by another key),
    ``ledger.sshsig_other_use`` (made for another namespace) or ``ledger.sshsig_signature`` (other data).
    """
    wanted = _namespace_bytes(namespace)
    fields = _Fields(_unarmor(armored))
    if fields.take(len(_MAGIC)) != _MAGIC or int.from_bytes(fields.take(4), "big") != _VERSION:
        raise _malformed("it does not start as one of version 1 does")
    claimed, name, reserved, algorithm = fields.string(), fields.string(), fields.string(), fields.string()
    inner = _Fields(fields.string())
    fields.end()
    kind, signature = inner.string(), inner.string()
    inner.end()
    if kind != _KEY_TYPE or algorithm not in _HASHES:
        raise VerificationFailed(
            "ledger.sshsig_algorithm",
            "the signature uses a key or hash that is not taken",
            "sign with an ssh-ed25519 key and SHA-512",
        )
    if claimed != expected.wire:
        raise VerificationFailed(
            "ledger.sshsig_key",
            f"the signature is not by {expected.key_id}",
            "sign with the key that is registered for this host",
        )
    if name != wanted:
        raise VerificationFailed(
            "ledger.sshsig_other_use",
            f"the signature was not made for {namespace}",
            f"sign with: ssh-keygen -Y sign -n {namespace}",
        )
    # PROTOCOL.sshsig: a reserved field that is not empty is to be ignored; it is signed, so it cannot be swapped.
    signed = _signed_bytes(name, reserved, algorithm, _HASHES[algorithm](data).digest())
    try:
        expected.verify(signature, signed, "the data")
    except VerificationFailed as error:
        raise VerificationFailed(
            "ledger.sshsig_signature",
            f"the signature by {expected.key_id} is not over these bytes",
            "the data was changed after signing, or belongs to another signature",
        ) from error
    return expected


def _namespace_bytes(namespace: str) -> bytes:
    if not namespace or not namespace.isascii() or not namespace.isprintable():
        raise InputInvalid("ledger.sshsig_namespace", "a namespace is printable ASCII text and not empty")
    return namespace.encode()


def _signed_bytes(namespace: bytes, reserved: bytes, algorithm: bytes, digest: bytes) -> bytes:
    return _MAGIC + _string(namespace) + _string(reserved) + _string(algorithm) + _string(digest)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _unarmor(armored: str | bytes) -> bytes:
    if isinstance(armored, str):
        try:
            armored = armored.encode("ascii")
        except UnicodeEncodeError as error:
            raise _malformed("it is not ASCII text") from error
    if len(armored) > MAX_ARMOR_BYTES:
        raise _malformed(f"it is longer than {MAX_ARMOR_BYTES} bytes")
    lines = armored.replace(b"\r\n", b"\n").strip(b"\n").split(b"\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise _malformed("the first or the last line is missing")
    text = b"".join(lines[1:-1])
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("its middle is not base64") from error
    # One signature, one text: base64 with stray low bits in its last character would give a second.
    if base64.b64encode(blob) != text:
        raise _malformed("its middle is not base64")
    return blob


class _Fields:
    """A reader of SSH wire fields that never reads past its end and never allocates by a claimed length."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _malformed("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        if self._at != len(self._data):
            raise _malformed("there are bytes after its end")


def _malformed(why: str) -> VerificationFailed:
    return VerificationFailed(
        "ledger.sshsig_form",
        f"this is not an SSH signature: {why}",
        "make it with: ssh-keygen -Y sign",
    )
