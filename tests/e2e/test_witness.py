"""Witnesses and followers as people use them: over HTTP and by folder, a split, a rollback, a kill."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli_kit import SAFEHOLD, Desk

NAME = "third.example/w1"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path / "desk")
    made("init", "--origin", "lab.example/custody")
    made("party", "add", "north-lab", "--role", "lab")
    return made


def _line(desk: Desk) -> str:
    return str(desk.json("log", "checkpoint")["verifier"])


def _make_witness(desk: Desk, folder: Path, *options: str) -> list[str]:
    keys: list[str] = desk.json("witness", "init", "--name", NAME, "--folder", folder, *options)["keys"]
    desk("witness", "trust", _line(desk), "--folder", folder)
    return keys


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A command that runs until it is stopped, and the document that it printed first."""
    process = subprocess.Popen([str(SAFEHOLD), *map(str, arguments), "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert process.stdout is not None
    said = ""
    while not said.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, "it ended by itself"
        said += line
    try:
        yield process, json.loads(said)
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        process.wait()


def test_a_ledger_is_witnessed_over_http(desk: Desk, tmp_path: Path) -> None:
    keys = _make_witness(desk, tmp_path / "w", "--signs", "both")
    assert desk.error("log", "witness", code=6)["code"] == "cli.no_policy"
    with running("witness", "run", "--folder", tmp_path / "w", "--listen", "127.0.0.1:0") as (_, told):
        witnesses = "".join(f"witness w{at} {key} {told['url']}\n" for at, key in enumerate(keys))
        (tmp_path / "policy").write_text(f"log {_line(desk)}\n{witnesses}group g all w0 w1\nquorum g\n")
        desk("log", "policy", tmp_path / "policy")
        assert (
            desk.error("log", "receipt", "0", "--out", tmp_path / "r", "--witnessed", code=6)["code"]
            == "cli.not_witnessed"
        )
        assert "The policy holds." in desk("log", "witness").out
        assert desk.json("log", "witness")["complete"] is True
    desk("log", "receipt", "1", "--out", tmp_path / "r", "--witnessed")
    desk("host", "add", "north-lab/trainer")
    check = ("--verifier", _line(desk), "--policy", tmp_path / "policy")
    assert desk.json("verify", tmp_path / "r", *check)["witnesses"] == [NAME, NAME]
    desk("log", "export", tmp_path / "out")
    assert desk.error("verify", tmp_path / "out", *check, code=4)["code"] == "ledger.not_witnessed"
    failed = desk.json("log", "witness", code=4)  # nobody listens any more
    assert failed["error"]["code"] == "ledger.not_witnessed"
    assert {one["error"] for one in failed["witnesses"]} == {"ledger.witness_unreachable"}
    assert desk.json("fsck")["problems"] == []


def test_a_witness_by_folder_and_a_policy_over_an_export(desk: Desk, tmp_path: Path) -> None:
    (key,) = _make_witness(desk, tmp_path / "w")
    (tmp_path / "policy").write_text(f"witness w {key}\nquorum w\n")
    desk("log", "policy", tmp_path / "policy")
    desk("log", "export", tmp_path / "out")
    desk("witness", "check", tmp_path / "out", "--folder", tmp_path / "w", "--out", tmp_path / "cosigned")
    desk("log", "witness", "--lines", tmp_path / "cosigned")
    desk("log", "export", tmp_path / "out")
    assert desk.json("verify", tmp_path / "out", "--policy", tmp_path / "policy")["witnesses"] == [NAME]
    said = desk("verify", tmp_path / "out", "--policy", tmp_path / "policy").out
    assert f"the witness policy holds: {NAME} at " in said


def _two_histories(desk: Desk, tmp_path: Path) -> Desk:
    """The same home twice, and from then on each its own way."""
    other = desk.copy(tmp_path / "other")
    desk("party", "add", "quill-works", "--role", "supplier")
    other("party", "add", "bright-annotators", "--role", "supplier")
    desk("log", "export", tmp_path / "out")
    other("log", "export", tmp_path / "other-out")
    return other


def test_a_split_is_refused_and_kept(desk: Desk, tmp_path: Path) -> None:
    _make_witness(desk, tmp_path / "w")
    other = _two_histories(desk, tmp_path)
    at = ("--folder", tmp_path / "w")
    desk("witness", "check", tmp_path / "out", *at)
    assert desk.error("witness", "check", tmp_path / "other-out", *at, code=7)["code"] == "ledger.split_view"
    other("party", "add", "quill-works", "--role", "supplier")
    other("log", "export", tmp_path / "other-out")
    assert (
        desk.error("witness", "follow", tmp_path / "other-out", "--looks", "1", *at, code=4)["code"]
        == "ledger.witness_proof"
    )
    shown = desk.json("witness", "show", *at)
    assert [Path(path).name.partition("-")[0] for path in shown["evidence"]] == ["split", "split"]
    assert shown["latest"]["lab.example/custody"]["size"] == 3
    assert "EVIDENCE" in desk("witness", "show", *at).out
    first = json.loads(Path(shown["evidence"][0]).read_text())
    assert first["known"].startswith("lab.example/custody\n3\n")


def test_a_home_put_back_is_read_only_when_a_witness_knows_more(desk: Desk, tmp_path: Path) -> None:
    (key,) = _make_witness(desk, tmp_path / "w")
    older = desk.copy(tmp_path / "older")  # ledger and lock together: the home alone cannot tell
    desk("party", "add", "quill-works", "--role", "supplier")
    with running("witness", "run", "--folder", tmp_path / "w", "--listen", "127.0.0.1:0") as (_, told):
        (tmp_path / "policy").write_text(f"witness w {key} {told['url']}\nquorum w\n")
        for one in (desk, older):
            one("log", "policy", tmp_path / "policy")
        desk("log", "witness")
        assert older.json("log", "witness", code=4)["witnesses"][0]["error"] == "ledger.witness_ahead"
    refused = older.error("party", "add", "bright-annotators", "--role", "supplier", code=5)
    assert refused["code"] == "ledger.rolled_back"
    assert NAME in refused["message"]
    assert older.json("log", "list")["entries"], "reads go on"
    known = older.json("log", "witness", "--forget", f"{NAME}+{key.split('+')[1]}")
    assert known["forgotten"].startswith(NAME)
    older("party", "add", "bright-annotators", "--role", "supplier")


def test_a_follower_serves_reads(desk: Desk, tmp_path: Path) -> None:
    desk("log", "export", tmp_path / "out")
    copy = Desk(tmp_path / "copy-desk")
    follow = ("follow", tmp_path / "out", copy.home, "--verifier", _line(desk), "--once")
    assert desk.json(*follow)["size"] == 2
    desk("party", "add", "quill-works", "--role", "supplier")
    desk("log", "export", tmp_path / "out")
    assert desk.json(*follow)["before"] == 2
    assert copy.json("party", "list") == desk.json("party", "list")
    assert copy.json("log", "checkpoint") == desk.json("log", "checkpoint")
    assert copy.json("fsck")["problems"] == []
    assert copy.error("party", "add", "third", "--role", "lab", code=3)["code"] == "ledger.follower"
    assert copy.error("backup", tmp_path / "backup", code=7)["code"] == "app.backup_not_here"
    assert not (tmp_path / "backup").exists()
    copy("log", "export", tmp_path / "again")
    copy("verify", tmp_path / "again", "--verifier", _line(desk))
    assert desk.error("follow", tmp_path / "out", desk.home, "--once", code=7)["code"] == "app.home_exists"
    shutil.rmtree(tmp_path / "out")
    assert desk.error(*follow, code=6)["code"] == "ledger.source_empty"


def test_a_follower_that_tails_is_killed_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    desk("log", "export", tmp_path / "out")
    home = tmp_path / "copy"
    command = [SAFEHOLD, "follow", tmp_path / "out", home, "--verifier", _line(desk), "--every", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "0 to 2 entries" in process.stderr.readline()
    process.kill()
    process.stderr.close()
    process.wait()
    desk("party", "add", "quill-works", "--role", "supplier")
    desk("log", "export", tmp_path / "out")
    assert desk.json("follow", tmp_path / "out", home, "--once")["before"] == 2


def test_what_people_get_wrong(desk: Desk, tmp_path: Path) -> None:
    at = ("--folder", tmp_path / "w")
    assert desk.error("witness", "show", *at, code=6)["code"] == "ledger.no_witness"
    assert desk.error("witness", "init", "--name", "two words", *at, code=2)["code"] == "ledger.origin"
    _make_witness(desk, tmp_path / "w")
    assert desk.error("witness", "init", "--name", NAME, *at, code=7)["code"] == "ledger.witness_exists"
    assert desk.error("witness", "trust", "no line", *at, code=2)["code"] == "ledger.verifier"
    assert desk.error("witness", "check", tmp_path / "nothing", *at, code=6)["code"] == "ledger.source_empty"
    assert desk.error("witness", "check", "ftp://h/", *at, code=2)["code"] == "ledger.url"
    assert desk.error("witness", "run", "--listen", "here", *at, code=2)["code"] == "cli.listen"
    (tmp_path / "policy").write_text("quorum nobody\n")
    assert desk.error("log", "policy", tmp_path / "policy", code=2)["code"] == "ledger.policy_form"
    assert desk.error("log", "policy", tmp_path / "none", code=6)["code"] == "cli.policy_file"
    other = Desk(tmp_path / "other")
    other("init", "--origin", "other.example/custody")
    other("log", "export", tmp_path / "other-out")
    assert desk.error("witness", "check", tmp_path / "other-out", *at, code=6)["code"] == "ledger.witness_origin"
    assert (
        desk.error("follow", tmp_path / "other-out", tmp_path / "c", "--verifier", _line(desk), "--once", code=4)[
            "code"
        ]
        == "ledger.note_unsigned"
    )
    (tmp_path / "w" / "state.db").unlink()
    assert desk.error("witness", "show", *at, code=5)["code"] == "ledger.witness_folder"
