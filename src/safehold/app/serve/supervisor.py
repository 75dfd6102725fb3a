"""The supervisor: starts the vault process and the front, watches them, and ends them in order.

It speaks to nobody. It hands the passphrase to the vault process through a pipe and forgets it; the front is started
with an empty environment, so that nothing secret is ever in its memory. When one of the two ends by itself, the other is
ended and the supervisor says so: a service manager starts all of it again. SIGTERM drains the front first, and only then
ends the vault process, so that no answer is lost on the way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final

import msgspec

from safehold.app.serve.plan import FrontPlan, bind, checked_plan
from safehold.model.errors import SafeholdError, StorageFailed

__all__ = ["Serving", "serve"]

_START_SECONDS: Final = 60
_END_SECONDS: Final = 40
_SEGMENTS_SECONDS: Final = 3600.0
_PYTHON: Final = (sys.executable, "-I", "-B", "-m")


class Serving(msgspec.Struct, frozen=True):
    """What runs: where it is reached, and the two processes."""

    url: str
    vault: int
    front: int


def serve(
    home: Path, plan: FrontPlan, passphrase: str, told: Callable[[Serving], None], kms_ports: tuple[int, ...] = ()
) -> None:
    """Serve ``home`` until SIGTERM or SIGINT; ``told`` is called once when both processes are ready.

    Raises what the plan's checks raise, what a process said when it could not start, and ``StorageFailed``
    (``serve.ended``) when one ended by itself.
    """
    checked_plan(plan)
    with bind(plan) as probe:  # the address is looked at first: unlocking the keys takes a while
        port = probe.getsockname()[1]
    plan = msgspec.structs.replace(plan, port=port)
    with tempfile.TemporaryDirectory(prefix="safehold-") as folder, _signals() as ending, ExitStack() as running:
        vault = running.enter_context(_vault(home, Path(folder), passphrase, kms_ports))
        del passphrase
        front = running.enter_context(_front(Path(folder), plan))  # ends first
        scheme = "https" if plan.certificate else "http"
        host = f"[{plan.host}]" if ":" in plan.host else plan.host
        told(Serving(f"{scheme}://{host}:{port}", vault.pid, front.pid))
        threading.Thread(target=_keep_segments, args=(home, ending), name="segments", daemon=True).start()
        ended = _wait(ending, {"vault process": vault, "front": front})
    if ended:
        raise StorageFailed("serve.ended", f"the {ended} ended by itself", "see its last words above, then serve again")


def _keep_segments(home: Path, ending: threading.Event) -> None:
    """Once an hour seal what is due for queries, in a process of its own: it needs a library that the vault must not load.

    A run that fails harms nothing, and the next tries again: entries are where they were.
    """
    command = [sys.executable, "-I", "-B", "-c", "from safehold.app.main import main; main()"]
    command += ["--home", str(home.absolute()), "log", "segment", "--due"]
    while not ending.wait(_SEGMENTS_SECONDS):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SEGMENTS_SECONDS,
                check=False,
            )


def _wait(ending: threading.Event, processes: dict[str, subprocess.Popen[bytes]]) -> str:
    while not ending.wait(0.2):
        for name, process in processes.items():
            if process.poll() is not None:
                return name
    return ""


class _Child:
    """A started process and what it writes to its standard error. ``told``: that has been raised as an error already."""

    def __init__(self, process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self.process = process
        self.told = False
        self._words = words

    def words(self) -> str:
        """What it said."""
        self._words.seek(0)
        return self._words.read(1 << 16).decode(errors="replace")

    def await_ready(self) -> None:
        """Return when it says that it is ready. Raises the error that it wrote, or ``StorageFailed`` (``serve.start``)."""
        timer = threading.Timer(_START_SECONDS, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline() if self.process.stdout else b""
        finally:
            timer.cancel()
        if line == b"ready\n":
            return
        self.process.wait()
        words = self.words()
        error = _told_error(words)
        if error is not None:
            self.told = True
            raise error
        last = (words.strip().splitlines() or ["it said nothing"])[-1]
        raise StorageFailed("serve.start", f"a process of the server did not start: {last}", "run again with --debug")


@contextmanager
def _vault(home: Path, folder: Path, passphrase: str, ports: tuple[int, ...]) -> Iterator[subprocess.Popen[bytes]]:
    command = [*_PYTHON, "safehold.app.serve.vault_process", "--home", str(home.absolute()), "--folder", str(folder)]
    command += [word for port in ports for word in ("--kms-port", str(port))]
    # PostgreSQL's password file and the KMS's credentials are found by what the environment says.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFEHOLD_PASSPHRASE")}
    with _started(command, kept, subprocess.PIPE) as child:
        if child.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.process.stdin.write(passphrase.encode(errors="surrogateescape") + b"\n")
                child.process.stdin.flush()
        child.await_ready()
        yield child.process


@contextmanager
def _front(folder: Path, plan: FrontPlan) -> Iterator[subprocess.Popen[bytes]]:
    text = msgspec.json.encode(plan).decode()
    command = [*_PYTHON, "safehold.app.serve.front_process", "--folder", str(folder), "--plan", text]
    with _started(command, {}, subprocess.DEVNULL) as child:
        child.await_ready()
        yield child.process


@contextmanager
def _started(command: list[str], environment: dict[str, str], stdin: int) -> Iterator[_Child]:
    with tempfile.TemporaryFile() as words:
        # A session of its own: an interrupt typed at the terminal goes to the supervisor alone, which ends both in order.
        process = subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=words, start_new_session=True
        )
        child = _Child(process, words)
        try:
            yield child
        finally:
            _end(process)
            said = child.words()
            if said.strip() and not child.told:
                sys.stderr.write(said.replace("\t", "  "))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _told_error(words: str) -> SafeholdError | None:
    """The error that a process wrote as its last line, as the process raised it; None if it wrote none."""
    lines = [line.split("\t") for line in words.splitlines() if line.count("\t") == 3]
    if not lines:
        return None
    code, exit_code, message, hint = lines[-1]
    kinds = {str(kind.exit_code): kind for kind in SafeholdError.__subclasses__()}
    return kinds.get(exit_code, StorageFailed)(code, message, hint)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the handlers of before come back at the end."""
    ending = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        ending.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
