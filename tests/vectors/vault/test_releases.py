"""Releases of versions 2 and 3, sealed once and never again, each second with files of the first: every later Safehold opens them.

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

HERE = Path(__file__).parent
VERSIONS = (1, 2)


@pytest.fixture(params=["release-v2", "release-v3"])
def home(request: pytest.FixtureRequest) -> Path:
    """Two releases of one version of the format."""
    return HERE / str(request.param)


def _facts(home: Path) -> Any:
    return json.loads((home / "facts.json").read_text())


def _predicate(home: Path, version: int) -> Any:
    envelope = json.loads((home / f"release-{version}" / "manifest.json").read_bytes())
    return json.loads(base64.b64decode(envelope["payload"]))["predicate"]


def _keys(home: Path, version: int) -> dict[str, bytes]:
    return {name: bytes.fromhex(key) for name, key in _facts(home)[f"release-{version}"]["keys"].items()}


def _open(home: Path, version: int) -> OpenedRelease:
    digest = Digest(_facts(home)[f"release-{version}"]["release"])
    return open_release(home / f"release-{version}", digest, _keys(home, version), ["text", "labels"])


def _check_tail(data: bytes, part: dict[str, Any]) -> None:
    if "tail" not in part:  # version 2 has none
        return
    tail = part["tail"]
    body, found = data[: -tail["size"]], data[-tail["size"] :]
    assert tail["sha256"] == "sha256:" + hashlib.sha256(found).hexdigest()
    pieces = [body[at : at + 262_144] for at in range(0, len(body), 262_144)]
    assert found.startswith(b"".join(hashlib.sha256(piece).digest() for piece in pieces))


@pytest.mark.parametrize("version", VERSIONS)
def test_some_columns_are_read_by_their_pieces_or_by_whole_files(home: Path, version: int) -> None:
    opened = _open(home, version)
    assert {part.tail is not None for part in opened.manifest.parts} == {home.name == "release-v3"}
    batches = list(opened.batches(["question"]))
    expected = [json.loads(line) for line in (home / f"records-{version}.jsonl").read_text().splitlines()]
    assert [row["question"] for batch in batches for row in batch.to_pylist()] == [one["question"] for one in expected]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_verifies_and_opens(home: Path, version: int, tmp_path: Path) -> None:
    release = Digest(_facts(home)[f"release-{version}"]["release"])
    supplier, lab = PublicKey.parse(_facts(home)["supplier"]), PublicKey.parse(_facts(home)["lab"])
    assert verify_release(home / f"release-{version}", supplier, [lab], release).files >= 10
    assert write_jsonl(_open(home, version), tmp_path / "out.jsonl").as_source
    assert (tmp_path / "out.jsonl").read_bytes() == (home / f"records-{version}.jsonl").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_plain_pyarrow_and_the_runs_give_the_records_in_order(home: Path, version: int) -> None:
    predicate, keys = _predicate(home, version), _keys(home, version)
    parts: dict[int, list[Any]] = {}
    for part in predicate["parts"]:
        data = (home / f"release-{version}" / part["file"]).read_bytes()
        assert part["sha256"] == "sha256:" + hashlib.sha256(data).hexdigest()
        key = keys[part["file"]]
        commitment = hashlib.sha256(b"safehold key commitment v1\0" + key + part["aad"].encode()).hexdigest()
        assert part["commitment"] == "sha256:" + commitment
        assert part["file"] == f"{part['sealed']}-{part['part']:05d}-{part['group']}.parquet"
        assert json.loads(part["aad"])["version"] == part["sealed"]
        properties = pe.create_decryption_properties(key, aad_prefix=part["aad"].encode())
        _check_tail(data, part)
        table = pq.ParquetFile(home / f"release-{version}" / part["file"], decryption_properties=properties).read()
        rows = parts.setdefault(part["part"], [{} for _ in range(table.num_rows)])
        for place, more in enumerate(table.to_pylist()):
            rows[place] |= more
    runs = predicate["runs"] or [[number, 0, len(rows)] for number, rows in parts.items()]
    records = [row for number, first, rows in runs for row in parts[number][first : first + rows]]
    expected = [json.loads(line) for line in (home / f"records-{version}.jsonl").read_text().splitlines()]
    for record in records:
        record["answer"] = json.loads(record["answer"])  # numbers beside texts: the column is JSON text
    assert records == expected


def test_what_did_not_change_kept_its_file_and_key(home: Path) -> None:
    first, second = _keys(home, 1), _keys(home, 2)
    assert len(first.items() & second.items()) == len(first) == 10
    found = differ(_open(home, 1), _open(home, 2), "id")
    assert (found.unchanged, found.changed, found.added, found.removed) == (23, 1, 1, 0)
    assert found.read < 10


def test_the_second_names_the_first_as_its_parent(home: Path) -> None:
    assert _predicate(home, 2)["parent"] == _facts(home)["release-1"]["release"]
