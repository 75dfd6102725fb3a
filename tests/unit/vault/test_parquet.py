from __future__ import annotations

import datetime as dt
import decimal
import os
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safehold.model.errors import InputInvalid
from safehold.vault.output import write_jsonl, write_parquet
from safehold.vault.parquet_form import open_part
from safehold.vault.seal import SealOptions
from safehold.vault.sources import open_source
from tests.vault_kit import seal


def _bits(*values: int) -> pa.Array:
    data = struct.pack(f"<{len(values)}Q", *values)
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(data)])


def _table() -> pa.Table:
    return pa.table(
        {
            "text": pa.array(["é", "", None, "x"]),
            "large": pa.array(["a", None, "c", ""], pa.large_string()),
            "when": pa.array([1, None, 3, 4], pa.timestamp("ns", tz="UTC")),
            "day": pa.array([dt.date(2026, 3, 24)] * 4),
            "price": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-2.00"), None], pa.decimal128(10, 2)),
            "raw": pa.array([b"\x00\xff", b"", None, b"x"]),
            "small": pa.array([-1, 2, None, 127], pa.int8()),
            "half": pa.array([1.5, None, -0.0, 2.0], pa.float32()),
            "bits": _bits(0x7FF8000000000123, 0x8000000000000000, 0x7FF0000000000000, 1),
            "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "chat": pa.array([[{"role": "user", "n": [1]}], [], None, [{"role": None, "n": None}, None]]),
        }
    )


def _bytes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


@pytest.mark.parametrize("parts", [1, 50])
def test_every_type_comes_back_bit_for_bit(parts: int, tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables([_table()] * 3), tmp_path / "in.parquet")
    plain = pq.read_table(tmp_path / "in.parquet")
    options = SealOptions(part_rows=parts, group_rows=2, cut_key=b"k" * 32)
    sealed = seal(tmp_path / "in.parquet", tmp_path / "r", options=options)
    assert (len({part.part for part in sealed.manifest.parts}) > 1) == (parts == 1)
    write_parquet(sealed.open(), tmp_path / "out.parquet")
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.schema.equals(plain.schema)
    assert back.drop_columns(["bits"]).equals(plain.drop_columns(["bits"]))
    assert _bytes_of(back.select(["bits"])) == _bytes_of(plain.select(["bits"]))


def test_key_value_metadata_is_left_out(tmp_path: Path) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"note": "Ann Smith"})
    pq.write_table(table, tmp_path / "in.parquet")
    sealed = seal(tmp_path / "in.parquet", tmp_path / "r")
    assert all(batch.schema.metadata is None for batch in sealed.open().batches())


@pytest.mark.parametrize("keep", [0, 3, 4, 100, -1, -9])
def test_a_truncated_file_is_a_clear_error(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": ["x"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputInvalid) as caught:
        open_source(path)
    assert caught.value.code == "vault.parquet_unreadable"
    assert "in.parquet" in caught.value.message
    assert "truncated" in caught.value.hint


def test_garbage_inside_a_page_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": [os.urandom(8).hex() for _ in range(5000)]}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputInvalid, match="parquet_unreadable"):
        list(open_source(path).batches())


_MAP = pa.map_(pa.string(), pa.int64())


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[("k", 1), ("k", None)], None, [], [("", 2)]], _MAP),
        pa.array([{"m": [("k", 1)]}, None, {"m": None}, {"m": []}], pa.struct([("m", _MAP)])),
        pa.array([[[("k", 1)], None], [], None, [[]]], pa.list_(_MAP)),
        pa.array([[("a", [("k", 1)])], [("b", None)], [], None], pa.map_(pa.string(), _MAP)),
    ],
)
def test_maps_are_sealed_as_lists_of_pairs_and_come_back_as_maps(array: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(4), "a": array}), tmp_path / "in.parquet")
    plain = pq.read_table(tmp_path / "in.parquet")
    for name, rows in (("r", None), ("s", 2)):
        sealed = seal(tmp_path / "in.parquet", tmp_path / name, options=SealOptions(part_rows=rows, group_rows=1))
        assert pa.Table.from_batches(sealed.open().batches()).equals(plain)
        part = sealed.manifest.parts[0]
        file = open_part(tmp_path / name / part.file, sealed.keys[part.file], part.aad)
        assert "map" not in str(file.schema_arrow)


def test_reserved_names_and_empty_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"_safehold_row": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputInvalid, match="column_name"):
        open_source(tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "b.parquet")
    with pytest.raises(InputInvalid, match="no_records"):
        open_source(tmp_path / "b.parquet")


def test_a_file_replaced_between_the_passes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), path)
    source = open_source(path)
    pq.write_table(pa.table({"a": [1, 3]}), path)
    with pytest.raises(InputInvalid, match="source_changed"):
        list(source.batches())


def test_json_refuses_types_that_it_cannot_hold(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputInvalid, match="no_json_form"):
        write_jsonl(seal(tmp_path / "a.parquet", tmp_path / "a").open(), tmp_path / "a.jsonl")
    pq.write_table(pa.table({"a": [float("nan")]}), tmp_path / "b.parquet")
    with pytest.raises(InputInvalid, match="no_json_form"):
        write_jsonl(seal(tmp_path / "b.parquet", tmp_path / "b").open(), tmp_path / "b.jsonl")
    assert not list(tmp_path.glob("*.jsonl"))
