"""Two releases that were sealed once and never again, the second with files of the first: every later Safehold opens them.

The keys here guard some sums and nothing else. What the format promises is computed here by hand, with ``hashlib`` and
plain pyarrow, not by the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from safehold.ledger.keys import PublicKey
from safehold.model.ids import Digest
from safehold.vault.diff import differ
from safehold.vault.open import OpenedRelease, open_release
from safehold.vault.output import write_jsonl
from safehold.vault.verify import verify_release

HOME = Path(__file__).parent / "release-v2"
FACTS = json.loads((HOME / "facts.json").read_text())
VERSIONS = (1, 2)


def _predicate(version: int) -> Any:
    envelope = json.loads((HOME / f"release-{version}" / "manifest.json").read_bytes())
    return json.loads(base64.b64decode(envelope["payload"]))["predicate"]


def _keys(version: int) -> dict[str, bytes]:
    return {name: bytes.fromhex(key) for name, key in FACTS[f"release-{version}"]["keys"].items()}


def _open(version: int) -> OpenedRelease:
    digest = Digest(FACTS[f"release-{version}"]["release"])
    return open_release(HOME / f"release-{version}", digest, _keys(version), ["text", "labels"])


@pytest.mark.parametrize("version", VERSIONS)
def test_its_part_files_have_no_tail_and_are_read_whole(version: int) -> None:
    opened = _open(version)
    assert all(part.tail is None for part in opened.manifest.parts)
    assert sum(batch.num_rows for batch in opened.batches(["question"])) == opened.manifest.rows


@pytest.mark.parametrize("version", VERSIONS)
def test_it_verifies_and_opens(version: int, tmp_path: Path) -> None:
    release = Digest(FACTS[f"release-{version}"]["release"])
    supplier, lab = PublicKey.parse(FACTS["supplier"]), PublicKey.parse(FACTS["lab"])
    assert verify_release(HOME / f"release-{version}", supplier, [lab], release).files >= 10
    assert write_jsonl(_open(version), tmp_path / "out.jsonl").as_source
    assert (tmp_path / "out.jsonl").read_bytes() == (HOME / f"records-{version}.jsonl").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_plain_pyarrow_and_the_runs_give_the_records_in_order(version: int) -> None:
    predicate, keys = _predicate(version), _keys(version)
    parts: dict[int, list[Any]] = {}
    for part in predicate["parts"]:
        data = (HOME / f"release-{version}" / part["file"]).read_bytes()
        assert part["sha256"] == "sha256:" + hashlib.sha256(data).hexdigest()
        key = keys[part["file"]]
        commitment = hashlib.sha256(b"safehold key commitment v1\0" + key + part["aad"].encode()).hexdigest()
        assert part["commitment"] == "sha256:" + commitment
        assert part["file"] == f"{part['sealed']}-{part['part']:05d}-{part['group']}.parquet"
        assert json.loads(part["aad"])["version"] == part["sealed"]
        properties = pe.create_decryption_properties(key, aad_prefix=part["aad"].encode())
        table = pq.ParquetFile(HOME / f"release-{version}" / part["file"], decryption_properties=properties).read()
        rows = parts.setdefault(part["part"], [{} for _ in range(table.num_rows)])
        for place, more in enumerate(table.to_pylist()):
            rows[place] |= more
    runs = predicate["runs"] or [[number, 0, len(rows)] for number, rows in parts.items()]
    records = [row for number, first, rows in runs for row in parts[number][first : first + rows]]
    expected = [json.loads(line) for line in (HOME / f"records-{version}.jsonl").read_text().splitlines()]
    for record in records:
        record["answer"] = json.loads(record["answer"])  # numbers beside texts: the column is JSON text
    assert records == expected


def test_what_did_not_change_kept_its_file_and_key() -> None:
    first, second = _keys(1), _keys(2)
    assert len(first.items() & second.items()) == len(first) == 10
    found = differ(_open(1), _open(2), "id")
    assert (found.unchanged, found.changed, found.added, found.removed) == (23, 1, 1, 0)
    assert found.read < 10


def test_the_second_names_the_first_as_its_parent() -> None:
    assert _predicate(2)["parent"] == FACTS["release-1"]["release"]
