"""Backups under fire: killed, out of room, and taken while others append."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from safehold.app.wiring import HomeFactory
from safehold.ledger.copy import copy_ledger, open_copy
from safehold.ledger.fsck import check_ledger
from tests.cli_kit import ROOT, Desk, fill, make_desk, small_disk, write_texts
from tests.ledger_kit import VERIFIER, open_log, party

KILLS = 10
TYPIST = """
import os, signal, sys
from pathlib import Path
from tests.cli_kit import Desk
import safehold.app.wiring

deadly, folder, *arguments = sys.argv[1:]
ours = ("app/backup.py", "app/backup_form.py", "app/restore.py", "ledger/copy.py", "ledger/disk.py", "ledger/export.py",
        "vault/keystore.py")
steps = 0

def step(frame, event, argument):
    global steps
    if event in ("call", "c_call") and frame.f_code.co_filename.endswith(ours):
        steps += 1
        if steps == int(deadly):
            os.kill(os.getpid(), signal.SIGKILL)

desk = Desk(Path(folder))
sys.setprofile(step)
desk(*arguments)
sys.setprofile(None)
print(steps)
"""


def typed(deadly: int, desk: Desk, *arguments: object) -> int:
    """Type a command in a process that dies at step ``deadly`` (0: never); how many steps there were."""
    done = subprocess.run(
        [sys.executable, "-c", TYPIST, str(deadly), str(desk.folder), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if deadly else 0), done.stderr
    return 0 if deadly else int(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = make_desk(tmp_path_factory.mktemp("backup") / "desk")
    desk("seal", write_texts(desk.folder / "records.jsonl", 100), "--dataset", "quill-works/problems")
    return desk


def points(total: int) -> list[int]:
    """Steps to die at: near both ends and anywhere between."""
    assert total > 60
    return sorted({1, total - 12, total - 4, *random.sample(range(1, total - 4), KILLS)})


@pytest.mark.parametrize("earlier", [False, True])
def test_a_killed_backup_is_none_and_running_again_finishes_it(made: Desk, tmp_path: Path, earlier: bool) -> None:
    desk = made.copy(tmp_path / "desk")
    backup = desk.folder / "backup"
    command = ["backup", "to", backup, "--releases"]
    if earlier:
        desk(*command)
        desk("party", "add", "p-1", "--role", "lab")
    shutil.copytree(desk.folder, tmp_path / "whole")
    size = desk.json("log", "checkpoint")["size"]
    refused = 0
    for deadly in points(
        typed(0, Desk(tmp_path / "whole"), "backup", "to", tmp_path / "whole" / "backup", "--releases")
    ):
        again = desk.copy(tmp_path / f"desk-{deadly}")
        place = again.folder / "backup"
        typed(deadly, again, "backup", "to", place, "--releases")
        said = again("backup", "verify", place, "--json", code=None)
        if said.code:
            refused += 1
            assert said.document["error"]["code"] == "app.no_backup", deadly
            assert again.error("restore", place, "--home", again.folder / "new", code=6)["code"] == "app.no_backup"
        else:  # the earlier one untouched, or the new one finished
            assert said.document["size"] in ({size, size - 1} if earlier else {size}), deadly
        assert again.json("backup", "to", place, "--releases")["size"] == size
        assert again.json("backup", "verify", place)["size"] == size
        left = [path.name for path in place.rglob("*") if path.name.startswith(".")]
        assert left == [], deadly
    assert refused or earlier  # over an earlier one, only the few steps between two renames leave none


def test_a_killed_restore_leaves_no_home_or_a_whole_one(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    backup = desk.folder / "backup"
    size = desk.json("backup", "to", backup, "--releases")["size"]
    total = typed(0, desk, "restore", "from", backup, "--home", desk.folder / "whole")
    for deadly in points(total):
        new = desk.folder / f"new-{deadly}"
        typed(deadly, desk, "restore", "from", backup, "--home", new)
        if new.exists():
            assert desk.error("restore", "from", backup, "--home", new, code=7)["code"] == "app.home_exists"
        else:
            desk("restore", "from", backup, "--home", new)
        other = Desk(desk.folder / "other")
        other.home = new
        assert other.error("party", "add", "p-1", "--role", "lab", code=5)["code"] == "ledger.restored"
        assert other.json("restore", "accept", "--reason", "killed")["size"] == size
        assert other.json("fsck")["problems"] == []
        assert not list(desk.folder.glob(".new-*")), deadly


@pytest.mark.parametrize("room", [0, 40, 180, 250, 280])
def test_a_full_disk_breaks_nothing(made: Desk, tmp_path: Path, room: int) -> None:
    """``room``: KiB that are left."""
    desk = made.copy(tmp_path / "desk")
    with small_disk(tmp_path / "disk", 8) as disk:
        backup = disk / "backup"
        filling = fill(disk)
        os.truncate(filling, filling.stat().st_size - room * 1024)
        error = desk.error("backup", backup, "--releases", code=5)
        assert error["hint"]
        assert "full" in error["message"] or "No space" in error["message"], error
        if backup.exists():
            assert desk.error("backup", "verify", backup, code=6)["code"] == "app.no_backup"
        filling.unlink()
        size = desk.json("backup", backup, "--releases")["size"]
        filling = fill(disk)
        os.truncate(filling, filling.stat().st_size - room * 1024)
        error = desk.error("restore", backup, "--home", disk / "new", code=5)
        assert not (disk / "new").exists()
        filling.unlink()
        assert desk.json("restore", backup, "--home", disk / "new")["size"] == size


def test_what_was_acknowledged_before_the_copy_is_in_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(*(party(number) for number in range(2000)))
    acknowledged, stop, errors = [2000], threading.Event(), list[BaseException]()

    def append(worker: int) -> None:
        number = (worker + 1) * 1_000_000
        try:
            while not stop.is_set():
                (entry,) = log.append_statements(party(number))
                acknowledged.append(entry.index + 1)
                number += 1
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    sizes = []
    try:
        for number in range(6):
            while max(acknowledged[-8:]) < 2000 + 40 * (number + 1):
                threading.Event().wait(0.001)
            before = max(acknowledged[-8:])
            copy_ledger(tmp_path / "ledger.db", tmp_path / f"copy-{number}.db")
            with open_copy(tmp_path / f"copy-{number}.db") as view:
                sizes.append(view.size())
            assert sizes[-1] >= before
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    with log.view() as now:
        for number, size in enumerate(sizes):
            with open_copy(tmp_path / f"copy-{number}.db") as view:
                assert check_ledger(view, VERIFIER) == []
                assert view.bodies(0, size) == now.bodies(0, size), "a prefix"
            assert not (tmp_path / f"copy-{number}.db-wal").exists()
    assert sizes == sorted(sizes)
    assert sizes[-1] < log.checkpoint().size or sizes[0] > 2000
    log.close()


def test_a_backup_of_a_home_in_use_is_whole(made: Desk, tmp_path: Path) -> None:
    desk = made.copy(tmp_path / "desk")
    home = HomeFactory().open(desk.home)
    stop = threading.Event()

    def append(worker: int) -> None:
        number = 0
        while not stop.is_set():
            home.log.append_statements(party(worker * 1_000_000 + number))
            number += 1

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = home.log.checkpoint().size
            assert desk.json("backup", desk.folder / "backup", "--releases")["size"] >= before
            desk("backup", "verify", desk.folder / "backup")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        home.close()
