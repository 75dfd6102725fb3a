"""The life of releases by the command line: the next one keeps files, two are compared, one is taken in, one is ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli_kit import Desk, make_desk, make_environment_of, write_texts

HOST = "north-lab/trainer"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two releases, the second with one record changed; a host with a grant."""
    desk = make_desk(tmp_path_factory.mktemp("releases") / "desk")
    path = write_texts(desk.folder / "records.jsonl", 600)
    desk("inventory", "record", HOST, "--environment", make_environment_of(desk.folder / "env"))
    seal = ["--dataset", "quill-works/problems", "--groups", "where=module+name,text=text"]
    desk("seal", path, *seal)
    lines = path.read_text().splitlines()
    lines[5] = json.dumps(json.loads(lines[5]) | {"text": "write to ann@example.org"})
    path.write_text("\n".join(lines) + "\n")
    plan = desk.json("seal", path, *seal, "--dry-run")
    assert plan["patterns"] == [{"column": "text", "pattern": "e-mail", "texts": plan["patterns"][0]["texts"]}]
    assert plan["rows"] == 600
    desk("seal", path, *seal)
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", desk.folder / "grant.json")
    return desk


def _open(desk: Desk, version: int, out: str) -> list[object]:
    release = f"quill-works/problems@{version}"
    return ["open", release, "--host", HOST, "--grant", desk.folder / "grant.json", "--out", desk.folder / out]


def test_the_next_release_keeps_files_and_both_open(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    first, second = (
        json.loads(_payload(desk.home / "releases" / "quill-works" / "problems" / str(version))) for version in (1, 2)
    )
    files = [{part["file"] for part in one["predicate"]["parts"]} for one in (first, second)]
    assert files[0] & files[1]
    assert desk.json(*_open(desk, 1, "one.jsonl"))["as_sealed"]
    assert desk.json(*_open(desk, 2, "two.jsonl"))["as_sealed"]
    found = desk.json(
        "diff",
        "quill-works/problems@1",
        "quill-works/problems@2",
        "--host",
        HOST,
        "--grant",
        desk.folder / "grant.json",
    )
    assert (found["unchanged"], found["added"], found["removed"]) == (599, 1, 1)
    assert "ann@example" not in json.dumps(found)


def _payload(folder: Path) -> bytes:
    import base64

    return base64.b64decode(json.loads((folder / "manifest.json").read_bytes())["payload"])


def test_a_release_is_retired_then_erased_and_all_still_verifies(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    assert desk("retire", "quill-works/problems@1", "--reason", "replaced", "--json").document["entry"] > 0
    assert desk.error(*_open(desk, 1, "one.jsonl"), code=3)["code"] == "broker.retired"
    assert desk.error("retire", "quill-works/problems@1", "--reason", "again", code=7)["code"] == "assembly.retired"
    erase = ["erase", "quill-works/problems@1", "--reason", "request"]
    assert desk.error(*erase, code=2)["code"] == "cli.erase"
    plan = desk.json(*erase, "--dry-run")
    assert plan["shared_with"] == ["quill-works/problems@2"]
    assert 0 < plan["files_still_readable"] <= plan["files"] == plan["keys"]
    done = desk.json(*erase, "--yes")
    assert done["destroyed"] == plan["keys"]
    assert desk.error(*erase, "--yes", code=7)["code"] == "assembly.erased"
    assert desk.json(*_open(desk, 2, "two.jsonl"))["as_sealed"]  # shared files are still open to it
    digest = done["digest"]
    key = desk.folder / "quill.pub"
    key.write_text(next(one["key"] for one in desk.json("log", "list")["entries"] if one.get("title") == "Quill Works"))
    folder = desk.home / "releases" / "quill-works" / "problems" / "1"
    assert desk.json("verify", folder, "--signer", key, "--digest", digest)["release"] == "quill-works/problems@1"
    assert desk.json("fsck")["problems"] == []
    both = desk.json("erase", "quill-works/problems@2", "--reason", "request", "--yes")
    assert both["files_still_readable"] == 0
    desk.error(*_open(desk, 2, "three.jsonl"), code=3)
    desk.json("rebuild")
    assert desk.error(*erase, "--yes", code=7)["code"] == "assembly.erased"


def test_a_release_sealed_elsewhere_is_taken_in_and_countersigned(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    folder = desk.home / "releases" / "quill-works" / "problems" / "2"
    taken = desk.json("ingest", folder)
    assert taken["entry"] is None  # it stood in the ledger
    assert len(taken["signers"]) == 2
    keys = {}
    for party in ("quill-works", "north-lab"):
        entries = desk.json("log", "list")["entries"]
        entry = next(one for one in entries if one["kind"] == "party.registered" and one["party"] == party)
        keys[party] = desk.folder / f"{party}.pub"
        keys[party].write_text(entry["key"])
    verify = ["verify", folder, "--signer", keys["quill-works"], "--countersigner", keys["north-lab"]]
    assert desk.json(*verify)["signers"] == taken["signers"]
    damaged = next(path for path in folder.iterdir() if path.suffix == ".parquet")
    data = bytearray(damaged.read_bytes())
    data[50] ^= 1
    damaged.unlink()
    damaged.write_bytes(data)
    assert desk.error("ingest", folder, code=4)["code"] == "vault.part_altered"


def test_a_file_whose_name_does_not_say_what_it_is_is_sealed_by_format(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    path = write_texts(desk.folder / "export.txt", 30)
    seal = ["seal", path, "--dataset", "quill-works/problems", "--dry-run"]
    refused = desk.error(*seal, code=2)
    assert (refused["code"], "--format" in refused["hint"]) == ("vault.source_format", True)
    assert desk.json(*seal, "--format", "jsonl")["rows"] == 30
    assert desk.error(*seal, "--format", "csv", code=2)["code"].startswith("vault.")
    assert desk.error(*seal, "--format", "jsonl", "--files", code=2)["code"] == "cli.files_format"
