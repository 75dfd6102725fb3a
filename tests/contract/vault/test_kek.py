"""What every key-encryption key does, whatever it is made of."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.model.errors import InputInvalid, NotFound, StorageFailed, VerificationFailed
from safehold.vault import kek_transit
from safehold.vault.kek import Kek
from safehold.vault.kek_aws import AwsAddress, AwsKek, open_aws_kek
from safehold.vault.kek_pkcs11 import Pkcs11Kek
from safehold.vault.kek_transit import TransitAddress, TransitKek
from tests.kek_kit import KINDS, KMS_KEY_ID, ROLE_KEY_ID, RecordedKms, kms_server, transit_kek, two_keks


@pytest.fixture(scope="module", params=KINDS)
def keks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kek, Kek]]:
    """Two different keys of one kind."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "aws by boto3":
            kms_server().environment(patch)
        both = two_keks(request.param, tmp_path_factory.mktemp("kek"))
        yield both
        for kek in both:
            getattr(kek, "close", lambda: None)()


@settings(max_examples=30)
@given(key=st.binary(min_size=32, max_size=32))
def test_wrapped_opens_with_its_own_key_alone(keks: tuple[Kek, Kek], key: bytes) -> None:
    mine, other = keks
    wrapped = mine.wrap(key)
    assert mine.unwrap(wrapped) == key
    assert key not in wrapped
    with pytest.raises(VerificationFailed, match="unwrap"):
        other.unwrap(wrapped)


@settings(max_examples=60)
@given(place=st.integers(0, 39), bit=st.integers(0, 7))
def test_a_changed_bit_is_found(keks: tuple[Kek, Kek], place: int, bit: int) -> None:
    wrapped = bytearray(keks[0].wrap(b"k" * 32))
    wrapped[place] ^= 1 << bit
    with pytest.raises(VerificationFailed, match="unwrap"):
        keks[0].unwrap(bytes(wrapped))


@settings(max_examples=40)
@given(data=st.binary(max_size=64))
def test_what_was_never_wrapped_is_refused(keks: tuple[Kek, Kek], data: bytes) -> None:
    with pytest.raises(VerificationFailed, match="unwrap"):
        keks[0].unwrap(data)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_keys_of_another_length_are_refused(keks: tuple[Kek, Kek], size: int) -> None:
    with pytest.raises(InputInvalid, match="key_length"):
        keks[0].wrap(b"k" * size)


def test_ids_tell_keys_apart(keks: tuple[Kek, Kek]) -> None:
    assert keks[0].id != keks[1].id


def test_many_open_in_their_order_or_none(keks: tuple[Kek, Kek]) -> None:
    mine, other = keks
    keys = [bytes([number]) * 32 for number in range(70)]
    wrapped = [mine.wrap(key) for key in keys]
    assert mine.unwrap_many(wrapped) == keys
    assert mine.unwrap_many([]) == []
    with pytest.raises(VerificationFailed, match="unwrap"):
        mine.unwrap_many([*wrapped, other.wrap(keys[0])])


# --- what only one kind can do wrong ------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://kms.example:8200", "ftp://127.0.0.1", "127.0.0.1", "https://h/path", ""])
def test_a_transit_server_is_reached_in_safety_or_not_at_all(url: str) -> None:
    with pytest.raises(InputInvalid, match="kek_address"):
        TransitKek(TransitAddress(url=url, key="k"), lambda: "t")


def test_a_transit_server_that_is_away_or_denies_is_a_failure_and_not_a_wrong_key() -> None:
    with pytest.raises(StorageFailed, match="kek_unreachable"):
        TransitKek(TransitAddress(url="http://127.0.0.1:1", key="k"), lambda: "t").unwrap(b"vault:v1:AAAA")
    kek = transit_kek("denied", token="no such token")
    with pytest.raises(StorageFailed, match="kek_denied"):
        kek.wrap(b"k" * 32)
    kek.close()


def test_a_transit_server_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kek_transit, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(0.2)
        kek = TransitKek(TransitAddress(url=f"http://127.0.0.1:{deaf.getsockname()[1]}", key="k"), lambda: "t")
        with pytest.raises(StorageFailed, match="kek_unreachable"):
            kek.wrap(b"k" * 32)
        deaf.accept()[0].close()
        with pytest.raises(TimeoutError):
            deaf.accept()


def test_a_transit_connection_that_was_closed_is_made_anew() -> None:
    kek = transit_kek("again")
    wrapped = kek.wrap(b"k" * 32)
    assert kek._connection is not None
    assert kek._connection.sock is not None
    kek._connection.sock.close()
    assert kek.unwrap(wrapped) == b"k" * 32
    kek.close()
    assert kek.unwrap(wrapped) == b"k" * 32
    kek.close()


def test_a_token_that_was_away_is_opened_anew() -> None:
    kek, _ = two_keks("pkcs11", Path())
    assert isinstance(kek, Pkcs11Kek)
    wrapped = kek.wrap(b"k" * 32)
    kek._session.close()  # as when the token was pulled: the session is of no more use
    with pytest.raises((StorageFailed, VerificationFailed)):
        kek.unwrap(wrapped)
    assert kek.unwrap(wrapped) == b"k" * 32
    kek._session.close()
    with pytest.raises(StorageFailed, match="kek_failed"):
        kek.wrap(b"k" * 32)
    place, kek._address = kek._address, msgspec.structs.replace(kek._address, token="none of this name")
    for _ in range(2):
        with pytest.raises(StorageFailed, match="kek_unreachable"):
            kek.unwrap(wrapped)
    kek._address = place
    assert kek.unwrap(wrapped) == b"k" * 32
    kek._address = msgspec.structs.replace(place, key="none of this name")
    kek.close()
    with pytest.raises(NotFound, match="kek_missing"):
        kek.unwrap(wrapped)
    kek._address = place
    kek.close()


def test_aws_that_fails_or_answers_by_another_key() -> None:
    client = RecordedKms()
    kek = AwsKek(client, client.arn("a"))
    wrapped = kek.wrap(b"k" * 32)
    client.answer_as = client.arn("b")
    with pytest.raises(VerificationFailed, match="unwrap"):
        kek.unwrap(wrapped)
    client.refuse = "ThrottlingException"
    for act in (lambda: kek.unwrap(wrapped), lambda: kek.wrap(b"k" * 32)):
        with pytest.raises(StorageFailed, match="ThrottlingException"):
            act()
    for key in ("alias/mine", "arn:aws:kms:eu-central-1:111122223333:alias/mine", client.arn("a/b"), client.arn("")):
        with pytest.raises(InputInvalid, match="kek_address"):
            AwsKek(client, key)
    client.refuse = "AccessDeniedException"
    with pytest.raises(StorageFailed, match="kek_denied"):
        kek.unwrap(wrapped)
    client.refuse = None
    client.encrypt = lambda **_: {"CiphertextBlob": b"x" * 40, "KeyId": client.arn("b")}
    with pytest.raises(StorageFailed, match="another key"):
        kek.wrap(b"k" * 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "us-east-1"},
        {"endpoint": "http://kms.example"},
        {"endpoint": "https://kms.example/path"},
        {"endpoint": "https://user@kms.example"},
        {"endpoint": "kms.example:443"},
        {"key": "alias/mine"},
    ],
)
def test_an_address_of_aws_is_a_keys_own_and_reached_in_safety(wrong: dict[str, str]) -> None:
    with pytest.raises(InputInvalid, match="kek_address"):
        open_aws_kek(AwsAddress(**{"key": RecordedKms.arn("a")} | wrong))


def test_aws_credentials_come_from_the_environment_or_a_role_and_from_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = kms_server()
    server.environment(monkeypatch)
    wrapped = server.kek("a").wrap(b"k" * 32)
    assert server.askers[-1] == KMS_KEY_ID
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StorageFailed, match="kek_denied"):
        server.kek("a").unwrap(wrapped)
    server.environment(monkeypatch, by_role=True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    assert server.kek("a").unwrap(wrapped) == b"k" * 32
    assert server.askers[-1] == ROLE_KEY_ID
    # A file of whoever's home this is names working credentials and an endpoint: neither is looked at.
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDOFATEST000000000\naws_secret_access_key = secret-of-a-test\n"
    )
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert server.kek("a").unwrap(wrapped) == b"k" * 32
    server.role = None
    with pytest.raises(StorageFailed, match="kek_denied"):
        server.kek("a").unwrap(wrapped)
    client = open_aws_kek(AwsAddress(key=RecordedKms.arn("a")))._client
    assert client.meta.endpoint_url == "https://kms.eu-central-1.amazonaws.com"


def test_aws_that_is_away_or_fails_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    server = kms_server()
    server.environment(monkeypatch)
    away = open_aws_kek(AwsAddress(key=RecordedKms.arn("a"), endpoint="http://127.0.0.1:9"))
    with pytest.raises(StorageFailed, match="kek_unreachable"):
        away.wrap(b"k" * 32)
    kek = server.kek("a")
    wrapped = kek.wrap(b"k" * 32)
    monkeypatch.setattr(server, "status", 500)
    with pytest.raises(StorageFailed, match="kek_failed"):
        kek.unwrap(wrapped)
    monkeypatch.setattr(server, "status", 0)
    monkeypatch.setattr(server.kms, "answer_as", RecordedKms.arn("b"))
    with pytest.raises(VerificationFailed, match="unwrap"):
        kek.unwrap(wrapped)


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(NotFound, match="no_boto3"):
        open_aws_kek(AwsAddress(key=RecordedKms.arn("a")))
