"""Saved datasets, streams of batches, and what is said of the texts before they are sealed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from safehold.model.errors import InputInvalid, NotFound
from safehold.vault.batch_source import BatchSource
from safehold.vault.open import open_release
from safehold.vault.patterns import PatternCounter
from safehold.vault.seal import SealOptions, prepare
from safehold.vault.sources import open_source
from safehold.vault.verify import verify_release
from tests.vault_kit import SPEC, SUPPLIER, seal

CHATS = pa.table(
    {
        "messages": [
            [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": str(n)}] for n in range(90)
        ],
        "n": range(90),
    }
)


def _save(folder: Path, tables: list[pa.Table]) -> Path:
    folder.mkdir()
    names = [f"data-{place:05d}-of-{len(tables):05d}.arrow" for place in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_dataset_comes_back_bit_for_bit(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset(CHATS).save_to_disk(tmp_path / "saved", num_shards=2)
    sealed = seal(tmp_path / "saved", tmp_path / "r", options=SealOptions(part_rows=20))
    assert pa.Table.from_batches(sealed.open().batches()).equals(CHATS.replace_schema_metadata(None))
    assert [source.format for source in sealed.manifest.sources] == ["arrow", "arrow"]
    assert sum(source.rows for source in sealed.manifest.sources) == 90


def test_the_files_of_a_saved_dataset_come_in_their_order(tmp_path: Path) -> None:
    saved = _save(tmp_path / "saved", [CHATS.slice(0, 50), CHATS.slice(50)])
    sealed = seal(saved, tmp_path / "r")
    assert pa.Table.from_batches(sealed.open().batches()).equals(CHATS)
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"].reverse()
    (saved / "state.json").write_text(json.dumps(state))
    assert pa.Table.from_batches(open_source(saved).batches()).column("n")[0].as_py() == 50


def test_what_is_no_saved_dataset_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="dataset_folder_missing"):
        open_source(tmp_path)
    saved = _save(tmp_path / "saved", [CHATS, CHATS.select(["n"])])
    with pytest.raises(InputInvalid, match="dataset_folder"):
        open_source(saved)
    for state in ("[]", "{", '{"_data_files": [{"filename": "../x"}]}', '{"_data_files": []}'):
        (saved / "state.json").write_text(state)
        with pytest.raises(InputInvalid, match="dataset_folder"):
            open_source(saved)
    many = tmp_path / "many"
    many.mkdir()
    _save(many / "train", [CHATS])
    (many / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(InputInvalid, match="splits: train"):
        open_source(many)
    broken = _save(tmp_path / "broken", [CHATS])
    file = next(broken.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(InputInvalid, match="arrow_unreadable"):
        open_source(broken)
    file.unlink()
    with pytest.raises(NotFound, match="source_missing"):
        open_source(broken)


def test_a_stream_of_batches_is_sealed_as_it_comes(tmp_path: Path) -> None:
    source = BatchSource(CHATS.schema, iter(CHATS.to_batches(max_chunksize=7)), "chats")
    with prepare(source, SPEC, SUPPLIER, tmp_path / "r", SealOptions(part_rows=20)) as prepared:
        prepared.publish()
    assert verify_release(tmp_path / "r", SUPPLIER.public).release.manifest.sources[0].format == "batches"
    opened = open_release(tmp_path / "r", prepared.release, prepared.keys, ["data"])
    assert pa.Table.from_batches(opened.batches()).equals(CHATS)
    with pytest.raises(InputInvalid, match="batch_schema"):
        prepare(BatchSource(CHATS.schema, CHATS.select(["n"]).to_batches()), SPEC, SUPPLIER, tmp_path / "s")
    with pytest.raises(InputInvalid, match="no_records"):
        prepare(BatchSource(CHATS.schema, []), SPEC, SUPPLIER, tmp_path / "s")
    with pytest.raises(InputInvalid, match="duplicate_name"):
        BatchSource(pa.schema([("a", pa.int8()), ("a", pa.int8())]), [])


def test_patterns_are_counted_by_column_and_nothing_is_kept() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "text": ["write to ann@example.org", "call +49 30 123 4567", "from 192.0.2.17", "nobody", None],
            "chat": [[{"say": "card 4111 1111 1111 1111"}], [{"say": "card 4111 1111 1111 1112"}], [], None, []],
            "n": [1, 2, 3, 4, 5],
        }
    )
    counter = PatternCounter()
    counter.add(batch)
    counter.add(batch.slice(3))
    assert counter.counts == {
        ("text", "e-mail"): 1,
        ("text", "phone"): 1,
        ("text", "IP address"): 1,
        ("chat", "card number"): 1,
    }
    assert "ann" not in repr(vars(counter))


def test_versions_and_numbers_are_no_addresses() -> None:
    counter = PatternCounter()
    counter.add(
        pa.RecordBatch.from_pydict({"t": ["1.2.3", "3.14", "a@b", "300.1.2.3.4", "2026-11-24", "1234567890123"]})
    )
    assert counter.counts == {}
