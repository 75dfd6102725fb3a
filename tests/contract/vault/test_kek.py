"""What every key-encryption key does, whatever it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.vault.kek import KdfCost, Kek, PassphraseKek
from tests.vault_kit import MemoryKek


@pytest.fixture(scope="module", params=["memory", "passphrase"])
def keks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kek, Kek]:
    """Two different keys of one kind."""
    if request.param == "memory":
        return MemoryKek(b"a" * 32), MemoryKek(b"b" * 32)
    folder: Path = tmp_path_factory.mktemp("kek")
    cost = KdfCost(memory_kib=128, passes=1, lanes=1)
    return PassphraseKek.create(folder / "a", "x", cost), PassphraseKek.create(folder / "b", "x", cost)


@given(key=st.binary(min_size=32, max_size=32))
def test_wrapped_opens_with_its_own_key_alone(keks: tuple[Kek, Kek], key: bytes) -> None:
    mine, other = keks
    wrapped = mine.wrap(key)
    assert mine.unwrap(wrapped) == key
    assert key not in wrapped
    with pytest.raises(VerificationFailed, match="unwrap"):
        other.unwrap(wrapped)


@given(place=st.integers(0, 39), bit=st.integers(0, 7))
def test_a_changed_bit_is_found(keks: tuple[Kek, Kek], place: int, bit: int) -> None:
    wrapped = bytearray(keks[0].wrap(b"k" * 32))
    wrapped[place] ^= 1 << bit
    with pytest.raises(VerificationFailed, match="unwrap"):
        keks[0].unwrap(bytes(wrapped))


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
