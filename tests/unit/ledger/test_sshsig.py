"""SSHSIG: what is accepted, what is refused and why, and that OpenSSH and Safehold read each other."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.model.errors import InputInvalid, VerificationFailed

DATA = b'{"observed":1}'
SPACE = "safehold-inventory"
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def _code(armored: str | bytes, key: SigningKey, data: bytes = DATA, namespace: str = SPACE) -> str:
    with pytest.raises(VerificationFailed) as caught:
        sshsig.verify(armored, data, namespace, key.public)
    return caught.value.code


def _rearm(blob: bytes) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----\n"


def _blob(armored: str) -> bytes:
    return base64.b64decode("".join(armored.splitlines()[1:-1]))


def _wire(*strings: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in strings)


def test_what_is_signed_verifies_and_the_key_comes_back(key: SigningKey) -> None:
    armored = sshsig.sign(key, DATA, SPACE)
    assert sshsig.verify(armored, DATA, SPACE, key.public) == key.public
    assert sshsig.verify(armored.encode().replace(b"\n", b"\r\n"), DATA, SPACE, key.public) == key.public


def test_other_data_other_key_and_other_namespace_have_their_own_codes(key: SigningKey) -> None:
    armored = sshsig.sign(key, DATA, SPACE)
    assert _code(armored, key, data=DATA + b" ") == "ledger.sshsig_signature"
    assert _code(armored, SigningKey.generate()) == "ledger.sshsig_key"
    assert _code(armored, key, namespace="git") == "ledger.sshsig_other_use"


def test_sha256_is_taken_and_sha1_is_not(key: SigningKey) -> None:
    for name, digest, good in (
        (b"sha256", hashlib.sha256(DATA).digest(), True),
        (b"sha1", hashlib.sha1(DATA, usedforsecurity=False).digest(), False),
    ):
        signature = key.sign(b"SSHSIG" + _wire(SPACE.encode(), b"", name, digest))
        blob = b"SSHSIG\0\0\0\1" + _wire(key.public.wire, SPACE.encode(), b"", name, _wire(b"ssh-ed25519", signature))
        if good:
            sshsig.verify(_rearm(blob), DATA, SPACE, key.public)
        else:
            assert _code(_rearm(blob), key) == "ledger.sshsig_algorithm"


def test_every_changed_byte_is_refused(key: SigningKey) -> None:
    blob = _blob(sshsig.sign(key, DATA, SPACE))
    for at in range(len(blob)):
        changed = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        with pytest.raises(VerificationFailed):
            sshsig.verify(_rearm(changed), DATA, SPACE, key.public)


def test_every_cut_and_every_addition_is_refused(key: SigningKey) -> None:
    blob = _blob(sshsig.sign(key, DATA, SPACE))
    for end in range(len(blob)):
        assert _code(_rearm(blob[:end]), key) == "ledger.sshsig_form"
    assert _code(_rearm(blob + b"\0"), key) == "ledger.sshsig_form"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN SSH SIGNATURE-----",
        "ümläut",
        "-----BEGIN SSH SIGNATURE-----\n!!\n-----END SSH SIGNATURE-----",
        "A" * 9999,
    ],
)
def test_what_is_no_signature_is_said_to_be_none(text: str, key: SigningKey) -> None:
    assert _code(text, key) == "ledger.sshsig_form"


def test_one_signature_has_one_base64_text(key: SigningKey) -> None:
    armored = sshsig.sign(key, DATA, SPACE)
    lines = armored.splitlines()
    body = "".join(lines[1:-1])
    assert body.endswith("="), "the blob's length must leave padding for this test to mean something"
    at = len(body.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = body[:at] + alphabet[alphabet.index(body[at]) + 1] + body[at + 1 :]
    assert base64.b64decode(other) == base64.b64decode(body)
    assert _code("\n".join((lines[0], other, lines[-1])), key) == "ledger.sshsig_form"


def test_a_namespace_must_be_plain_text(key: SigningKey) -> None:
    for namespace in ("", "ä", "a\nb"):
        with pytest.raises(InputInvalid) as caught:
            sshsig.sign(key, DATA, namespace)
        assert caught.value.code == "ledger.sshsig_namespace"


@needs_ssh_keygen
def test_openssh_accepts_what_safehold_signs(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "data.sig").write_text(sshsig.sign(key, DATA, SPACE))
    (tmp_path / "signers").write_text(f"ci {key.public.line}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "ci", "-n", SPACE, "-s", "data.sig"]
    good = subprocess.run(command, cwd=tmp_path, input=DATA, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    bad = subprocess.run(command, cwd=tmp_path, input=DATA + b"!", capture_output=True, check=False)
    assert bad.returncode != 0


@needs_ssh_keygen
@pytest.mark.parametrize("hash_option", [[], ["-O", "hashalg=sha256"]])
def test_safehold_accepts_what_openssh_signs(key: SigningKey, tmp_path: Path, hash_option: list[str]) -> None:
    key.save(tmp_path / "key")
    command = ["ssh-keygen", "-Y", "sign", *hash_option, "-n", SPACE, "-f", "key"]
    done = subprocess.run(command, cwd=tmp_path, input=DATA, capture_output=True, check=True)
    assert sshsig.verify(done.stdout, DATA, SPACE, key.public) == key.public
    if not hash_option:
        assert done.stdout.decode() == sshsig.sign(key, DATA, SPACE), "Ed25519 is deterministic: the same text"
