"""New data keys for a release by the command line: sealed anew, compared, recorded; then the old one is ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safehold.app.wiring import system_clock
from safehold.vault.verify import load_release
from tests.cli_kit import HOUR, Desk, incident_advisories, make_desk, make_environment_of, write_texts

HOST = "north-lab/trainer"
OLD, NEW = "quill-works/problems@1", "quill-works/problems@2"
REKEY = ("rekey", "--release", OLD, "--reason", "a laptop with keys was lost")
FINISH = ("rekey", "--release", OLD, "--finish")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A release in two column groups with row digests; a clean host with a grant."""
    desk = make_desk(tmp_path_factory.mktemp("rekey") / "desk")
    path = write_texts(desk.folder / "records.jsonl", 600)
    seal = ("seal", path, "--dataset", "quill-works/problems", "--groups", "where=module+name,text=text")
    desk(*seal, "--row-digests", "--people", "writers:DE=12")
    _ready(desk)
    return desk


def _ready(desk: Desk) -> None:
    desk("inventory", "record", HOST, "--environment", make_environment_of(desk.folder / "env"))
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+30d", "--out", desk.folder / "grant.json")


def _open(desk: Desk, release: str, out: str) -> list[object]:
    return ["open", release, "--host", HOST, "--grant", desk.folder / "grant.json", "--out", desk.folder / out]


def _folder(desk: Desk, version: int) -> Path:
    return desk.home / "releases" / "quill-works" / "problems" / str(version)


def test_the_same_records_come_out_of_new_files_under_new_keys(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    plan = desk.json(*REKEY, "--dry-run")
    assert (plan["successor"], plan["rows"], plan["groups"], plan["done"]) == (NEW, 600, ["where", "text"], False)
    assert not _folder(desk, 2).exists()
    done = desk.json(*REKEY)
    assert (done["successor"], done["rows"], done["earlier"]) == (NEW, 600, False)
    old, new = (load_release(_folder(desk, version)).manifest for version in (1, 2))
    assert new.parent == load_release(_folder(desk, 1)).digest
    assert not {part.sha256 for part in old.parts} & {part.sha256 for part in new.parts}
    assert not {part.commitment for part in old.parts} & {part.commitment for part in new.parts}
    assert [(part.part, part.rows, part.tag) for part in old.parts] == [
        (part.part, part.rows, part.tag) for part in new.parts
    ]
    assert all(part.rows_root is not None for part in new.parts)
    assert (new.people, new.sources, new.groups) == (old.people, old.sources, old.groups)
    opened = desk.json(*_open(desk, NEW, "new.jsonl"))
    assert opened["as_sealed"]
    assert (desk.folder / "new.jsonl").read_bytes() == (desk.folder / "records.jsonl").read_bytes()
    said = desk.json("log", "show", done["entry"])
    assert (said["kind"], said["before"], said["reason"]) == ("release.rekeyed", new.parent, REKEY[-1])
    assert said["keys"] == len(new.parts)
    found = desk.json("diff", OLD, NEW, "--host", HOST, "--grant", desk.folder / "grant.json")
    assert (found["unchanged"], found["added"], found["removed"]) == (600, 0, 0)
    assert desk.json("fsck")["problems"] == []


def test_again_tells_what_was_done_and_does_nothing(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    first = desk.json(*REKEY)
    size = desk.json("log", "checkpoint")["size"]
    again = desk.json(*REKEY)
    assert again["earlier"]
    assert (again["successor"], again["entry"]) == (first["successor"], first["entry"])
    assert desk.json(*REKEY, "--dry-run")["done"]
    assert desk.json("log", "checkpoint")["size"] == size


def test_the_old_release_ends_when_its_last_lease_has_ended(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    desk.json(*_open(desk, OLD, "old.jsonl"))
    desk.json(*REKEY)
    assert desk.error(*FINISH, code=2)["code"] == "cli.rekey_finish"
    plan = desk.json(*FINISH, "--dry-run")
    assert (plan["retired"], plan["erased"], [one["host"] for one in plan["leases"]]) == (None, None, [HOST])
    waiting = desk.json(*FINISH, "--yes")
    assert waiting["retired"] is not None
    assert (waiting["erased"], waiting["destroyed"]) == (None, 0)
    refused = desk.error(*_open(desk, OLD, "late.jsonl"), code=3)
    assert refused["code"] == "broker.retired"
    assert NEW in refused["hint"]
    assert desk.json(*_open(desk, NEW, "new.jsonl"))["as_sealed"]
    assert desk.json(*FINISH, "--yes")["erased"] is None, "the lease runs still"
    desk.clock = lambda: system_clock() + 24 * HOUR
    ended = desk.json(*FINISH, "--yes")
    desk.clock = system_clock
    assert ended["erased"] is not None
    assert ended["destroyed"] == ended["keys"] == len(load_release(_folder(desk, 1)).manifest.parts)
    assert desk.json(*FINISH, "--yes")["destroyed"] == 0
    assert desk.json(*REKEY)["earlier"]
    kinds = [one["kind"] for one in desk.json("log", "list")["entries"]]
    assert kinds.count("release.rekeyed") == kinds.count("release.retired") == kinds.count("release.erased") == 1
    assert desk.json(*_open(desk, NEW, "newer.jsonl"))["as_sealed"]
    assert desk.json("fsck")["problems"] == []
    desk.json("rebuild")
    assert json.loads(desk(*FINISH, "--yes", "--json").out)["erased"] == ended["erased"]


def test_log_diff_and_lists_say_what_it_is(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    done = desk.json(*REKEY)
    said = desk("log", "list", "--kind", "release.rekeyed").out
    assert "before sha256:" in said
    assert REKEY[-1] in said
    both = (OLD, NEW, "--host", HOST, "--grant", desk.folder / "grant.json")
    assert desk.json("diff", *both)["rekeyed"] == done["entry"]
    assert f"{NEW} is {OLD} under new keys (entry {done['entry']})." in desk("diff", *both).out
    listed = {one["name"]: one["rekeyed_as"] for one in desk.json("dataset", "list")["releases"]}
    assert listed == {OLD: 2, NEW: None}
    for words in (desk(*REKEY, "--dry-run").out, desk(*REKEY).out):
        assert f"{NEW} holds the records of {OLD} under new keys" in words
    assert f"destroy {done['parts'] * 2} keys" in desk(*FINISH, "--dry-run").out
    assert "run this again after" in desk(*FINISH, "--yes").out, "diff has opened it"
    desk.clock = lambda: system_clock() + HOUR
    assert f"destroyed {done['parts'] * 2} keys" in desk(*FINISH, "--yes").out
    assert "was ended before" in desk(*FINISH, "--yes").out


def test_exposure_speaks_of_the_same_records(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    desk("advisory", "add", incident_advisories(tmp_path / "advisories"))
    desk.json(*_open(desk, OLD, "old.jsonl"))
    done = desk.json(*REKEY, "--host", "quill-works/ws-1")
    found = {one["name"]: one for one in desk.json("exposure", "PYSEC-2026-2")["releases"]}
    assert any(f"{NEW} holds the same records" in reason for reason in found[OLD]["reasons"])
    assert any(f"those of {OLD} under new keys" in reason for reason in found[NEW]["reasons"])
    assert all(done["entry"] in found[name]["evidence"] for name in (OLD, NEW))
