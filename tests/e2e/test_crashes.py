"""Killed processes, full disks and files put back: a clear error, nothing lost, and the same command runs again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_kit import ROOT, Desk, fill, make_desk, make_environment_of, small_disk, write_texts

HOST = "north-lab/trainer"

TYPIST = """
import os, signal, sys
from pathlib import Path
import safehold.assembly.delivery as delivery
from safehold.ledger.log import Log
from safehold.vault.lay import Layout
from safehold.vault.seal import Prepared
from safehold.vault.wrapped import WrappedKeys
from tests.cli_kit import Desk

how, deadly, folder, *arguments = sys.argv[1:]
steps = 0

def step(*_):
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

desk = Desk(Path(folder))
if how == "steps":
    for owner, name in ((Layout, "write"), (WrappedKeys, "store"), (Prepared, "publish"),
                        (delivery, "countersign"), (Log, "append")):
        around(owner, name)
    desk(*arguments)
elif how == "calls":
    sys.setprofile(lambda frame, event, argument: step() if event == "call" else None)
    desk(*arguments)
    sys.setprofile(None)
else:
    for number in range(int(how), int(how) + 1000):
        desk(*arguments[:2], f"p-{number}", *arguments[2:])
        print(number, flush=True)
print(steps)
"""


def typist(how: str, deadly: int, desk: Desk, *arguments: object) -> subprocess.Popen[str]:
    """Someone who types at a desk in a process of its own, and is killed at step ``deadly`` (0: never)."""
    command = [sys.executable, "-c", TYPIST, how, str(deadly), str(desk.folder), *map(str, arguments)]
    known = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with a clean host and 600 records, nothing sealed."""
    desk = make_desk(tmp_path_factory.mktemp("crash") / "desk")
    write_texts(desk.folder / "records.jsonl", 600)
    desk("inventory", "record", HOST, "--environment", make_environment_of(desk.folder / "env"))
    return desk


def sealing(desk: Desk) -> list[object]:
    return ["seal", desk.folder / "records.jsonl", "--dataset", "quill-works/problems"]


def holds_together(desk: Desk) -> None:
    """Everything checks out, from inside and from outside, and the one release opens as it was sealed."""
    assert desk.json("fsck")["problems"] == []
    verifier = desk.json("log", "checkpoint")["verifier"]
    desk("log", "export", desk.folder / "export")
    desk("verify", desk.folder / "export", "--verifier", verifier)
    entries = desk.json("log", "list", "--last", "1000")["entries"]
    (release,) = [one for one in entries if one["kind"] == "release.sealed"]
    signer = desk.folder / "signer.pub"
    for party in ("quill-works", "north-lab"):  # the supplier's signature, and the lab's beside it
        signer.write_text(next(one["key"] for one in entries if one.get("party") == party and one.get("role")))
        folder = desk.home / "releases" / "quill-works" / "problems" / "1"
        verified = desk.json("verify", folder, "--signer", signer, "--digest", release["release"])
        assert len(verified["signers"] + verified["unknown_signers"]) == 2
    grant, out = desk.folder / "grant.json", desk.folder / "out.jsonl"
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", grant)
    desk("inventory", "record", HOST, "--environment", desk.folder / "env")
    opened = desk.json("open", "quill-works/problems@1", "--host", HOST, "--grant", grant, "--out", out)
    assert opened["as_sealed"] is True
    assert out.read_bytes() == (desk.folder / "records.jsonl").read_bytes()
    left = [path.name for path in folder.parent.iterdir() if path.name != "1" and not path.name.endswith(".lock")]
    assert left == []


STEPS = 10
"""Before and after: the parts, the keys, publishing, countersigning, the entry."""


@pytest.mark.parametrize("deadly", range(1, STEPS + 1))
def test_killed_at_any_step_of_sealing_the_same_command_runs_again(bare: Desk, tmp_path: Path, deadly: int) -> None:
    desk = bare.copy(tmp_path / "desk")
    killed = typist("steps", deadly, desk, *sealing(desk))
    _, said = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, said
    if deadly == STEPS:  # its entry was there: only the answer was lost
        error = desk.error(*sealing(desk), code=7)
        assert error["code"] == "assembly.same_input"
        assert "problems@1" in error["message"]
    else:
        again = desk.json(*sealing(desk))
        assert again["release"] == "quill-works/problems@1"
        assert again["resumed"] is (deadly >= 6)
        assert again["countersigned"] is True
    holds_together(desk)


def test_the_steps_are_all(bare: Desk, tmp_path: Path) -> None:
    desk = bare.copy(tmp_path / "desk")
    out, said = typist("steps", 0, desk, *sealing(desk)).communicate(timeout=120)
    assert out.split()[-1] == str(STEPS), said


def test_killed_anywhere_in_sealing_the_same_command_runs_again(bare: Desk, tmp_path: Path) -> None:
    desk = bare.copy(tmp_path / "whole")
    out, said = typist("calls", 0, desk, *sealing(desk)).communicate(timeout=120)
    total = int(out.split()[-1])
    assert total > 1000, said
    for number in range(3):
        deadly = random.randint(1, total * 49 // 50)
        desk = bare.copy(tmp_path / f"desk-{number}")
        killed = typist("calls", deadly, desk, *sealing(desk))
        killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, deadly
        again = desk(*sealing(desk), "--json", code=7 if _recorded(desk) else 0)
        assert again.document.get("release", "quill-works/problems@1") == "quill-works/problems@1", deadly
        holds_together(desk)


def _recorded(desk: Desk) -> bool:
    return bool(desk.json("dataset", "list")["releases"])


def test_killed_while_appending_nothing_acknowledged_is_lost(bare: Desk, tmp_path: Path) -> None:
    desk = bare.copy(tmp_path / "desk")
    acknowledged: set[str] = set()
    for begin in range(0, 5000, 1000):
        killed = typist(str(begin), 0, desk, "party", "add", "--role", "supplier")
        assert killed.stdout is not None
        for _ in range(random.randint(1, 12)):
            acknowledged.add("p-" + killed.stdout.readline().strip())
        killed.kill()
        rest, said = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL, said
        acknowledged |= {"p-" + word for word in rest.split()}
        there = {one["party"] for one in desk.json("party", "list")["parties"]}
        assert acknowledged <= there
        assert (
            len(there - acknowledged - {"north-lab", "quill-works"}) <= begin // 1000 + 1
        )  # one each without its answer
        assert desk.json("fsck")["problems"] == []
    desk(*sealing(desk))
    holds_together(desk)


# --- full disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 80, 100, 120, 400])
def test_a_full_disk_loses_nothing(tmp_path: Path, room: int) -> None:
    """``room``: KiB that are left, so that the disk is full at other places."""
    with small_disk(tmp_path / "disk", 8) as disk:
        desk = make_desk(disk / "desk")
        records = tmp_path / "records.jsonl"
        records.write_text("".join(f'{{"text": "{random.randbytes(300).hex()}"}}\n' for _ in range(1500)))
        shutil.copy(records, disk / "desk" / "records.jsonl")
        make_environment_of(desk.folder / "env")
        filling = fill(disk)
        os.truncate(filling, filling.stat().st_size - room * 1024)
        commands: list[list[object]] = [
            ["party", "add", "p-1", "--role", "supplier"],
            ["suspend", "party:north-lab", "--reason", "x" * 1500],
            ["lift", "party:north-lab", "--reason", "y", "--despite-findings"],
            sealing(desk),
            ["log", "export", disk / "export"],
            ["inventory", "record", HOST, "--environment", desk.folder / "env"],
            ["member", "add", "north-lab", "Rosa Diaz"],
            ["grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--groups", "data",
             "--out", disk / "early.json"],
        ]  # fmt: skip
        failed = []
        for command in commands:
            said = desk(*command, "--json", code=None)
            if said.code:
                error = said.document["error"]
                assert said.code in {5, 7}, error
                assert error["hint"], error
                failed.append(command)
        assert sealing(desk) in failed
        if room == 0:
            assert len(failed) == len(commands)
            assert "the disk is full" in desk.error("party", "list", code=5)["message"]
        filling.unlink()
        for command in failed:
            desk(*command)
        desk("inventory", "record", HOST, "--environment", desk.folder / "env")
        holds_together(desk)


# --- files put back ----------------------------------------------------------------------------------


def test_a_ledger_put_back_to_an_older_state_is_read_only(bare: Desk, tmp_path: Path) -> None:
    desk = bare.copy(tmp_path / "desk")
    desk(*sealing(desk))
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", desk.folder / "grant.json")
    ledger = desk.home / "ledger.db"
    shutil.copy(ledger, tmp_path / "older.db")
    desk("suspend", f"host:{HOST}", "--reason", "someone wants this gone")
    shutil.copy(ledger, tmp_path / "newer.db")
    shutil.copy(tmp_path / "older.db", ledger)
    opening = ["open", "quill-works/problems@1", "--host", HOST, "--grant", desk.folder / "grant.json"]
    appending: list[list[object]] = [
        ["party", "add", "p-1", "--role", "lab"],
        ["suspend", "party:quill-works", "--reason", "x"],
        ["lift", f"host:{HOST}", "--reason", "x"],
        [*opening, "--out", desk.folder / "out.jsonl"],
        ["inventory", "record", HOST, "--environment", desk.folder / "env"],
        ["run", "declare", "north-lab/run-1", "--release", "quill-works/problems@1"],
        [*sealing(desk), "--again"],
    ]
    for command in appending:
        error = desk.error(*command, code=5)
        assert error["code"] == "ledger.rolled_back", command
        assert "restore the newer one" in error["hint"]
    assert not (desk.folder / "out.jsonl").exists()
    for command in (
        ["party", "list"],
        ["log", "list"],
        ["log", "show", "3"],
        ["dataset", "list"],
        ["log", "checkpoint"],
    ):
        desk(*command)
    broken = desk("fsck", "--json", code=4).document
    assert [one["code"] for one in broken["problems"]] == ["fsck.read_only"]
    assert broken["error"]["code"] == "cli.fsck"
    shutil.copy(tmp_path / "newer.db", ledger)
    assert desk.json("fsck")["problems"] == []
    assert desk.error(*opening, "--out", desk.folder / "out.jsonl", code=3)["code"] == "broker.held"
