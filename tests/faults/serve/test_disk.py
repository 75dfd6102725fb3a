"""The disk fails or is full while the broker serves: refusals with our code, no key, and the truth at ``/readyz``."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apsw
import pytest

from safehold.broker.connection import Connection, Patience
from safehold.ledger.audit import audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.sqlite import SqliteStore
from safehold.model.errors import StorageFailed
from safehold.model.statements import KeyReleased
from safehold.state.projection import StateProjector
from tests import broker_kit
from tests.broker_kit import World, make_world
from tests.cli_kit import Desk
from tests.faults.serve.test_killed_processes import TRAINER, Asker, released, send
from tests.ledger_kit import memory_folder
from tests.serve_kit import Seam, ready_desk, running
from tests.vfs_kit import Disk, DiskStore, Fault, disk

NUMBERS = count()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Seam, Disk]]:
    """A served world whose ledger is on a disk that can be made to fail."""
    with memory_folder() as folder, disk(f"served-{next(NUMBERS)}") as made:
        monkeypatch.setattr(broker_kit, "SqliteStore", lambda path: DiskStore(path, made))
        seam = Seam(make_world(folder), folder / "socket")
        assert seam.ask().status == 200  # so that what is read once is read
        yield seam, made
        made.fault = None
        seam.close()


def ready(seam: Seam) -> tuple[int, str]:
    said = seam.call("GET", "/readyz")
    return said.status, said.document.get("code", "")


def is_refused(seam: Seam, releases: int) -> str:
    """The next request gets a 503 with a code of the ledger, and no key is unwrapped; the code."""
    asked = len(seam.world.part_keys.asked)
    said = seam.ask()
    assert said.status == 503, said
    assert said.headers["content-type"] == "application/problem+json"
    assert said.document["hint"]
    assert len(seam.world.part_keys.asked) == asked
    with SqliteStoreView(seam.world) as view:
        assert len(view) == releases
    return str(said.document["code"])


class SqliteStoreView:
    """The releases that stand in the ledger's file, read by an opener of its own."""

    def __init__(self, world: World) -> None:
        self._path = Path(world.store._path)

    def __enter__(self) -> list[tuple[Any, ...]]:
        self._store = SqliteStore(self._path)
        with self._store.read() as view:
            return view.rows("SELECT idx FROM key_release")

    def __exit__(self, *_: object) -> None:
        self._store.close()


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["ENOSPC", "EIO"])
def test_a_disk_that_fails_at_any_write_of_a_request_lets_no_key_out(
    broken: tuple[Seam, Disk], error: type[apsw.Error]
) -> None:
    """Once, at each write and sync in turn: a refusal or an answer, and afterwards all goes on."""
    seam, made = broken
    refused = 0
    for at in count(1):
        before = len(seam.world.statements(KeyReleased))
        made.fault = Fault(error, at)
        said = seam.ask()
        fault, made.fault = made.fault, None
        assert fault is not None
        assert (said.status == 200) == (len(seam.world.statements(KeyReleased)) == before + 1)
        if said.status == 200:
            if not fault.failed:
                break
            continue
        refused += 1
        assert said.status == 503
        assert said.document["code"] in {"ledger.disk_full", "ledger.not_appended"}
        assert ready(seam) == (503, said.document["code"])
        if at % 2:
            seam.desk.tick()  # nobody asks: it finds out by itself
        else:
            assert seam.ask().status == 200
        assert ready(seam) == (200, "")
    assert refused >= 4
    assert seam.ask().status == 200


def test_a_full_disk_refuses_for_as_long_as_it_is_full(broken: tuple[Seam, Disk]) -> None:
    seam, made = broken
    made.fault = Fault(apsw.FullError, 1, lasting=True)
    for _ in range(3):
        assert is_refused(seam, 1) in {"ledger.disk_full", "ledger.closed"}
        assert ready(seam)[0] == 503
        with pytest.raises(StorageFailed):
            seam.desk.tick()
        assert ready(seam)[0] == 503
    made.fault = None
    seam.desk.tick()
    assert ready(seam) == (200, ""), "space came back, and nothing had to be started anew"
    assert seam.ask().status == 200


def test_a_disk_that_stays_broken_in_a_commit_says_that_it_must_be_started_anew(broken: tuple[Seam, Disk]) -> None:
    """Whether the entry is there cannot be known: nothing more is appended, and nothing is claimed."""
    seam, made = broken
    made.fault = Fault(apsw.IOError, 1, lasting=True, syncs_only=True)
    said = seam.ask()
    assert (said.status, said.document["code"]) == (503, "ledger.uncertain")
    made.fault = None
    seam.desk.tick()
    said = seam.call("GET", "/readyz")
    assert (said.status, said.document["code"]) == (503, "ledger.uncertain")
    assert "serve again" in said.document["hint"]
    world = seam.world
    log = Log(
        SqliteStore(world.store._path), CheckpointLock(Path(world.store._path).with_name("lock.db")), world.signer,
        "north-lab.example/custody", StateProjector(),
    )  # fmt: skip
    assert log.read_only is None, "a new start goes on"
    with log.view() as view:
        assert check_ledger(view, log.verifier) == []
        export_ledger(view, log.verifier, Path(world.store._path).with_name("export"))
        size = view.size()
    assert audit_export(Path(world.store._path).with_name("export"), log.verifier).checkpoint.size == size
    log.close()


# --- a real server on a disk that is really full -------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, or a skip that says why there is none."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system: {error}")
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def is_ready(url: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("code", "")
    finally:
        connection.close()


def test_a_server_on_a_full_disk_refuses_says_so_and_goes_on_when_there_is_room(tmp_path: Path, small: Path) -> None:
    made = ready_desk(tmp_path / "desk")
    shutil.copytree(made.folder, small / "desk")
    desk = Desk(tmp_path / "desk")  # what the server says goes there
    desk.home = small / "desk" / "home"
    asker = Asker(desk)
    with running(desk) as server:
        first = send(server.url, asker.new())
        assert first.status == 200
        assert is_ready(server.url) == (200, "")
        _fill(small)
        refused, codes = [], set()
        for _ in range(400):  # the log of changes has some room left in it
            asked = asker.new()
            said = send(server.url, asked)
            if said.status != 200:
                assert said.status == 503
                codes.add(said.document["code"])
                refused.append(asked)
                if len(refused) >= 5:
                    break
        assert codes <= {"ledger.disk_full", "ledger.not_appended", "ledger.no_room"}, codes
        assert len(refused) == 5
        assert is_ready(server.url) in {(503, code) for code in codes}
        with Connection([server.url], asker.signer, patience=Patience(attempts=1)) as connection:
            assert connection.holds(TRAINER).holds == (), "what needs no entry is answered"
        (small / "ballast").unlink()
        deadline = time.monotonic() + 30
        while is_ready(server.url) != (200, ""):
            assert time.monotonic() < deadline, "it finds by itself that there is room"
            threading.Event().wait(0.1)
        assert all(send(server.url, asked).status == 200 for asked in refused), "the same requests, and no restart"
    places = released(desk)
    assert all(len(places[asked.request]) == 1 for asked in refused)
    assert desk.json("fsck")["problems"] == []


def _fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
