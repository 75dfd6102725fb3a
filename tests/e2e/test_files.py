"""Files that are no tables, from the command line: sealed, granted by group, opened byte for byte, through a store too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import object_store_kit
from tests.cli_kit import Desk, make_desk, make_environment_of
from tests.files_kit import found_in, make_files

RELEASE = "quill-works/problems@1"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = make_desk(tmp_path / "desk")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.sweep("north-lab/trainer", make_environment_of(tmp_path / "env"), now)
    return desk


def _grant(desk: Desk, *groups: str) -> Path:
    out = desk.folder / f"grant-{'-'.join(groups)}.json"
    desk("grant", "issue", "quill-works/problems", "--to", "north-lab", "--groups", ",".join(groups), "--until", "+1d", "--out", out)  # fmt: skip
    return out


def _open(desk: Desk, name: str, grant: Path, out: Path, code: int = 0) -> object:
    arguments = ("open", name, "--host", "north-lab/trainer", "--grant", grant, "--out", out)
    return desk.json(*arguments) if not code else desk.error(*arguments, code=code)


@pytest.mark.parametrize("kind", ["home", "folder", "s3"])
def test_sealed_and_opened_byte_for_byte(desk: Desk, tmp_path: Path, kind: str) -> None:
    made = make_files(tmp_path / "in")
    more: tuple[str, ...] = ()
    if kind == "s3":
        desk.access = object_store_kit.access(object_store_kit.server())
    if kind != "home":
        more = ("--store", object_store_kit.fresh_url() if kind == "s3" else str(tmp_path / "store"))
    seal = ("seal", tmp_path / "in", "--dataset", "quill-works/problems", "--files", *more)
    planned = desk.json(*seal, "--dry-run")
    assert (planned["files"], planned["bytes"]) == (len(made), sum(map(len, made.values())))
    sealed = desk.json(*seal)
    assert sealed["groups"] == ["names", "content"]
    opened = _open(desk, RELEASE, _grant(desk, "names", "content"), tmp_path / "out")
    assert opened["files"] == len(made)  # type: ignore[index]  # a document
    assert found_in(tmp_path / "out") == made
    if kind != "home":
        _open(desk, sealed["where"], _grant(desk, "names", "content", "names"), tmp_path / "by-place")
        assert found_in(tmp_path / "by-place") == made
    assert desk.json("fsck")["problems"] == []
    assert not list((desk.home / "releases").rglob(".sealing*"))
    assert desk.error(*seal, code=7)["code"] == "assembly.same_input"


def test_names_without_contents(desk: Desk, tmp_path: Path) -> None:
    make_files(tmp_path / "in")
    desk("seal", tmp_path / "in", "--dataset", "quill-works/problems", "--files")
    grant = _grant(desk, "names")
    assert _open(desk, RELEASE, grant, tmp_path / "out", code=2)["code"] == "vault.no_content"  # type: ignore[index]  # a document
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(desk: Desk, tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 1})
    seal = ("seal", tmp_path / "in", "--dataset", "quill-works/problems", "--files")
    assert desk.error(*seal, "--groups", "a=b", code=2)["code"] == "cli.files_groups"
    (tmp_path / "in" / "link").symlink_to("a")
    assert desk.error(*seal, code=2)["code"] == "vault.files_special"
    assert desk.error("seal", tmp_path / "none", "--dataset", "quill-works/problems", "--files", code=6)


SEALER = """
import os, signal, sys
from pathlib import Path
deadly, calls = int(sys.argv[2]), 0
def counted(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call
for name in ("fsync", "rename", "link"):
    setattr(os, name, counted(getattr(os, name)))
from safehold.assembly import file_delivery
file_delivery.FileDelivery.deliver.__defaults__ = (None, 400_000)
from tests.cli_kit import Desk
desk = Desk(Path(sys.argv[1]))
desk("seal", Path(sys.argv[1]) / "in", "--dataset", "quill-works/problems", "--files", *sys.argv[3:])
"""


@pytest.mark.parametrize(("deadly", "stored"), [(12, True), (25, False), (45, True)])
def test_killed_and_run_again(desk: Desk, tmp_path: Path, deadly: int, stored: bool) -> None:
    """By kill -9, anywhere: the same command ends it, and nothing is there twice or by half."""
    made = make_files(desk.folder / "in")
    store = ["--store", str(tmp_path / "store")] if stored else []
    arguments = [sys.executable, "-c", SEALER, str(desk.folder), str(deadly), *store]
    environment = os.environ | {"PYTHONPATH": "src:."}
    died = subprocess.run(arguments, cwd=Path(__file__).parents[2], env=environment, check=False, capture_output=True)
    assert died.returncode in {0, -signal.SIGKILL}, died.stderr
    if died.returncode:
        desk("seal", desk.folder / "in", "--dataset", "quill-works/problems", "--files", *store)
    sealed = [one for one in desk.json("log", "list", "--last", "100")["entries"] if one["kind"] == "release.sealed"]
    assert len(sealed) == 1
    _open(desk, RELEASE, _grant(desk, "names", "content"), tmp_path / "out")
    assert found_in(tmp_path / "out") == made
    assert desk.json("fsck")["problems"] == []
