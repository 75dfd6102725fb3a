"""New data keys for releases wherever they lie: tables and files, in the home, in a folder that is shared, in a bucket."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests import object_store_kit
from tests.cli_kit import Desk, make_desk, make_environment_of, write_texts
from tests.files_kit import found_in, make_files

HOST = "north-lab/trainer"
OLD, NEW = "quill-works/problems@1", "quill-works/problems@2"
REKEY = ("rekey", "--release", OLD, "--reason", "keys went to a host that is gone")
FINISH = ("rekey", "--release", OLD, "--finish", "--yes")


class Place:
    """A desk with a clean host, and the root of a store."""

    def __init__(self, desk: Desk, root: str) -> None:
        self.desk, self.root = desk, root

    def grant(self, *groups: str) -> Path:
        path = self.desk.folder / "grant.json"
        self.desk(
            "grant", "issue", "quill-works/problems", "--to", HOST, "--groups", ",".join(groups), "--until", "+1d",
            "--out", path,
        )  # fmt: skip
        return path

    def open(self, name: str, out: Path, grant: Path) -> Path:
        self.desk("open", name, "--host", HOST, "--grant", grant, "--out", out)
        return out

    @property
    def folders(self) -> list[str]:
        return sorted(one.name for one in (self.desk.home / "releases" / "quill-works" / "problems").glob("[0-9]*"))

    def stored(self) -> list[str]:
        return [
            one["location"]
            for one in self.desk.json("log", "list", "--last", "100")["entries"]
            if one["kind"] == "release.stored"
        ]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    desk = make_desk(tmp_path / "desk")
    root = str(tmp_path / "store")
    if request.param == "s3":
        desk.access = object_store_kit.access(object_store_kit.server())
        root = object_store_kit.fresh_url()
    desk("inventory", "record", HOST, "--environment", make_environment_of(tmp_path / "env"))
    return Place(desk, root)


@pytest.mark.parametrize("copy", [True, False])
def test_a_table_in_a_store(place: Place, tmp_path: Path, copy: bool) -> None:
    desk, records = place.desk, write_texts(tmp_path / "texts.jsonl", 200)
    more = () if copy else ("--no-copy",)
    desk("seal", records, "--dataset", "quill-works/problems", "--store", place.root, *more)
    assert desk.json(*REKEY, "--dry-run")["stores"] == [f"{place.root}/quill-works/problems/1"]
    done = desk.json(*REKEY)
    assert done["successor"] == NEW
    assert place.folders == (["1", "2"] if copy else [])
    assert place.stored() == [f"{place.root}/quill-works/problems/{version}" for version in (1, 2)]
    grant = place.grant("data")
    for name, out in ((OLD, "old.jsonl"), (f"{place.root}/quill-works/problems/2", "new.jsonl")):
        assert place.open(name, tmp_path / out, grant).read_bytes() == records.read_bytes()
    waiting = desk.json(*FINISH)
    assert (waiting["erased"], [one["host"] for one in waiting["leases"]]) == (None, [HOST])
    assert desk.json("fsck")["problems"] == []


def test_a_store_that_lost_the_new_release_ends_nothing(place: Place, tmp_path: Path) -> None:
    desk, records = place.desk, write_texts(tmp_path / "texts.jsonl", 50)
    desk("seal", records, "--dataset", "quill-works/problems", "--store", place.root, "--no-copy")
    desk.json(*REKEY)
    store = desk.session().open_store(f"{place.root}/quill-works/problems")
    sealed = {one.name for one in store.list("parts")}
    manifest = (tmp_path / "two").with_suffix(".json")
    manifest.write_bytes(store.read("2/manifest.json", 1 << 20)[0])
    named = [name for name in sealed if name.removeprefix("parts/") in _payload(manifest)]
    store.delete(min(named))
    assert desk.error(*FINISH, code=4)["code"] == "vault.part_missing"
    kinds = [one["kind"] for one in desk.json("log", "list", "--last", "100")["entries"]]
    assert not {"release.retired", "release.erased"} & set(kinds)


def _payload(path: Path) -> str:
    return base64.b64decode(json.loads(path.read_bytes())["payload"]).decode()


@pytest.mark.parametrize("stored", [True, False])
def test_files(place: Place, tmp_path: Path, stored: bool) -> None:
    desk, made = place.desk, make_files(tmp_path / "in")
    more = ("--store", place.root) if stored else ()
    desk("seal", tmp_path / "in", "--dataset", "quill-works/problems", "--files", *more)
    done = desk.json(*REKEY)
    assert (done["successor"], done["earlier"]) == (NEW, False)
    assert place.folders == ([] if stored else ["1", "2"])
    grant = place.grant("names", "content")
    name = f"{place.root}/quill-works/problems/2" if stored else NEW
    assert found_in(place.open(name, tmp_path / "out", grant)) == made
    ended = desk.json(*FINISH)
    assert ended["erased"] is not None, "nobody had a lease on the old one"
    assert desk.json(*REKEY)["earlier"]
    assert desk.json("fsck")["problems"] == []
