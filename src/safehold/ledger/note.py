"""Signed notes and checkpoints: what the ledger shows, prints and hands out (C2SP signed-note, tlog-checkpoint).

Only ``open_checkpoint`` makes a ``Checkpoint`` out of bytes from elsewhere, and only by verifying a signature
of a known key: the type carries the trust. Ed25519 (signature type 0x01) is the one algorithm here; the signatures of
witnesses are in ``cosignature``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.tree import HASH_BYTES
from safehold.model.errors import InputInvalid, VerificationFailed

__all__ = [
    "Checkpoint",
    "NoteSignature",
    "NoteVerifier",
    "check_origin",
    "open_checkpoint",
    "read_head",
    "sign_checkpoint",
    "split_note",
]

_ED25519: Final = b"\x01"
_MAX_NOTE_BYTES: Final = 1 << 20
_MAX_SIGNATURES: Final = 64
_SIGNATURE_LINE: Final = re.compile("— ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_ORIGIN: Final = re.compile(r"[^\s+\x00-\x20\x7f\ud800-\udfff]{1,200}")  # no space, no +, and encodable
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True):
    """A verified tree head: ``origin``, ``size`` (entries), ``root`` (32 bytes) and the signed ``note`` it came in."""

    origin: str
    size: int
    root: bytes
    note: bytes


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line of a note, not verified: the key's ``name``, its 4-byte ``key_id``, and the ``signature``."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its line end."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


class NoteVerifier(msgspec.Struct, frozen=True):
    """A key that may sign notes: its name, and its public half. Text form: ``name+keyid+base64`` (Go's vkey)."""

    name: str
    key: PublicKey

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || 0x0A || 0x01 || key) (signed-note, Signatures)."""
        return _key_id(self.name, self.key.raw)

    @property
    def text(self) -> str:
        """The verifier line that people keep and compare."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.key.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> NoteVerifier:
        """Read a verifier line, or raise ``InputInvalid`` (``ledger.verifier``)."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _bad_verifier() from error
        if len(data) != 1 + HASH_BYTES or data[:1] != _ED25519 or not _ORIGIN.fullmatch(name):
            raise _bad_verifier()
        verifier = cls(name, PublicKey(data[1:]))
        if verifier.key_id.hex() != key_id:
            raise _bad_verifier()
        return verifier


@lru_cache(maxsize=64)  # asked for at every commit and for every note; pure
def _key_id(name: str, raw: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:4]


def check_origin(origin: str) -> str:
    """Return ``origin`` if it can stand on a checkpoint's first line, or raise ``InputInvalid`` (``ledger.origin``)."""
    if not _ORIGIN.fullmatch(origin):
        raise InputInvalid(
            "ledger.origin", f"{origin[:80]!r} cannot name a ledger", "use a form like lab.example/custody"
        )
    return origin


def sign_checkpoint(origin: str, size: int, root: bytes, signer: SigningKey) -> Checkpoint:
    """Make and sign the checkpoint of a tree. The caller has made sure that it follows from the one before."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()
    verifier = NoteVerifier(origin, signer.public)
    signature = base64.b64encode(verifier.key_id + signer.sign(text)).decode()
    return Checkpoint(origin, size, root, text + f"\n— {origin} {signature}\n".encode())


def open_checkpoint(note: bytes, verifier: NoteVerifier) -> Checkpoint:
    """Return the checkpoint in ``note`` if ``verifier`` signed it and it is for ``verifier.name``.

    Raises ``VerificationFailed``: ``ledger.note_form`` (not a note, or not a checkpoint), ``ledger.note_unsigned``
    (no signature by this key), ``ledger.note_origin`` (another log) or ``ledger.signature``.
    """
    text, signatures = split_note(note)
    key = (verifier.name, verifier.key_id)
    ours = [signature.signature for signature in signatures if (signature.name, signature.key_id) == key]
    if not ours:
        raise VerificationFailed(
            "ledger.note_unsigned", f"the checkpoint is not signed by {verifier.name}", "is this the right ledger key?"
        )
    for signature in ours:
        verifier.key.verify(signature, text, "the checkpoint")
    origin, size, root = read_head(text)
    if origin != verifier.name:
        raise VerificationFailed("ledger.note_origin", f"the checkpoint is of another ledger, {origin}")
    return Checkpoint(origin, size, root, note)


def split_note(note: bytes) -> tuple[bytes, list[NoteSignature]]:
    """The text of a note and its signature lines, none of them verified: ``VerificationFailed`` (``ledger.note_form``)."""
    if len(note) > _MAX_NOTE_BYTES:
        raise _bad_note("larger than 1 MiB")
    try:
        content = note.decode()
    except UnicodeDecodeError as error:
        raise _bad_note("not UTF-8") from error
    if any(ord(character) < 0x20 and character != "\n" for character in content):
        raise _bad_note("a control character in it")
    text, separator, tail = content.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _bad_note("no signature block")
    return (text + "\n").encode(), list(_signatures(tail[:-1].split("\n")))


def _signatures(lines: list[str]) -> Iterable[NoteSignature]:
    if len(lines) > _MAX_SIGNATURES:
        raise _bad_note("too many signatures")
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        if not match:
            raise _bad_note("a malformed signature line")
        try:
            value = base64.b64decode(match[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _bad_note("a signature that is not base64") from error
        if len(value) < 5:
            raise _bad_note("a signature that is too short")
        if base64.b64encode(value).decode() != match[2]:
            raise _bad_note("a signature that is not canonical base64")  # else one note had several texts
        yield NoteSignature(match[1], value[:4], value[4:])


def read_head(text: bytes) -> tuple[str, int, bytes]:
    """Origin, size and root in the text of a checkpoint (``ledger.note_form``). They count for nothing until the text's
    signature is verified.
    """
    lines = text.decode().split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise _bad_note("not three lines of origin, size and root")
    origin, size, root = lines[:3]
    if not _SIZE.fullmatch(size):
        raise _bad_note("a size that is no number")
    try:
        digest = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_note("a root that is not base64") from error
    if len(digest) != HASH_BYTES or base64.b64encode(digest).decode() != root:
        raise _bad_note("a root that is no SHA-256")
    return origin, int(size), digest


def _bad_note(why: str) -> VerificationFailed:
    return VerificationFailed("ledger.note_form", f"this is not a signed checkpoint: {why}")


def _bad_verifier() -> InputInvalid:
    return InputInvalid(
        "ledger.verifier", "this is not a verifier line of a ledger", "copy the whole line that `safehold init` printed"
    )
