from __future__ import annotations

import json
from pathlib import Path

import pytest

from safehold.model.errors import Conflict, InputInvalid, NotFound, VerificationFailed
from safehold.vault.kek import KdfCost, PassphraseKek

CHEAP = KdfCost(memory_kib=128, passes=1, lanes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PassphraseKek.create(tmp_path / "kek.json", "correct horse", CHEAP)
    return tmp_path / "kek.json"


def test_what_is_wrapped_opens_after_loading(path: Path) -> None:
    kek = PassphraseKek.load(path, "correct horse")
    wrapped = kek.wrap(b"\x01" * 32)
    assert PassphraseKek.load(path, "correct horse").unwrap(wrapped) == b"\x01" * 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"\x01" * 8 not in path.read_bytes()
    assert repr(kek) == f"PassphraseKek({kek.id})"


def test_the_costs_are_those_of_rfc_9106() -> None:
    assert (KdfCost().memory_kib, KdfCost().passes, KdfCost().lanes) == (65_536, 3, 4)


def test_a_wrong_passphrase_is_named_with_a_hint(path: Path) -> None:
    for wrong in ("Correct horse", "correct horse ", "x"):
        with pytest.raises(InputInvalid) as caught:
            PassphraseKek.load(path, wrong)
        assert caught.value.code == "vault.passphrase_wrong"
        assert caught.value.hint


@pytest.mark.parametrize("bad", ["", "\ud800", "x" * 1025])
def test_what_is_no_passphrase_is_refused(bad: str, path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="passphrase_form"):
        PassphraseKek.load(path, bad)
    with pytest.raises(InputInvalid, match="passphrase_form"):
        PassphraseKek.create(tmp_path / "new.json", bad, CHEAP)
    assert not (tmp_path / "new.json").exists()


def test_one_passphrase_in_two_unicode_forms_is_one(tmp_path: Path) -> None:
    PassphraseKek.create(tmp_path / "kek.json", "caf\u00e9", CHEAP)
    assert PassphraseKek.load(tmp_path / "kek.json", "cafe\u0301")


def test_every_truncation_and_flipped_bit_is_found(path: Path) -> None:
    data = path.read_bytes()
    for size in range(len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputInvalid, match="kek_damaged"):
            PassphraseKek.load(path, "correct horse")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            PassphraseKek.load(path, "correct horse")
        except InputInvalid as error:
            assert error.code in {"vault.kek_damaged", "vault.kek_version"}  # noqa: PT017 - white space may survive
        else:
            assert json.loads(changed) == json.loads(data)


@pytest.mark.parametrize("field", [{"memory_kib": 2**30}, {"passes": 10_000}, {"lanes": 2**20}, {"lanes": 0}])
def test_a_hostile_file_cannot_take_the_machine(field: dict[str, int], path: Path) -> None:
    plain = json.loads(path.read_bytes())
    plain["cost"] |= field
    path.write_text(json.dumps(plain))
    with pytest.raises(InputInvalid, match="kek_damaged"):
        PassphraseKek.load(path, "correct horse")
    path.write_text(" " * 5000)
    with pytest.raises(InputInvalid, match="kek_damaged"):
        PassphraseKek.load(path, "correct horse")


def test_a_file_of_the_future_is_named_as_such(path: Path) -> None:
    plain = json.loads(path.read_bytes())
    path.write_text(json.dumps(plain | {"v": 2}))
    with pytest.raises(InputInvalid, match="kek_version"):
        PassphraseKek.load(path, "correct horse")


def test_a_key_file_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Conflict, match="kek_exists"):
        PassphraseKek.create(path, "other", CHEAP)
    assert path.read_bytes() == before
    with pytest.raises(NotFound, match="kek_missing"):
        PassphraseKek.load(path.with_name("none.json"), "x")


def test_another_passphrase_opens_the_same_key(path: Path) -> None:
    kek = PassphraseKek.load(path, "correct horse")
    wrapped = kek.wrap(b"\x02" * 32)
    kek.change_passphrase("battery staple")
    assert PassphraseKek.load(path, "battery staple").unwrap(wrapped) == b"\x02" * 32
    with pytest.raises(InputInvalid, match="passphrase_wrong"):
        PassphraseKek.load(path, "correct horse")
    assert [p.name for p in path.parent.iterdir()] == ["kek.json"]


def test_rfc_3394_vector() -> None:
    # RFC 3394 §4.6: 256 bits of key data with a 256-bit KEK.
    kek = PassphraseKek(Path("none"), bytes(range(32)), CHEAP)
    key = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    assert kek.wrap(key) == bytes.fromhex(wrapped)
    assert kek.unwrap(bytes.fromhex(wrapped)) == key
    with pytest.raises(VerificationFailed, match="unwrap"):
        kek.unwrap(bytes.fromhex(wrapped)[:-1])
