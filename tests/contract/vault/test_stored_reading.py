"""A release read where it lies in a store of either kind: as from a folder, by every reader, and refused by the part's name."""

from __future__ import annotations

import os
import pickle
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from safehold.model.errors import InputInvalid, StorageFailed, VerificationFailed
from safehold.readers import OrderRule, ReadingStopped, ReadOptions, SealedRelease, open_release
from safehold.readers.hf_reader import hf_dataset
from safehold.readers.torch_reader import SealedLoader, TorchPlan
from safehold.vault.seal import SealOptions
from safehold.vault.spool import Spool
from safehold.vault.store import Store
from safehold.vault.store_s3 import StoreLimits
from safehold.vault.stored_release import StoredRelease, load_stored, publish_folder
from tests.object_store_kit import access, fresh_store, server
from tests.readers_kit import Clock, Keys, make_release, order_of
from tests.store_proxy_kit import Asked, broken
from tests.vault_kit import Sealed, outcome, seal, write_lines

ROWS = 1000
LIMITS = StoreLimits(retries=3, retry_seconds=20, read_seconds=2, request_seconds=20, first_pause=0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sealed, list[dict[str, Any]]]:
    return make_release(tmp_path_factory.mktemp("stored"), ROWS)


@pytest.fixture(params=["folder", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, made: Any) -> StoredRelease:
    return publish_folder(made[0].folder, fresh_store(request.param, tmp_path), 0)


def _open(stored: StoredRelease, sealed: Sealed, tmp_path: Path, **more: Any) -> tuple[SealedRelease, Keys]:
    clock = Clock()
    keys = Keys(sealed, clock)
    groups = more.pop("groups", ["text", "chats"])
    options = ReadOptions(clock=clock, check_every=0, spool=tmp_path, **more)
    return open_release(stored, order_of(sealed, groups), keys, options), keys


def _spooled(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.glob("safehold-read-*/*") if path.is_file()]


def test_every_reader_gives_what_was_sealed_and_only_ciphertext_touches_the_disk(stored, made, tmp_path):
    sealed, records = made
    release, keys = _open(stored, sealed, tmp_path)
    with release:
        assert list(release.records()) == records
        assert release.to_table(["id"]).column("id").to_pylist() == list(range(ROWS))
        assert release.to_polars(["text"])["text"].to_list() == [one["text"] for one in records]
        assert [row["id"] for row in hf_dataset(release, ["id"])] == list(range(ROWS))
        loader = SealedLoader(release, TorchPlan(batch=32, rule=OrderRule(seed=3)))
        assert sorted(record["id"] for batch in loader for record in batch) == list(range(ROWS))
        held = _spooled(tmp_path)
        assert {path.name for path in held} == {part.file for part in sealed.manifest.parts}
        assert not any(b"secret" in path.read_bytes() for path in held)
        assert keys.asked == 1
    assert not list(tmp_path.glob("safehold-read-*"))


def test_parts_come_when_they_are_needed_and_only_of_the_granted_groups(stored, made, tmp_path):
    sealed, _ = made
    release, _ = _open(stored, sealed, tmp_path, groups=["text"])
    with release:
        assert not _spooled(tmp_path)
        next(release.batches())
        came = {path.name for path in _spooled(tmp_path)}
        assert came <= {part.file for part in sealed.manifest.parts if part.group == "text" and part.part <= 2}


def test_the_spool_stays_within_its_limit_and_what_went_comes_again(stored, made, tmp_path, monkeypatch):
    sealed, records = made
    monkeypatch.setattr("safehold.vault.spool._LEAST", 4)
    release, _ = _open(stored, sealed, tmp_path, spool_limit=1)
    with release:
        for _ in range(2):
            assert list(release.records()) == records
            assert len(_spooled(tmp_path)) <= 6


def test_a_hold_stops_it_at_the_next_part(stored, made, tmp_path):
    sealed, _ = made
    release, keys = _open(stored, sealed, tmp_path)
    with release:
        batches = release.batches()
        next(batches)
        keys.held = True
        with pytest.raises(ReadingStopped) as caught:
            list(batches)
        assert caught.value.opened


def test_what_is_not_whole_in_the_store_is_refused_by_name_before_keys_are_asked_for(stored, made, tmp_path):
    sealed, _ = made
    part = sealed.manifest.parts[0]
    name = "parts/" + part.sha256.removeprefix("sha256:")
    whole = (sealed.folder / part.file).read_bytes()
    for data, code in ((None, "part_missing"), (whole[:-1], "part_truncated"), (whole + b"x", "part_altered")):
        stored.store.delete(name)
        if data is not None:
            stored.store.create(name, data)
        keys = Keys(sealed, Clock())
        with pytest.raises(VerificationFailed) as caught:
            open_release(stored, order_of(sealed), keys, ReadOptions(spool=tmp_path))
        assert caught.value.code == "vault." + code
        assert part.file in caught.value.message
        assert not keys.asked


def test_a_changed_byte_is_refused_before_a_record_and_a_release_of_another_digest_before_all(stored, made, tmp_path):
    sealed, _ = made
    part = sealed.manifest.parts[0]
    name = "parts/" + part.sha256.removeprefix("sha256:")
    data = bytearray((sealed.folder / part.file).read_bytes())
    data[len(data) // 2] ^= 1
    stored.store.delete(name)
    stored.store.create(name, bytes(data))
    release, _ = _open(stored, sealed, tmp_path)
    with release:
        found, code = outcome(lambda: next(release.records()))
        assert (found, code) == (None, "vault.part_altered")
        assert not any(path.name == part.file for path in _spooled(tmp_path))
    other = order_of(sealed._replace(release="sha256:" + "0" * 64))
    assert outcome(lambda: open_release(stored, other, Keys(sealed, Clock())))[1] == "vault.other_release"


def test_an_arrow_dataset_is_refused_with_what_to_do(stored, made, tmp_path):
    release, _ = _open(stored, made[0], tmp_path, groups=["text"])
    with release:
        for call in (release.dataset, release.part_files):
            with pytest.raises(InputInvalid) as caught:
                call()
            assert caught.value.code == "readers.no_dataset"


def test_a_forked_worker_and_one_that_was_started_get_parts_from_their_parent(stored, made, tmp_path):
    sealed, records = made
    release, _ = _open(stored, sealed, tmp_path)
    with release:
        assert next(release.records()) == records[0]  # the store's client is at work in this process already
        assert outcome(lambda: pickle.dumps(release))[1] == "readers.pickled"
        release.share_keys()
        text = pickle.dumps(release)
        assert not any(key in text for key in sealed.keys.values())
        assert b"not-a-real-one" not in text
        assert list(pickle.loads(text).records()) == records
        child = os.fork()
        if not child:
            os._exit(0 if list(release.records()) == records else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(release.records()) == records  # the child's end took nothing away


@pytest.fixture
def published(made: Any, tmp_path: Path) -> Store:
    store = fresh_store("s3", tmp_path)
    publish_folder(made[0].folder, store, 0)
    return store


@pytest.mark.parametrize("act", ["500", "503", "reset", "cut", "stall"])
def test_faults_now_and_then_are_tried_again(made, published, tmp_path, act):
    sealed, records = made
    hit = set[str]()  # of two parts, the first reading of each

    def fault(asked: Asked) -> str:
        if "list-type" in asked.path or asked.method != "GET" or "/parts/" not in asked.path:
            return ""
        if asked.path not in hit and len(hit) < 2:
            hit.add(asked.path)
            return act
        return ""

    with broken(server(), fault) as proxy:
        store = _through(published, proxy.endpoint)
        release, _ = _open(load_stored(store, "1"), sealed, tmp_path)
        with release:
            assert list(release.records()) == records
        assert proxy.done == [act] * 2


def test_a_store_that_has_gone_is_an_error_that_names_the_part(made, published, tmp_path):
    sealed, records = made
    gone = False

    with broken(server(), lambda asked: "500" if gone and "/parts/" in asked.path else "") as proxy:
        store = _through(published, proxy.endpoint)
        release, _ = _open(load_stored(store, "1"), sealed, tmp_path)
        with release:
            batches = release.batches()
            next(batches)
            gone = True
            with pytest.raises(StorageFailed) as caught:
                list(batches)
            assert caught.value.code == "vault.part_unread"
            assert any(part.file in caught.value.message for part in sealed.manifest.parts)
            gone = False
            assert list(release.records()) == records  # a part that failed is asked for anew


def _through(store: Store, endpoint: str) -> Store:
    from safehold.vault.store_s3 import BucketStore

    return BucketStore(store.location, access(endpoint), LIMITS)


def test_a_full_disk_under_the_spool_is_said(made, published, tmp_path, monkeypatch):
    sealed, _ = made
    release, _ = _open(load_stored(published, "1"), sealed, tmp_path)

    def full(*_: Any) -> Path:
        raise StorageFailed("vault.disk_full", "the disk is full", "free some space")

    monkeypatch.setattr("safehold.vault.spool.fetch_part", full)
    with release:
        assert outcome(lambda: next(release.records()))[1] == "vault.disk_full"


def test_a_spool_is_made_where_it_is_wished_for(made, published, tmp_path):
    loaded = load_stored(published, "1")
    assert outcome(lambda: Spool(loaded, tmp_path / "no-such-folder"))[1].startswith("vault.")


class _Counted:
    """A store that counts the bytes that are read of parts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.read = 0

    def read_range(self, name: str, start: int, length: int) -> bytes:
        data = self._store.read_range(name, start, length)
        with self._lock:
            self.read += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Parts of some megabytes, so that they have more than one piece."""
    home = tmp_path_factory.mktemp("wide")
    rng = random.Random(4)
    lines = [{"id": number, "text": rng.randbytes(400).hex(), "label": number % 7} for number in range(6000)]
    return seal(write_lines(home / "in.jsonl", lines), home / "release", options=SealOptions(part_rows=3000))


@pytest.fixture(params=["folder", "s3"])
def stored_wide(request: pytest.FixtureRequest, tmp_path: Path, wide: Sealed) -> StoredRelease:
    release = publish_folder(wide.folder, fresh_store(request.param, tmp_path), 0)
    return msgspec.structs.replace(release, store=_Counted(release.store))


def test_of_columns_the_pieces_come_that_hold_them_and_no_others(stored_wide, wide, tmp_path):
    release, _ = _open(stored_wide, wide, tmp_path, groups=["data"])
    with release:
        assert release.to_table(["label"]).column("label").to_pylist() == [number % 7 for number in range(6000)]
        first = stored_wide.store.read
        assert first < wide.manifest.size * 0.5
        assert len(_spooled(tmp_path)) == len(wide.manifest.parts)
        assert sum(path.stat().st_blocks * 512 for path in _spooled(tmp_path)) < wide.manifest.size * 0.7
        assert release.to_table(["label"]).num_rows == 6000
        assert stored_wide.store.read == first  # what is at hand does not come again
        assert release.to_table().num_rows == 6000
        assert release.to_table(["id", "label"]).num_rows == 6000
        assert stored_wide.store.read == first + wide.manifest.size  # whole parts hold every column


def test_a_piece_that_was_changed_in_the_store_is_refused_where_it_is_needed(stored_wide, wide, tmp_path):
    part = wide.manifest.parts[1]
    name = "parts/" + part.sha256.removeprefix("sha256:")
    data = bytearray((wide.folder / part.file).read_bytes())
    data[-part.tail.size - 100] ^= 1  # the labels stand at the end, before the tail
    data[300_000] ^= 1
    stored_wide.store.delete(name)
    stored_wide.store.create(name, bytes(data))
    release, _ = _open(stored_wide, wide, tmp_path, groups=["data"])
    with release:
        batches = release.batches(["label"])
        assert next(batches).num_rows
        with pytest.raises(VerificationFailed) as caught:
            list(batches)
        assert (caught.value.code, part.file in caught.value.message) == ("vault.part_altered", True)
    stored_wide.store.delete(name)
    data[-part.tail.size - 100] ^= 1  # the other changed byte is of a text: not read, so not missed
    stored_wide.store.create(name, bytes(data))
    release, _ = _open(stored_wide, wide, tmp_path, groups=["data"])
    with release:
        assert release.to_table(["label"]).num_rows == 6000
        with pytest.raises(VerificationFailed):
            release.to_table()


def test_a_worker_gets_columns_through_the_desk(stored_wide, wide, tmp_path):
    release, _ = _open(stored_wide, wide, tmp_path, groups=["data"])
    with release:
        release.share_keys()
        with pickle.loads(pickle.dumps(release)) as worker:
            assert worker.to_table(["label"]).num_rows == 6000
        assert stored_wide.store.read < wide.manifest.size * 0.6
