"""The served broker beyond one machine's defaults: TLS, keys in an HSM or a transit server, two servers on PostgreSQL."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from safehold.broker.client import KeyOrder
from safehold.broker.connection import Connection, Patience
from safehold.cli.grant_file import read_grant_file
from safehold.ledger.keys import SigningKey
from safehold.model.errors import Refused
from safehold.model.ids import HostId, Subject, parse_group_name, parse_purpose
from safehold.state.standing import active_holds, resolve_release
from tests import kek_kit
from tests.cli_kit import Desk, Installed, make_environment_of, write_texts
from tests.postgres_kit import new_schema
from tests.serve_kit import ready_desk, running
from tests.store_proxy_kit import broken

TRAINER = HostId("north-lab/trainer")
RELEASE = "quill-works/problems@1"


# --- TLS ---------------------------------------------------------------------------------------------


class Authority(NamedTuple):
    """A certificate authority of a test, and the servers' certificates that it signed."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *, host: str = "127.0.0.1", days: int = 30) -> tuple[Path, Path]:
        """Certificate and key of a server at ``host``, good until in ``days`` days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker of a test")])
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        certificate = _builder(subject, self.name, key.public_key(), days).add_extension(alternative, critical=False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        _write(paths[0], certificate.sign(self.key, hashes.SHA256()))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def _builder(subject: x509.Name, issuer: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def make_authority(folder: Path) -> Authority:
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {secrets.token_hex(4)}")])
    basic = x509.BasicConstraints(ca=True, path_length=0)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = _builder(name, name, key.public_key(), 300).add_extension(basic, critical=True)
    _write(folder / "ca.pem", made.add_extension(usage, critical=True).sign(key, hashes.SHA256()))
    return Authority(folder, key, name)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return ready_desk(tmp_path_factory.mktemp("served") / "desk")


def _open(desk: Desk, url: str, *more: object) -> tuple[Any, ...]:
    out = desk.folder / f"out-{secrets.token_hex(4)}.jsonl"
    return (
        "open",
        RELEASE,
        "--host",
        TRAINER,
        "--grant",
        desk.folder / "grant.json",
        "--out",
        out,
        "--broker",
        url,
        *more,
    )


def _opens(desk: Desk, url: str, *more: object) -> int:
    """Opens the release through a server, byte for byte; the entry of the key release."""
    said = desk.json(*_open(desk, url, *more))
    assert Path(said["out"]).read_bytes() == (desk.folder / "texts.jsonl").read_bytes()
    return int(said["entry"])


def test_tls_by_files_and_what_does_not_prove_to_be_the_broker(desk: Desk, tmp_path: Path) -> None:
    authority, stranger = make_authority(tmp_path / "ours"), make_authority(tmp_path / "other")
    certificate, key = authority.issue("good")
    with running(desk, "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert _opens(desk, server.url, "--broker-ca", authority.file())
        for trust in (("--broker-ca", stranger.file()), ()):
            said = desk.error(*_open(desk, server.url, *trust), code=4)
            assert said["code"] == "broker.certificate"
            assert "--broker-ca" in said["hint"]
        plain = desk.error(*_open(desk, server.url.replace("https:", "http:")), code=5)
        assert plain["code"] in {"broker.unreachable", "broker.no_answer"}


@pytest.mark.parametrize(("name", "fault"), [("expired", {"days": -1}), ("another host", {"host": "192.0.2.7"})])
def test_a_certificate_that_does_not_hold(desk: Desk, tmp_path: Path, name: str, fault: dict[str, Any]) -> None:
    authority = make_authority(tmp_path / "ours")
    certificate, key = authority.issue("bad", **fault)
    with running(desk, "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        said = desk.error(*_open(desk, server.url, "--broker-ca", authority.file()), code=4)
    assert said["code"] == "broker.certificate"
    assert ("expired" if name == "expired" else "mismatch") in said["message"]


def test_old_protocols_are_not_spoken(desk: Desk, tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ours")
    certificate, key = authority.issue("good")
    with running(desk, "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        port = int(server.url.rpartition(":")[2])
        for version, spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.create_default_context(cafile=authority.file())
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of the old version itself, which is the point
                context.minimum_version = context.maximum_version = version
            with socket.create_connection(("127.0.0.1", port)) as plain:
                try:
                    with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
                        got = wrapped.version()
                except ssl.SSLError:
                    got = None
            assert (got is not None) == spoken, (version, got)


def test_files_of_tls_that_are_no_certificate(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("nothing")
    (tmp_path / "k.pem").write_text("nothing")
    said = desk.error(
        "serve", "--listen", "127.0.0.1:0", "--tls-cert", tmp_path / "c.pem", "--tls-key", tmp_path / "k.pem", code=2
    )
    assert said["code"] == "serve.tls"


# --- keys elsewhere ----------------------------------------------------------------------------------


def _kek_file(kind: str, folder: Path, through: str = "") -> tuple[Path, tuple[str, ...]]:
    """A settings file for ``rekey``, and what ``serve`` must be told."""
    path = folder / "kek-new.toml"
    if kind == "transit":
        url, key = kek_kit.transit_server(), f"served-{secrets.token_hex(4)}"
        kek_kit.ask(url, f"transit/keys/{key}", {"type": "aes256-gcm96"})
        (folder / "token").write_text(kek_kit.TOKEN + "\n")
        url = through or url
        path.write_text(f'kind = "transit"\nurl = "{url}"\nkey = "{key}"\ntoken_file = "{folder}/token"\n')
        return path, ("--kms-port", url.rpartition(":")[2])
    if kind == "aws":
        server = kek_kit.kms_server()
        path.write_text(f'kind = "aws"\nkey = "{server.kms.arn("served")}"\nendpoint = "{server.url}"\n')
        return path, ("--kms-port", server.url.rpartition(":")[2])
    pytest.importorskip("pkcs11")
    key = f"served-{secrets.token_hex(4)}"
    module = kek_kit.token_with_key(key)
    (folder / "pin").write_text("1234\n")
    path.write_text(
        f'kind = "pkcs11"\nmodule = "{module}"\ntoken = "safehold"\nkey = "{key}"\npin_file = "{folder}/pin"\n'
    )
    return path, ()


@pytest.mark.parametrize("kind", ["transit", "pkcs11", "aws"])
def test_keys_that_lie_elsewhere_are_served(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "aws":
        kek_kit.kms_server().environment(monkeypatch)
    desk = ready_desk(tmp_path / "desk")
    file, options = _kek_file(kind, tmp_path)
    moved = desk.json("rekey", file)
    assert (moved["keys"], moved["left"]) == (1, 0)
    with running(desk, *options) as server:
        assert _opens(desk, server.url)
        assert _ready(server.url)[0] == 200
    assert desk.json("fsck")["problems"] == []


def test_a_served_home_reaches_aws_kms_by_the_port_that_it_was_given_alone_and_by_a_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = kek_kit.kms_server()
    kms.environment(monkeypatch, by_role=True)
    desk = ready_desk(tmp_path / "desk")
    file, options = _kek_file("aws", tmp_path)
    desk("rekey", file)
    with running(desk) as server:
        assert "--kms-port" in _until_ready(server.url, 503, "vault.kek_unreachable", "vault.kek_denied")
        assert desk.error(*_open(desk, server.url), code=3)["code"] == "broker.keys_unavailable"
    with running(desk, *options) as server:
        assert _opens(desk, server.url)
        assert kms.askers[-1] == kek_kit.ROLE_KEY_ID
        monkeypatch.setattr(kms.kms, "refuse", "ThrottlingException")
        _until_ready(server.url, 503, "vault.kek_failed")
        monkeypatch.setattr(kms.kms, "refuse", None)
        _until_ready(server.url, 200, "")


def test_a_key_server_that_fails_is_a_refusal_that_says_so_and_nothing_must_be_started_anew(tmp_path: Path) -> None:
    desk, fault = ready_desk(tmp_path / "desk"), [""]
    with broken(kek_kit.transit_server(), lambda _: fault[0]) as way:
        file, options = _kek_file("transit", tmp_path, way.endpoint)
        desk("rekey", file)
        with running(desk, *options) as server:
            assert _opens(desk, server.url)
            for how in ("503", "reset", "cut"):
                fault[0] = how
                said = desk.error(*_open(desk, server.url), code=3)
                assert said["code"] == "broker.keys_unavailable", said
                kinds = [one["kind"] for one in desk.json("log", "list", "--last", "2")["entries"]]
                assert "key.refused" in kinds, "an exception in a step is a refusal, and a refusal is an entry"
                fault[0] = ""
                assert _opens(desk, server.url)
            (tmp_path / "token").write_text("an old token\n")
            fault[0] = "reset"
            desk.error(*_open(desk, server.url), code=3)
            fault[0] = ""
            assert desk.error(*_open(desk, server.url), code=3)["code"] == "broker.keys_unavailable"
            (tmp_path / "token").write_text(kek_kit.TOKEN + "\n")
            assert _opens(desk, server.url), "a token that was renewed is read again"


def _ready(url: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        document = json.loads(answer.read())
        return answer.status, document.get("code", ""), document.get("hint", "")
    finally:
        connection.close()


def _until_ready(url: str, status: int, *codes: str) -> str:
    """Ask until that is told; the hint."""
    deadline = time.monotonic() + 60
    while True:
        found = _ready(url)
        if found[0] == status and found[1] in codes:
            return found[2]
        assert time.monotonic() < deadline, (found, status, codes)
        threading.Event().wait(0.2)


def test_readiness_follows_the_key_server_down_and_up_and_costs_it_little(tmp_path: Path) -> None:
    desk, fault, decrypts = ready_desk(tmp_path / "desk"), [""], [0]

    def treat(asked: Any) -> str:
        decrypts[0] += "/decrypt/" in asked.path
        return fault[0]

    with broken(kek_kit.transit_server(), treat) as way:
        file, options = _kek_file("transit", tmp_path, way.endpoint)
        desk("rekey", file)
        decrypts[0] = 0
        with running(desk, *options) as server:
            began = time.monotonic()
            for _ in range(200):
                assert _ready(server.url)[0] == 200
            assert 1 <= decrypts[0] <= 2 + (time.monotonic() - began) / 5, "one call in five seconds, whoever asks"
            for how, code in (("503", "vault.kek_failed"), ("reset", "vault.kek_unreachable")):
                fault[0] = how
                assert "unsealed?" in _until_ready(server.url, 503, code)
                fault[0] = ""
                _until_ready(server.url, 200, "")
            (tmp_path / "token").write_text("an old token\n")
            fault[0] = "reset"  # the connection ends, so the token is read anew
            _until_ready(server.url, 503, "vault.kek_unreachable")
            fault[0] = ""
            assert _until_ready(server.url, 503, "vault.kek_denied") == "renew the token's file"
            (tmp_path / "token").unlink()
            _until_ready(server.url, 503, "app.kek_secret")
            said = desk.error(*_open(desk, server.url), code=3)
            assert said["code"] == "broker.keys_unavailable"
            assert str(tmp_path) not in str(said), "where a secret lies is told to nobody else"
            (tmp_path / "token").write_text(kek_kit.TOKEN + "\n")
            _until_ready(server.url, 200, "")
            assert _opens(desk, server.url)


# --- two servers, one ledger in PostgreSQL -----------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Desk:
    """A desk whose ledger is in PostgreSQL, with a release, a clean host and a grant."""
    desk = Desk(tmp_path / "desk")
    desk("init", "--origin", "lab.example/custody", "--store", new_schema())
    desk("party", "add", "north-lab", "--role", "lab")
    desk("party", "add", "quill-works", "--role", "supplier")
    desk("host", "add", TRAINER)
    desk("dataset", "add", "quill-works/problems", "--for", "north-lab")
    desk("seal", write_texts(desk.folder / "texts.jsonl", 60), "--dataset", "quill-works/problems")
    environment = make_environment_of(desk.folder / "environment", Installed("litellm", "1.82.6"))
    desk("inventory", "record", TRAINER, "--environment", environment)
    grant = desk.folder / "grant.json"
    desk("grant", "issue", "quill-works/problems", "--to", TRAINER, "--until", "+30d", "--out", grant)
    return desk


def _order(desk: Desk) -> KeyOrder:
    home = desk.session().factory().open(desk.home)
    with home.log.view() as view:
        row = resolve_release(view, RELEASE)
    home.close()
    return KeyOrder(
        release=row.release, groups=[parse_group_name(one) for one in row.groups], purpose=parse_purpose("training"),
        host=TRAINER, member=None, grant=read_grant_file(desk.folder / "grant.json").token,
    )  # fmt: skip


def test_two_servers_share_a_ledger_and_a_hold_stops_both(shared: Desk) -> None:
    desk, order = shared, _order(shared)
    signer = SigningKey.load(desk.home / "keys" / "hosts" / TRAINER)
    with running(desk) as one, running(desk) as two:
        assert len({_opens(desk, url) for url in (one.url, two.url, one.url)}) == 3
        released, refused, gate = list[int](), list[int](), threading.Barrier(9)

        def read(url: str) -> None:
            with Connection([url], signer, patience=Patience(attempts=20)) as connection:
                gate.wait()
                for _ in range(5_000):
                    try:
                        released.append(connection.request(order).entry)
                    except Refused as error:
                        assert error.code == "broker.held"  # noqa: PT017 - said by every thread
                        refused.append(error.__dict__["entry"])
                        return

        threads = [threading.Thread(target=read, args=(url,)) for url in (one.url, two.url) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.wait()
        desk("suspend", f"host:{TRAINER}", "--reason", "a race")
        for thread in threads:
            thread.join()
        home = desk.session().factory().open(desk.home)
        with home.log.view() as view:
            (hold,) = active_holds(view, [Subject("host", TRAINER)])
        home.close()
        assert len(refused) == 8
        assert all(place < hold.placed_idx for place in released)
        assert all(place > hold.placed_idx for place in refused)
    assert desk.json("fsck")["problems"] == []


def test_a_killed_leader_loses_nothing_and_the_other_takes_over(shared: Desk) -> None:
    desk, order = shared, _order(shared)
    signer = SigningKey.load(desk.home / "keys" / "hosts" / TRAINER)
    with running(desk) as one, running(desk) as two:
        with Connection([one.url], signer) as connection:
            before = [connection.request(order).entry for _ in range(20)]
        os.kill(one.vault, signal.SIGKILL)
        assert one.process.wait(60) == 5
        with Connection([one.url, two.url], signer, patience=Patience(attempts=20)) as connection:
            after = [connection.request(order).entry for _ in range(5)]
        assert min(after) > max(before)
    kinds = {entry["entry"]: entry["kind"] for entry in desk.json("log", "list", "--last", "60")["entries"]}
    assert all(kinds[entry] == "key.released" for entry in (*before, *after))
    assert desk.json("fsck")["problems"] == []
