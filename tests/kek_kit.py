"""Key-encryption keys of every kind for the contract's tests: two of each, real servers and tokens where they can be had."""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.vault.kek import KdfCost, Kek, PassphraseKek
from safehold.vault.kek_aws import AwsAddress, AwsKek, open_aws_kek
from safehold.vault.kek_pkcs11 import Pkcs11Address, Pkcs11Kek, make_token_key
from safehold.vault.kek_transit import TransitAddress, TransitKek
from tests.vault_kit import MemoryKek

KINDS = ("memory", "passphrase", "pkcs11", "transit", "aws", "aws by boto3")
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
    if kind == "aws by boto3":
        server = kms_server()
        return server.kek("first"), server.kek("second")
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


KMS_KEY_ID, KMS_SECRET, ROLE_KEY_ID = "AKIDOFATEST000000000", "secret-of-a-test", "ASIAOFAROLE000000000"


class KmsServer:
    """The recorded shapes over HTTP, as boto3 speaks it (JSON 1.1), and a machine's metadata beside them.

    Who asks is who signed (Signature Version 4): it computes the signature anew from what came, as the service does.
    """

    def __init__(self) -> None:
        self.kms = RecordedKms()
        self.known = {KMS_KEY_ID: KMS_SECRET}
        self.role: str | None = None
        self.status = 0
        self.askers: list[str] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), _kms_handler(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def kek(self, name: str) -> AwsKek:
        return open_aws_kek(AwsAddress(key=self.kms.arn(name), endpoint=self.url))

    def environment(self, patch: pytest.MonkeyPatch, *, by_role: bool = False) -> None:
        """Credentials in the environment, or those of the machine's role; and nothing of whoever runs the tests."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.url)
        self.role = "a-role" if by_role else None
        if by_role:
            self.known[ROLE_KEY_ID] = KMS_SECRET
        else:
            patch.setenv("AWS_ACCESS_KEY_ID", KMS_KEY_ID)
            patch.setenv("AWS_SECRET_ACCESS_KEY", KMS_SECRET)

    def answer(self, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        who = re.search(r"Credential=([A-Z0-9]+)/", headers["Authorization"] or "")
        self.askers.append(who.group(1) if who else "")
        if self.status:
            return self.status, {"__type": "InternalError"}
        if who is None or headers["Authorization"] != _signature(headers, body, self.known.get(who.group(1), "")):
            return 400, {"__type": "InvalidSignatureException", "message": "it is not what we compute"}
        asked = json.loads(body)
        act = {"TrentService.Encrypt": self.kms.encrypt, "TrentService.Decrypt": self.kms.decrypt}[target]
        for name in ("Plaintext", "CiphertextBlob"):
            if name in asked:
                asked[name] = base64.b64decode(asked[name])
        try:
            said = act(**asked)
        except ClientError as error:
            return 400, {"__type": error.response["Error"]["Code"]}
        return 200, {
            name: base64.b64encode(one).decode() if isinstance(one, bytes) else one for name, one in said.items()
        }


def _signature(headers: Any, body: bytes, secret: str) -> str:
    """The header ``Authorization`` that this request must have (AWS General Reference, "Signature Version 4")."""
    begin, scope, signed = re.findall(
        r"(\S+ Credential=[A-Z0-9]+)/(\S+), SignedHeaders=(\S+),", headers["Authorization"]
    )[0]
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed.split(";"))
    asked = f"POST\n/\n\n{lines}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{headers['X-Amz-Date']}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    made = hmac.new(key, text.encode(), "sha256").hexdigest()
    return f"{begin}/{scope}, SignedHeaders={signed}, Signature={made}"


def _kms_handler(server: KmsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one piece: in two, the second waits for the first to be confirmed

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def _say(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, said = server.answer(self.headers["X-Amz-Target"], self.headers, body)
            self._say(status, json.dumps(said).encode())

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self._say(200 if server.role else 404, b"token of the metadata")

        def do_GET(self) -> None:
            if server.role is None:
                self._say(404, b"")
            elif self.path.endswith("/security-credentials/"):
                self._say(200, server.role.encode())
            else:
                until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
                said = {
                    "Code": "Success",
                    "AccessKeyId": ROLE_KEY_ID,
                    "SecretAccessKey": KMS_SECRET,
                    "Token": "session",
                }
                self._say(200, json.dumps(said | {"Expiration": until}).encode())

    return Handler


@cache
def kms_server() -> KmsServer:
    """A stand-in for AWS KMS on loopback, or skip. It ends with this process."""
    pytest.importorskip("boto3")
    return KmsServer()
