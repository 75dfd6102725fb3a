"""The leader of a ledger in PostgreSQL dies at any moment: the next one goes on.

Nothing that was acknowledged is lost; nothing is there twice, however often it was asked for, since a request has an
id that the proposal looks up inside the commit; and a leader that lost its lead cannot commit any more.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log, Proposal
from safehold.ledger.note import NoteVerifier
from safehold.ledger.postgres import PostgresStore
from safehold.ledger.storage import View
from safehold.model.errors import NotAppended, StorageFailed
from safehold.model.ids import (
    DatasetId,
    GrantId,
    GroupName,
    HostId,
    PartyId,
    Purpose,
    RequestId,
)
from safehold.model.statements import KeyReleased, decode
from safehold.state.projection import StateProjector, digest_projections, rebuild
from safehold.state.standing import request_used
from tests.ledger_kit import BY, KEY, digest, memory_folder, party
from tests.postgres_kit import admin, end_session, fresh_origin, new_schema

ROOT = Path(__file__).parents[3]
APPEND_FOR_EVER = """
import os, sys
from pathlib import Path
from tests.faults.ledger.test_postgres_failover import open_at, release
url, origin, folder, seed = sys.argv[1:]
log = open_at(url, origin, Path(folder), patience=30)
number = 0
while True:
    request = f"q-{(int(seed) + number) // 2}"  # each is asked for twice, by this process or by the next one
    entries = log.append(release(request))
    os.write(1, b"%s %d\\n" % (request.encode(), entries[0].index if entries else -1))
    number += 1
"""


def open_at(url: str, origin: str, folder: Path, patience: float = 20.0) -> Log:
    store = PostgresStore(url, origin, patience=patience)
    return Log(store, CheckpointLock(folder / "lock.db"), KEY, origin, StateProjector())


def release(request: str) -> Proposal:
    """A proposal: keys leave for this request, unless they did."""

    def propose(view: View) -> Draft:
        if request_used(view, RequestId(request)):
            return Draft(())
        return Draft(
            (
                KeyReleased(
                    t=1,
                    by=BY,
                    request=RequestId(request),
                    release=digest("release"),
                    dataset=DatasetId("quill-works/docstrings"),
                    groups=(GroupName("question"),),
                    parts=1,
                    party=PartyId("north-lab"),
                    host=HostId("north-lab/trainer-1"),
                    member=None,
                    grant=GrantId("g-1"),
                    purpose=Purpose("training"),
                    inventories=(digest("inventory"),),
                    reader=digest("reader"),
                    until=10,
                ),
            )
        )

    return propose


class _Place:
    def __init__(self, folder: Path) -> None:
        self.url, self.origin, self.folder = new_schema(), fresh_origin(), folder
        self.name = self.url.rpartition("%3D")[2]

    def open(self, patience: float = 20.0) -> Log:
        return open_at(self.url, self.origin, self.folder, patience)

    def requests(self) -> list[str]:
        """The requests that the ledger holds, in order; all of it is sound."""
        log = self.open()
        with log.view() as view:
            assert check_ledger(view, NoteVerifier(self.origin, KEY.public)) == []
            entries = [decode(body) for body in view.bodies(0, view.size())]
            kept = digest_projections(view)
        with log.write() as transaction:
            rebuild(transaction)
            assert digest_projections(transaction) == kept
        log.close()
        return [entry.request for entry in entries if isinstance(entry, KeyReleased)]


@pytest.fixture
def place() -> Iterator[_Place]:
    with memory_folder() as folder:
        yield _Place(folder)


def _writer(log: Log) -> psycopg.Connection[tuple[object, ...]]:
    store = log._store
    assert isinstance(store, PostgresStore)
    assert store._writer is not None
    return store._writer


def test_leaders_killed_again_and_again(place: _Place) -> None:
    chance = random.Random()
    acknowledged: dict[str, int] = {}
    for kill in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, place.url, place.origin, str(place.folder), str(kill * 100)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=subprocess.PIPE,
        ) as running:
            assert running.stdout is not None
            said, wanted = b"", chance.randrange(200, 2000)
            while len(said) < wanted:
                read = os.read(running.stdout.fileno(), 4096)
                assert read, "the process ended by itself"
                said += read
            running.send_signal(signal.SIGKILL)
            said += running.stdout.read()
        for line in said.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                request, index = line.split()
                if int(index) >= 0:
                    assert request not in acknowledged, "asked for again, it is not done again"
                    acknowledged[request] = int(index)
    stored = place.requests()
    assert len(stored) == len(set(stored)), "nothing appears twice"
    assert {request: stored[index] for request, index in acknowledged.items()} == {one: one for one in acknowledged}
    assert len(acknowledged) >= 60


def _opened(place: _Place, answers: list[str]) -> Log | None:
    try:
        return place.open(0.05)
    except StorageFailed as error:
        answers.append(error.code)
        return None


def _asked(log: Log, request: str) -> str:
    try:
        log.append(release(request))
    except StorageFailed as error:
        return error.code
    return "done"


def test_sessions_ended_at_random(place: _Place) -> None:
    """Two processes' worth of logs, each asking for all requests; their sessions are ended all the time."""
    stop = threading.Event()
    endings = 0

    def end_sessions() -> None:
        nonlocal endings
        chance = random.Random()
        with admin() as connection:
            while not stop.wait(chance.random() * 0.12):
                ended = connection.execute(
                    "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                    " WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()"
                ).fetchone()
                endings += ended[0] if ended else 0

    answers: list[str] = []

    def ask(worker: int) -> None:
        log: Log | None = None
        for number in itertools.count():
            if number >= 60 and endings >= 3:  # all were asked for, and enough sessions were ended meanwhile
                break
            answer = None
            while answer != "done":
                log = log or _opened(place, answers)
                answer = "not open" if log is None else _asked(log, f"q-{(number * 7 + worker * 30) % 60}")
                answers.append(answer)
                # Who does not know, or does not lead, starts anew, as another process would.
                if log is not None and (answer in {"ledger.uncertain", "ledger.not_leader"} or log.read_only):
                    log.close()
                    log = None
            if number % 10 == 9 and log is not None:  # let the other one have the lead
                log.close()
                log = None
        if log is not None:
            log.close()

    with ThreadPoolExecutor(3) as pool:
        chaos = pool.submit(end_sessions)
        asking = [pool.submit(ask, worker) for worker in range(2)]
        try:
            for done in asking:
                done.result(120)
        finally:
            stop.set()
        chaos.result()
    assert sorted(place.requests()) == sorted(f"q-{number}" for number in range(60))
    assert endings >= 3
    assert set(answers) > {"done"}, "the endings were noticed"


@contextmanager
def _commits_wait(place: _Place) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Every commit that appends waits, inside COMMIT, until the connection that this yields lets go."""
    with admin() as gate:
        gate.execute("SELECT pg_advisory_lock(4242)")
        gate.execute(
            f"CREATE FUNCTION {place.name}.wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(4242); RETURN NULL; END'"
        )
        gate.execute(
            f"CREATE CONSTRAINT TRIGGER wait AFTER UPDATE OF size ON {place.name}.head DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW WHEN (old.size <> new.size) EXECUTE FUNCTION {place.name}.wait()"
        )
        yield gate


def _wait_until_committing(pid: int) -> None:
    with admin() as connection:
        while True:
            row = connection.execute(
                "SELECT wait_event, query FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", (pid,)
            ).fetchone()
            if row is not None and row[1] == "COMMIT":
                return


def test_a_session_ended_inside_its_commit_has_appended_nothing(place: _Place) -> None:
    log = place.open()
    log.append(release("q-0"))
    with _commits_wait(place) as gate, ThreadPoolExecutor(1) as pool:
        writer = _writer(log)
        waiting = pool.submit(log.append, release("q-1"))
        _wait_until_committing(writer.info.backend_pid)
        end_session(writer)
        gate.execute("SELECT pg_advisory_unlock(4242)")
        with pytest.raises(NotAppended):  # the log leads anew, looks, and knows
            waiting.result(30)
    assert log.append(release("q-1"))[0].index == 1
    log.close()
    assert place.requests() == ["q-0", "q-1"]


def test_a_leader_killed_inside_its_commit_is_waited_for(place: _Place) -> None:
    """Its session is still committing when the next process comes: that one leads only when it is decided."""
    place.open().close()
    with _commits_wait(place) as gate:
        script = APPEND_FOR_EVER.replace('f"q-{(int(seed) + number) // 2}"', '"q-1"')
        with subprocess.Popen(
            [sys.executable, "-c", script, place.url, place.origin, str(place.folder), "0"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=subprocess.PIPE,
        ) as running:
            pid = None
            while pid is None:
                row = gate.execute(
                    "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event_type = 'Lock'"
                ).fetchone()
                pid = row[0] if row else None
            running.send_signal(signal.SIGKILL)
            assert running.stdout is not None
            assert running.stdout.read() == b"", "nothing was acknowledged"
        follower = place.open(0.2)
        assert follower.following
        with pytest.raises(NotAppended) as caught:
            follower.append(release("q-1"))
        assert caught.value.code == "ledger.not_leader"
        gate.execute("SELECT pg_advisory_unlock(4242)")
        while follower.following:
            pass
        assert follower.append(release("q-1")) == (), "it had happened, and is not done again"
        assert follower.append(release("q-2"))[0].index == 1
        follower.close()
    assert place.requests() == ["q-1", "q-2"]


def test_a_leader_that_lost_its_lead_cannot_commit(place: _Place) -> None:
    """As after a fail-over to a standby, which does not know the locks of the server before it: the epoch decides."""
    old = place.open()
    old.append_statements(party(1))
    with admin() as connection:

        def taken_over(_view: View) -> Draft:
            connection.execute(f"UPDATE {place.name}.head SET epoch = epoch + 1")
            return Draft((party(2),))

        with pytest.raises(NotAppended) as caught:
            old.append(taken_over)
        assert caught.value.code == "ledger.lost_lead"
        assert old.append_statements(party(3))[0].index == 1, "it leads again by a new epoch"
        connection.execute(f"UPDATE {place.name}.head SET epoch = epoch + 1")
        with pytest.raises(NotAppended) as caught:
            old.append_statements(party(4))
        assert caught.value.code == "ledger.lost_lead"
    new = place.open()
    assert new.append_statements(party(5))[0].index == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(old._store, "_patience", 0.01)
        with pytest.raises(NotAppended) as caught:
            old.append_statements(party(6))
    assert caught.value.code == "ledger.not_leader"
    new.close()
    assert old.append_statements(party(7))[0].index == 3
    old.close()
    assert place.requests() == []


def test_a_session_ended_while_idle_or_staging(place: _Place) -> None:
    log = place.open()
    log.append_statements(party(1))
    end_session(_writer(log))
    assert log.append_statements(party(2))[0].index == 1, "a dead idle session is made anew: nothing was sent on it"

    def ended(view: View) -> Draft:
        end_session(_writer(log))
        return Draft((party(3),))

    with pytest.raises(NotAppended) as caught:
        log.append(ended)
    assert caught.value.code == "ledger.not_appended"
    assert log.append_statements(party(3))[0].index == 2
    log.close()
    assert place.requests() == []
