"""Releases in a bucket and in a folder, from the command line: sealed there, verified there, opened from there."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safehold.app.training import Asked, open_in_home, stored_at
from safehold.readers import ReadOptions
from tests import object_store_kit
from tests.cli_kit import PASSPHRASE, Desk, make_desk, make_environment_of, shell, write_texts

RELEASE = "quill-works/problems@1"


class Place:
    """A desk with a grant, and the root of a store."""

    def __init__(self, desk: Desk, root: str, records: Path) -> None:
        self.desk, self.root, self.records = desk, root, records
        self.grant = desk.folder / "grant.json"

    @property
    def release(self) -> str:
        return f"{self.root}/quill-works/problems/1"

    def open(self, name: str, out: str, code: int = 0) -> Path:
        path = self.desk.folder / out
        self.desk(
            "open", name, "--host", "north-lab/trainer", "--grant", self.grant, "--out", path, code=code
        )  # fmt: skip
        return path


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    desk = make_desk(tmp_path / "desk")
    if request.param == "s3":
        desk.access = object_store_kit.access(object_store_kit.server())
        root = object_store_kit.fresh_url()
    else:
        root = str(tmp_path / "store")
    made = Place(desk, root, write_texts(tmp_path / "texts.jsonl", 200))
    desk(
        "grant", "issue", "quill-works/problems", "--to", "north-lab", "--groups", "data", "--until", "+1d",
        "--out", made.grant,
    )  # fmt: skip
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.sweep("north-lab/trainer", make_environment_of(tmp_path / "env"), now)
    return made


def _seal(place: Place, *more: str) -> object:
    return place.desk.json("seal", place.records, "--dataset", "quill-works/problems", "--store", place.root, *more)


def test_sealed_into_a_store_verified_there_and_opened_from_there(place: Place) -> None:
    desk = place.desk
    _seal(place, "--no-copy")
    assert not (desk.home / "releases" / "quill-works" / "problems" / "1").exists()
    stored = [
        entry for entry in desk.json("log", "list", "--last", "100")["entries"] if entry["kind"] == "release.stored"
    ]
    assert len(stored) == 1
    entries = desk.json("log", "list", "--last", "100")["entries"]
    signer = desk.folder / "signer.pub"
    signer.write_text(next(entry["key"] for entry in entries if entry.get("party") == "quill-works" and "key" in entry))
    report = desk.json("verify", place.release, "--signer", signer)
    assert report["verified"] == "release"
    assert place.open(RELEASE, "by-name.jsonl").read_bytes() == place.records.read_bytes()
    assert place.open(place.release, "by-place.jsonl").read_bytes() == place.records.read_bytes()
    assert not list(desk.folder.glob(".safehold-fetch-*"))
    checked = desk.json("store", "check", place.root)
    assert [one["releases"] for one in checked["datasets"]] == [1]
    assert [one["orphans"] for one in checked["datasets"]] == [0]
    assert desk.json("fsck")["problems"] == []


def test_no_credential_is_in_home_ledger_or_manifest(place: Place) -> None:
    _seal(place)
    secrets = (object_store_kit.KEY_ID.encode(), object_store_kit.SECRET.encode())
    searched = 0
    for folder, _, names in os.walk(place.desk.folder):
        for name in names:
            data = (Path(folder) / name).read_bytes()
            searched += 1
            assert not any(secret in data for secret in secrets), (folder, name)
    assert searched > 15
    listed = (
        place.desk("log", "list", "--last", "100", "--json").out
        + place.desk("store", "check", place.root, "--json").out
    )
    assert not any(secret.decode() in listed for secret in secrets)


def test_a_lost_part_refuses_before_the_broker_is_asked(place: Place) -> None:
    desk = place.desk
    _seal(place, "--no-copy")
    store = desk.session().open_store(f"{place.root}/quill-works/problems")
    for one in list(store.list("parts")):
        store.delete(one.name)
    before = desk.json("fsck")["size"]
    place.open(RELEASE, "never.jsonl", code=4)
    assert not (desk.folder / "never.jsonl").exists()
    assert desk.json("fsck")["size"] == before


def test_two_homes_that_seal_one_name_into_one_store(place: Place, tmp_path: Path) -> None:
    rival = place.desk.copy(tmp_path / "rival")
    rival.access = place.desk.access
    _seal(place)
    error = rival.error(
        "seal", place.records, "--dataset", "quill-works/problems", "--store", place.root, code=7
    )  # fmt: skip
    assert error["code"] == "vault.release_exists"
    assert not [one for one in rival.json("log", "list", "--last", "100")["entries"] if one["kind"] == "release.sealed"]
    place.desk.session().open_store(f"{place.root}/quill-works/problems").create("parts/" + "ab" * 32, b"lost")
    listed = place.desk.json("store", "clean", place.root, "--older-than", "0", "--dry-run")
    assert len(listed["orphans"]) == 1
    assert place.desk.json("store", "clean", place.root, "--older-than", "0")["bytes"] == listed["bytes"]
    assert place.desk.json("store", "clean", place.root, "--older-than", "0")["orphans"] == []
    assert place.open(place.release, "still.jsonl").read_bytes() == place.records.read_bytes()


def test_a_release_of_another_ledger_is_not_opened(place: Place, tmp_path: Path) -> None:
    _seal(place)
    stranger = make_desk(tmp_path / "stranger")
    stranger.access = place.desk.access
    error = stranger.error(
        "open", place.release, "--host", "north-lab/trainer", "--grant", place.grant, "--out", tmp_path / "x.jsonl", code=6
    )  # fmt: skip
    assert error["code"] == "cli.not_recorded"


def test_what_cannot_be_a_store(place: Place) -> None:
    seal = ("seal", place.records, "--dataset", "quill-works/problems")
    assert place.desk.error(*seal, "--store", "s3://key:secret@bucket/x", code=2)["code"] == "vault.store_secret"
    assert place.desk.error(*seal, "--no-copy", code=2)["code"] == "cli.no_copy"
    place.desk(*seal, "--store", place.root, "--dry-run")
    assert list(place.desk.session().open_store(place.root).list()) == []


def test_the_installed_command_takes_credentials_from_the_environment(tmp_path: Path) -> None:
    endpoint, url = object_store_kit.server(), object_store_kit.fresh_url()
    environment = {"AWS_ACCESS_KEY_ID": object_store_kit.KEY_ID, "AWS_SECRET_ACCESS_KEY": object_store_kit.SECRET,
                   "AWS_ENDPOINT_URL_S3": endpoint}  # fmt: skip
    assert "conditional writes hold" in shell("store", "check", url, cwd=tmp_path, **environment).out
    without = shell("store", "check", url, cwd=tmp_path, code=2, AWS_ENDPOINT_URL_S3=endpoint)
    assert "vault.store_credentials" in without.err
    denied = shell("store", "check", url, cwd=tmp_path, code=5, **{**environment, "AWS_SECRET_ACCESS_KEY": "wrong-one"})
    assert "vault.store_denied" in denied.err
    assert "wrong-one" not in denied.err


def test_training_reads_a_release_where_it_lies_and_no_copy_is_made(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place.root.startswith("s3:"):
        for name, value in (
            ("AWS_ACCESS_KEY_ID", place.desk.access.key_id),
            ("AWS_SECRET_ACCESS_KEY", place.desk.access.secret),
            ("AWS_ENDPOINT_URL_S3", place.desk.access.endpoint),
        ):
            monkeypatch.setenv(name, value)
    _seal(place, "--no-copy")
    asked = Asked(host="north-lab/trainer", grant=place.grant, passphrase=PASSPHRASE)
    lines = place.records.read_text().splitlines()
    for name in (RELEASE, place.release):  # by its name, found through the ledger; and by where it lies
        with open_in_home(place.desk.home, name, asked, ReadOptions(spool=tmp_path)) as release:
            assert [json.loads(line) for line in lines] == list(release.records())
    assert not list(tmp_path.glob("safehold-read-*"))
    assert not list((place.desk.home / "releases").glob("**/*.parquet"))
    assert stored_at(place.release).manifest.rows == len(lines)
