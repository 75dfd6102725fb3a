"""Keys: OpenSSH in and out, the fingerprint that ssh-keygen prints, and never a key in a printed line."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from safehold.ledger import keys
from safehold.ledger.keys import PublicKey, SigningKey
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, StorageFailed, VerificationFailed
from tests.ledger_kit import KEY, OTHER_KEY

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def test_a_key_goes_to_a_file_and_back(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(tmp_path / "key").public == KEY.public
    with pytest.raises(Conflict) as caught:
        OTHER_KEY.save(tmp_path / "key")
    assert caught.value.code == "ledger.key_exists"
    assert SigningKey.load(tmp_path / "key").public == KEY.public


def test_a_key_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageFailed) as caught:
        KEY.save(tmp_path / "no" / "such" / "key")
    assert caught.value.code == "ledger.key_write"
    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(StorageFailed) as caught:
        KEY.save(tmp_path / "key")
    assert caught.value.code == "ledger.key_write"
    monkeypatch.undo()
    KEY.save(tmp_path / "key")


def test_signatures_hold_or_do_not() -> None:
    signature = KEY.sign(b"data")
    KEY.public.verify(signature, b"data", "it")
    for key, bad, data in (
        (OTHER_KEY, signature, b"data"),
        (KEY, signature, b"Data"),
        (KEY, bytes(64), b"data"),
        (KEY, b"", b"data"),
        (KEY, signature + b"\0", b"data"),
    ):
        with pytest.raises(VerificationFailed) as caught:
            key.public.verify(bad, data, "it")
        assert caught.value.code == "ledger.signature"


def test_a_public_line_goes_there_and_back() -> None:
    assert PublicKey.parse(KEY.public.line) == KEY.public
    assert PublicKey.parse(f" {KEY.public.line} someone@host\n") == KEY.public
    assert len({KEY.public, PublicKey.parse(KEY.public.line), OTHER_KEY.public}) == 2


def test_what_is_no_public_key_is_refused() -> None:
    other = generate_private_key(SECP256R1()).public_key()
    line = other.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    for text in ("", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAA", KEY.public.line[:-4], "\ud800", "é", line):
        with pytest.raises(InputInvalid) as caught:
            PublicKey.parse(text)
        assert caught.value.code == "ledger.public_key"
    with pytest.raises(InputInvalid):
        PublicKey(bytes(31))


def test_what_is_no_private_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(NotFound) as missing:
        SigningKey.load(path)
    assert missing.value.code == "ledger.key_file"
    with pytest.raises(StorageFailed) as folder:
        SigningKey.load(tmp_path)
    assert folder.value.code == "ledger.key_read"
    other = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    for data in (b"", b"no key", KEY.public.line.encode(), other, b"x" * 200_000):
        path.write_bytes(data)
        with pytest.raises(InputInvalid) as caught:
            SigningKey.load(path)
        assert caught.value.code == "ledger.private_key"


def test_a_key_prints_as_its_fingerprint(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    secret = "".join((tmp_path / "key").read_text().splitlines()[1:-1])
    for shown in (repr(KEY), str(KEY), f"{KEY}"):
        assert KEY.key_id in shown
        assert not any(secret[at : at + 12] in shown for at in range(len(secret) - 12))


@needs_ssh_keygen
def test_ssh_keygen_and_safehold_read_each_other(tmp_path: Path) -> None:
    KEY.save(tmp_path / "ours")
    shown = subprocess.run(["ssh-keygen", "-lf", "ours"], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert KEY.key_id in shown
    line = subprocess.run(["ssh-keygen", "-yf", "ours"], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert PublicKey.parse(line) == KEY.public
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", "theirs"], cwd=tmp_path, check=True)
    theirs = SigningKey.load(tmp_path / "theirs")
    assert PublicKey.parse((tmp_path / "theirs.pub").read_text()) == theirs.public
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "secret", "-f", "locked"], cwd=tmp_path, check=True)
    for passphrase in (None, b"wrong"):
        with pytest.raises(SafeholdError) as caught:
            SigningKey.load(tmp_path / "locked", passphrase)
        assert caught.value.code == "ledger.private_key"
