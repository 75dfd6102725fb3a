"""What only the PostgreSQL store has: following, telling of changes, its refusals, and that the core needs none of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.postgres import PostgresStore, check_address
from safehold.ledger.postgres_session import check_server
from safehold.model.errors import Conflict, InputInvalid, NotAppended, StorageFailed
from safehold.state.projection import StateProjector
from safehold.state.tables import PROJECTION_VERSION
from tests.ledger_kit import KEY, party
from tests.postgres_kit import admin, end_session, fresh_origin, new_schema, store

ROOT = Path(__file__).parents[3]


def _log(made: PostgresStore, folder: Path) -> Log:
    return Log(made, CheckpointLock(folder / "lock.db"), KEY, made._origin, StateProjector())


def test_a_second_process_reads_and_takes_over_when_the_first_ends(tmp_path: Path) -> None:
    url, origin = new_schema(), fresh_origin()
    first = _log(PostgresStore(url, origin), tmp_path)
    first.append_statements(party(1))
    second = _log(PostgresStore(url, origin, patience=0.01), tmp_path)
    assert (first.following, second.following) == (False, True)
    first.append_statements(party(2))
    assert second.checkpoint().size == 2
    assert second.receipt(1)
    with pytest.raises(NotAppended) as caught:
        second.append_statements(party(3))
    assert caught.value.code == "ledger.not_leader"
    with second.view() as view:
        assert view.size() == 2
    first.close()
    while second.following:  # the server ends a session in its own time
        pass
    assert second.append_statements(party(3))[0].index == 2
    second.close()


def test_who_takes_over_looks_at_the_lock_database_first(tmp_path: Path) -> None:
    url, origin = new_schema(), fresh_origin()
    first = _log(PostgresStore(url, origin), tmp_path)
    for number in range(4):
        first.append_statements(party(number))
    second = _log(PostgresStore(url, origin), tmp_path)
    with admin() as connection:
        schema = url.rpartition("%3D")[2]
        connection.execute(f"DELETE FROM {schema}.entry WHERE idx >= 2")
        connection.execute(f"DELETE FROM {schema}.checkpoint WHERE size > 2")
    first.close()
    with pytest.raises(StorageFailed) as caught:
        second.append_statements(party(9))
    assert caught.value.code == "ledger.rolled_back"
    second.close()
    third = _log(PostgresStore(url, origin), tmp_path)
    assert third.read_only is not None
    third.close()


def test_a_leader_that_is_asked_hands_over_between_two_commits(tmp_path: Path) -> None:
    """Two processes that both append: each leads in turn, none is refused, and there is one order."""
    url, origin = new_schema(), fresh_origin()
    logs = [_log(PostgresStore(url, origin), tmp_path) for _ in range(2)]
    assert [log.leads for log in logs] == [True, False]
    stop, turns = threading.Event(), 3

    def append(number: int) -> list[int]:
        places = []
        for turn in range(turns):
            numbers = range(number * 1000 + turn * 20, number * 1000 + turn * 20 + 20)
            places += [logs[number].append_statements(party(n))[0].index for n in numbers]
            meeting.wait(60)  # both have appended in this turn: so the lead has changed hands
        return places

    meeting = threading.Barrier(2)
    with ThreadPoolExecutor(4) as pool:
        keepers = [pool.submit(log.keep_lead_for_others, stop, 0.0) for log in logs]
        try:
            places = [*pool.map(append, range(2))]
        finally:
            stop.set()
        for keeper in keepers:
            keeper.result(60)
    assert sorted(places[0] + places[1]) == list(range(2 * 20 * turns))
    assert all(mine == sorted(mine) for mine in places)
    with logs[0].view() as view:
        assert check_ledger(view, logs[0].verifier) == []
    with admin() as connection:
        ((epoch,),) = connection.execute(f"SELECT epoch FROM {url.rpartition('%3D')[2]}.head").fetchall()
    for log in logs:
        log.close()
    assert epoch >= 1 + turns, "the lead changed hands at least once in each turn"


def test_who_handed_over_looks_anew_when_it_leads_again(tmp_path: Path) -> None:
    url, origin = new_schema(), fresh_origin()
    first = _log(PostgresStore(url, origin), tmp_path)
    first.append_statements(party(0))
    first.hand_over()
    first.hand_over()  # twice is harmless
    assert not first.leads
    second = _log(PostgresStore(url, origin), tmp_path)
    assert second.leads
    second.append_statements(party(1), party(2))
    with second.write() as transaction:
        transaction.execute("UPDATE projection_version SET version = 1")
    second.close()
    assert first.append_statements(party(3))[0].index == 3
    with first.view() as view:
        assert view.rows("SELECT version FROM projection_version") == [(PROJECTION_VERSION,)], "it prepared again"
        assert view.rows("SELECT count(*) FROM party") == [(4,)]
    first.close()


def test_a_commit_is_told_on_the_channel_and_a_lost_connection_misses_none() -> None:
    url, origin = new_schema(), fresh_origin()
    with store(url, origin) as leader, store(url, origin) as follower, admin() as listening:
        listening.execute(f"LISTEN {leader._channel}")
        assert follower.wait_for_change(0, 0) == 0
        for size in (1, 2):
            with leader.write() as transaction:
                transaction.add_entry(size - 1, b"x")
            (told,) = listening.notifies(timeout=30, stop_after=1)
            assert (told.channel, told.payload) == (leader._channel, str(size))
        with leader.write():
            pass
        with pytest.raises(NotAppended), leader.write() as transaction:
            transaction.execute_many("INSERT INTO no_such_table VALUES(?)", [(1,), (2,)])
        assert list(listening.notifies(timeout=0.05)) == [], "only a commit is told"
        assert follower._listener is not None
        end_session(follower._listener)
        with leader.write() as transaction:
            transaction.add_entry(2, b"x")  # told while the follower's connection is gone
        assert follower.wait_for_change(2, 30) == 3


def test_followers_are_told_of_changes() -> None:
    url, origin = new_schema(), fresh_origin()
    with store(url, origin) as leader, store(url, origin) as follower, ThreadPoolExecutor(1) as pool:
        assert follower.wait_for_change(0, 0) == 0
        for size in range(1, 6):
            waiting = pool.submit(follower.wait_for_change, size - 1, 30)
            with leader.write() as transaction:
                transaction.add_entry(size - 1, b"x")
            assert waiting.result(30) == size
        assert follower.wait_for_change(0, 30) == 5, "what was missed is not waited for"


def test_a_change_is_not_missed_when_the_listening_connection_is_lost() -> None:
    url, origin = new_schema(), fresh_origin()
    with store(url, origin) as leader, store(url, origin) as follower, ThreadPoolExecutor(1) as pool:
        assert follower.wait_for_change(0, 0) == 0
        assert follower._listener is not None
        listener = follower._listener
        waiting = pool.submit(follower.wait_for_change, 0, 30)
        end_session(listener)
        with leader.write() as transaction:
            transaction.add_entry(0, b"x")
        assert waiting.result(30) == 1
        assert follower._listener is not listener


def test_a_reader_that_lost_its_connection_reads_again() -> None:
    with store() as made:
        with made.read() as view:
            assert view.size() == 0
        assert made._reader is not None
        end_session(made._reader)
        with made.read() as view:
            assert view.size() == 0
            end_session(made._reader)
            with pytest.raises(StorageFailed) as caught:
                view.size()
            assert caught.value.code == "ledger.storage"
        with made.read() as view:
            assert view.size() == 0


def test_a_schema_holds_one_ledger() -> None:
    url, origin = new_schema(), fresh_origin()
    with store(url, origin):
        pass
    with pytest.raises(Conflict) as caught:
        PostgresStore(url, fresh_origin())
    assert caught.value.code == "ledger.other_origin"


def test_many_open_an_empty_schema_at_once() -> None:
    url, origin = new_schema(), fresh_origin()
    barrier = threading.Barrier(6)

    def open_it(_number: int) -> int:
        barrier.wait(30)
        with store(url, origin) as made, made.read() as view:
            return view.size()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_it, range(6))) == [0] * 6


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed) as caught:
        PostgresStore(f"postgresql:///ledger?host={tmp_path}", "a.example/b")
    assert caught.value.code == "ledger.storage"


def test_a_server_that_would_lose_commits_is_refused() -> None:
    class _Server:
        def __init__(self, *settings: str) -> None:
            self.settings = settings

        def execute(self, _sql: str) -> _Server:
            return self

        def fetchall(self) -> list[tuple[str, ...]]:
            return [self.settings]

    for settings, code in (
        (("off", "on", "UTF8"), "ledger.not_durable"),
        (("on", "off", "UTF8"), "ledger.not_durable"),
        (("on", "on", "SQL_ASCII"), "ledger.store_encoding"),
    ):
        with pytest.raises(StorageFailed) as caught:
            check_server(_Server(*settings))  # type: ignore[arg-type]  # stands in for a connection
        assert caught.value.code == code


def test_commits_are_synchronous_whatever_the_role_says() -> None:
    url = new_schema() + "%20-csynchronous_commit%3Doff%20-cstatement_timeout%3D1s"
    with store(url) as made, made.write() as transaction:
        assert transaction.rows("SELECT current_setting('synchronous_commit')") == [("on",)]
        assert transaction.rows("SELECT current_setting('statement_timeout')") == [("0",)]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://ledger:secret@db.example/ledger", "ledger.store_password"),
        ("postgresql://db.example/ledger?password=secret", "ledger.store_password"),
        ("postgresql://db.example/ledger?no_such_option=1", "ledger.store_url"),
        ("postgresql://db.example:secret%/x", "ledger.store_url"),
        ("host=db.example dbname=ledger", "ledger.store_url"),
        ("sqlite:///ledger.db", "ledger.store_url"),
    ],
)
def test_an_address_that_cannot_be_kept_is_refused(url: str, code: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        check_address(url)
    assert caught.value.code == code
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_an_address_without_password_is_kept() -> None:
    for url in ("postgresql:///ledger?service=ledger", "postgres://ledger@db.example:5433/ledger?sslmode=verify-full"):
        assert check_address(url) == url


def test_the_core_works_without_the_library(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["psycopg"] = None
from safehold.app.wiring import HomeFactory
import safehold.cli.root
assert "safehold.ledger.postgres" not in sys.modules
from pathlib import Path
from safehold.model.errors import NotFound
try:
    HomeFactory().create(Path(sys.argv[1]), "a.example/b", "passphrase", store="postgresql:///x")
except NotFound as error:
    print(error.code)
assert not Path(sys.argv[1]).exists()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home")],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "app.no_postgres\n"), done.stderr
