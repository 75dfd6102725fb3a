"""A release that was sealed once and never again: every later Safehold must open it.

The keys here guard twelve sums and nothing else. What the format promises is computed here by hand, with
``hashlib`` and plain pyarrow, not by the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from safehold.ledger.keys import PublicKey
from safehold.model.ids import DatasetId, Digest, GroupName, PartyId
from safehold.vault.open import open_release
from safehold.vault.output import write_jsonl
from safehold.vault.part_keys import aad_text, key_commitment
from safehold.vault.verify import verify_release

HOME = Path(__file__).parent / "release-v1"
FACTS = json.loads((HOME / "facts.json").read_text())
KEYS = {name: bytes.fromhex(key) for name, key in FACTS["keys"].items()}
ENVELOPE = json.loads((HOME / "release" / "manifest.json").read_bytes())
BODY = base64.b64decode(ENVELOPE["payload"])
PREDICATE = json.loads(BODY)["predicate"]


def test_the_vector_is_whole() -> None:
    assert len(PREDICATE["parts"]) == len(KEYS) == 4
    assert len((HOME / "records.jsonl").read_text().splitlines()) == PREDICATE["rows"] == 12


def test_it_verifies_and_opens(tmp_path: Path) -> None:
    release = Digest(FACTS["release"])
    supplier, lab = PublicKey.parse(FACTS["supplier"]), PublicKey.parse(FACTS["lab"])
    assert verify_release(HOME / "release", supplier, [lab], release).files == 4
    opened = open_release(HOME / "release", release, KEYS, ["text", "labels"])
    assert write_jsonl(opened, tmp_path / "out.jsonl").as_source
    assert (tmp_path / "out.jsonl").read_bytes() == (HOME / "records.jsonl").read_bytes()


def test_the_digest_is_of_the_payload() -> None:
    assert FACTS["release"] == "sha256:" + hashlib.sha256(BODY).hexdigest()


def test_the_signatures_are_over_the_pae_of_dsse() -> None:
    kind = ENVELOPE["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(BODY), BODY)
    for key, signature in zip((FACTS["supplier"], FACTS["lab"]), ENVELOPE["signatures"], strict=True):
        PublicKey.parse(key).verify(base64.b64decode(signature["sig"]), signed, "the vector")


@pytest.mark.parametrize("part", PREDICATE["parts"], ids=lambda part: part["file"])
def test_each_part_is_what_the_specification_says(part: dict[str, str]) -> None:
    data = (HOME / "release" / part["file"]).read_bytes()
    key = KEYS[part["file"]]
    assert part["sha256"] == "sha256:" + hashlib.sha256(data).hexdigest()
    commitment = hashlib.sha256(b"safehold key commitment v1\0" + key + part["aad"].encode()).hexdigest()
    assert part["commitment"] == "sha256:" + commitment
    properties = pe.create_decryption_properties(key, aad_prefix=part["aad"].encode())
    table = pq.ParquetFile(HOME / "release" / part["file"], decryption_properties=properties).read()
    columns = next(group["columns"] for group in PREDICATE["groups"] if group["name"] == part["group"])
    assert table.column_names == ["_safehold_row", *columns]
    assert table.num_rows == int(part["rows"])
    for row in table.to_pylist() if part["group"] == "text" else []:
        assert row["question"] == f"What is {row['id']} + {row['id']}?"
        digest = hashlib.blake2b(
            str(row["id"]).encode(), digest_size=8, key=bytes.fromhex(FACTS["cut_key"]), person=b"safehold cut v1"
        ).digest()
        assert int.from_bytes(digest, "big") % 2 == int(part["part"])


def test_known_answers() -> None:
    aad = aad_text(PartyId("quill-works"), DatasetId("quill-works/sums"), 3, 7, GroupName("labels"))
    assert aad == (
        '{"aad":"safehold part v1","dataset":"quill-works/sums","group":"labels","part":7,"party":"quill-works","version":3}'
    )
    # printf 'safehold key commitment v1\0' | cat - 32-zero-bytes aad.txt | sha256sum
    assert key_commitment(bytes(32), "aad") == "sha256:96cfa7bbb65c0815ead1d31d76e1578857ff4f1250bbf2dcaa4499d05698773f"
