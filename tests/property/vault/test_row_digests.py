"""Row digests against a naive twin: the bytes and the tree made by hand, value by value, as the format says."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from safehold.assembly.row_tree import row_path, row_root
from safehold.ledger.proof import verify_inclusion
from safehold.vault.fields import describe
from safehold.vault.row_digests import row_entries, row_entry, row_salts
from safehold.vault.row_form import decode_row, rows_of
from tests.vault_kit import outcome

SCHEMA = pa.schema(
    {
        "n": pa.int64(),
        "t": pa.string(),
        "d": pa.float64(),
        "b": pa.bool_(),
        "l": pa.list_(pa.struct({"role": pa.string(), "turns": pa.list_(pa.int64())})),
    }
)
RECORDS = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "t": st.none() | st.text(max_size=9),
        "d": st.none() | st.floats(allow_nan=False),
        "b": st.none() | st.booleans(),
        "l": st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {
                    "role": st.none() | st.text(max_size=4),
                    "turns": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
                }
            ),
            max_size=3,
        ),
    }
)


def _naive(value: Any) -> bytes:
    if value is None:
        return b"\0"
    if isinstance(value, bool):
        return b"\2" if value else b"\1"
    if isinstance(value, int):
        return b"\3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\4" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\5" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, list):
        return b"\7" + struct.pack(">I", len(value)) + b"".join(map(_naive, value))
    return b"\x08" + _naive(value["role"]) + _naive(value["turns"])


def _naive_root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + _naive_root(leaves[:split]) + _naive_root(leaves[split:])).digest()


@given(st.lists(RECORDS, min_size=1, max_size=20), st.integers(0, 6), st.integers(1, 7))
def test_any_records_have_the_bytes_that_the_format_says(records: list[Any], skip: int, step: int) -> None:
    table = pa.Table.from_pylist(records, SCHEMA).slice(skip)
    batches = table.to_batches(max_chunksize=step)
    expected = [b"".join(_naive(record[name]) for name in SCHEMA.names) for record in records[skip:]]
    assert list(rows_of(batches, SCHEMA.names)) == expected
    columns = describe(SCHEMA)
    for row, record in zip(expected, records[skip:], strict=True):
        assert decode_row(row, columns) == [record[name] for name in SCHEMA.names]


@given(st.binary(max_size=60))
def test_bytes_that_are_read_would_be_written_again(data: bytes) -> None:
    values, code = outcome(lambda: decode_row(data, describe(SCHEMA)))
    assert code in {"", "vault.row_form"}
    if values is not None:
        assert b"".join(map(_naive, values)) == data


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=600), st.data())
def test_the_tree_is_the_naive_one_and_every_path_leads_to_it(rows: list[bytes], data: st.DataObject) -> None:
    key, aad = b"k" * 32, "aad"
    row_key = HKDFExpand(algorithm=SHA256(), length=32, info=b"safehold row digests v1\0aad").derive(key)
    salts = [hmac.new(row_key, struct.pack(">Q", place), "sha256").digest() for place in range(len(rows))]
    naive = [hmac.new(salt, row, "sha256").digest() for salt, row in zip(salts, rows, strict=True)]
    entries = row_entries(rows, key, aad)
    assert entries == naive
    root = _naive_root(naive)
    assert row_root(entries) == "sha256:" + root.hex()
    place = data.draw(st.integers(0, len(rows) - 1))
    entry = row_entry(row_salts(key, aad)(place), rows[place])
    assert verify_inclusion(entry, place, len(rows), row_path(entries, place), root) == naive[place]
