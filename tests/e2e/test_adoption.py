"""Data that lay unsealed: adopted, sealed where it lies, originals removed; from the command line, in a folder and a bucket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safehold.vault.store import parse_location
from safehold.vault.store_probe import open_store
from tests import object_store_kit
from tests.cli_kit import Desk, make_desk, make_environment_of, write_texts
from tests.files_kit import found_in, make_files

DATASET = "quill-works/problems"


class Old:
    """A desk, and old files at a location of either kind."""

    def __init__(self, desk: Desk, location: str) -> None:
        self.desk, self.location = desk, location
        self.files: dict[str, bytes] = {}

    def put(self, files: dict[str, bytes]) -> None:
        self.files |= files
        for path, data in files.items():
            if "://" in self.location:
                store = self.desk.session().open_store(self.location)
                store.delete(path)
                store.create(path, data)
            else:
                target = Path(self.location) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)

    def there(self) -> dict[str, bytes]:
        """What lies there besides the sealed release."""
        store = open_store(parse_location(self.location), self.desk.access)
        return {
            one.name: store.read_range(one.name, 0, one.size)
            for one in store.list()
            if not one.name.startswith(f"{DATASET}/")
        }

    def adopt(self, *more: str) -> Any:
        return self.desk.json("adopt", self.location, "--dataset", DATASET, *more)

    def refused(self, *more: str, code: int) -> str:
        return str(self.desk.error("adopt", self.location, "--dataset", DATASET, *more, code=code)["code"])


@pytest.fixture(params=["folder", "s3"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    desk = make_desk(tmp_path / "desk")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.sweep("north-lab/trainer", make_environment_of(tmp_path / "env"), now)
    if request.param == "s3":
        desk.access = object_store_kit.access(object_store_kit.server())
        made = Old(desk, object_store_kit.fresh_url())
    else:
        made = Old(desk, str(tmp_path / "old"))
    texts = write_texts(tmp_path / "texts.jsonl", 120)
    pq.write_table(pa.table({"q": ["a", "b"], "a": [1, 2]}), tmp_path / "t.parquet")
    made.put({
        "chats/texts.jsonl": texts.read_bytes(),
        "chats/table.parquet": (tmp_path / "t.parquet").read_bytes(),
        "labels.csv": b'id,label\n1,"two\nlines"\n2,x\n',
        "images/a.png": os.urandom(50_000),
        "broken.jsonl": b'{"a": 1}\nnot json\n',
        "empty.txt": b"",
    })  # fmt: skip
    return made


def _entries(desk: Desk, kind: str) -> list[Any]:
    return [one for one in desk.json("log", "list", "--last", "200")["entries"] if one["kind"] == kind]


def _open(desk: Desk, out: Path, name: str = f"{DATASET}@1") -> dict[str, bytes]:
    grant = desk.folder / f"grant-{out.name}.json"
    desk("grant", "issue", DATASET, "--to", "north-lab", "--until", "+1d", "--out", grant)
    desk("open", name, "--host", "north-lab/trainer", "--grant", grant, "--out", out)
    return found_in(out)


def test_adopted_sealed_in_place_and_removed(old: Old, tmp_path: Path) -> None:
    desk = old.desk
    planned = old.adopt("--dry-run")
    assert _entries(desk, "dataset.adopted") == []
    adopted = old.adopt()
    assert (adopted["files"], adopted["bytes"]) == (6, sum(map(len, old.files.values())))
    assert adopted["formats"] == planned["formats"] == {"jsonl": 1, "parquet": 1, "csv": 1, "other": 3}
    entry = _entries(desk, "dataset.adopted")[0]
    assert (entry["dataset"], entry["files"], entry["rows"], entry["location"]) == (DATASET, 6, None, old.location)
    assert old.adopt()["entry"] is None  # the same again changes nothing
    assert old.refused("--remove", code=2) == "cli.adopt_remove"
    listed = desk.json("dataset", "list")["adopted"]
    assert [(one["dataset"], one["files"], one["release"], one["removed"]) for one in listed] == [
        (DATASET, 6, None, False)
    ]
    dry = old.adopt("--seal", "--dry-run")
    assert "release" not in dry
    sealed = old.adopt("--seal")
    assert sealed["name"] == f"{DATASET}@1"
    assert old.there() == old.files
    assert len(_entries(desk, "adoption.sealed")) == 1
    assert old.adopt("--seal", "--remove", "--dry-run")["would_remove"] == 6
    assert old.there() == old.files
    assert old.adopt("--seal", "--remove")["removed"] == 6
    assert old.there() == {}
    assert len(_entries(desk, "adoption.removed")) == 1
    assert desk.json("dataset", "list")["adopted"][0]["removed"] is True
    assert "removed" in desk("dataset", "list").out
    assert len(_entries(desk, "release.sealed")) == 1
    assert _open(desk, tmp_path / "out") == old.files
    assert desk.json("fsck")["problems"] == []


def test_originals_are_held_against_the_release_that_has_the_keys_now(old: Old, tmp_path: Path) -> None:
    desk = old.desk
    old.adopt("--seal")
    rekey = ("rekey", "--release", f"{DATASET}@1")
    assert desk.json(*rekey, "--reason", "a key may be known")["successor"] == f"{DATASET}@2"
    assert desk.json(*rekey, "--finish", "--yes")["erased"] is not None
    assert old.adopt("--seal", "--remove")["removed"] == 6
    assert old.there() == {}
    assert _open(desk, tmp_path / "out", f"{DATASET}@2") == old.files
    desk("erase", f"{DATASET}@2", "--reason", "gone", "--yes")


def test_the_listing_says_what_lies_there(old: Old) -> None:
    listing = old.adopt()["listing"]
    home = old.desk.session().factory().open(old.desk.home)
    with home.log.view() as view:
        document = json.loads(view.payload(listing) or b"")
    home.close()
    files = {one["path"]: one for one in document["files"]}
    assert {path: one["sha256"] for path, one in files.items()} == {
        path: "sha256:" + hashlib.sha256(data).hexdigest() for path, data in old.files.items()
    }
    told = {path: (one["format"], one["rows"], one["columns"]) for path, one in files.items()}
    assert told["chats/texts.jsonl"] == ("jsonl", 120, ["module", "name", "text"])
    assert told["chats/table.parquet"] == ("parquet", 2, ["q", "a"])
    assert told["labels.csv"] == ("csv", 2, ["id", "label"])
    assert told["broken.jsonl"] == told["images/a.png"] == told["empty.txt"] == ("other", None, [])


def test_what_changed_since_is_neither_sealed_nor_removed(old: Old) -> None:
    old.adopt()
    old.put({"images/late.png": b"new"})
    assert old.refused("--seal", code=7) == "assembly.adopted_changed"
    old.adopt()
    old.adopt("--seal")
    same_size = old.files["images/a.png"][::-1]
    before = dict(old.files)
    old.put({"images/a.png": same_size})
    assert old.refused("--seal", "--remove", code=7) == "assembly.adopted_changed"
    assert old.there()["images/a.png"] == same_size
    assert "images/late.png" in before
    assert _entries(old.desk, "adoption.removed") == []


def test_nothing_is_removed_when_the_sealed_release_is_damaged(old: Old) -> None:
    old.adopt()
    old.adopt("--seal")
    store = old.desk.session().open_store(f"{old.location}/{DATASET}")
    name = max(store.list("parts"), key=lambda one: one.size).name
    data = bytearray(store.read_range(name, 0, 1 << 24))
    data[len(data) // 2] ^= 1
    store.delete(name)
    store.create(name, bytes(data))
    assert old.refused("--seal", "--remove", code=4) == "vault.part_altered"
    assert old.there() == old.files


def test_a_removal_that_died_is_ended(old: Old) -> None:
    old.adopt()
    old.adopt("--seal")
    store = old.desk.session().open_store(old.location)
    for path in list(old.files)[:4]:
        store.delete(path)
    assert old.adopt("--seal", "--remove")["removed"] == 2
    assert old.there() == {}


def test_a_seal_that_died_before_it_could_say_so(old: Old) -> None:
    """Killed between the release's entry and the adoption's: it is found and proved, not sealed twice."""
    old.adopt()
    home = old.desk.session().factory().open(old.desk.home)
    real = type(home.log).append_statements

    def die(log: Any, *statements: Any) -> Any:
        if any(type(one).__name__ == "AdoptionSealed" for one in statements):
            raise KeyboardInterrupt
        return real(log, *statements)

    home.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(home.log), "append_statements", die)
        old.desk("adopt", old.location, "--dataset", DATASET, "--seal", code=130)
    assert len(_entries(old.desk, "release.sealed")) == 1
    old.adopt("--seal")
    assert len(_entries(old.desk, "release.sealed")) == 1
    assert len(_entries(old.desk, "adoption.sealed")) == 1


def test_into_another_store(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "desk")
    old = Old(desk, str(tmp_path / "old"))
    old.put(make_files(tmp_path / "old"))
    old.adopt()
    sealed = old.adopt("--seal", "--store", str(tmp_path / "store"))
    assert sealed["where"] == f"{tmp_path / 'store'}/{DATASET}/1"
    assert found_in(tmp_path / "old") == old.files


SEALER = """
import os, signal, sys
from pathlib import Path
deadly, calls = int(sys.argv[3]), 0
def counted(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call
for name in ("fsync", "rename", "link", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
from tests.cli_kit import Desk
Desk(Path(sys.argv[1]))("adopt", sys.argv[2], "--dataset", "quill-works/problems", "--seal", "--remove")
"""


@pytest.mark.parametrize("deadly", [45, 90])
def test_killed_anywhere_and_run_again(tmp_path: Path, deadly: int) -> None:
    """By kill -9 while adopting, sealing or removing: the same command ends it, and every byte is in the release."""
    desk = make_desk(tmp_path / "desk")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.sweep("north-lab/trainer", make_environment_of(tmp_path / "env"), now)
    made = make_files(tmp_path / "old")
    arguments = [sys.executable, "-c", SEALER, str(desk.folder), str(tmp_path / "old"), str(deadly)]
    environment = os.environ | {"PYTHONPATH": "src:."}
    died = subprocess.run(arguments, cwd=Path(__file__).parents[2], env=environment, check=False, capture_output=True)
    assert died.returncode in {0, -signal.SIGKILL}, died.stderr
    if died.returncode:
        desk("adopt", tmp_path / "old", "--dataset", DATASET, "--seal", "--remove")
    assert _open(desk, tmp_path / "out") == made
    left = {path: data for path, data in found_in(tmp_path / "old").items() if not path.startswith(DATASET)}
    assert left == {}
    assert len(_entries(desk, "adoption.removed")) == 1
    assert desk.json("fsck")["problems"] == []
