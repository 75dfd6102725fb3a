"""Receipts: one entry, its inclusion proof and the signed checkpoint, in the C2SP tlog-proof form.

A receipt is what each party keeps. It is checked offline with nothing but the ledger's verifier line: it stays
good when the ledger's operator is gone. The entry itself travels in the ``extra`` line, which the format does
not authenticate: here it is authenticated by the proof, since the leaf is recomputed from it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from safehold.ledger.cosignature import Cosignature
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.policy import Policy
from safehold.ledger.proof import verify_inclusion
from safehold.model.encoding import MAX_ENTRY_BYTES
from safehold.model.errors import VerificationFailed

__all__ = ["VerifiedEntry", "format_receipt", "verify_receipt"]

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MAX_RECEIPT_BYTES: Final = 2 << 20


class VerifiedEntry(msgspec.Struct, frozen=True):
    """An entry whose place in the ledger was proven: made by ``verify_receipt`` and by nothing else.

    ``cosignatures`` are those of the witnesses of the policy; empty where no policy was given.
    """

    index: int
    body: bytes
    checkpoint: Checkpoint
    cosignatures: tuple[Cosignature, ...] = ()


def format_receipt(entry: bytes, index: int, path: Sequence[bytes], checkpoint: Checkpoint) -> bytes:
    """The receipt's text: header, the entry, its index, the path from the leaf up, the signed checkpoint."""
    encode = binascii.b2a_base64  # with the line's end
    lines = [_HEADER.encode(), b"\nextra ", encode(entry), b"index %d\n" % index, *map(encode, path)]
    return b"".join([*lines, b"\n", checkpoint.note])


def verify_receipt(receipt: bytes, verifier: NoteVerifier, policy: Policy | None = None) -> VerifiedEntry:
    """Return the entry in ``receipt`` if the proof leads to a checkpoint that ``verifier`` signed.

    With a ``policy`` the receipt must also be complete: the checkpoint carries the cosignatures of its quorum. Raises
    ``VerificationFailed``: ``ledger.receipt_form``, or what ``open_checkpoint``, ``verify_inclusion`` and
    ``Policy.witnessed`` raise.
    """
    if len(receipt) > _MAX_RECEIPT_BYTES:
        raise _bad_receipt("larger than 2 MiB")
    head, separator, note = receipt.partition(b"\n\n")
    if not separator:
        raise _bad_receipt("no checkpoint in it")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _bad_receipt("not ASCII before the checkpoint") from error
    if len(lines) < 3 or lines[0] != _HEADER or not lines[1].startswith("extra "):
        raise _bad_receipt("the header or the entry is missing")
    match = _INDEX.fullmatch(lines[2])
    if not match:
        raise _bad_receipt("the index is missing")
    entry = _decode(lines[1].removeprefix("extra "))
    if len(entry) > MAX_ENTRY_BYTES:
        raise _bad_receipt("the entry is too large")
    if policy is not None:
        policy.check_log(verifier)
    checkpoint = open_checkpoint(note, verifier)
    cosignatures = policy.witnessed(checkpoint) if policy is not None else ()
    index = int(match[1])
    path = [_decode(line) for line in lines[3:]]
    verify_inclusion(entry, index, checkpoint.size, path, checkpoint.root)
    return VerifiedEntry(index, entry, checkpoint, cosignatures)


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_receipt("a line that is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise _bad_receipt("a line that is not canonical base64")
    return data


def _bad_receipt(why: str) -> VerificationFailed:
    return VerificationFailed("ledger.receipt_form", f"this is not a receipt: {why}")
