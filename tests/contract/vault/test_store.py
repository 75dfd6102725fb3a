"""What every store promises, over each kind: a folder, and S3 by a real server."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed
from safehold.vault.store import Store, check_name, parse_location
from safehold.vault.store_probe import open_store, probe_store
from safehold.vault.store_s3 import S3Access
from tests.object_store_kit import access, fresh_store, fresh_url, server
from tests.vault_kit import outcome

KINDS = ["folder", "s3"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return fresh_store(request.param, tmp_path)


@pytest.fixture(params=KINDS)
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Another client of the same store, each time."""
    if request.param == "folder":
        return lambda: open_store(parse_location(str(tmp_path / "store")), S3Access())
    url = fresh_url()
    return lambda: open_store(parse_location(url), access(server()))


def _size(store: Store, name: str) -> int:
    found = store.find(name)
    assert found is not None
    return found.size


def test_what_is_created_is_read(store: Store) -> None:
    tag = store.create("a/b/c.json", b"hello")
    assert store.read("a/b/c.json", 100) == (b"hello", tag)
    assert store.read("a/b/c.json", 2)[0] == b"he"
    assert _size(store, "a/b/c.json") == 5
    assert store.find("a/b") is None
    assert store.find("a/b/d.json") is None


def test_an_empty_object_is_an_object(store: Store) -> None:
    tag = store.create("empty", b"")
    assert store.read("empty", 10) == (b"", tag)
    assert store.read_range("empty", 0, 10) == b""


def test_create_never_replaces(store: Store) -> None:
    store.create("a", b"one")
    with pytest.raises(Conflict) as refused:
        store.create("a", b"two")
    assert refused.value.code == "vault.store_exists"
    assert store.read("a", 9)[0] == b"one"


def test_replace_needs_the_tag_that_was_read(store: Store) -> None:
    tag = store.create("a", b"one")
    newer = store.replace("a", b"two", tag)
    with pytest.raises(Conflict) as refused:
        store.replace("a", b"three", tag)
    assert refused.value.code == "vault.store_changed"
    assert store.read("a", 9) == (b"two", newer)


def test_what_is_not_there(store: Store) -> None:
    for call in (
        lambda: store.read("nothing", 9),
        lambda: store.read_range("nothing", 0, 9),
        lambda: store.replace("nothing", b"", "tag"),
    ):
        # S3 may call it changed rather than missing; either is a refusal and writes nothing.
        assert outcome(call)[1] in {"vault.store_missing", "vault.store_changed"}
    store.delete("nothing")
    assert list(store.list()) == []
    assert store.find("nothing") is None


def test_a_large_file_goes_in_pieces_and_comes_back_in_ranges(store: Store, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 40 + b"tail"  # above two pieces of 16 MiB
    path = tmp_path / "large"
    path.write_bytes(data)
    store.upload("parts/large", path)
    assert _size(store, "parts/large") == len(data)
    assert store.read_range("parts/large", 0, len(data) + 99) == data
    assert store.read_range("parts/large", (16 << 20) - 3, 7) == data[(16 << 20) - 3 : (16 << 20) + 4]
    assert store.read_range("parts/large", len(data) - 4, 100) == b"tail"
    assert store.read_range("parts/large", len(data), 5) == b""
    assert store.read_range("parts/large", 5, 0) == b""


def test_list_and_delete(store: Store) -> None:
    for name in ("a/1", "a/2", "b/1", "top", "ab/1"):
        store.create(name, name.encode())
    assert {one.name for one in store.list()} == {"a/1", "a/2", "b/1", "top", "ab/1"}
    assert {(one.name, one.size) for one in store.list("a")} == {("a/1", 3), ("a/2", 3)}
    store.delete("a/1")
    store.delete("a/1")
    assert {one.name for one in store.list("a")} == {"a/2"}
    assert all(one.modified > 1_500_000_000_000_000 for one in store.list())


def test_of_sixteen_that_create_one_name_one_wins(again: Callable[[], Store]) -> None:
    stores = [again() for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: outcome(lambda: stores[n].create("the/name", b"by %d" % n))[1], range(16)))
    assert sorted(told) == [""] + ["vault.store_exists"] * 15
    assert stores[0].read("the/name", 99)[0] == b"by %d" % told.index("")


def test_of_eight_that_replace_one_object_one_wins(again: Callable[[], Store]) -> None:
    stores = [again() for _ in range(8)]
    tag = stores[0].create("the/name", b"first")
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: outcome(lambda: stores[n].replace("the/name", b"by %d" % n, tag))[1], range(8)))
    assert sorted(told) == [""] + ["vault.store_changed"] * 7
    assert stores[0].read("the/name", 99)[0] == b"by %d" % told.index("")


def test_the_probe_passes_and_leaves_nothing(store: Store) -> None:
    assert probe_store(store) is store
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/./b", "a/..", "a\nb", "a\\b", "x" * 901]
)
def test_names_stay_plain_and_below(name: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        check_name(name)
    assert refused.value.code == "vault.store_name"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "vault.store_location"),
        ("gopher://a/b", "vault.store_location"),
        ("s3://", "vault.store_location"),
        ("s3://UPPER/x", "vault.store_location"),
        ("s3://bucket/../x", "vault.store_name"),
        ("s3://key:secret@bucket/x", "vault.store_secret"),
        ("s3://bucket/x?X-Amz-Signature=1", "vault.store_secret"),
        ("s3://bucket/x#y", "vault.store_secret"),
        ("file://elsewhere/x", "vault.store_location"),
    ],
)
def test_locations_that_are_none(text: str, code: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        parse_location(text)
    assert refused.value.code == code
    assert "secret@" not in str(refused.value)


def test_locations() -> None:
    place = parse_location("s3://bucket/a/b/")
    assert (place.url, place.name, place.parent.url, place.below("c").url) == (
        "s3://bucket/a/b", "b", "s3://bucket/a", "s3://bucket/a/b/c",
    )  # fmt: skip
    assert parse_location("s3://bucket").below("x").url == "s3://bucket/x"
    assert parse_location("file:///data/my%20store").url == "/data/my store"
    with pytest.raises(InputInvalid):
        _ = parse_location("s3://bucket").parent


def test_s3_without_credentials_and_with_wrong_ones() -> None:
    place = parse_location(fresh_url())
    with pytest.raises(InputInvalid) as refused:
        open_store(place, S3Access(endpoint=server()))
    assert refused.value.code == "vault.store_credentials"
    store = open_store(place, access(server(), secret="another"))
    for call in (lambda: store.create("a", b""), lambda: store.read("a", 1), lambda: list(store.list())):
        with pytest.raises(StorageFailed) as denied:
            call()
        assert denied.value.code == "vault.store_denied"
        assert "another" not in str(denied.value)
        assert "test-key-id" not in str(denied.value)


def test_nothing_of_an_access_is_shown() -> None:
    shown = repr(access("http://127.0.0.1:1")) + str(access("http://127.0.0.1:1"))
    assert "test-" not in shown


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file")
    store = fresh_store("folder", tmp_path)
    with pytest.raises(StorageFailed):
        store.create("a", b"")
    assert outcome(lambda: store.read("a", 1))[1] in {"vault.store_missing", "vault.storage"}


def test_a_link_in_a_folder_is_no_object(tmp_path: Path) -> None:
    store = fresh_store("folder", tmp_path)
    store.create("a", b"")
    (tmp_path / "outside").write_bytes(b"not ours")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    assert store.find("link") is None
    assert {one.name for one in store.list()} == {"a"}
    with pytest.raises((StorageFailed, NotFound)):
        store.read_range("link", 0, 9)
