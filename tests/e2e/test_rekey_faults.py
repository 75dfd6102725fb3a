"""New data keys, killed at any step, on a full disk, with a part altered: a clear error, nothing lost, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safehold.assembly import rekeying
from safehold.ledger.keys import SigningKey
from tests.cli_kit import ROOT, Desk, fill, make_desk, make_environment_of, small_disk, write_texts
from tests.files_kit import found_in, make_files

HOST = "north-lab/trainer"
OLD, NEW = "quill-works/problems@1", "quill-works/problems@2"
REKEY = ("rekey", "--release", OLD, "--reason", "a key may be known")
FINISH = ("rekey", "--release", OLD, "--finish", "--yes")

TYPIST = """
import os, signal, sys
from pathlib import Path
import safehold.assembly.rekeying as rekeying
from safehold.assembly.file_delivery import FileDelivery
from safehold.ledger.log import Log
from safehold.vault.journal import Journal
from safehold.vault.keystore import KeyStore
from safehold.vault.lay import Layout
from safehold.vault.seal import Prepared
from safehold.vault.seal_files import FileSeal
from safehold.vault.wrapped import WrappedKeys
from tests.cli_kit import Desk

deadly, folder, *arguments = sys.argv[1:]
steps = 0

def step():
    global steps
    steps += 1
    if steps == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name):
    real = getattr(owner, name)
    def call(*given, **named):
        step()
        result = real(*given, **named)
        step()
        return result
    setattr(owner, name, call)

for owner, name in ((Layout, "write"), (Journal, "add"), (WrappedKeys, "store"), (rekeying, "prove_resealed"),
                    (Prepared, "publish"), (rekeying, "add_countersignature"), (FileSeal, "seal"),
                    (rekeying, "prove_same_files"), (FileSeal, "finished"), (Log, "append"), (KeyStore, "erase")):
    around(owner, name)
Desk(Path(folder))(*arguments)
print(steps)
"""


def _killed(desk: Desk, deadly: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    known = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", TYPIST, str(deadly), str(desk.folder), *map(str, arguments)]
    return subprocess.run(command, env=known, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = make_desk(tmp_path_factory.mktemp("rekey-faults") / "desk")
    desk("seal", write_texts(desk.folder / "records.jsonl", 300), "--dataset", "quill-works/problems")
    return desk


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = make_desk(tmp_path_factory.mktemp("rekey-faults") / "desk")
    make_files(desk.folder / "in", {"a": 10, "b/c": 300_000, "empty": 0})
    desk("seal", desk.folder / "in", "--dataset", "quill-works/problems", "--files")
    return desk


def _opens(desk: Desk, release: str, out: Path) -> Path:
    desk("inventory", "record", HOST, "--environment", make_environment_of(out.with_name("env")))
    grant = out.with_name("grant.json")
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", grant)
    desk("open", release, "--host", HOST, "--grant", grant, "--out", out)
    return out


def _holds_together(desk: Desk) -> None:
    assert desk.json("fsck")["problems"] == []
    entries = desk.json("log", "list", "--last", "1000")["entries"]
    assert [one["version"] for one in entries if one["kind"] == "release.sealed"] == [1, 2]
    assert [one["kind"] for one in entries].count("release.rekeyed") == 1
    home = desk.home / "releases" / "quill-works" / "problems"
    left = [one.name for one in home.iterdir() if not one.name.isdecimal() and not one.name.endswith(".lock")]
    assert left == []


def _steps(desk: Desk, folder: Path, *command: object) -> int:
    done = _killed(desk.copy(folder), 0, *command)
    return int(done.stdout.split()[-1])


def test_a_table_killed_at_any_step(table: Desk, tmp_path: Path) -> None:
    steps = _steps(table, tmp_path / "whole", *REKEY)
    assert steps >= 14
    for deadly in range(1, steps + 1):
        desk = table.copy(tmp_path / f"desk-{deadly}")
        assert _killed(desk, deadly, *REKEY).returncode == -signal.SIGKILL
        again = desk.json(*REKEY)
        assert (again["successor"], again["earlier"]) == (NEW, deadly == steps), deadly
        _holds_together(desk)
        if deadly % 5 == 0:
            out = _opens(desk, NEW, tmp_path / f"{deadly}.jsonl")
            assert out.read_bytes() == (desk.folder / "records.jsonl").read_bytes()
            shutil.rmtree(tmp_path / "env")
            (tmp_path / "grant.json").unlink()


def test_files_killed_at_any_step(files: Desk, tmp_path: Path) -> None:
    steps = _steps(files, tmp_path / "whole", *REKEY)
    assert steps >= 10
    for deadly in range(1, steps + 1):
        desk = files.copy(tmp_path / f"desk-{deadly}")
        assert _killed(desk, deadly, *REKEY).returncode == -signal.SIGKILL
        desk.json(*REKEY)
        assert desk.json("fsck")["problems"] == []
    assert found_in(_opens(desk, NEW, tmp_path / "out")) == found_in(files.folder / "in")


def test_the_end_killed_at_any_step(table: Desk, tmp_path: Path) -> None:
    ready = table.copy(tmp_path / "ready")
    ready.json(*REKEY)
    steps = _steps(ready, tmp_path / "whole", *FINISH)
    assert steps >= 6
    for deadly in range(1, steps + 1):
        desk = ready.copy(tmp_path / f"desk-{deadly}")
        assert _killed(desk, deadly, *FINISH).returncode == -signal.SIGKILL
        ended = desk.json(*FINISH)
        assert ended["erased"] is not None
        assert ended["retired"] is not None
        _holds_together(desk)
        kinds = [one["kind"] for one in desk.json("log", "list", "--last", "1000")["entries"]]
        assert (kinds.count("release.retired"), kinds.count("release.erased")) == (1, 1)


def test_a_part_of_the_old_release_that_was_altered_is_named(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    folder = desk.home / "releases" / "quill-works" / "problems" / "1"
    part = min(folder.glob("*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    error = desk.error(*REKEY, code=4)
    assert error["code"] == "vault.part_altered"
    assert part.name in error["message"]
    assert sorted(one.name for one in folder.parent.glob("[0-9]*")) == ["1"]
    part.unlink()
    error = desk.error(*REKEY, code=4)
    assert (error["code"], part.name in error["message"]) == ("vault.part_missing", True)


@pytest.mark.parametrize("room", [0, 60, 130])
def test_a_full_disk_loses_nothing(tmp_path: Path, room: int) -> None:
    """``room``: KiB that are left, so that the disk is full at other places."""
    with small_disk(tmp_path / "disk", 8) as disk:
        desk = make_desk(disk / "desk")
        records = tmp_path / "records.jsonl"
        records.write_text("".join(f'{{"text": "{os.urandom(300).hex()}"}}\n' for _ in range(1500)))
        desk("seal", records, "--dataset", "quill-works/problems")
        filling = fill(disk)
        os.truncate(filling, filling.stat().st_size - room * 1024)
        said = desk(*REKEY, "--json", code=None)
        assert said.code == 5, said
        assert said.document["error"]["hint"]
        filling.unlink()
        assert desk.json(*REKEY)["successor"] == NEW
        _holds_together(desk)
        out = _opens(desk, NEW, tmp_path / "out.jsonl")
        assert out.read_bytes() == records.read_bytes()


def test_what_cannot_be_rekeyed_says_why(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    problems = ("rekey", "--release", "quill-works/problems@7", "--reason", "x")
    assert desk.error(*problems, code=6)["code"] == "state.no_release"
    assert desk.error("rekey", code=2)["code"] == "cli.rekey"
    assert desk.error("rekey", "kek.toml", "--release", OLD, code=2)["code"] == "cli.rekey"
    assert desk.error("rekey", "--release", OLD, code=2)["code"] == "cli.rekey_reason"
    assert desk.error(*FINISH, code=7)["code"] == "assembly.not_rekeyed"
    assert desk.error(*REKEY, "--host", "north-lab/none", code=6)["code"] == "assembly.no_host"
    other = SigningKey.generate()
    other.save(tmp_path / "other")
    assert desk.error(*REKEY, "--key", tmp_path / "other", code=3)["code"] == "assembly.signer"
    key = desk.home / "keys" / "parties" / "quill-works"
    key.rename(tmp_path / "away")
    assert "--key" in desk.error(*REKEY, code=6)["hint"]
    assert desk.json(*REKEY, "--dry-run")["successor"] == NEW
    _suspended(desk, "dataset:quill-works/problems", "party:quill-works")
    done = desk.json(*REKEY, "--key", tmp_path / "away")
    assert done["successor"] == NEW
    _suspended_end(desk)
    assert desk.error("rekey", "--release", NEW, "--reason", "x", code=6)["code"]
    (tmp_path / "away").rename(key)
    desk.json("seal", desk.folder / "records.jsonl", "--dataset", "quill-works/problems", "--again")
    late = desk.error("rekey", "--release", NEW, "--reason", "x", code=7)
    assert late["code"] == "assembly.rekey_not_newest"
    third = ("rekey", "--release", "quill-works/problems@3", "--reason", "x")
    desk("retire", "quill-works/problems@3", "--reason", "wrong")
    assert desk.error(*third, code=7)["code"] == "assembly.retired"
    desk("erase", "quill-works/problems@3", "--reason", "wrong", "--yes")
    assert desk.error(*third, code=7)["code"] == "assembly.erased"


def _suspended(desk: Desk, *subjects: str) -> None:
    for subject in subjects:
        desk("suspend", subject, "--reason", "a review")
        error = desk.error(*REKEY, code=3)
        assert (error["code"], subject in error["message"]) == ("assembly.held", True)
        desk("lift", subject, "--reason", "all is well", "--despite-findings")


def _suspended_end(desk: Desk) -> None:
    desk("suspend", "dataset:quill-works/problems", "--reason", "a review")
    assert desk.error(*FINISH, code=3)["code"] == "assembly.held"
    desk("lift", "dataset:quill-works/problems", "--reason", "all is well")


def test_nothing_ends_without_what_replaces_it(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    desk.json(*REKEY)
    folder = desk.home / "releases" / "quill-works" / "problems" / "2"
    part = min(folder.glob("*.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    assert desk.error(*FINISH, code=4)["code"] == "vault.part_truncated"
    part.write_bytes(whole)
    other: Any = desk.copy(tmp_path / "other")
    other("erase", NEW, "--reason", "by mistake", "--yes")
    assert other.error(*FINISH, code=7)["code"] == "assembly.rekey_ended"
    kinds = [one.get("release") for one in desk.json("log", "list")["entries"] if one["kind"] == "release.retired"]
    assert kinds == []
    assert desk.json(*FINISH)["erased"] is not None


def test_a_release_that_was_rekeyed_twice_ends_for_the_newest(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    desk.json(*REKEY)
    desk.json("rekey", "--release", NEW, "--reason", "again")
    second = desk.json("rekey", "--release", NEW, "--finish", "--yes")
    assert (second["successor"], second["erased"] is not None) == ("quill-works/problems@3", True)
    first = desk.json(*FINISH)
    assert (first["successor"], first["erased"] is not None) == ("quill-works/problems@3", True)


def test_a_folder_that_somebody_else_left_is_not_taken(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    other = table.copy(tmp_path / "other")
    write_texts(other.folder / "records.jsonl", 200)
    other("seal", other.folder / "records.jsonl", "--dataset", "quill-works/problems")
    left = Path("releases") / "quill-works" / "problems" / "2"
    shutil.copytree(other.home / left, desk.home / left)
    assert desk.error(*REKEY, code=7)["code"] == "assembly.other_folder"
    shutil.rmtree(desk.home / left)
    assert desk.json(*REKEY)["successor"] == NEW


@pytest.mark.parametrize("kind", ["table", "files"])
def test_a_disk_that_fails_at_any_write_leaves_the_old_release_and_the_command_goes_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = request.getfixturevalue(kind).copy(tmp_path / "desk")
    folder = desk.home / "releases" / "quill-works" / "problems"
    before = found_in(folder / "1")
    real = {name: getattr(os, name) for name in ("fsync", "rename")}
    seen = failed = 0

    def failing(name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == failed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real[name](*given, **named)

        return call

    for name in real:
        monkeypatch.setattr(os, name, failing(name))
    while True:
        failed, seen = failed + 1, 0
        said = desk(*REKEY, "--json", code=None)
        assert found_in(folder / "1") == before
        if seen < failed:
            break
        assert said.code == 5, said
    assert failed > 5
    assert desk.json(*REKEY)["successor"] == NEW
    assert desk.json("fsck")["problems"] == []


def test_releases_that_share_files_are_named_before_and_after(table: Desk, tmp_path: Path) -> None:
    desk = table.copy(tmp_path / "desk")
    records = desk.folder / "records.jsonl"
    records.write_text(records.read_text() + '{"module": "m", "name": "n", "text": "one more"}\n')
    desk("seal", records, "--dataset", "quill-works/problems")
    rekey = ("rekey", "--release", NEW)
    assert desk.json(*rekey, "--dry-run")["shared_with"] == [OLD]
    assert f"{OLD} share files with it" in desk(*rekey, "--dry-run").out
    done = desk.json(*rekey, "--reason", "a key may be known")
    assert done["successor"] == "quill-works/problems@3"
    ended = desk.json(*rekey, "--finish", "--yes")
    assert (ended["shared_with"], ended["files_still_readable"] > 0) == ([OLD], True)
    erased = desk.json("erase", OLD, "--reason", "its keys were those", "--yes")
    assert erased["shared_with"] == [], "the new release shares nothing"
    out = _opens(desk, "quill-works/problems@3", tmp_path / "out.jsonl")
    assert out.read_bytes() == records.read_bytes()


@pytest.mark.parametrize("kind", ["table", "files"])
@pytest.mark.parametrize("act", ["retire", "suspend"])
def test_what_the_ledger_says_meanwhile_counts(
    kind: str, act: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = request.getfixturevalue(kind).copy(tmp_path / "desk")
    name = {"table": "prove_resealed", "files": "prove_same_files"}[kind]
    real = getattr(rekeying, name)

    def interrupted(*given: Any) -> Any:
        subject = OLD if act == "retire" else "dataset:quill-works/problems"
        desk(act, subject, "--reason", "another hand")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(rekeying, name, interrupted)
        error = desk.error(*REKEY, code={"retire": 7, "suspend": 3}[act])
    kinds = [one["kind"] for one in desk.json("log", "list", "--last", "1000")["entries"]]
    assert "release.rekeyed" not in kinds
    if act == "retire":
        assert error["code"] == "assembly.retired"
        assert not (desk.home / "releases" / "quill-works" / "problems" / "2").exists()
        return
    assert error["code"] == "assembly.held"
    desk("lift", "dataset:quill-works/problems", "--reason", "all is well", "--despite-findings")
    assert desk.json(*REKEY)["successor"] == NEW
    assert desk.json("fsck")["problems"] == []
