from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed
from safehold.model.ids import sha256_digest
from safehold.vault.keystore import KeyStore

R1, R2 = sha256_digest(b"1"), sha256_digest(b"2")
KEYS = {f"0000{n}-data.parquet": bytes([n]) * 40 for n in range(5)}


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.db")


def test_what_is_put_is_there_after_reopening(store: KeyStore, tmp_path: Path) -> None:
    store.put_all(R1, "kek-1", KEYS)
    store.close()
    with KeyStore(tmp_path / "keys.db") as again:
        assert again.get(R1, list(KEYS)[:2]) == dict(list(KEYS.items())[:2])
        assert (again.count(R1), again.count(R2), again.releases(), again.wrapped_by(R1)) == (5, 0, (R1,), "kek-1")
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600


def test_keys_never_change(store: KeyStore) -> None:
    store.put_all(R1, "kek-1", KEYS)
    store.put_all(R1, "kek-1", dict(reversed(KEYS.items())))
    for other in (KEYS | {"x": b"y"}, dict(list(KEYS.items())[1:]), KEYS | {"00000-data.parquet": b"z" * 40}):
        with pytest.raises(Conflict, match="keys_exist"):
            store.put_all(R1, "kek-1", other)
    with pytest.raises(Conflict, match="keys_exist"):
        store.put_all(R1, "kek-2", KEYS)
    assert store.get(R1, KEYS) == KEYS
    with pytest.raises(InputInvalid, match="no_keys"):
        store.put_all(R2, "kek-1", {})


def test_missing_keys_are_named(store: KeyStore) -> None:
    store.put_all(R1, "kek-1", KEYS)
    with pytest.raises(NotFound) as caught:
        store.get(R1, ["00000-data.parquet", "00009-data.parquet"])
    assert caught.value.code == "vault.keys_missing"
    assert "00009-data.parquet" in caught.value.message
    for call in (lambda: store.get(R2, ["x"]), lambda: store.erase(R2), lambda: store.wrapped_by(R2)):
        with pytest.raises(NotFound, match="keys_missing"):
            call()


def test_erased_keys_are_gone_from_every_file(store: KeyStore, tmp_path: Path) -> None:
    wrapped = {f"{n}": b"needle-%05d" % n + b"x" * 40 for n in range(500)}
    store.put_all(R1, "kek-1", wrapped)
    store.put_all(R2, "kek-1", KEYS)
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"needle-00007" in on_disk
    assert store.erase(R1) == 500
    for path in tmp_path.iterdir():
        assert b"needle-" not in path.read_bytes(), path.name
    with pytest.raises(NotFound, match="keys_erased"):
        store.get(R1, ["1"])
    with pytest.raises(Conflict, match="release_erased"):
        store.put_all(R1, "kek-1", wrapped)
    assert store.erase(R1) == 0
    assert store.get(R2, KEYS) == KEYS


def test_a_reader_that_keeps_old_pages_alive_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safehold.vault.keystore._BUSY_MS", 20)
    store = KeyStore(tmp_path / "keys.db")
    store.put_all(R1, "kek-1", KEYS)
    reader = apsw.Connection(str(tmp_path / "keys.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM part_key").fetchall()
    with pytest.raises(Conflict, match="keystore_busy"):
        store.erase(R1)
    reader.execute("COMMIT")
    assert store.erase(R1) == 0


def test_a_failed_put_leaves_nothing(store: KeyStore) -> None:
    with pytest.raises(StorageFailed, match=r"vault\.keystore"):
        store.put_all(R1, "kek-1", {"a": b"x", "b": None})  # type: ignore[dict-item]  # on purpose: no bytes
    assert store.count(R1) == 0
    store.put_all(R1, "kek-1", KEYS)


def test_files_that_are_no_key_store_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(StorageFailed, match="keystore_damaged"):
        KeyStore(tmp_path / "text")
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(StorageFailed, match="keystore_damaged"):
        KeyStore(tmp_path / "other.db")
    with pytest.raises(StorageFailed):
        KeyStore(tmp_path / "none" / "keys.db")


def test_a_store_of_the_future_is_named_as_such(store: KeyStore, tmp_path: Path) -> None:
    store.close()
    raw = apsw.Connection(str(tmp_path / "keys.db"))
    raw.execute("PRAGMA user_version=2")
    raw.close()
    with pytest.raises(InputInvalid, match="keystore_version"):
        KeyStore(tmp_path / "keys.db")


def test_two_stores_at_once_make_one(tmp_path: Path) -> None:
    first, second = KeyStore(tmp_path / "keys.db"), KeyStore(tmp_path / "keys.db")
    first.put_all(R1, "kek-1", KEYS)
    second.put_all(R2, "kek-1", KEYS)
    assert set(first.releases()) == set(second.releases()) == {R1, R2}
