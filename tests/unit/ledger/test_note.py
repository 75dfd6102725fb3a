"""Notes and checkpoints: Go's keys and notes are ours, and only a checkpoint signed by the right key opens."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.note import NoteVerifier, check_origin, open_checkpoint, sign_checkpoint, split_note
from safehold.model.errors import InputInvalid, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER

ROOT = bytes(range(32))
NOTE = sign_checkpoint(ORIGIN, 7, ROOT, KEY).note
# The example of Go's golang.org/x/mod/sumdb/note, and the key of Go's checksum database.
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
GO_SUM_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"


def _code(note: bytes, verifier: NoteVerifier = VERIFIER) -> str:
    with pytest.raises(VerificationFailed) as caught:
        open_checkpoint(note, verifier)
    return caught.value.code


def _sign(text: bytes, key: SigningKey = KEY, name: str = ORIGIN) -> bytes:
    verifier = NoteVerifier(name, key.public)
    return text + f"\n— {name} {base64.b64encode(verifier.key_id + key.sign(text)).decode()}\n".encode()


def test_keys_of_go_are_read_and_written_alike() -> None:
    for line in (GO_KEY, GO_SUM_KEY):
        assert NoteVerifier.parse(line).text == line
    signer = SigningKey(Ed25519PrivateKey.from_private_bytes(GO_SEED))
    assert NoteVerifier("PeterNeumann", signer.public).text == GO_KEY


def test_a_note_that_go_signed_verifies_and_is_signed_alike() -> None:
    verifier = NoteVerifier.parse(GO_KEY)
    text, signatures = split_note(GO_NOTE)
    assert [(one.name, one.key_id) for one in signatures] == [("PeterNeumann", verifier.key_id)]
    verifier.key.verify(signatures[0].signature, text, "the note")
    assert _sign(text, SigningKey(Ed25519PrivateKey.from_private_bytes(GO_SEED)), "PeterNeumann") == GO_NOTE
    assert _code(GO_NOTE, verifier) == "ledger.note_form", "a note, but no checkpoint"


def test_a_checkpoint_opens() -> None:
    opened = open_checkpoint(NOTE, VERIFIER)
    assert (opened.origin, opened.size, opened.root, opened.note) == (ORIGIN, 7, ROOT, NOTE)
    text = f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()}\n".encode()
    assert _sign(text) == NOTE


def test_another_key_another_name_another_log() -> None:
    assert _code(NOTE, NoteVerifier(ORIGIN, OTHER_KEY.public)) == "ledger.note_unsigned"
    assert _code(NOTE, NoteVerifier("other.example/log", KEY.public)) == "ledger.note_unsigned"
    other = f"other.example/log\n7\n{base64.b64encode(ROOT).decode()}\n".encode()
    assert _code(_sign(other)) == "ledger.note_origin"


def test_a_wrong_signature_under_the_right_name_and_key_id() -> None:
    text, _, _ = NOTE.partition(b"\n\n")
    forged = base64.b64encode(VERIFIER.key_id + OTHER_KEY.sign(text + b"\n")).decode()
    assert _code(text + f"\n\n— {ORIGIN} {forged}\n".encode()) == "ledger.signature"
    short = base64.b64encode(VERIFIER.key_id + b"x").decode()
    assert _code(text + f"\n\n— {ORIGIN} {short}\n".encode()) == "ledger.signature"


def test_signatures_of_others_are_no_obstacle_but_every_one_of_ours_counts() -> None:
    other = _sign(NOTE[: NOTE.index(b"\n\n") + 1], OTHER_KEY, "witness.example").rsplit(b"\n", 2)[1] + b"\n"
    ours = NOTE.rsplit(b"\n", 2)[1] + b"\n"
    assert open_checkpoint(NOTE + other, VERIFIER).size == 7
    bad = f"— {ORIGIN} {base64.b64encode(VERIFIER.key_id + bytes(64)).decode()}\n".encode()
    assert _code(NOTE + bad) == "ledger.signature"
    assert open_checkpoint(NOTE + ours, VERIFIER).size == 7
    assert open_checkpoint(NOTE + other * 63, VERIFIER).size == 7
    assert _code(NOTE + other * 64) == "ledger.note_form"


def test_extension_lines_are_signed_and_kept() -> None:
    text = NOTE[: NOTE.index(b"\n\n") + 1]
    assert open_checkpoint(_sign(text + b"more: 1\n"), VERIFIER).size == 7


def test_every_changed_byte_is_refused() -> None:
    for at in range(len(NOTE)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128):
            changed = NOTE[:at] + bytes([NOTE[at] ^ mask]) + NOTE[at + 1 :]
            assert _code(changed).startswith("ledger."), (at, mask)


def test_every_cut_is_refused() -> None:
    for end in range(len(NOTE)):
        assert _code(NOTE[:end]) in {"ledger.note_form", "ledger.note_unsigned"}


ROOT_TEXT = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "body",
    [
        f"{ORIGIN}\n07\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n-7\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n+7\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n7 \n{ROOT_TEXT}\n",
        f"{ORIGIN}\n\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n{10**19}\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n٧\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n7\n{ROOT_TEXT[:-1]}\n",
        f"{ORIGIN}\n7\n{ROOT_TEXT[:-2]}9=\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n7\n!\n",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n",
    ],
)
def test_a_signed_note_that_is_no_checkpoint_is_refused(body: str) -> None:
    assert _code(_sign(body.encode())) == "ledger.note_form"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        b"\xff" + NOTE,
        NOTE.replace(b"\n", b"\r\n"),
        NOTE + b"\0",
        NOTE + b"x",
        NOTE[:-1],
        NOTE + b"x" * (1 << 20),
        NOTE.replace("—".encode(), b"-"),
        NOTE + f"— {ORIGIN} AAAA\n".encode(),
        NOTE + f"— {ORIGIN} A===\n".encode(),
        NOTE + f"— {ORIGIN}  AAAAAAAA\n".encode(),
        NOTE + "— a+b AAAAAAAA\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    assert _code(note) == "ledger.note_form"


def test_one_signature_has_one_text() -> None:
    line = NOTE.rsplit(b"\n", 2)[1]
    assert line.endswith(b"="), "the signature's length must leave padding for this test to mean something"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = line[:-2] + bytes([alphabet[alphabet.index(line[-2]) ^ 1]]) + b"="
    encoded = other.rsplit(b" ", 1)[1]
    assert base64.b64decode(encoded) == base64.b64decode(line.rsplit(b" ", 1)[1])
    assert _code(NOTE.replace(line, other)) == "ledger.note_form"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b+c",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY.replace("PeterNeumann", "PeterNewmann"),
        GO_KEY.replace("PeterNeumann", "Peter Neumann"),
        GO_KEY.replace("PeterNeumann", ""),
        GO_KEY.replace("+ARpc", "+ABpc"),
        GO_KEY[:-4],
        GO_KEY + "AAAA",
        GO_KEY + "+x",
        GO_KEY.replace("+ARpc", "+ä"),
        "\ud800" + GO_KEY,
        VERIFIER.text.replace("+", " "),
    ],
)
def test_what_is_no_verifier_line_is_refused(text: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        NoteVerifier.parse(text)
    assert caught.value.code == "ledger.verifier"


def test_an_origin_stands_on_a_line_of_its_own() -> None:
    assert check_origin(ORIGIN) == ORIGIN
    assert check_origin("lab.example/tücke") == "lab.example/tücke"
    for origin in ("", "a b", "a+b", "a\nb", "a\u2003b", "x" * 201, "a\0", "a\x7f", "a\udcff"):
        with pytest.raises(InputInvalid) as caught:
            check_origin(origin)
        assert caught.value.code == "ledger.origin"


def test_a_verifier_is_a_value() -> None:
    assert NoteVerifier(ORIGIN, PublicKey(KEY.public.raw)) == VERIFIER
    assert NoteVerifier.parse(f"  {VERIFIER.text}\n") == VERIFIER
