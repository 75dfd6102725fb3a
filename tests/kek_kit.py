"""Key-encryption keys of every kind for the contract's tests: two of each, real servers and tokens where they can be had."""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.vault.kek import KdfCost, Kek, PassphraseKek
from safehold.vault.kek_aws import AwsKek
from safehold.vault.kek_pkcs11 import Pkcs11Address, Pkcs11Kek, make_token_key
from safehold.vault.kek_transit import TransitAddress, TransitKek
from tests.vault_kit import MemoryKek

KINDS = ("memory", "passphrase", "pkcs11", "transit", "aws")
SOFTHSM = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
TOKEN = "root-token-of-a-test"


def two_keks(kind: str, folder: Path) -> tuple[Kek, Kek]:
    """Two different keys of one kind."""
    if kind == "memory":
        return MemoryKek(b"a" * 32), MemoryKek(b"b" * 32)
    if kind == "passphrase":
        cost = KdfCost(memory_kib=128, passes=1, lanes=1)
        return PassphraseKek.create(folder / "a", "x", cost), PassphraseKek.create(folder / "b", "x", cost)
    if kind == "pkcs11":
        return _token_kek("first"), _token_kek("second")
    if kind == "transit":
        return transit_kek("first"), transit_kek("second")
    client = RecordedKms()
    return AwsKek(client, client.arn("first")), AwsKek(client, client.arn("second"))


# --- PKCS#11: SoftHSM of the system ------------------------------------------------------------------


@cache
def _token() -> str:
    """The library of a fresh token, or skip."""
    module = next((path for path in SOFTHSM if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM here: apt-get install softhsm2")
    folder = Path(tempfile.mkdtemp(prefix="safehold-hsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")  # the library reads it when it is loaded
    command = ["softhsm2-util", "--init-token", "--free", "--label", "safehold", "--so-pin", "1234", "--pin", "1234"]
    subprocess.run(command, check=True, capture_output=True)
    return module


def token_with_key(key: str) -> str:
    """The library of a token that has this key, under the PIN 1234; or skip."""
    module = _token()
    make_token_key(Pkcs11Address(module=module, token="safehold", key=key), lambda: "1234")
    return module


def _token_kek(name: str) -> Pkcs11Kek:
    address = Pkcs11Address(module=_token(), token="safehold", key=f"{name}-{secrets.token_hex(4)}")
    make_token_key(address, lambda: "1234")
    return Pkcs11Kek(address, lambda: "1234")


# --- transit: a real OpenBao from its wheel ----------------------------------------------------------


@cache
def transit_server() -> str:
    """The URL of a server in development mode with a transit engine, or skip. It ends with this process."""
    program = Path(sys.executable).with_name("bao")
    if not program.exists():
        pytest.skip("no OpenBao here: it comes with the development requirements")
    port = 20_000 + os.getpid() % 20_000
    url = f"http://127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="safehold-bao-"))
    command = [str(program), "server", "-dev", f"-dev-root-token-id={TOKEN}", f"-dev-listen-address=127.0.0.1:{port}"]
    server = subprocess.Popen(
        [*command, "-dev-no-store-token"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip

    def end() -> None:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    deadline = time.monotonic() + 60
    while True:
        try:
            ask(url, "sys/mounts/transit", {"type": "transit"})
            return url
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.skip("OpenBao does not start here")
            time.sleep(0.05)


def ask(url: str, path: str, body: dict[str, Any]) -> None:
    """One call to the server as its operator."""
    import json

    request = urllib.request.Request(
        f"{url}/v1/{path}", json.dumps(body).encode(), {"X-Vault-Token": TOKEN}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def transit_kek(name: str, token: str = TOKEN) -> TransitKek:
    url, key = transit_server(), f"{name}-{secrets.token_hex(4)}"
    ask(url, f"transit/keys/{key}", {"type": "aes256-gcm96"})
    return TransitKek(TransitAddress(url=url, key=key), lambda: token)


# --- AWS KMS: the shapes of its answers, and nothing more --------------------------------------------


class ClientError(Exception):
    """As botocore raises it: the code stands in ``response``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": ""}}


class RecordedKms:
    """Answers in the form of the service's; the key material is ours. What it enforces, it enforces by our own word."""

    def __init__(self) -> None:
        self.refuse: str | None = None
        self.answer_as: str | None = None

    @staticmethod
    def arn(name: str) -> str:
        return f"arn:aws:kms:eu-central-1:111122223333:key/{name}"

    def encrypt(self, **asked: Any) -> dict[str, Any]:
        self._check()
        cipher, context = self._cipher(asked["KeyId"]), repr(asked["EncryptionContext"]).encode()
        nonce = secrets.token_bytes(12)
        blob = nonce + cipher.encrypt(nonce, asked["Plaintext"], context)
        return {"CiphertextBlob": blob, "KeyId": asked["KeyId"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def decrypt(self, **asked: Any) -> dict[str, Any]:
        self._check()
        blob, context = asked["CiphertextBlob"], repr(asked["EncryptionContext"]).encode()
        try:
            plain = self._cipher(asked["KeyId"]).decrypt(blob[:12], blob[12:], context)
        except (InvalidTag, ValueError) as error:
            raise ClientError("InvalidCiphertextException") from error
        return {"Plaintext": plain, "KeyId": self.answer_as or asked["KeyId"]}

    def _check(self) -> None:
        if self.refuse:
            raise ClientError(self.refuse)

    @staticmethod
    def _cipher(key: str) -> AESGCM:
        return AESGCM(hashlib.sha256(key.encode()).digest())
