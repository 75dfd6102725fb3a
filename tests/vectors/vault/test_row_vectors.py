"""The vectors for row digests, read by hand: HMAC, HKDF and the tree from the standards' words, no code of the product."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from safehold.vault.fields import describe
from safehold.vault.row_form import decode_row
from tests.vault_kit import outcome
from tools import vectors_rows

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / vectors_rows.FILE).read_text())
COLUMNS = describe(
    pa.schema(
        {
            "id": pa.int64(),
            "text": pa.string(),
            "score": pa.float64(),
            "good": pa.bool_(),
            "turns": pa.list_(pa.struct({"role": pa.string(), "n": pa.int64()})),
        }
    )
)


def test_the_file_is_what_the_source_writes() -> None:
    assert (ROOT / vectors_rows.FILE).read_text() == vectors_rows.render()


@pytest.mark.parametrize("place", range(len(VECTORS["rows"])))
def test_a_row_has_its_digest_and_its_path_leads_to_the_root(place: int) -> None:
    row: dict[str, Any] = VECTORS["rows"][place]
    info = b"safehold row digests v1\0" + VECTORS["aad"].encode()
    row_key = HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(bytes.fromhex(VECTORS["key"]))
    salt = hmac.new(row_key, place.to_bytes(8, "big"), "sha256").digest()
    entry = hmac.new(salt, bytes.fromhex(row["bytes"]), "sha256").digest()
    assert (row["salt"], row["entry"]) == (salt.hex(), entry.hex())
    node, at, last = hashlib.sha256(b"\0" + entry).digest(), place, len(VECTORS["rows"]) - 1
    for text in row["path"]:
        sibling = bytes.fromhex(text)
        if at & 1 or at == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        at, last = at >> 1, last >> 1
    assert VECTORS["rows_root"] == "sha256:" + node.hex()


@pytest.mark.parametrize("place", range(len(VECTORS["rows"])))
def test_the_bytes_give_the_values_back(place: int) -> None:
    row = VECTORS["rows"][place]
    assert decode_row(bytes.fromhex(row["bytes"]), COLUMNS) == list(row["values"].values())


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: str(case["name"]))
def test_broken_bytes_are_refused(case: dict[str, str]) -> None:
    assert outcome(lambda: decode_row(bytes.fromhex(case["bytes"]), COLUMNS))[1] == case["code"]
