"""The lock database: an older or another ledger in the place of the newer one is seen, and nothing is written to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.note import sign_checkpoint
from safehold.model.errors import StorageFailed
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, open_log, party


def _grow(folder: Path, *numbers: int) -> None:
    log = open_log(folder)
    for number in numbers:
        log.append_statements(party(number))
    log.close()


def _is_read_only(folder: Path, size: int) -> StorageFailed:
    log = open_log(folder)
    assert isinstance(log.read_only, StorageFailed)
    with pytest.raises(StorageFailed) as caught:
        log.append_statements(party(99))
    assert caught.value.code == log.read_only.code == "ledger.rolled_back"
    with log.view() as view:
        assert view.size() == size, "reading goes on, and nothing was appended"
    assert log.checkpoint().size == size
    log.close()
    return caught.value


def test_an_older_copy_of_the_ledger_opens_read_only(tmp_path: Path) -> None:
    _grow(tmp_path, 1, 2, 3)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "older")
    _grow(tmp_path, 4, 5)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "newer")
    shutil.copy(tmp_path / "older", tmp_path / "ledger.db")
    assert "3 entries, but 5" in _is_read_only(tmp_path, 3).message
    _is_read_only(tmp_path, 3)
    shutil.copy(tmp_path / "newer", tmp_path / "ledger.db")
    _grow(tmp_path, 6)


@pytest.mark.parametrize("more", [(7, 8), (7, 8, 9, 10)])
def test_a_ledger_that_went_another_way_opens_read_only(tmp_path: Path, more: tuple[int, ...]) -> None:
    _grow(tmp_path / "one", 1, 2, 3)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    _grow(tmp_path / "one", 4, 5)
    _grow(tmp_path / "two", *more)
    shutil.copy(tmp_path / "two" / "ledger.db", tmp_path / "one" / "ledger.db")
    _is_read_only(tmp_path / "one", 3 + len(more))


def test_a_lock_that_is_behind_is_normal_and_is_caught_up(tmp_path: Path) -> None:
    _grow(tmp_path, 1, 2)
    shutil.copy(tmp_path / "lock.db", tmp_path / "older")
    _grow(tmp_path, 3)
    shutil.copy(tmp_path / "older", tmp_path / "lock.db")
    log = open_log(tmp_path)
    assert log.read_only is None
    log.append_statements(party(4))
    log.close()
    lock = CheckpointLock(tmp_path / "lock.db")
    assert (lock.latest(ORIGIN) or b"").split(b"\n")[1] == b"4"
    lock.close()


def test_a_lock_that_was_signed_by_another_key_is_not_believed_and_not_passed_over(tmp_path: Path) -> None:
    _grow(tmp_path, 1)
    connection = apsw.Connection(str(tmp_path / "lock.db"))
    connection.execute("UPDATE latest SET note = ?", (sign_checkpoint(ORIGIN, 1, bytes(32), OTHER_KEY).note,))
    connection.close()
    _is_read_only(tmp_path, 1)


def test_the_lock_only_grows_and_origins_are_apart(tmp_path: Path) -> None:
    lock = CheckpointLock(tmp_path / "lock.db")
    assert lock.latest("a") is None
    lock.advance("a", 5, b"five")
    lock.advance("a", 4, b"four")
    lock.advance("a", 5, b"other five")
    lock.advance("b", 1, b"one")
    assert (lock.latest("a"), lock.latest("b")) == (b"five", b"one")
    lock.advance("a", 6, b"six")
    lock.close()
    lock = CheckpointLock(tmp_path / "lock.db")
    assert lock.latest("a") == b"six"
    lock.close()


def test_a_lock_that_cannot_follow_denies_no_append(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(party(1))
    connection = apsw.Connection(str(tmp_path / "lock.db"))
    connection.execute("CREATE TRIGGER refuse BEFORE UPDATE ON latest BEGIN SELECT RAISE(ABORT, 'no room'); END")
    assert [entry.index for entry in log.append_statements(party(2))] == [1]
    assert log.lock_problem is not None
    assert (log.lock_problem.code, "no room" in log.lock_problem.message) == ("ledger.lock", True)
    connection.execute("DROP TRIGGER refuse")
    connection.close()
    log.append_statements(party(3))
    assert log.lock_problem is None
    log.close()
    assert _reopened(tmp_path).read_only is None


def _reopened(folder: Path) -> Log:
    log = open_log(folder)
    log.close()
    return log


def test_a_lock_that_cannot_be_opened_or_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "lock.db").write_bytes(b"no database" * 500)
    with pytest.raises(StorageFailed) as caught:
        CheckpointLock(tmp_path / "lock.db")
    assert caught.value.code == "ledger.lock"
    lock = CheckpointLock(tmp_path / "other.db")
    lock.close()
    for act in (lambda: lock.latest("a"), lambda: lock.advance("a", 1, b"x")):
        with pytest.raises(StorageFailed) as caught:
            act()
        assert caught.value.code == "ledger.lock"


def test_the_lock_is_by_origin_so_a_new_key_under_a_new_origin_starts_afresh(tmp_path: Path) -> None:
    lock = CheckpointLock(tmp_path / "lock.db")
    note = sign_checkpoint("other.example/log", 9, bytes(32), KEY).note
    lock.advance("other.example/log", 9, note)
    lock.close()
    assert _reopened(tmp_path).read_only is None
