"""The edges of the command line itself: faults, interruptions, outputs that cannot be written, what lies on the disk."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safehold.app import wiring
from safehold.cli.demo.records import python_texts
from tests.cli_kit import PASSPHRASE, SAFEHOLD, Desk, make_desk, make_environment_of, write_texts


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("surface") / "desk")
    records = write_texts(made.folder / "records.jsonl", 200)
    made("seal", records, "--dataset", "quill-works/problems")
    made("inventory", "record", "north-lab/trainer", "--environment", make_environment_of(made.folder / "env"))
    return made


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "cli.interrupted"),
        (RuntimeError("a fault \x1b[31m of ours"), 1, "cli.internal"),
        (OSError(5, "Input/output error"), 5, "cli.io"),
    ],
)
def test_what_no_room_expected_is_still_one_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, expected: str
) -> None:
    session = desk.session()
    session.factory = raising(error)
    monkeypatch.setattr(desk, "session", lambda: session)
    said = desk("party", "list", code=code)
    assert said.out == ""
    assert said.err.lstrip("\n").startswith("safehold: ")  # click ends the line of the ^C first
    assert f"[{expected}]" in said.err
    assert "\x1b" not in said.err
    assert desk("party", "list", "--json", code=code).document["error"]["code"] == expected


def test_the_trace_is_shown_when_asked_for(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="Traceback"):
        desk("log", "show", "999", "--debug", code=6)
    assert "Traceback" not in desk("log", "show", "999", code=6).err


def test_a_missing_verb_shows_the_help(desk: Desk) -> None:
    for words in ([], ["party"], ["log"]):
        said = desk(*words, code=2)
        assert (said.out, said.err[:16]) == ("", "Usage: safehold ")
        assert "\ufffd" not in said.err
        assert desk(*words, "--json", code=2).document["error"]["code"] == "cli.usage"


def test_help_and_version_need_no_home(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert "Verbs:" in desk("--help").out
    assert desk("--version").out.startswith("safehold, version ")


def _shell(desk: Desk, words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [str(SAFEHOLD), "--home", str(desk.home), *words.split()]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=60, **more)


def test_an_output_that_cannot_be_written_is_said(desk: Desk) -> None:
    with Path("/dev/full").open("w") as full:
        done = _shell(desk, "log list --json", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5
    assert done.stderr.startswith(b"safehold: the system refused to read or write: No space left on device [cli.io]")
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_gone_ends_it_quietly(desk: Desk) -> None:
    command = [str(SAFEHOLD), "--home", str(desk.home), "log", "list", "--json"]
    gone = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert gone.stdout is not None
    assert gone.stderr is not None
    gone.stdout.close()
    assert gone.stderr.read() == b""
    gone.stderr.close()
    assert gone.wait(timeout=60) == 1


def test_a_terminal_of_another_encoding_loses_nothing(desk: Desk) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = _shell(desk, "log list", capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    plain = _shell(desk, "member add north-lab Zoë --json", capture_output=True, env=environment)
    assert plain.returncode == 0
    listed = _shell(desk, "member list --json", capture_output=True, env=environment)
    assert json.loads(listed.stdout)["members"][0]["name"] == "Zoë"


def test_a_home_without_its_first_entry_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died between making the home and appending to it."""
    desk = Desk(tmp_path / "desk")
    with monkeypatch.context() as dying:
        dying.setattr(wiring, "_opening", raising(KeyboardInterrupt()))
        desk("init", "--origin", "lab.example/custody", code=130)
    assert desk.json("log", "list")["entries"][0]["kind"] == "ledger.opened"
    assert desk.json("fsck") == {"size": 1, "problems": []}


def test_keys_are_their_owners_alone(desk: Desk) -> None:
    for path in (desk.home, *(desk.home / "keys").rglob("*"), desk.home / "kek.json", desk.home / "people.json"):
        if path.exists() and path.suffix != ".pub":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    out, grant = desk.folder / "out.jsonl", desk.folder / "grant.json"
    desk("grant", "issue", "quill-works/problems", "--to", "north-lab", "--until", "+1d", "--out", grant)
    opening = ("open", "quill-works/problems@1", "--host", "north-lab/trainer", "--grant", grant, "--out", out)
    desk(*opening)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_neither_passphrase_nor_plaintext_lies_in_the_home(desk: Desk) -> None:
    texts = [next(python_texts())["text"].encode(), PASSPHRASE.encode()]
    files = [path for path in desk.home.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        data = path.read_bytes()
        assert not any(text in data for text in texts), path
