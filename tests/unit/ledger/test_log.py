"""The log: all or nothing, in one order, by one commit for all who wait; several writers on one file."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest

from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.receipt import verify_receipt
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, Transaction, View
from safehold.ledger.waiting import Waiting
from safehold.model.errors import InputInvalid, NotAppended, NotFound, StorageFailed, Uncertain, VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.model.statements import decode, encode
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER, NoProjections, open_log, party


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path)
    yield opened
    opened.close()


def _bodies(log: Log) -> list[bytes]:
    with log.view() as view:
        return view.bodies(0, view.size())


def _sound(log: Log) -> None:
    with log.view() as view:
        assert check_ledger(view, VERIFIER) == []


def test_what_is_appended_has_a_place_a_checkpoint_and_a_receipt(log: Log) -> None:
    first, second = log.append_statements(party(1), party(2))
    (third,) = log.append_statements(party(3))
    assert [entry.index for entry in (first, second, third)] == [0, 1, 2]
    assert [entry.body for entry in (first, second, third)] == [encode(party(number)) for number in (1, 2, 3)]
    assert log.checkpoint().size == 3
    assert log.entry(1) == second
    for index in range(3):
        proven = verify_receipt(log.receipt(index), VERIFIER)
        assert (proven.index, proven.body, proven.checkpoint) == (index, log.entry(index).body, log.checkpoint())


def test_an_empty_log_says_so(log: Log) -> None:
    for ask, code in ((log.checkpoint, "ledger.empty"), (lambda: log.entry(0), "ledger.no_entry")):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.code == code
    for index in (-1, 2**62, 2**70):
        with pytest.raises(NotFound):
            log.entry(index)
        with pytest.raises(NotFound):
            log.receipt(index)
    assert log.append(lambda _view: Draft(())) == ()


def test_it_is_all_there_after_opening_again(tmp_path: Path) -> None:
    for number in range(600):
        if number % 100 == 0:
            log = open_log(tmp_path)
            assert len(_bodies(log)) == number
        if number % 100 == 50:
            log.append_statements(*(party(number + more) for more in range(50)))
        elif number % 100 < 50:
            log.append_statements(party(number))
        if number % 100 == 99:
            log.close()
    log = open_log(tmp_path)
    assert _bodies(log) == [encode(party(number)) for number in range(600)]
    _sound(log)
    log.close()


def test_a_proposal_that_raises_takes_no_other_with_it(log: Log) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(_view: View) -> Draft:
        started.set()
        release.wait(30)
        return Draft((party(0),))

    def bad(_view: View) -> Draft:
        raise ZeroDivisionError("a bug in a proposal")

    def unreadable(_view: View) -> Draft:
        return Draft((party(1), party(2, title=None)))

    def waiting(proposal: object) -> int | str:
        try:
            return len(log.append(proposal))  # type: ignore[arg-type]  # one of the three above
        except (ZeroDivisionError, InputInvalid) as error:
            return type(error).__name__

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(log.append, slow)
        started.wait(30)
        results = [
            pool.submit(waiting, [bad, unreadable, lambda _view, n=n: Draft((party(n),))][n % 3]) for n in range(6)
        ]
        while len(log.queue) < 6:
            pass
        release.set()
        assert [entry.index for entry in first.result()] == [0]
        assert sorted(map(str, (result.result() for result in results))) == [
            "1", "1", "InputInvalid", "InputInvalid", "ZeroDivisionError", "ZeroDivisionError",
        ]  # fmt: skip
    assert len(_bodies(log)) == 3
    _sound(log)


def test_a_group_is_one_commit_and_each_proposal_sees_those_before_it(tmp_path: Path) -> None:
    commits = 0

    class Counting(SqliteStore):
        @contextmanager
        def write(self) -> Iterator[Transaction]:  # type: ignore[override]  # narrower than the store's own class
            nonlocal commits
            commits += 1
            with super().write() as transaction:
                yield transaction

    log = open_log(tmp_path, Counting)
    started, release = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(_view: View) -> Draft:
        started.set()
        release.wait(30)
        return Draft((party(0),))

    def looking(view: View) -> Draft:
        seen.append(view.rows("SELECT count(*) FROM party")[0][0])
        assert view.size() == seen[-1]
        return Draft((party(len(seen)),))

    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(log.append, slow)
        started.wait(30)
        others = [pool.submit(log.append, looking) for _ in range(20)]
        while len(log.queue) < 20:
            pass
        before = commits
        release.set()
        places = sorted(entry.index for done in (first, *others) for entry in done.result())
    assert places == list(range(21))
    assert seen == list(range(1, 21)), "each saw the one before it, inside the same commit"
    assert commits == before + 1
    log.close()


def test_many_threads_append_and_none_is_lost(log: Log) -> None:
    def work(worker: int) -> list[int]:
        return [log.append_statements(party(worker * 1000 + n))[0].index for n in range(25)]

    with ThreadPoolExecutor(16) as pool:
        places = [index for done in pool.map(work, range(16)) for index in done]
    assert sorted(places) == list(range(400))
    stored = [decode(body).t for body in _bodies(log)]
    assert sorted(stored) == sorted(worker * 1000 + n for worker in range(16) for n in range(25))
    for worker in range(16):
        mine = [t for t in stored if t // 1000 == worker]
        assert mine == sorted(mine), "one thread's entries keep their order"
    _sound(log)


def test_entries_of_one_call_are_adjacent(log: Log) -> None:
    def work(worker: int) -> None:
        for n in range(10):
            log.append_statements(*(party(worker * 1000 + n * 10 + part) for part in range(3)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stored = [decode(body).t for body in _bodies(log)]
    assert all(stored[at + 1] == stored[at] + 1 and stored[at + 2] == stored[at] + 2 for at in range(0, 240, 3))


def test_two_logs_on_one_file_take_turns(tmp_path: Path) -> None:
    one, two = open_log(tmp_path), open_log(tmp_path)
    for number in range(0, 600, 3):
        assert one.append_statements(party(number))[0].index == number
        assert [entry.index for entry in two.append_statements(party(number + 1), party(number + 2))] == [
            number + 1,
            number + 2,
        ]
    assert one.checkpoint() == two.checkpoint()
    _sound(one)
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit((one, two)[n % 2].append_statements, party(600 + n)) for n in range(100)]
        assert sorted(done.result()[0].index for done in work) == list(range(600, 700))
    _sound(two)
    one.close()
    two.close()
    assert open_log(tmp_path).read_only is None


WRITER = """
import sys
from pathlib import Path
from tests.ledger_kit import open_log, party
log = open_log(Path(sys.argv[1]))
for n in range(100):
    print(log.append_statements(party(int(sys.argv[2]) * 1000 + n))[0].index)
"""


def test_two_processes_on_one_file_take_turns(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)],
            cwd=root,
            env={"PYTHONPATH": f"{root / 'src'}:{root}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    places = [[int(line) for line in process.communicate(timeout=120)[0].split()] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert all(mine == sorted(mine) for mine in places)
    assert sorted(index for mine in places for index in mine) == list(range(300))
    log = open_log(tmp_path)
    assert log.read_only is None
    _sound(log)
    log.close()


def test_opening_beside_a_busy_writer_is_not_taken_for_a_rollback(tmp_path: Path) -> None:
    writer = open_log(tmp_path)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            writer.append_statements(party(number))
            number += 1

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(write)
        for _ in range(20):
            other = open_log(tmp_path)
            assert other.read_only is None
            other.close()
        stop.set()
        busy.result()
    writer.close()


def test_a_projector_that_fails_appends_nothing(tmp_path: Path) -> None:
    class Failing(NoProjections):
        def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
            transaction.execute("INSERT INTO no_such_table VALUES(1)")

    log = Log(SqliteStore(tmp_path / "ledger.db"), CheckpointLock(tmp_path / "lock.db"), KEY, ORIGIN, Failing())
    with pytest.raises(NotAppended) as caught:
        log.append_statements(party(1))
    assert caught.value.code == "ledger.not_appended"
    assert _bodies(log) == []
    log.close()


def test_payloads_are_kept_under_their_digest_and_only_once(log: Log) -> None:
    large = b"\0payload" * 100_000
    log.append(lambda _view: Draft((party(1),), (b"", large, large)))
    log.append(lambda _view: Draft((party(2),), (large,)))
    with log.view() as view:
        assert view.payload(sha256_digest(large)) == large
        assert view.payload(sha256_digest(b"")) == b""
        assert view.payload(sha256_digest(b"never here")) is None
        assert view.rows("SELECT count(*) FROM payload") == [(2,)]

    def raising(view: View) -> Draft:
        raise InputInvalid("test.no", "no")

    with pytest.raises(InputInvalid):
        log.append(raising)
    _sound(log)


def test_payloads_of_a_draft_that_cannot_be_written_are_not_kept(log: Log) -> None:
    with pytest.raises(InputInvalid):
        log.append(lambda _view: Draft((party(1, title=None),), (b"orphan",)))
    with log.view() as view:
        assert view.payload(sha256_digest(b"orphan")) is None


def test_a_view_is_a_snapshot_and_can_be_asked_within_itself(log: Log) -> None:
    log.append_statements(party(1))
    with log.view() as view:
        log.append_statements(party(2))
        assert view.size() == 1
        with log.view() as again:
            assert again.size() == 1
        assert verify_receipt(log.receipt(0), VERIFIER).checkpoint.size == 1
    with log.view() as view:
        assert view.size() == 2


def test_a_closed_log_says_so(log: Log) -> None:
    log.close()
    for act in (lambda: log.append_statements(party(1)), lambda: log.entry(0)):
        with pytest.raises(StorageFailed) as caught:
            act()
        assert caught.value.code == "ledger.closed"
    log.close()


def test_another_key_does_not_open_a_ledger(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(party(1))
    log.close()
    with pytest.raises(VerificationFailed) as caught:
        open_log(tmp_path, key=OTHER_KEY)
    assert caught.value.code == "ledger.note_unsigned"


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM entry WHERE idx = 9", "DELETE FROM tile WHERE level = 0", "UPDATE tile SET hashes = zeroblob(320)",
     "DELETE FROM checkpoint", "UPDATE checkpoint SET note = x'00'"],
)  # fmt: skip
def test_a_damaged_head_does_not_open_for_writing(tmp_path: Path, sql: str) -> None:
    log = open_log(tmp_path)
    for number in range(10):
        log.append_statements(party(number))
    log.close()
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    connection.execute(sql)
    connection.close()
    with pytest.raises(VerificationFailed):
        open_log(tmp_path)


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_ledger_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(StorageFailed) as caught:
        SqliteStore(tmp_path / "ledger.db")
    assert caught.value.code == "ledger.damaged"


def test_a_place_where_no_ledger_can_be_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "such" / "ledger.db"):
        with pytest.raises(StorageFailed) as caught:
            SqliteStore(path)
        assert caught.value.code == "ledger.storage"


def test_a_ledger_that_shrinks_under_a_running_log_stops_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(5):
        log.append_statements(party(number))
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    connection.execute("DELETE FROM entry WHERE idx >= 3; DELETE FROM checkpoint WHERE size > 3")
    connection.close()
    for _ in range(2):
        with pytest.raises(StorageFailed) as caught:
            log.append_statements(party(9))
        assert caught.value.code == "ledger.rolled_back"
    assert len(_bodies(log)) == 3
    log.close()


class _FailingCommit(SqliteStore):
    """A store whose next commit says that it does not know."""

    fail = False
    keep = False

    @contextmanager
    def write(self) -> Iterator[Transaction]:  # type: ignore[override]  # narrower than the store's own class
        if not type(self).fail:
            with super().write() as transaction:
                yield transaction
            return
        type(self).fail = False
        if type(self).keep:
            with super().write() as transaction:
                yield transaction
        else:
            with suppress(KeyError), super().write() as transaction:
                yield transaction
                raise KeyError("roll back")
        self.close()
        raise Uncertain("ledger.uncertain", "who knows")


@pytest.mark.parametrize("keep", [False, True])
def test_an_uncertain_commit_is_looked_into(tmp_path: Path, keep: bool) -> None:
    log = open_log(tmp_path, _FailingCommit)
    log.append_statements(party(1))
    _FailingCommit.fail, _FailingCommit.keep = True, keep
    with pytest.raises(StorageFailed) as caught:
        log.append_statements(party(2))
    if keep:  # it had happened: this log cannot say so, and stops
        assert isinstance(caught.value, Uncertain)
        with pytest.raises(Uncertain):
            log.append_statements(party(3))
        assert isinstance(log.read_only, Uncertain)
    else:
        assert isinstance(caught.value, NotAppended)
        assert log.append_statements(party(2))[0].index == 1
    log.close()
    log = open_log(tmp_path)
    assert len(_bodies(log)) == 2
    _sound(log)
    log.close()


def test_an_interrupt_in_a_proposal_leaves_nobody_waiting(log: Log) -> None:
    started, release = threading.Event(), threading.Event()

    def interrupted(_view: View) -> Draft:
        started.set()
        release.wait(30)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(log.append, interrupted)
        started.wait(30)
        others = [pool.submit(log.append_statements, party(number)) for number in range(8)]
        while len(log.queue) < 8:
            pass
        release.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(30)
        assert sorted(done.result(30)[0].index for done in others) == list(range(8))
    assert log.append_statements(party(9))[0].index == 8
    _sound(log)


def test_whoever_is_interrupted_while_waiting_hands_the_lead_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = threading.Event(), threading.Event()
    wait = Waiting.wait

    def slow(_view: View) -> Draft:
        started.set()
        release.wait(30)
        return Draft((party(0),))

    def waiting(self: Waiting) -> None:
        wait(self)
        if self.leads:  # woken to lead, and interrupted at that very moment
            raise KeyboardInterrupt

    monkeypatch.setattr(Waiting, "wait", waiting)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(log.append, slow)
        started.wait(30)
        others = [pool.submit(log.append_statements, party(number)) for number in range(5)]
        while len(log.queue) < 5:
            pass
        release.set()
        assert first.result(30)[0].index == 0
        for done in others:
            with pytest.raises(KeyboardInterrupt):
                done.result(30)
    monkeypatch.undo()
    assert log.append_statements(party(9))[0].index == 1
    assert len(_bodies(log)) == 2
