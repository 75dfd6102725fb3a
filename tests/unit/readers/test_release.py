"""An open release: what it gives, what it asks for, and what stops it."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from safehold.model.errors import Conflict, InputInvalid, Refused, SafeholdError, VerificationFailed
from safehold.readers import OrderRule, ReadingStopped
from safehold.readers.hf_reader import hf_dataset
from safehold.readers.torch_reader import SealedTorch, TorchPlan
from safehold.vault.block_cache import BlockCache
from tests.readers_kit import LEASE, make_release, open_it, order_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("readers"))


def test_everything_comes_back_in_the_order_of_the_input_by_one_request(made):
    sealed, records = made
    release, source, _ = open_it(sealed)
    assert list(release.records()) == records
    assert release.to_table().num_rows == release.rows == len(records)
    assert [record["id"] for record in release.records(["id"])] == list(range(1000))
    assert source.asked == release.key_requests == 1
    assert set(release.opened) == {part.file for part in sealed.manifest.parts}


def test_only_the_granted_groups_are_asked_for_and_touched(made):
    sealed, records = made
    release, _, _ = open_it(sealed, groups=["text"])
    assert list(release.records()) == [{"id": one["id"], "text": one["text"]} for one in records]
    assert all(name.endswith("-text.parquet") for name in release.opened)
    with pytest.raises(InputInvalid) as caught:
        release.to_table(["chat"])
    assert caught.value.code == "readers.column"


def test_polars_duckdb_and_scanner(made):
    sealed, records = made
    release, _, _ = open_it(sealed, groups=["text"])
    frame = release.to_polars(["id", "text"])
    assert frame.shape == (1000, 2)
    assert frame["text"].to_list() == [one["text"] for one in records]
    stream = release.reader(["id"])
    assert duckdb.from_arrow(stream).aggregate("sum(id), count(*)").fetchall() == [(499_500, 1000)]
    few = release.scanner(["text"], pc.field("id") < 3).to_table()
    assert few.to_pylist() == [{"text": one["text"]} for one in records[:3]]


def test_a_dataset_of_many_keys_with_projection_and_filter(made):
    sealed, records = made
    release, source, _ = open_it(sealed, groups=["text"])
    dataset = release.dataset()
    found = dataset.to_table(columns=["text"], filter=pc.field("id") >= 998)
    assert found.column("text").to_pylist() == [one["text"] for one in records[998:]]
    assert dataset.to_table().column("id").to_pylist() == list(range(1000))
    assert duckdb.sql("SELECT max(id) FROM dataset WHERE id < 10").fetchall() == [(9,)]
    assert source.asked == 1
    both, _, _ = open_it(sealed)
    with pytest.raises(InputInvalid) as caught:
        both.dataset()
    assert caught.value.code == "readers.no_dataset"


def test_plain_pyarrow_and_polars_open_our_files_with_the_keys(made):
    sealed, records = made
    release, source, _ = open_it(sealed)
    files = release.part_files()
    assert {file.path.name for file in files} == {part.file for part in sealed.manifest.parts}
    ids, chats = [], []
    for file in files:
        decryption = pe.create_decryption_properties(file.key, aad_prefix=file.aad)
        plain = pq.read_table(file.path, decryption_properties=decryption)
        footer = pl.ParquetDecryptionProperties(footer_key=file.key, aad_prefix=file.aad)
        framed = pl.scan_parquet(file.path, decryption=footer).collect()
        assert framed.rows(named=True) == plain.to_pylist()
        if file.group == "text":
            ids += plain.column("id").to_pylist()
        else:
            chats += plain.column("chat").to_pylist()
        other = pe.create_decryption_properties(file.key, aad_prefix=file.aad + b"x")
        with pytest.raises(OSError, match="decrypt"):  # the key alone opens nothing: the place is bound
            pq.read_table(file.path, decryption_properties=other)
    assert ids == list(range(1000))
    assert chats == [one["chat"] for one in records]
    assert source.asked == 1
    assert files[0].key.hex() not in repr(files[0])
    assert repr(files[0].key) not in repr(files)


def test_keys_are_renewed_when_their_lease_ends_and_not_before(made):
    sealed, records = made
    release, source, clock = open_it(sealed)
    seen = []
    for number, record in enumerate(release.records()):
        seen.append(record)
        if number in {300, 600}:
            clock.at += LEASE
    assert seen == records
    assert source.asked == 3


def test_a_hold_stops_at_the_next_part_with_a_list_of_what_was_opened(made):
    sealed, _ = made
    release, source, _ = open_it(sealed)
    batches = release.batches()
    first = next(batches)
    source.held = True
    with pytest.raises(ReadingStopped) as caught:
        for _ in batches:
            pass
    error = caught.value
    assert first.num_rows
    assert error.code == "readers.stopped"
    assert error.opened == ("1-00000-text.parquet", "1-00000-chats.parquet")
    assert "host:north-lab/trainer is suspended" in error.message
    assert "1-00000-text.parquet" in error.message
    source.held = False
    with pytest.raises(ReadingStopped):  # once stopped, it stays stopped: open the release anew
        list(release.batches())


def test_a_hold_before_the_first_part_is_the_brokers_word(made):
    sealed, _ = made
    release, source, clock = open_it(sealed)
    source.held = True
    clock.at += LEASE
    with pytest.raises(ReadingStopped) as caught:
        next(release.batches())
    assert (caught.value.code, caught.value.entry, caught.value.opened) == ("broker.held", 7, ())


def test_a_hold_stops_training_and_what_is_cached(made, tmp_path):
    sealed, _ = made
    release, source, _ = open_it(sealed, cache=tmp_path / "cache")
    plan = TorchPlan(form="arrow", batch=50, rule=OrderRule(lanes=2, window=60, chunk=10))
    dataset = SealedTorch(release, plan)
    assert sum(batch.num_rows for batch in dataset) == 1000
    following = iter(dataset)
    next(following)  # from the cache
    source.held = True
    with pytest.raises(ReadingStopped):
        list(following)
    release.close()


def test_an_altered_part_is_named_before_a_record_of_it(made, tmp_path):
    sealed, _ = made
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", sealed.folder, copy], check=True)
    victim = copy / "1-00003-chats.parquet"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    release, _, _ = open_it(sealed._replace(folder=copy))
    before = sum(run.rows for run in release.runs if run.part < 3)
    seen: list[int] = []
    with pytest.raises(VerificationFailed) as caught:
        seen.extend(batch.num_rows for batch in release.batches())
    assert "1-00003-chats.parquet" in caught.value.message
    assert sum(seen) == before


def test_keys_go_into_no_pickle(made):
    sealed, _ = made
    release, _, _ = open_it(sealed)
    with pytest.raises(InputInvalid) as caught:
        pickle.dumps(release)
    assert caught.value.code == "readers.pickled"
    release.allow()
    release.share_keys()
    data = pickle.dumps(release)
    assert not any(key in data for key in sealed.keys.values())
    assert not any(key.hex().encode() in data for key in sealed.keys.values())
    release.close()


_SPAWNED = """
import pickle, sys
release = pickle.load(open(sys.argv[1], "rb"))
print(sum(1 for _ in release.records()), release.key_requests)
"""


def test_a_started_process_asks_for_its_own_keys(made, tmp_path):
    sealed, _ = made
    release, source, _ = open_it(sealed)
    release.share_keys()
    (tmp_path / "release").write_bytes(pickle.dumps(release))
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _SPAWNED, tmp_path / "release"],
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["1000", "1"], done.stderr
    assert source.asked == 2
    release.close()


def in_child(work):
    """Run ``work`` in a forked process; what it returned, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = str(work())
        except SafeholdError as error:
            answer = f"{type(error).__name__} {error.code}"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(child, 0)
    return answer


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_reads_on_and_renews_through_its_parent(made):
    sealed, _ = made
    release, source, clock = open_it(sealed)
    release.share_keys()
    next(release.batches())
    assert in_child(lambda: sum(1 for _ in release.records())) == "1000"
    assert source.asked == 1  # the keys came with the fork
    clock.at += LEASE
    assert in_child(lambda: sum(1 for _ in release.records())) == "1000"
    assert source.asked == 2
    source.held = True
    assert in_child(lambda: sum(1 for _ in release.records())) == "ReadingStopped readers.stopped"
    release.close()


def test_the_cache_gives_the_same_records_and_holds_no_plaintext(made, tmp_path):
    sealed, records = made
    release, _, _ = open_it(sealed, cache=tmp_path / "cache")
    plan = TorchPlan(rule=OrderRule(lanes=3, window=100))
    dataset = SealedTorch(release, plan)
    first = list(dataset)
    files = list((tmp_path / "cache").iterdir())
    assert files
    assert all(b"secret" not in file.read_bytes() for file in files)
    dataset.set_epoch(0)
    assert list(dataset) == first
    assert sorted(one["id"] for one in first) == [one["id"] for one in records]
    victim = bytearray(files[0].read_bytes())
    victim[-1] ^= 1
    files[0].write_bytes(victim)  # what is not as it was written is read from the release again
    files[1].unlink()
    dataset.set_epoch(0)
    assert list(dataset) == first
    release.close()
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_swapped_between_blocks_is_not_believed(tmp_path):
    cache = BlockCache(tmp_path / "cache")
    cache.put("a", [pa.record_batch({"x": [1]})])
    cache.put("b", [pa.record_batch({"x": [2]})])
    (tmp_path / "cache" / "a.block").rename(tmp_path / "cache" / "b.block")
    assert cache.get("b") is None
    assert cache.get("a") is None
    with pytest.raises(InputInvalid):
        pickle.dumps(cache)
    with pytest.raises(Conflict):
        BlockCache(tmp_path / "cache")
    cache.close()
    (tmp_path / "cache" / "mine.txt").write_text("not a block")
    with pytest.raises(Conflict) as caught:
        BlockCache(tmp_path / "cache")
    assert caught.value.code == "vault.cache_folder"


def test_a_cache_with_a_limit_keeps_no_more(tmp_path):
    cache = BlockCache(tmp_path / "cache", limit=3000)
    for number in range(10):
        cache.put(str(number), [pa.record_batch({"x": list(range(100))})])
    assert 0 < sum(file.stat().st_size for file in (tmp_path / "cache").iterdir()) <= 3200
    assert cache.get("0") is not None
    assert cache.get("9") is None
    cache.close()


def test_hugging_face_reads_features_and_writes_nothing(made, tmp_path, monkeypatch):
    sealed, records = made
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf" / "datasets"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    release, _, _ = open_it(sealed)
    dataset = hf_dataset(release, rule=OrderRule(lanes=4, window=100))
    assert set(dataset.features) == {"id", "text", "chat"}
    assert [one["id"] for one in dataset] == list(range(1000))
    assert next(iter(dataset.skip(5)))["chat"] == [
        {"role": turn["role"], "content": turn["content"]} for turn in records[5]["chat"]
    ]
    shuffled = dataset.shuffle(seed=3, buffer_size=100)
    assert sorted(one["id"] for one in shuffled) == list(range(1000))
    mapped = dataset.map(lambda one: {"length": len(one["text"])}).take(3)
    assert [one["length"] for one in mapped] == [len(one["text"]) for one in records[:3]]
    for path in [*tmp_path.rglob("*"), *Path.home().glob(".cache/huggingface/datasets/generator/**/*")]:
        assert not path.is_file() or b"secret" not in path.read_bytes(), path
    release.close()


def test_hugging_face_state_goes_on_where_it_was(made):
    sealed, _ = made
    release, _, _ = open_it(sealed)
    dataset = hf_dataset(release, ["id"], OrderRule(lanes=4, window=100))
    iterator = iter(dataset)
    seen = [next(iterator)["id"] for _ in range(333)]
    state = dataset.state_dict()
    again = hf_dataset(release, ["id"], OrderRule(lanes=4, window=100))
    again.load_state_dict(state)
    assert seen + [one["id"] for one in again] == list(range(1000))
    release.close()


def test_another_release_in_the_folder_costs_no_key_release(made, tmp_path):
    sealed, _ = made
    other, _ = make_release(tmp_path, 10)
    with pytest.raises(VerificationFailed) as caught:
        open_it(sealed._replace(folder=other.folder))
    assert caught.value.code == "vault.other_release"
    assert order_of(sealed).release != other.release


def test_a_refused_request_is_the_brokers_refusal(made):
    sealed, _ = made
    release, source, clock = open_it(sealed)
    release.close()
    source.held = True
    clock.at += LEASE
    with pytest.raises(Refused) as caught:
        release.to_table()
    assert caught.value.code == "broker.held"
    gc.collect()
