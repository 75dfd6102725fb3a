"""Only changes travel; what is sent is signed, ordered, and sent again after a crash."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safehold.inventory import agent
from safehold.inventory.agent import base, site
from safehold.inventory.report import InventoryConfirmation, InventoryReport, parse_message, verify_message
from safehold.ledger.keys import SigningKey
from safehold.model.errors import VerificationFailed
from tests.inventory_kit import AGENT, HOST, Environment, run_agent

MINUTE = 60_000_000
NOON = agent.microseconds("2026-03-24T12:00:00Z")
Message = InventoryReport | InventoryConfirmation


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv")
    made.install("quiet-tool", "1.0", {"quiet.py": "A = 1\n"})
    return made


class Replay:
    """Sweeps at given minutes of the day, in process, into one spool."""

    def __init__(self, environment: Environment, spool: Path) -> None:
        self.environment, self.spool = environment, spool

    def sweep(self, minute: int, *options: str) -> int:
        at = f"2026-03-24T{12 + minute // 60:02}:{minute % 60:02}:00Z"
        fixed = [str(self.environment.root), "--host", HOST, "--name", "ci", "--spool", str(self.spool), "--at", at]
        return agent.main([*fixed, *options])

    def messages(self) -> list[Message]:
        return [parse_message(file.read_bytes()) for file in sorted(self.spool.glob("*.json"))]


@pytest.fixture
def replay(environment: Environment, tmp_path: Path) -> Replay:
    return Replay(environment, tmp_path / "spool")


def _kinds(messages: list[Message]) -> list[str]:
    return ["report" if isinstance(one, InventoryReport) else "confirmation" for one in messages]


def test_nothing_is_sent_while_nothing_changes_and_no_confirmation_is_due(replay: Replay) -> None:
    for minute in range(10):
        assert replay.sweep(minute, "--confirm-every", "3600") == 0
    (report,) = replay.messages()
    assert isinstance(report, InventoryReport)
    assert (report.host, report.environment, report.clock, report.observed) == (HOST, "ci", "given", NOON)
    assert report.full


def test_confirmations_join_without_a_hole(replay: Replay) -> None:
    for minute in (0, 1, 4, 10, 11, 20):
        replay.sweep(minute, "--confirm-every", "600")
    report, first, second = replay.messages()
    assert isinstance(report, InventoryReport)
    assert isinstance(first, InventoryConfirmation)
    assert isinstance(second, InventoryConfirmation)
    assert (first.since, first.until, first.sweeps, first.largest_gap) == (NOON, NOON + 10 * MINUTE, 4, 6 * MINUTE)
    assert (second.since, second.until, second.sweeps, second.largest_gap) == (
        first.until,
        NOON + 20 * MINUTE,
        3,
        9 * MINUTE,
    )
    assert report.inventory == first.inventory == second.inventory


def test_once_confirms_in_every_run(replay: Replay) -> None:
    for minute in range(3):
        replay.sweep(minute, "--once")
    assert _kinds(replay.messages()) == ["report", "confirmation", "confirmation"]


def test_a_change_first_confirms_the_old_contents_then_reports_the_new(replay: Replay) -> None:
    replay.sweep(0)
    replay.sweep(2)
    replay.environment.write("new.py", "B = 1\n")
    replay.sweep(3)
    replay.environment.write("new.py", "B = 2\n")
    replay.sweep(4)
    messages = replay.messages()
    assert _kinds(messages) == ["report", "confirmation", "report", "report"], "one sweep alone needs no confirmation"
    assert isinstance(messages[1], InventoryConfirmation)
    assert messages[1].inventory == messages[0].inventory
    assert messages[1].until == NOON + 2 * MINUTE, (
        "nothing is claimed for the time between the last sweep and the change"
    )
    assert len({one.inventory for one in messages}) == 3


def test_a_clock_that_goes_back_starts_anew(replay: Replay) -> None:
    for minute in (10, 20, 5):
        replay.sweep(minute, "--confirm-every", "7200")
    report, confirmation, again = replay.messages()
    assert _kinds([report, confirmation, again]) == ["report", "confirmation", "report"]
    assert isinstance(again, InventoryReport)
    assert again.observed == NOON + 5 * MINUTE


def test_numbers_go_on_after_the_spool_was_emptied(replay: Replay) -> None:
    replay.sweep(0)
    replay.sweep(1, "--once")
    for file in replay.spool.glob("*.json"):
        file.unlink()
    replay.sweep(2, "--once")
    assert [file.name for file in replay.spool.glob("*.json")] == ["00000003.json"]


def test_a_crash_before_the_state_is_written_sends_the_same_again(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.sweep(0)
    replay.environment.write("new.py", "B = 1\n")
    replay.sweep(1)
    whole = base.write_durable

    def dies(path: str, data: bytes) -> None:
        if path.endswith(".state"):
            raise KeyboardInterrupt
        whole(path, data)

    replay.environment.write("new.py", "B = 3\n")
    monkeypatch.setattr(base, "write_durable", dies)
    with pytest.raises(KeyboardInterrupt):
        replay.sweep(2)
    monkeypatch.setattr(base, "write_durable", whole)
    assert len(replay.messages()) == 3
    assert replay.sweep(2) == 0
    assert replay.sweep(3) == 0
    messages = replay.messages()
    assert messages[2] == messages[3], "the same message twice: recognised by its digest, nothing lost"
    assert len(messages) == 4


def test_a_full_disk_advances_nothing(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replay.sweep(0)
    replay.environment.write("new.py")

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(base, "write_durable", full)
        assert replay.sweep(1) == 5
    assert "No space left" in capsys.readouterr().err
    assert len(replay.messages()) == 1
    assert replay.sweep(1) == 0
    assert len(replay.messages()) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"inventory":1}', "null", "\0" * 100])
def test_damaged_state_and_cache_report_anew(replay: Replay, damage: str) -> None:
    replay.sweep(0)
    (replay.spool / ".state").write_text(damage)
    (replay.spool / ".memory").write_text(damage)
    (replay.spool / ".look").write_text(damage)
    assert replay.sweep(1) == 0
    first, second = replay.messages()
    assert first.inventory == second.inventory


def test_a_spool_serves_one_host_and_environment(replay: Replay, capsys: pytest.CaptureFixture[str]) -> None:
    replay.sweep(0)
    assert replay.sweep(1, "--name", "other") == 2
    assert "its own --spool" in capsys.readouterr().err
    assert len(replay.messages()) == 1


def test_two_sweeps_at_once_do_not_mix(replay: Replay, tmp_path: Path) -> None:
    replay.sweep(0)
    code = (
        "import fcntl,sys,runpy;lock=open(sys.argv[1],'ab');fcntl.flock(lock,fcntl.LOCK_EX);"
        "print('held',flush=True);sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(replay.spool / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert replay.sweep(1) == 7
        assert holder.stdin is not None
        holder.stdin.close()
    assert replay.sweep(1) == 0


def test_unchanged_files_are_not_read_again_and_full_reads_them(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_SETTLED_NS", 0)
    reads: list[bytes] = []
    plain = site.read_blocks

    def counted(path: bytes, limit: int, stamp: bytes = b"") -> Any:
        reads.append(path)
        return plain(path, limit, stamp)

    monkeypatch.setattr(site, "read_blocks", counted)
    source = os.fsencode(replay.environment.site / "quiet.py")
    counts = []
    for minute, options in enumerate([(), (), ("--full",), ()]):
        reads.clear()
        replay.sweep(minute, *options)
        counts.append(reads.count(source))
    assert counts == [1, 0, 1, 0]


def test_a_file_that_changed_just_now_is_not_trusted_by_its_stat(replay: Replay) -> None:
    replay.sweep(0)
    memory = agent.Memory.load(str(replay.spool))
    assert not memory, "all files are younger than the settling time"
    assert memory.listing == b"", "so the next look must sweep"


def test_messages_are_private_and_leave_no_temporary_files(replay: Replay) -> None:
    replay.sweep(0)
    assert stat.S_IMODE(replay.spool.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in replay.spool.glob("*.json")} == {0o600}
    assert not list(replay.spool.glob("*.tmp"))


def test_too_large_to_send_is_an_error_and_no_state(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_MESSAGE_BYTES", 100)
    assert replay.sweep(0) == 3
    assert not (replay.spool / ".state").exists()


@pytest.mark.skipif(shutil.which("ssh-keygen", path=os.defpath) is None, reason="ssh-keygen is not installed")
def test_messages_are_signed_by_ssh_keygen(replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key")
    assert replay.sweep(0, "--key", str(tmp_path / "key")) == 0
    data = (replay.spool / "00000001.json").read_bytes()
    signature = (replay.spool / "00000001.sig").read_bytes()
    assert isinstance(verify_message(data, signature, key.public), InventoryReport)
    with pytest.raises(VerificationFailed, match="not by"):
        verify_message(data, signature, SigningKey.generate().public)
    replay.environment.write("new.py")
    assert replay.sweep(1, "--key", str(tmp_path / "none")) == 4
    assert "did not sign" in capsys.readouterr().err
    assert len(replay.messages()) == 1, "unsigned is unsent"
    assert replay.sweep(2, "--key", str(tmp_path / "key")) == 0


def test_the_program_runs_isolated_and_prints_one_report(environment: Environment) -> None:
    done = run_agent(environment.root, "--host", HOST, "--at", "2026-03-24T12:00:00Z", "--stdout")
    assert done.returncode == 0, done.stderr
    report = parse_message(done.stdout.removesuffix(b"\n"))
    assert isinstance(report, InventoryReport)
    assert report.environment.startswith("env-")
    assert report.interpreter.version == "3.11.7"


@pytest.mark.parametrize(
    "arguments",
    [["--host", HOST], ["x"], ["/nonexistent", "--host", HOST], [".", "--host", HOST, "--at", "soon"]],
)
def test_wrong_use_exits_with_2_and_says_why(arguments: list[str]) -> None:
    done = run_agent(*arguments)
    assert done.returncode == 2
    assert b"agent" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_other_pythons_find_the_same(environment: Environment, version: str) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")) or [
        shutil.which(f"/usr/bin/python{version}")
    ]
    if not found[0]:
        pytest.skip(f"no Python {version} here")
    environment.write("ünïcode.txt", "x")
    done = run_agent(environment.root, "--host", HOST, python=str(found[0]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inventory"] == agent.contents_digest(environment.sweep())


def test_the_agent_imports_nothing_but_the_standard_library() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(AGENT)!r}); import safehold.inventory.agent; print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= set(sys.stdlib_module_names) | {"__main__", "safehold"}
    assert "site" not in loaded
