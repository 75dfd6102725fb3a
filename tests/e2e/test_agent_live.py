"""The agent against a real served broker: away and back, killed in the middle of a send, torn, keys of ssh-agent."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from safehold.inventory.agent.delivery import PATH, Door
from safehold.inventory.agent.rounds import Rounds, RoundWish
from safehold.ledger.keys import SigningKey
from safehold.model.statements import InventoryConfirmed, InventoryRecorded
from tests.cli_kit import Desk
from tests.inventory_kit import AGENT, Environment
from tests.serve_kit import Running, ready_desk, running

HOST = "north-lab/agent"
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return ready_desk(tmp_path_factory.mktemp("live"))


class Hosted:
    """A host with one environment, its key and its agent; a clock that is moved by hand."""

    def __init__(self, desk: Desk, folder: Path, host: str) -> None:
        self.desk, self.folder, self.host = desk, folder, host
        self.environment = Environment(folder / "venv")
        self.environment.install("quiet-tool", "1.0", {"quiet.py": "A = 1\n"})
        self.key = folder / "key"
        key = SigningKey.generate()
        key.save(self.key)
        (folder / "key.pub").write_text(key.public.line + "\n")
        desk("host", "add", host, "--key", folder / "key.pub")
        self.at = time.time_ns() // 1000 - 60 * MINUTE

    def round(self, url: str | None, **changed: Any) -> dict[str, int]:
        """One round in this process, a minute later."""
        self.at += MINUTE
        named = (os.fsencode(self.environment.root),)
        wish = RoundWish(self.host, str(self.folder / "spool"), str(self.key), named, root=b"/nowhere", confirm_every=1)
        return Rounds(wish._replace(**changed), lambda: self.at, Door(url) if url else None).once()

    def command(self, verb: str, url: str, *more: Any, key: Path | None = None) -> list[str]:
        words = [sys.executable, "-I", "-S", AGENT, verb, "--host", self.host, "--spool", self.folder / "spool"]
        words += ["--environment", self.environment.root, "--root", "/nowhere", "--key", key or self.key]
        return list(map(str, [*words, "--broker", url, *more]))

    @property
    def waiting(self) -> int:
        return len(list((self.folder / "spool").glob("venv*/*.json")))

    @property
    def entries(self) -> list[InventoryRecorded | InventoryConfirmed]:
        """What the ledger has of the environment, in order."""
        home = self.desk.session().factory().open(self.desk.home)
        with home.log.view() as view:
            (size,) = view.rows("SELECT max(idx) FROM observation")[0]
        found = [home.log.entry(index).statement for index in range((size or 0) + 1)]
        home.close()
        return [
            one
            for one in found
            if isinstance(one, InventoryRecorded | InventoryConfirmed)
            and one.host == self.host
            and one.environment != "host"
        ]

    @property
    def number(self) -> int:
        """How many messages the agent ever wrote of the environment."""
        (state,) = (self.folder / "spool").glob("venv*/.state")
        return int(json.loads(state.read_text())["number"])

    def check_whole(self) -> None:
        """Nothing lost, nothing doubled, and in order."""
        entries = self.entries
        assert len(entries) == self.number
        assert len({one.report for one in entries}) == len(entries)
        times = [one.observed if isinstance(one, InventoryRecorded) else one.until for one in entries]
        assert times == sorted(times)


@pytest.fixture
def hosted(desk: Desk, tmp_path: Path, request: pytest.FixtureRequest) -> Hosted:
    name = re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")
    return Hosted(desk, tmp_path, f"north-lab/{name}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _until(true: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait for a condition of another process; a minute at most."""
    end, pause = time.monotonic() + 60, threading.Event()
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        assert process is None or process.poll() is None, "it ended"
        pause.wait(0.02)


def _kill(server: Running) -> None:
    for one in (server.process.pid, server.front, server.vault):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    server.process.wait(60)


def test_it_runs_on_while_the_broker_is_away_and_catches_up_in_order(desk: Desk, hosted: Hosted) -> None:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = hosted.command("run", url, "--every", "0.05", "--confirm-every", "0", "--glance-every", "0")
    serving = lambda: running(desk, "--listen", f"127.0.0.1:{port}")  # noqa: E731 - it is what is done twice
    with serving() as server, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            _until(lambda: bool(hosted.entries), process)
            _kill(server)
            for number in range(3):
                before = hosted.waiting
                hosted.environment.write(f"later_{number}.py", f"B = {number}\n")
                _until(lambda before=before: hosted.waiting > before + 1, process)
            with serving():
                _until(lambda: len({one.inventory for one in hosted.entries}) >= 4, process)
                _until(lambda: hosted.waiting <= 1, process)
                process.terminate()
                rounds = [json.loads(line) for line in process.stdout or ()]
                assert process.wait(60) == 0
                done = subprocess.run(hosted.command("once", url), check=True, capture_output=True, text=True)
                assert json.loads(done.stdout)["waiting"] == 0
        finally:
            process.kill()
    assert any(one["waiting"] for one in rounds)
    hosted.check_whole()
    confirmed = [one for one in hosted.entries if isinstance(one, InventoryConfirmed)]
    assert confirmed, "silence of the broker is no silence of the host"


@pytest.fixture(scope="module")
def served(desk: Desk) -> Iterator[Running]:
    with running(desk) as server:
        yield server


class Relay:
    """Passes a request on to the broker, and calls ``before_answer`` when the broker has answered but nobody knows it."""

    def __init__(self, url: str, before_answer: Callable[[], None]) -> None:
        host = url.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                connection = http.client.HTTPConnection(host, timeout=30)
                connection.request("POST", self.path, body, {"Content-Type": "application/json"})
                status = connection.getresponse().status
                connection.close()
                assert status == 200
                before_answer()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_kill_between_the_entry_and_its_answer_doubles_nothing(hosted: Hosted, served: Running) -> None:
    hosted.round(None)
    hosted.environment.write("more.py", "B = 1\n")
    started: list[subprocess.Popen[str]] = []
    killed, ready = threading.Event(), threading.Event()

    def kill() -> None:
        ready.wait(30)
        started[0].kill()
        killed.set()

    relay = Relay(served.url, kill)
    try:
        with subprocess.Popen(hosted.command("once", relay.url), text=True) as process:
            started.append(process)
            ready.set()
            assert process.wait(60) == -signal.SIGKILL
        assert killed.wait(30)
    finally:
        relay.server.shutdown()
        relay.server.server_close()
    hosted.at = time.time_ns() // 1000
    assert hosted.round(served.url)["waiting"] == 0
    hosted.check_whole()


def test_a_torn_message_is_told_and_the_environment_reports_anew(hosted: Hosted, served: Running) -> None:
    hosted.round(served.url)
    for number in range(2):
        hosted.environment.write(f"more_{number}.py", "B = 1\n")
        hosted.round(None)
    first = min((hosted.folder / "spool").glob("venv*/*.json"))
    first.write_bytes(first.read_bytes()[:-40])
    told = hosted.round(served.url)
    assert (told["waiting"], told["failed"]) == (0, 0)
    known = len(hosted.entries)
    hosted.round(served.url)
    assert [type(one) for one in hosted.entries[known:]] == [InventoryRecorded], "anew and in full"
    assert hosted.entries[-1].inventory == hosted.entries[-2].inventory


def test_a_clock_that_jumps_ahead_is_refused_and_nothing_is_claimed_for_the_time_between(
    hosted: Hosted, served: Running
) -> None:
    hosted.round(served.url)
    known, before = len(hosted.entries), hosted.at
    hosted.at += 24 * 60 * MINUTE
    hosted.environment.write("more.py", "B = 1\n")
    assert hosted.round(served.url)["waiting"] == 0
    assert [one for one in hosted.entries[known:] if one.inventory != hosted.entries[0].inventory] == []
    (refused,) = (hosted.folder / "spool").glob("venv*/refused")
    assert list(refused.glob("*.json"))
    hosted.at = before + MINUTE
    assert hosted.round(served.url)["waiting"] == 0
    last = hosted.entries[-1]
    assert isinstance(last, InventoryRecorded)
    assert last.observed == hosted.at


def test_the_key_may_live_in_ssh_agent_alone(hosted: Hosted, served: Running, tmp_path: Path) -> None:
    place = str(tmp_path / "agent.sock")
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL) as keeper:
        try:
            _until(lambda: Path(place).exists(), keeper)
            known = os.environ | {"SSH_AUTH_SOCK": place}
            subprocess.run(["ssh-add", "-q", str(hosted.key)], env=known, check=True)
            hosted.key.unlink()
            command = hosted.command("once", served.url, key=hosted.folder / "key.pub")
            done = subprocess.run(command, env=known, check=True, capture_output=True, text=True)
        finally:
            keeper.terminate()
    assert json.loads(done.stdout)["waiting"] == 0
    hosted.check_whole()
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode in (0, 6)
    hosted.environment.write("more.py", "B = 1\n")
    alone = subprocess.run(command, check=False, capture_output=True, text=True)
    assert alone.returncode == 6, "without a signature nothing is said"
    assert "ssh-keygen did not sign" in alone.stderr


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"message": "{}"}, "signature"),
        ({"signature": "none"}, "ledger.sshsig_form"),
        ({"host": "north-lab/nobody"}, "inventory.host_unknown"),
        ({"message": 7}, ""),
    ],
)
def test_what_no_host_signed_is_a_problem_document(
    hosted: Hosted, served: Running, change: dict[str, Any], code: str
) -> None:
    hosted.round(None)
    path = min((hosted.folder / "spool").glob("venv*/*.json"))
    body = {"host": hosted.host, "message": path.read_text(), "signature": path.with_suffix(".sig").read_text()}
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)
    connection.request("POST", PATH, json.dumps(body | change), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    problem = json.loads(answer.read())
    connection.close()
    assert answer.getheader("Content-Type") == "application/problem+json"
    assert 400 <= answer.status < 500
    assert problem["status"] == answer.status
    assert code in problem["code"]
    assert hosted.entries == []
