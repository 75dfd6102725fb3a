"""Notes, verifier lines, receipts and bundles from anywhere: our error or success, nothing else; and no luck."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from safehold.ledger.audit_part import read_bundle
from safehold.ledger.export import encode_bundle
from safehold.ledger.keys import PublicKey
from safehold.ledger.note import NoteVerifier, open_checkpoint, sign_checkpoint
from safehold.ledger.receipt import format_receipt, verify_receipt
from safehold.ledger.tree import inclusion_proof
from safehold.model.errors import InputInvalid, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, VERIFIER, MemoryTree

TREE = MemoryTree([b"entry %d" % index for index in range(5)])
NOTE = sign_checkpoint(ORIGIN, 5, TREE.roots[5], KEY)
RECEIPT = format_receipt(TREE.entries[2], 2, inclusion_proof(2, 5, TREE.read), NOTE)
CHANGES = st.tuples(
    st.integers(0, 5000), st.binary(max_size=5) | st.sampled_from([b"\n", b"\n\n", b" ", b"=", b"+"]), st.integers(0, 5)
)


def _changed(data: bytes, change: tuple[int, bytes, int]) -> bytes:
    at = change[0] % (len(data) + 1)
    return data[:at] + change[1] + data[at + change[2] :]


def _opens(note: bytes) -> bool:
    with contextlib.suppress(VerificationFailed):
        return open_checkpoint(note, VERIFIER).note == note
    return False


def _verifies(receipt: bytes) -> bool:
    with contextlib.suppress(VerificationFailed):
        return verify_receipt(receipt, VERIFIER).body == TREE.entries[2]
    return False


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
def test_any_bytes_as_note_and_receipt(data: bytes) -> None:
    assert not _opens(data)
    assert not _verifies(data)
    assert not _opens(data + b"\n\n" + data)
    assert not _verifies(b"c2sp.org/tlog-proof@v1\nextra \nindex 0\n" + data + b"\n\n" + NOTE.note)


@given(CHANGES)
def test_a_good_note_changed(change: tuple[int, bytes, int]) -> None:
    note = _changed(NOTE.note, change)
    if _opens(note):  # only what is outside of text and our signature may differ: a signature of another
        assert note.startswith(NOTE.note[: NOTE.note.index(b"\n\n") + 2])
        assert NOTE.note.rsplit(b"\n", 2)[1] in note


@given(CHANGES)
def test_a_good_receipt_changed(change: tuple[int, bytes, int]) -> None:
    receipt = _changed(RECEIPT, change)
    if _verifies(receipt):
        assert receipt.split(b"\n\n")[0] == RECEIPT.split(b"\n\n")[0]


@given(st.text(st.characters(), max_size=120) | st.tuples(st.integers(0, 99), st.text(st.characters(), max_size=3)).map(
    lambda change: VERIFIER.text[: change[0]] + change[1] + VERIFIER.text[change[0] + len(change[1]) :]
))  # fmt: skip
def test_any_text_as_a_verifier_line(text: str) -> None:
    with contextlib.suppress(InputInvalid):
        assert NoteVerifier.parse(text).text == text.strip()


@given(st.text(st.characters(), max_size=120))
def test_any_text_as_a_public_key(text: str) -> None:
    with contextlib.suppress(InputInvalid):
        PublicKey.parse(text)


@given(st.binary(max_size=200), st.integers(0, 256))
def test_any_bytes_as_a_bundle(data: bytes, width: int) -> None:
    with contextlib.suppress(VerificationFailed):
        bodies = read_bundle(data, width, "bundle")
        assert len(bodies) == width
        assert encode_bundle(bodies) == data
