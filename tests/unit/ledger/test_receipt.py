"""Receipts: what a party keeps proves its entry with the verifier line alone, and nothing else does."""

from __future__ import annotations

import base64

import pytest

from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.receipt import format_receipt, verify_receipt
from safehold.ledger.tree import inclusion_proof
from safehold.model.errors import SafeholdError, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER, MemoryTree

ENTRIES = [b"entry %d" % index for index in range(11)]
TREE = MemoryTree(ENTRIES)
CHECKPOINT = sign_checkpoint(ORIGIN, 11, TREE.roots[11], KEY)


def _receipt(index: int = 4) -> bytes:
    return format_receipt(ENTRIES[index], index, inclusion_proof(index, 11, TREE.read), CHECKPOINT)


def _code(receipt: bytes, verifier: NoteVerifier = VERIFIER) -> str:
    with pytest.raises(VerificationFailed) as caught:
        verify_receipt(receipt, verifier)
    return caught.value.code


@pytest.mark.parametrize("index", range(11))
def test_a_receipt_proves_its_entry(index: int) -> None:
    proven = verify_receipt(_receipt(index), VERIFIER)
    assert (proven.index, proven.body, proven.checkpoint) == (index, ENTRIES[index], CHECKPOINT)


def test_its_text_is_that_of_tlog_proof() -> None:
    lines = _receipt(10).decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", f"extra {base64.b64encode(b'entry 10').decode()}", "index 10"]
    assert [base64.b64decode(line) for line in lines[3:5]] == inclusion_proof(10, 11, TREE.read)
    assert lines[5:8] == ["", ORIGIN, "11"]


def test_every_changed_bit_is_refused() -> None:
    good = _receipt()
    for at in range(len(good)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128):
            with pytest.raises(SafeholdError):
                verify_receipt(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :], VERIFIER)


def test_reasons_have_their_codes() -> None:
    good = _receipt()
    head, note = good.split(b"\n\n", 1)
    assert _code(good, NoteVerifier(ORIGIN, OTHER_KEY.public)) == "ledger.note_unsigned"
    assert _code(good.replace(b"index 4", b"index 5")) == "ledger.inclusion"
    assert _code(good.replace(b"index 4", b"index 11")) == "ledger.proof_range"
    assert _code(good.replace(b"index 4", b"index 04")) == "ledger.receipt_form"
    assert _code(good.replace(b"index 4\n", b"")) == "ledger.receipt_form"
    assert _code(good.replace(b"@v1", b"@v2")) == "ledger.receipt_form"
    assert _code(good.replace(b"extra ", b"xtra  ")) == "ledger.receipt_form"
    assert _code(b"\n".join(head.split(b"\n")[:-1]) + b"\n\n" + note) == "ledger.proof_length"
    assert _code(head + b"\n" + head.split(b"\n")[-1] + b"\n\n" + note) == "ledger.proof_length"
    assert _code(head) == "ledger.receipt_form"
    assert _code(b"\n\n" + note) == "ledger.receipt_form"
    assert _code(head + b"\n\n") == "ledger.note_form"
    assert _code("é".encode() + good) == "ledger.receipt_form"
    assert _code(good + b"x" * (2 << 20)) == "ledger.receipt_form"
    assert _code(good.replace(b"extra ", b"extra !")) == "ledger.receipt_form"
    huge = base64.b64encode(b"x" * 65_536)
    assert _code(good.replace(base64.b64encode(ENTRIES[4]), huge)) == "ledger.receipt_form"


def test_the_checkpoint_of_another_tree_does_not_do() -> None:
    head = _receipt().split(b"\n\n", 1)[0]
    other = MemoryTree([*ENTRIES[:-1], b"other"])
    note = sign_checkpoint(ORIGIN, 11, other.roots[11], KEY).note
    assert _code(head + b"\n\n" + note) == "ledger.inclusion"
    note = sign_checkpoint(ORIGIN, 10, TREE.roots[10], KEY).note
    assert _code(head + b"\n\n" + note) in {"ledger.inclusion", "ledger.proof_length"}
