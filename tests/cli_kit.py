"""A desk where someone types commands: one home, one passphrase, the real command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from safehold.app.wiring import Home, HomeFactory, system_clock
from safehold.cli.context import Session
from safehold.cli.demo.advisories import ARRIVALS, write_advisory
from safehold.cli.demo.environments import Installed, install, make_environment
from safehold.cli.demo.records import python_texts
from safehold.cli.root import cli, run
from safehold.inventory import agent
from safehold.inventory.sweeps import run_agent
from safehold.ledger.note import NoteVerifier
from safehold.vault.store import parse_location
from safehold.vault.store_probe import open_store
from safehold.vault.store_s3 import S3Access

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
GSM8K = SHARED / "data" / "gsm8k" / "train.jsonl"
INCIDENT = SHARED / "incident" / "advisories"
SAFEHOLD = Path(sys.executable).with_name("safehold")
PASSPHRASE = "correct horse"
SECOND = 1_000_000
HOUR = 3600 * SECOND

CLEAN = (Installed("openai", "1.68.2", ("httpx",)), Installed("httpx", "0.28.1"))
CLEAN_LITELLM = Installed("litellm", "1.82.6")
STAND_IN = Installed("litellm", "1.82.8")


class Said(NamedTuple):
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Clock:
    """A clock that stands where it is put and moves on by a millisecond whenever it is read (µs UTC)."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self.at = agent.microseconds(text)

    def __call__(self) -> int:
        self.at += 1000
        return self.at


class _Factory(HomeFactory):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def create(
        self,
        path: Path,
        origin: str,
        passphrase: str,
        clock: Callable[[], int] | None = None,
        store: str | None = None,
    ) -> Home:
        return HomeFactory().create(path, origin, passphrase, clock or self._desk.clock, store)

    def follow(self, path: Path, verifier: NoteVerifier) -> Home:
        return HomeFactory().follow(path, verifier)

    def open(self, path: Path, clock: Callable[[], int] | None = None) -> Home:
        if clock is not None:
            return HomeFactory().open(path, clock)
        if self._desk.clock is system_clock and self._desk.home_type is Home:
            return HomeFactory().open(path)
        return self._desk.home_type(path, self._desk.clock)


class Desk:
    """``desk("party", "list")`` types a command; ``desk.json(…)`` adds ``--json`` and reads the document."""

    def __init__(self, folder: Path, clock: Callable[[], int] = system_clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home"
        self.clock = clock
        self.home_type: type[Home] = Home
        self.access = S3Access()
        self.answered: set[str] = set()
        self.passphrase_file: Path | None = folder / "pass.txt"
        self.passphrase_file.write_text(PASSPHRASE + "\n")

    def session(self) -> Session:
        return Session(
            home=self.home,
            passphrase=None,
            passphrase_file=self.passphrase_file,
            factory=lambda: _Factory(self),
            clock=self.clock,
            open_store=lambda text: open_store(parse_location(text), self.access),
        )

    def __call__(self, *arguments: Any, code: int | None = 0) -> Said:
        """``code`` None: any exit code will do."""
        out, err, known = io.StringIO(), io.StringIO(), sys.stdin
        sys.stdin = io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                ended = run([str(one) for one in arguments], self.session())
        finally:
            sys.stdin = known
        said = Said(ended, out.getvalue(), err.getvalue())
        assert code in {None, said.code}, (arguments, said)
        assert "Traceback" not in said.err, said.err
        return said

    def json(self, *arguments: Any, code: int = 0) -> Any:
        document = self(*arguments, "--json", code=code).document
        if code == 0:
            self.answered.add(command_path([str(one) for one in arguments]))
        return document

    def error(self, *arguments: Any, code: int) -> dict[str, Any]:
        """The error of a command that must fail; it has a code, a message, and mostly a hint."""
        error: dict[str, Any] = self.json(*arguments, code=code)["error"]
        assert error["code"] not in {"cli.internal", "broker.internal"}, error
        assert error["message"]
        return error

    def copy(self, folder: Path) -> Desk:
        """A copy of the whole desk elsewhere, to break things in."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        other = Desk(folder, self.clock)
        other.home_type = self.home_type
        return other

    def sweep(self, host: str, environment: Path, *times: str, spool: Path | None = None) -> list[Path]:
        """Run the agent at these times and import what it wrote, signed with the host's key; its messages."""
        spool = spool or self.folder / "spools" / host
        for at in times:
            run_agent(environment, host, "main", spool, "--at", at, "--confirm-every", "1000000000")  # type: ignore[arg-type]  # a host's id
        self("inventory", "import", host, spool, "--key", self.home / "keys" / "hosts" / host)
        return sorted(spool.glob("*.json"))


def command_paths(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it: ``log list``."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from command_paths(found, (*path, name))


def command_path(arguments: list[str]) -> str:
    """The words that call a command, of arguments that begin with them."""
    known = {path for path, _ in command_paths()}
    return " ".join(arguments[:2]) if " ".join(arguments[:2]) in known else arguments[0]


def make_desk(folder: Path, clock: Callable[[], int] = system_clock) -> Desk:
    """A desk with a lab, a supplier, a host of each and a dataset; the lab's host has not reported."""
    desk = Desk(folder, clock)
    desk("init", "--origin", "lab.example/custody")
    desk("party", "add", "north-lab", "--role", "lab")
    desk("party", "add", "quill-works", "--role", "supplier", "--title", "Quill Works")
    desk("host", "add", "north-lab/trainer")
    desk("host", "add", "quill-works/ws-1")
    desk("dataset", "add", "quill-works/problems", "--for", "north-lab")
    return desk


def make_environment_of(folder: Path, *distributions: Installed) -> Path:
    """A virtual environment's folder with these distributions and two ordinary ones."""
    return make_environment(folder, (*CLEAN, *distributions))


def write_texts(path: Path, count: int = 300) -> Path:
    """Some of Python's own texts as JSONL: module, name, text."""
    with path.open("w", encoding="utf-8") as file:
        for number, record in enumerate(python_texts()):
            if number >= count:
                break
            file.write(json.dumps(record) + "\n")
    return path


def incident_advisories(folder: Path) -> Path:
    """The advisories of the incident: the shared folder where there is one, else the demo's own."""
    if INCIDENT.is_dir():
        return INCIDENT
    folder.mkdir(exist_ok=True)
    for arrival in ARRIVALS:
        write_advisory(arrival, folder)
    return folder


def shell(*arguments: Any, cwd: Path, code: int = 0, **environment: str) -> Said:
    """Run the installed ``safehold`` in a process of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("SAFEHOLD_")}
    done = subprocess.run(
        [str(SAFEHOLD), *map(str, arguments)],
        cwd=cwd,
        env=known | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.code == code, (arguments, said)
    return said


def changed(environment: Path, *distributions: Installed) -> Path:
    """The environment with further distributions."""
    for one in distributions:
        install(environment, one)
    return environment


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own with little room; skips where this user cannot mount one."""
    path.mkdir(parents=True)
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small file system can be mounted by root alone")
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    done = subprocess.run(options, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)


def fill(folder: Path) -> Path:
    """Leave no room in the file system of ``folder``; remove the file that this returns to free it."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path
