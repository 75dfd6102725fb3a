"""Cosignatures: the bytes of tlog-cosignature, by both kinds of key; what is altered does not hold."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from safehold.ledger.cosignature import (
    ED25519,
    ML_DSA_44,
    Cosigner,
    CosignerKey,
    add_signatures,
    open_cosignatures,
    read_signature_lines,
    signed_message,
)
from safehold.ledger.note import NoteSignature, open_checkpoint, split_note
from safehold.model.errors import InputInvalid, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, VERIFIER, key_of
from tests.witness_kit import AT, WITNESS_NAME, ShownLog, entries

LOG = ShownLog(entries(7))
NOTE = LOG.note()
TEXT = NOTE.partition(b"\n\n")[0] + b"\n"
COSIGNERS = {
    ED25519: Cosigner.ed25519(WITNESS_NAME, key_of(77)),
    ML_DSA_44: Cosigner.ml_dsa_44(WITNESS_NAME, bytes(32)),
}
KINDS = pytest.mark.parametrize("cosigner", list(COSIGNERS.values()), ids=["ed25519", "ml-dsa-44"])

# The example of tlog-cosignature: the checkpoint, the log's line and the witness's line.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


@KINDS
def test_a_cosignature_verifies_and_says_when(cosigner: Cosigner) -> None:
    made = cosigner.cosign(TEXT, AT + 999_999)
    assert made.seconds == AT // 1_000_000
    note = NOTE + made.signature.line.encode()
    assert open_cosignatures(note, [cosigner.key]) == {cosigner.key: made}
    assert open_checkpoint(note, VERIFIER).size == 7, "the ledger's own signature still opens it"


@KINDS
def test_the_public_line_is_read_back(cosigner: Cosigner) -> None:
    assert CosignerKey.parse(cosigner.key.text) == cosigner.key
    assert cosigner.key.text not in repr(cosigner)


def test_the_ed25519_message_is_that_of_the_standard() -> None:
    made = COSIGNERS[ED25519].cosign(TEXT, AT)
    message = b"cosignature/v1\ntime %d\n" % (AT // 1_000_000) + TEXT
    Ed25519PublicKey.from_public_bytes(COSIGNERS[ED25519].key.raw).verify(made.signature.signature[8:], message)
    assert int.from_bytes(made.signature.signature[:8], "big") == AT // 1_000_000


def test_the_example_of_the_standard_has_our_form() -> None:
    text, signatures = split_note(EXAMPLE.encode())
    assert [len(one.signature) for one in signatures] == [64, 72]
    key = CosignerKey("witness.example.com/w1", ED25519, bytes(32))
    assert signed_message(key, 1_679_315_147, text) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    assert int.from_bytes(signatures[1].signature[:8], "big") == 1_679_315_147
    assert "".join(one.line for one in signatures) == EXAMPLE.partition("\n\n")[2]


def test_the_ml_dsa_message_is_that_of_the_standard() -> None:
    key = COSIGNERS[ML_DSA_44].key
    name, origin = WITNESS_NAME.encode(), ORIGIN.encode()
    assert signed_message(key, 5, TEXT) == (
        b"subtree/v1\n\0" + bytes([len(name)]) + name + (5).to_bytes(8, "big") + bytes([len(origin)]) + origin
        + bytes(8) + (7).to_bytes(8, "big") + LOG.tree.roots[7]
    )  # fmt: skip
    assert len(key.raw) == 1312


@KINDS
@pytest.mark.parametrize("at", [0, 3, 7, 8, 40, -1])
def test_a_changed_bit_does_not_hold(cosigner: Cosigner, at: int) -> None:
    made = bytearray(cosigner.cosign(TEXT, AT).signature.signature)
    made[at] ^= 1
    line = NoteSignature(cosigner.key.name, cosigner.key.key_id, bytes(made)).line
    with pytest.raises(VerificationFailed) as caught:
        open_cosignatures(NOTE + line.encode(), [cosigner.key])
    assert caught.value.code == "ledger.cosignature"


@KINDS
@pytest.mark.parametrize("change", ["short", "long", "late", "text"])
def test_what_else_does_not_hold(cosigner: Cosigner, change: str) -> None:
    made = cosigner.cosign(TEXT, AT).signature.signature
    signature, text = {
        "short": (made[:-1], TEXT),
        "long": (made + b"\0", TEXT),
        "late": ((1 << 63).to_bytes(8, "big") + made[8:], TEXT),
        "text": (made, TEXT.replace(b"\n7\n", b"\n8\n")),
    }[change]
    with pytest.raises(VerificationFailed) as caught:
        cosigner.key.verify(signature, text)
    assert caught.value.code == "ledger.cosignature"


def test_one_kind_does_not_serve_for_the_other_nor_for_the_log() -> None:
    plain = NoteSignature(WITNESS_NAME, COSIGNERS[ED25519].key.key_id, key_of(77).sign(TEXT)).line
    with pytest.raises(VerificationFailed):
        open_cosignatures(NOTE + plain.encode(), [COSIGNERS[ED25519].key])
    assert COSIGNERS[ED25519].key.key_id != CosignerKey(WITNESS_NAME, ML_DSA_44, bytes(1312)).key_id
    same = Cosigner.ed25519(ORIGIN, KEY)  # the ledger's own name and key, as a witness: another key id
    note = NOTE + same.cosign(TEXT, AT).signature.line.encode()
    assert open_checkpoint(note, VERIFIER).size == 7


def test_unknown_signatures_are_ignored_and_the_later_of_two_counts() -> None:
    cosigner = COSIGNERS[ED25519]
    assert open_cosignatures(NOTE, [cosigner.key]) == {}
    early, late = cosigner.cosign(TEXT, AT), cosigner.cosign(TEXT, AT + 5_000_000)
    stranger = Cosigner.ed25519("stranger.example", key_of(9)).cosign(TEXT, AT)
    for pair in ((early, late), (late, early)):
        note = NOTE + "".join(one.signature.line for one in (*pair, stranger)).encode()
        assert open_cosignatures(note, [cosigner.key]) == {cosigner.key: late}


def test_signatures_are_added_once_and_the_ledgers_own_stays() -> None:
    cosigner = COSIGNERS[ED25519]
    early, late = cosigner.cosign(TEXT, AT).signature, cosigner.cosign(TEXT, AT + 5_000_000).signature
    once = add_signatures(NOTE, [early])
    assert once == NOTE + early.line.encode()
    assert add_signatures(once, [late]) == NOTE + late.line.encode()
    assert add_signatures(once, []) == once
    forged = NoteSignature(VERIFIER.name, VERIFIER.key_id, bytes(64))
    assert add_signatures(once, [forged]) == once, "nobody takes the place of the ledger's signature"


@pytest.mark.parametrize(
    "answer", [b"", b"x", b"\n", b"hello\n\n\xe2\x80\x94 w AAAAAAA=\n", b"\xe2\x80\x94 w AAAA\n", b"a" * (1 << 19)]
)
def test_an_answer_that_is_no_signature_lines(answer: bytes) -> None:
    with pytest.raises(VerificationFailed) as caught:
        read_signature_lines(answer)
    assert caught.value.code == "ledger.note_form"


def test_bad_public_lines() -> None:
    good = COSIGNERS[ED25519].key.text
    name, key_id, encoded = good.split("+", 2)
    log_key = base64.b64encode(b"\x01" + COSIGNERS[ED25519].key.raw).decode()
    for bad in ("", name, f"{name}+{key_id}", f"{name}+00000000+{encoded}", f"{name}+{key_id}+{log_key}", f"a b+{key_id}+{encoded}",
                f"{name}+{key_id.upper()}+{encoded}" if key_id.upper() != key_id else "", VERIFIER.text, good[:-1]):  # fmt: skip
        with pytest.raises(InputInvalid) as caught:
            CosignerKey.parse(bad)
        assert caught.value.code == "ledger.witness_key"


def test_a_name_that_no_note_can_hold_is_refused() -> None:
    for name, code in (("a b", "ledger.origin"), ("a+b", "ledger.origin"), ("ü" * 150, "ledger.witness_name")):
        with pytest.raises(InputInvalid) as caught:
            Cosigner.ed25519(name, key_of(1))
        assert caught.value.code == code
