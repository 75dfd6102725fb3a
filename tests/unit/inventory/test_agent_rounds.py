"""Rounds: look, glance, spools of their own, and delivery in order while the broker comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from safehold.inventory import agent
from safehold.inventory.agent import base, rounds, site
from safehold.inventory.agent.base import AgentError
from safehold.inventory.agent.delivery import PATH, Door, deliver
from safehold.inventory.agent.program import main
from safehold.inventory.agent.rounds import Rounds, RoundWish
from safehold.inventory.report import InventoryConfirmation, InventoryReport, parse_message, verify_message
from safehold.ledger.keys import SigningKey
from tests.inventory_kit import AGENT, HOST, Environment

MINUTE = 60_000_000


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv")
    made.install("quiet-tool", "1.0", {"quiet.py": "A = 1\n"})
    return made


class Clock:
    def __init__(self) -> None:
        self.at = 1_774_348_740_000_000

    def __call__(self) -> int:
        return self.at


def _rounds(environment: Environment, tmp_path: Path, post: Any = None) -> tuple[Rounds, Clock]:
    clock = Clock()
    wish = RoundWish(
        HOST,
        str(tmp_path / "spool"),
        environments=(str(environment.root).encode(),),
        root=str(tmp_path / "host").encode(),
        confirm_every=600_000_000,
    )
    return Rounds(wish, clock, post), clock


def _spool(tmp_path: Path, name: str) -> list[Any]:
    (folder,) = (tmp_path / "spool").glob(f"{name}*")
    return [parse_message(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def test_a_round_reports_each_environment_and_the_host(environment: Environment, tmp_path: Path) -> None:
    made, _ = _rounds(environment, tmp_path)
    assert made.once() == {"environments": 1, "failed": 0, "sent": 0, "waiting": 0, "written": 2}
    assert made.once()["written"] == 0, "only changes travel"
    environment.write("more.py", "B = 1\n")
    assert made.once()["written"] >= 1
    (host,) = _spool(tmp_path, "host")
    assert host.environment == "host"
    assert host.contents.environments[0].name == _spool(tmp_path, "venv")[0].environment


def test_one_environment_that_fails_is_unknown_and_stops_no_other(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = _rounds(environment, tmp_path)

    def gone(*_: object) -> int:
        raise AgentError(2, "it is gone")

    monkeypatch.setattr(rounds, "record_environment", gone)
    told = made.once()
    assert (told["failed"], told["written"]) == (1, 1)
    assert "is unknown: it is gone" in capsys.readouterr().err


def test_a_look_holds_while_nothing_moves_and_fails_for_every_kind_of_change(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_SETTLED_NS", 0)
    folder, memory = str(environment.root).encode(), agent.Memory()
    (environment.root / "bin" / "tool").write_text("#!script\n")
    metadata = environment.install("scripted", "1")
    rows = [[f"../../../bin/{name}", "", ""] for name in ("tool", "later")]
    environment.write_record(metadata.name, [*rows, [f"{metadata.name}/RECORD", "", ""]])
    changes = [
        lambda: environment.write("new.py"),
        lambda: environment.write("new.py", "x"),
        (environment.site / "new.py").unlink,
        (environment.site / "folder").mkdir,
        lambda: (environment.site / "folder" / "link").symlink_to("nowhere"),
        lambda: (environment.root / "bin" / "tool").write_text("#!other\n"),
        lambda: (environment.root / "bin" / "later").write_text(""),
        lambda: (environment.root / "pyvenv.cfg").write_text("include-system-site-packages = true\n"),
        lambda: environment.write("../sitecustomize.py", ""),
    ]
    for number, change in enumerate(changes):
        contents = agent.sweep(folder, memory)
        assert agent.look(folder, memory) == agent.contents_digest(contents), number
        change()
        assert agent.look(folder, memory) is None, number
    assert len(changes) == 9


def test_a_look_at_fresh_files_is_no_evidence(environment: Environment) -> None:
    memory = agent.Memory()
    folder = str(environment.root).encode()
    agent.sweep(folder, memory)
    assert agent.look(folder, memory) is None


def test_memory_comes_back_from_disk_as_it_was(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_SETTLED_NS", 0)
    memory = agent.Memory()
    contents = agent.sweep(str(environment.root).encode(), memory)
    memory.save(str(tmp_path))
    again = agent.Memory.load(str(tmp_path))
    assert (again.known, again.listing, again.inventory, again.extras) == (
        memory.known,
        memory.listing,
        memory.inventory,
        memory.extras,
    )
    assert agent.sweep(str(environment.root).encode(), again) == contents
    (tmp_path / ".memory").write_bytes((tmp_path / ".memory").read_bytes()[:-1])
    assert not agent.Memory.load(str(tmp_path))


def test_a_glance_sees_lists_and_hooks(environment: Environment) -> None:
    folder, seen = str(environment.root).encode(), dict[str, Any]()
    environment.write("sitecustomize/__init__.py", "A = 1\n")
    environment.write("Old-0.3.egg-info", "Name: Old\n\n")
    for _ in range(2):
        found = agent.glance(folder, seen)
        assert [(one["name"], one["version"]) for one in found["distributions"]] == [
            ("old", "0.3"),
            ("quiet-tool", "1.0"),
        ]
        assert [(one["path"], one["kind"]) for one in found["hooks"]] == [("sitecustomize", "sitecustomize")]
    environment.write("a.pth", "import sys\n")
    (environment.site / "quiet_tool-1.0.dist-info").rename(environment.site / "quiet_tool-0.9.dist-info")
    environment.write("linked.pth").unlink()
    (environment.site / "linked.pth").symlink_to("quiet.py")
    found = agent.glance(folder, seen)
    assert {(one["path"], one["runs"]) for one in found["hooks"]} == {
        ("a.pth", True),
        ("linked.pth", True),
        ("sitecustomize", True),
    }
    assert found["skipped"] == [{"path": "linked.pth", "reason": "unreadable"}]
    assert ("quiet_tool-0.9.dist-info", "1.0") in [(one["folder"], one["version"]) for one in found["distributions"]]


def test_a_glance_that_remembers_sees_what_one_without_memory_sees(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safehold.inventory.agent.environment._SETTLED_NS", 0)
    folder, seen = str(environment.root).encode(), dict[str, Any]()
    package = environment.write("sitecustomize/__init__.py", "A = 1\n")
    environment.write("Old-0.3.egg-info", "Name: Old\n\n")
    hook = environment.write("a.pth", "folder\n")
    metadata = environment.site / "quiet_tool-1.0.dist-info" / "METADATA"
    changes = [
        lambda: package.write_text("B = 1\n"),
        lambda: hook.write_text("import sys\n"),
        hook.unlink,
        lambda: metadata.write_text("Name: quiet-tool\nVersion: 0.9\n\n"),
        metadata.unlink,
        lambda: environment.write("../sitecustomize.py", "A = 1\n"),
        lambda: environment.write("sitecustomize.cpython-311-x86_64-linux-gnu.so", "x"),
    ]
    before = agent.glance(folder, seen)
    assert len(seen) == 4, "all is remembered"
    for change in changes:
        change()
        after = agent.glance(folder, seen)
        assert after == agent.glance(folder)
        assert after != before
        before = after


def test_a_hook_that_appears_between_rounds_starts_one(environment: Environment, tmp_path: Path) -> None:
    made, _ = _rounds(environment, tmp_path)
    waits: list[float] = []

    def stopped(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            environment.write("own.pth", "import sys\n")
        return len(waits) > 3

    made.run(3600.0, 7200.0, 1.0, stopped)
    assert waits == [1.0, 1.0, 1.0, 1.0], "each wait is a glance apart, and none is the hour"
    reports = [one for one in _spool(tmp_path, "venv") if isinstance(one, InventoryReport)]
    assert [[hook.path for hook in one.contents.hooks] for one in reports] == [[], ["own.pth"]]


# --- delivery -----------------------------------------------------------------------------------------


class Broker:
    """Answers as told, and keeps what was posted."""

    def __init__(self, answers: list[int]) -> None:
        self.answers, self.bodies, self.paths = answers, list[dict[str, str]](), list[str]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.paths.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.answers.pop(0) if outer.answers else 200
                if status == 200:
                    outer.bodies.append(body)
                code = "inventory.host_unknown" if status == 404 else "inventory.other"
                text = b"" if status == 200 else json.dumps({"code": code}).encode()
                text = b"<h1>no such page</h1>" if status == 403 else text
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker([])
    yield made
    made.server.shutdown()
    made.server.server_close()


def _waiting(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "waiting"
    folder.mkdir()
    for number in range(1, count + 1):
        (folder / f"{number:08d}.json").write_text(json.dumps({"number": number}))
        (folder / f"{number:08d}.sig").write_text(f"signature {number}")
    (folder / ".state").write_text("{}")
    return folder


def _numbers(broker: Broker) -> list[int]:
    return [json.loads(body["message"])["number"] for body in broker.bodies]


@pytest.mark.parametrize("busy", [503, 500, 429, 408, 404, 403])
def test_what_cannot_go_now_waits_and_goes_later_in_order(tmp_path: Path, broker: Broker, busy: int) -> None:
    folder = _waiting(tmp_path, 4)
    broker.answers = [200, busy]
    told = deliver(str(folder), HOST, Door(broker.url))
    assert (told["sent"], told["waiting"], told["refused"]) == (1, 3, 0)
    assert {404: "does not know this host", 403: "not of a broker"}.get(busy, str(busy)) in told["why"]
    told = deliver(str(folder), HOST, Door(broker.url))
    assert (told["sent"], told["waiting"]) == (3, 0)
    assert _numbers(broker) == [1, 2, 3, 4]
    assert broker.bodies[0] == {"host": HOST, "message": '{"number": 1}', "signature": "signature 1"}
    assert set(broker.paths) == {PATH}
    assert sorted(path.name for path in folder.iterdir()) == [".state"]


def test_no_broker_at_all_loses_nothing(tmp_path: Path, broker: Broker) -> None:
    folder = _waiting(tmp_path, 2)
    broker.server.socket.close()
    told = deliver(str(folder), HOST, Door("http://127.0.0.1:9"))
    assert (told["sent"], told["waiting"]) == (0, 2)
    assert told["why"]


def test_a_message_refused_for_good_is_kept_and_the_environment_reports_anew(tmp_path: Path, broker: Broker) -> None:
    folder = _waiting(tmp_path, 2)
    broker.answers = [400, 200]
    told = deliver(str(folder), HOST, Door(broker.url))
    assert (told["sent"], told["waiting"], told["refused"]) == (1, 0, 1)
    assert (folder / "refused" / "00000001.json").exists()
    assert (folder / "refused" / "00000001.sig").exists()
    assert not (folder / ".state").exists()


@pytest.mark.parametrize("damage", ["torn", "empty", "not-utf8", "no-signature", "empty-signature"])
def test_a_torn_message_is_set_aside_and_stops_no_other(tmp_path: Path, broker: Broker, damage: str) -> None:
    folder = _waiting(tmp_path, 3)
    message, signature = folder / "00000002.json", folder / "00000002.sig"
    if damage == "no-signature":
        signature.unlink()
    elif damage == "empty-signature":
        signature.write_bytes(b"")
    else:
        message.write_bytes({"torn": message.read_bytes()[:-3], "empty": b"", "not-utf8": b'{"number":"\xff"}'}[damage])
    told = deliver(str(folder), HOST, Door(broker.url))
    assert (told["sent"], told["waiting"], told["refused"]) == (2, 0, 1)
    assert _numbers(broker) == [1, 3]
    assert (folder / "refused" / "00000002.json").exists()
    assert not (folder / ".state").exists(), "its environment reports anew"


def test_refused_messages_are_bounded_and_no_number_is_given_twice(
    environment: Environment, tmp_path: Path, broker: Broker
) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key")
    made, clock = _rounds(environment, tmp_path, Door(broker.url))
    made.wish = made.wish._replace(key=str(tmp_path / "key"))
    broker.answers = [400] * 100
    for _ in range(20):
        clock.at += MINUTE
        assert made.once()["waiting"] == 0
    (folder,) = (tmp_path / "spool").glob("venv*")
    kept = sorted(path.name for path in (folder / "refused").glob("*.json"))
    assert kept == [f"{number:08d}.json" for number in range(5, 21)]


def test_a_full_spool_leaves_the_moment_unknown_and_what_waits_whole(environment: Environment, tmp_path: Path) -> None:
    made, clock = _rounds(environment, tmp_path)
    assert made.once()["failed"] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "spool").rglob("*.json")}
    made.wish = made.wish._replace(spool_limit=sum(map(len, before.values())) // 2)
    environment.write("new.py", "x")
    clock.at += MINUTE
    assert made.once()["failed"] == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "spool").rglob("*.json")} == before
    made.wish = made.wish._replace(spool_limit=1 << 30)
    clock.at += MINUTE
    assert made.once()["failed"] == 0
    old, new = _spool(tmp_path, "venv")[0], _spool(tmp_path, "venv")[-1]
    assert old.inventory != new.inventory
    assert new.observed == clock.at, "nothing is claimed of the minute for which there was no room"


def test_a_named_environment_that_is_gone_stops_no_other(environment: Environment, tmp_path: Path) -> None:
    made, _ = _rounds(environment, tmp_path)
    made.wish = made.wish._replace(environments=(b"/nowhere", *made.wish.environments))
    told = made.once()
    assert (told["environments"], told["failed"], told["written"]) == (1, 1, 2)


@pytest.mark.parametrize(
    "url", ["http://broker.example.invalid", "ftp://x", "nonsense", "http://192.0.2.1", "https://"]
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(AgentError):
        Door(url)


def test_once_signs_and_delivers_through_the_built_file(
    environment: Environment, tmp_path: Path, broker: Broker
) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key")
    command = [sys.executable, "-I", "-S", str(AGENT), "once", "--host", HOST, "--spool", str(tmp_path / "spool")]
    command += [
        "--environment",
        str(environment.root),
        "--root",
        str(tmp_path / "nothing"),
        "--key",
        str(tmp_path / "key"),
    ]
    for expected in (2, 0):
        done = subprocess.run([*command, "--broker", broker.url], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["sent"] == expected
    for body in broker.bodies:
        message = verify_message(body["message"].encode(), body["signature"], key.public)
        assert isinstance(message, InventoryReport | InventoryConfirmation)


def test_a_broker_without_a_key_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["once", "--host", HOST, "--spool", str(tmp_path / "s"), "--broker", "https://b.example.invalid"]) == 2
    assert "--key" in capsys.readouterr().err


def test_a_damaged_key_of_ids_is_refused(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / ".key").write_bytes(b"short")
    with pytest.raises(AgentError, match="32 bytes"):
        _rounds(environment, tmp_path)


def test_the_write_of_every_file_is_durable(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    whole = base.write_durable

    def seen(path: str, data: bytes) -> None:
        written.append(Path(path).name)
        whole(path, data)

    monkeypatch.setattr(base, "write_durable", seen)
    made, _ = _rounds(environment, tmp_path)
    made.once()
    assert {".key", ".state", "00000001.json"} <= set(written)
