"""What ``ledger.storage`` promises, asked of every store alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import NoteVerifier
from safehold.ledger.storage import Entry, Store, Transaction, View
from safehold.model.errors import InputInvalid, NotAppended, StorageFailed, Uncertain
from safehold.model.ids import Digest, sha256_digest
from safehold.model.statements import decode
from safehold.state.projection import StateProjector, digest_projections, rebuild
from tests.ledger_kit import KEY, NoProjections, memory_folder, party
from tests.store_kit import Place, PostgresPlace, SqlitePlace


@pytest.fixture(params=[SqlitePlace, PostgresPlace], ids=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with memory_folder() as folder:
        made = request.param(folder)
        yield made
        for store in made.opened:
            store.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def _log(place: Place, folder: Path, store: Store | None = None) -> Log:
    lock = CheckpointLock(folder / "lock.db")
    return Log(store or place.open(), lock, KEY, place.origin, StateProjector())


def _everything(view: View) -> tuple[Any, ...]:
    payloads = view.rows("SELECT digest, body FROM payload ORDER BY digest")
    return view.size(), view.bodies(0, 99), view.tile(0, 0), view.checkpoint(), payloads


def _put_all(transaction: Transaction) -> None:
    transaction.add_entry(0, b"first")
    transaction.add_entry(1, b"")
    transaction.put_tile(0, 0, b"h" * 64)
    transaction.put_checkpoint(2, b"note")
    transaction.put_payload(sha256_digest(b"p"), b"p")


ALL = (2, [b"first", b""], b"h" * 64, b"note", [(sha256_digest(b"p"), b"p")])
NOTHING = (0, [], None, None, [])


def test_a_new_store_is_empty(store: Store) -> None:
    with store.read() as view:
        assert _everything(view) == NOTHING
        assert view.body(0) is None
        assert view.payload(sha256_digest(b"p")) is None
    with store.write() as transaction:
        assert _everything(transaction) == NOTHING


def test_all_of_a_transaction_is_there_when_it_returns_for_every_store(place: Place, store: Store) -> None:
    with store.write() as transaction:
        _put_all(transaction)
        assert _everything(transaction) == ALL, "a transaction sees what it wrote"
    with store.read() as view:
        assert _everything(view) == ALL
        assert (view.body(0), view.body(1), view.body(2)) == (b"first", b"", None)
        assert view.payload(sha256_digest(b"p")) == b"p"
    with place.open().read() as view:
        assert _everything(view) == ALL
    store.close()
    store.reopen()
    with store.read() as view:
        assert _everything(view) == ALL


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, InputInvalid])
@pytest.mark.parametrize("look", [False, True])
def test_an_exception_takes_all_back(store: Store, error: type[BaseException], look: bool) -> None:

    def write() -> None:
        with store.write() as transaction:
            _put_all(transaction)
            transaction.execute("CREATE TABLE made(x INTEGER PRIMARY KEY)")
            transaction.execute("INSERT INTO made(x) VALUES(?)", 1)
            if look:
                assert transaction.rows("SELECT x FROM made") == [(1,)]
            raise error("no", "no") if error is InputInvalid else error("no")

    with pytest.raises(error):
        write()
    with store.read() as view:
        assert _everything(view) == NOTHING
    with store.write() as transaction:
        _put_all(transaction)
        transaction.execute("CREATE TABLE made(x INTEGER PRIMARY KEY)")
    with store.read() as view:
        assert _everything(view) == ALL
        assert view.rows("SELECT x FROM made") == []


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: t.execute("INSERT INTO no_such_table(x) VALUES(?)", 1),
        lambda t: t.add_entry(0, b"a second body"),
        lambda t: t.execute("INSERT INTO entry(idx, body) VALUES(?, ?)", 9, None),
        lambda t: t.execute("this is no SQL"),
    ],
)
def test_a_statement_that_fails_appends_nothing(store: Store, bad: Callable[[Transaction], None]) -> None:
    with store.write() as transaction:
        transaction.add_entry(0, b"there")

    def write() -> None:
        with store.write() as transaction:
            transaction.add_entry(1, b"more")
            bad(transaction)
            transaction.add_entry(2, b"and more")

    with pytest.raises(NotAppended) as caught:
        write()
    assert caught.value.code == "ledger.not_appended"
    with store.read() as view:
        assert view.bodies(0, 9) == [b"there"]
    with store.write() as transaction:
        transaction.add_entry(1, b"again")
    with store.read() as view:
        assert view.bodies(0, 9) == [b"there", b"again"]


def test_a_query_that_fails_is_said_so_and_harms_nothing(store: Store) -> None:
    with pytest.raises(StorageFailed) as caught, store.read() as view:
        view.rows("SELECT x FROM no_such_table")
    assert caught.value.code == "ledger.storage"
    with store.read() as view:
        assert view.size() == 0


def test_a_view_is_a_snapshot_and_does_not_block_the_writer(place: Place, store: Store) -> None:
    other = place.open()
    with store.write() as transaction:
        transaction.add_entry(0, b"0")
    with store.read() as view, other.read() as seen:  # of now, not of their first use
        with store.write() as transaction:
            transaction.add_entry(1, b"1")
            transaction.put_checkpoint(2, b"2")
            assert (view.size(), seen.size(), transaction.size()) == (1, 1, 2), "nobody sees what is not committed"
        assert (view.size(), view.checkpoint(), view.bodies(0, 9)) == (1, None, [b"0"])
        assert (seen.size(), seen.checkpoint()) == (1, None)
        with store.read() as again:
            assert again.size() == 1, "a view within a view is the same one"
    with store.read() as view, other.read() as seen:
        assert view.size() == seen.size() == 2


def test_there_is_one_writer(place: Place) -> None:
    one, two = place.open(), place.open()
    inside = threading.Event()
    order: list[str] = []

    def second() -> None:
        inside.wait(30)
        with two.write() as transaction:
            order.append("second")
            assert transaction.size() == 1, "it sees all earlier commits"
            transaction.add_entry(1, b"second")

    with ThreadPoolExecutor(1) as pool:
        with one.write() as transaction:
            waiting = pool.submit(second)
            inside.set()
            transaction.add_entry(0, b"first")
            with suppress(TimeoutError):
                waiting.result(0.2)
            order.append("first")
        one.close()  # where one leads, the next one writes when it has ended
        waiting.result(30)
    assert order == ["first", "second"]


def test_a_write_inside_a_write_appends_nothing(store: Store) -> None:

    def write() -> None:
        with store.write() as transaction:
            transaction.add_entry(0, b"outer")
            with store.write() as inner:
                inner.add_entry(0, b"inner")

    with pytest.raises(NotAppended):
        write()
    with store.read() as view:
        assert view.size() == 0
    with store.write() as transaction:
        transaction.add_entry(0, b"after")


@pytest.mark.parametrize("kept", [False, True])
def test_a_commit_that_fails_is_uncertain_until_reopened(place: Place, store: Store, kept: bool) -> None:
    with store.write() as transaction:
        transaction.add_entry(0, b"0")
    place.break_commit(store, kept=kept)
    with pytest.raises(Uncertain) as caught, store.write() as transaction:
        transaction.add_entry(1, b"1")
    assert caught.value.code == "ledger.uncertain"
    for closed in (store.read, store.write):
        with pytest.raises(StorageFailed) as told, closed():
            pass
        assert told.value.code == "ledger.closed"
    store.reopen()
    with store.write() as transaction:  # nothing of the failed commit can come any more
        size = transaction.size()
        transaction.settle()
    assert size == (2 if kept else 1)
    with store.read() as view:
        assert view.size() == size


@pytest.mark.parametrize("kept", [False, True])
def test_a_log_learns_what_became_of_a_commit_that_failed(place: Place, store: Store, kept: bool) -> None:
    with memory_folder() as folder:
        log = _log(place, folder, store)
        log.append_statements(party(1))
        place.break_commit(store, kept=kept)
        with pytest.raises(Uncertain if kept else NotAppended):
            log.append_statements(party(2))
        if not kept:
            assert log.append_statements(party(2))[0].index == 1
        log.close()
        log = _log(place, folder)
        assert log.append_statements(party(3))[0].index == 2
        log.close()


def test_closing_twice_is_harmless_and_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    for act in (store.read, store.write):
        with pytest.raises(StorageFailed) as caught, act():
            pass
        assert caught.value.code == "ledger.closed"
    store.reopen()
    store.reopen()
    with store.write() as transaction:
        transaction.add_entry(0, b"0")
    store.close()


TEXTS = ["", "\0", "\0\0", "\0\1", "\1", "\1\0", "\1\1", "\1\2", "a", "a\0", "a\0b", "a\1", "ab", "B", "b", "é", "z",
         "Z", "\ud7ff", "\uffff", "\U00010000", "\U0010ffff", "x'y\"z", "?", "$1", "%s", "a b", "a-b"]  # fmt: skip


def test_text_is_any_text_kept_as_it_is_and_ordered_by_its_bytes(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute("CREATE TABLE said(x TEXT NOT NULL, n INTEGER, PRIMARY KEY(x))")
        for number, text in enumerate(TEXTS):
            transaction.execute("INSERT INTO said(x, n) VALUES(?, ?)", text, number)
    ordered = sorted(TEXTS, key=str.encode)
    with store.read() as view:
        assert [row[0] for row in view.rows("SELECT x FROM said ORDER BY x")] == ordered
        assert [row[0] for row in view.rows("SELECT x FROM said ORDER BY x DESC")] == ordered[::-1]
        for number, text in enumerate(TEXTS):
            assert view.rows("SELECT n, x FROM said WHERE x = ?", text) == [(number, text)]
        assert view.rows("SELECT max(x), min(x), count(*) FROM said") == [(ordered[-1], ordered[0], len(TEXTS))]
        assert view.rows("SELECT n FROM said WHERE x < ? ORDER BY x", "\1") == [
            (TEXTS.index(text),) for text in ordered if text.encode() < b"\1"
        ]


def test_integers_have_64_bits_and_nothing_is_nothing(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute("CREATE TABLE said(x INTEGER, y TEXT, z BLOB)")
        transaction.execute("INSERT INTO said(x, y, z) VALUES(?, ?, ?)", 2**63 - 1, None, b"\0\xff")
        transaction.execute("INSERT INTO said(x, y, z) VALUES(?, ?, ?)", -(2**63), "", b"")
        transaction.execute("INSERT INTO said(x, y, z) VALUES(?, ?, ?)", None, None, None)
    with store.read() as view:
        assert view.rows("SELECT x, y, z FROM said WHERE x > ?1 OR x < ?1 ORDER BY x", 0) == [
            (-(2**63), "", b""),
            (2**63 - 1, None, b"\0\xff"),
        ]
        assert view.rows("SELECT count(*) FROM said WHERE y = ?1 OR ?1 IS NULL", None) == [(3,)]
        assert view.rows("SELECT count(*) FROM said WHERE y = ?1 OR ?1 IS NULL", "") == [(1,)]
        assert view.rows("SELECT count(*) FROM said WHERE x IS NULL AND ?1 = 'a?b' AND ?2", "a?b", True) == [(1,)]


def test_many_rows_mean_the_same_as_one_after_the_other(store: Store) -> None:
    put = "INSERT INTO said(x, y) VALUES(?, ?) ON CONFLICT(x) DO UPDATE SET y = excluded.y"
    add = "INSERT INTO said(x, y) VALUES(?, ?) ON CONFLICT(x) DO NOTHING"
    with store.write() as transaction:
        transaction.execute("CREATE TABLE said(x TEXT PRIMARY KEY, y INTEGER)")
        transaction.execute("CREATE TABLE other(x TEXT PRIMARY KEY)")
        for number in range(6):
            transaction.execute(put, f"k{number % 3}", number)
            transaction.execute("INSERT INTO other(x) VALUES(?)", f"o{number}")
            transaction.execute(add, f"k{number}", -number)
        transaction.execute(put, "k1", None)
        transaction.execute("UPDATE said SET y = ? WHERE x = ?", 7, "k0")
        transaction.execute(put, "k4", None)
        transaction.execute("DELETE FROM other WHERE x = ?", "o1")
    with store.read() as view:
        assert view.rows("SELECT x, y FROM said ORDER BY x") == [
            ("k0", 7), ("k1", None), ("k2", 5), ("k3", -3), ("k4", None), ("k5", -5),
        ]  # fmt: skip
        assert view.rows("SELECT count(*) FROM other") == [(5,)]


def test_rows_come_in_the_order_asked_for(store: Store) -> None:
    with store.write() as transaction:
        for index in range(300):
            transaction.add_entry(index, b"%d" % index)
            transaction.put_checkpoint(index + 1, b"note %d" % index)
    with store.read() as view:
        assert view.bodies(5, 300) == [b"%d" % index for index in range(5, 300)]
        assert view.bodies(298, 999) == [b"298", b"299"]
        assert view.bodies(7, 7) == []
        assert view.rows("SELECT idx FROM entry WHERE idx % 7 = 0 ORDER BY idx DESC LIMIT 3") == [
            (294,),
            (287,),
            (280,),
        ]
        assert view.checkpoint() == b"note 299"


def test_tiles_and_checkpoints_are_replaced_and_payloads_are_not(store: Store) -> None:
    digest, large = Digest("sha256:" + "0" * 64), bytes(range(256)) * 20_000
    for round_number in range(2):
        with store.write() as transaction:
            for width in range(1, 4):
                transaction.put_tile(1, 0, b"h" * width)
                transaction.put_checkpoint(1, b"note %d" % width)
            transaction.put_payload(digest, b"first" if round_number == 0 else b"other")
            transaction.put_payload(digest, b"second")
            transaction.put_payload(sha256_digest(b""), b"")
            transaction.put_payload(sha256_digest(large), large)
            assert transaction.payload(sha256_digest(b"")) == b""
    with store.read() as view:
        assert (view.tile(1, 0), view.checkpoint()) == (b"hhh", b"note 3")
        assert (view.payload(digest), view.payload(sha256_digest(b""))) == (b"first", b"")
        assert view.payload(sha256_digest(large)) == large
        assert view.rows("SELECT count(*) FROM payload") == [(3,)]


def test_many_threads_append_and_none_is_lost(place: Place) -> None:
    with memory_folder() as folder:
        log = _log(place, folder)

        def work(worker: int) -> list[int]:
            return [log.append_statements(party(worker * 1000 + n))[0].index for n in range(10)]

        def read(_worker: int) -> None:
            for _ in range(10):
                with log.view() as view:
                    assert view.size() == len(view.bodies(0, 1000))

        with ThreadPoolExecutor(12) as pool:
            reading = [pool.submit(read, number) for number in range(4)]
            places = [index for done in pool.map(work, range(8)) for index in done]
            for done in reading:
                done.result()
        assert sorted(places) == list(range(80))
        with log.view() as view:
            assert check_ledger(view, NoteVerifier(place.origin, KEY.public)) == []
            kept = digest_projections(view)
        with log.write() as transaction:
            assert rebuild(transaction) == 80
            assert digest_projections(transaction) == kept
        log.close()


def test_two_logs_append_to_one_ledger(place: Place) -> None:
    """Where processes take turns they mix; where one leads, the other goes on when that one ends. Both ways: one order."""
    with memory_folder() as folder:
        one, two = _log(place, folder, place.open()), _log(place, folder, place.open())
        turns = two.following is False

        def work(log: Log, first: int) -> list[int]:
            done = [log.append_statements(party(first + n))[0].index for n in range(40)]
            if log is one and not turns:
                log.close()
            return done

        with ThreadPoolExecutor(2) as pool:
            places = [*pool.map(work, (one, two), (0, 1000))]
        assert sorted(places[0] + places[1]) == list(range(80))
        assert all(mine == sorted(mine) for mine in places)
        assert turns or places[1] == list(range(40, 80))
        with two.view() as view:
            assert check_ledger(view, two.verifier) == []
            stored = [decode(body).t for body in view.bodies(0, 80)]
        assert sorted(stored) == [*range(40), *range(1000, 1040)]
        one.close()
        two.close()


def test_a_projector_that_fails_appends_nothing_of_its_group(place: Place, store: Store) -> None:
    class Failing(NoProjections):
        def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
            transaction.execute("INSERT INTO no_such_table VALUES(1)")

    with memory_folder() as folder:
        log = Log(store, CheckpointLock(folder / "lock.db"), KEY, place.origin, Failing())
        with pytest.raises(NotAppended) as caught:
            log.append(lambda _view: Draft((party(1),), (b"payload",)))
        assert caught.value.code == "ledger.not_appended"
        with log.view() as view:
            assert _everything(view) == NOTHING
        log.close()


def test_the_suite_can_break_a_commit(place: Place, store: Store) -> None:
    """The breaking itself: with ``kept`` the entry is there, as an outsider sees."""
    for kept, size in ((False, 0), (True, 1)):
        place.break_commit(store, kept=kept)
        with pytest.raises(Uncertain) as caught, store.write() as transaction:
            transaction.add_entry(0, b"0")
        assert isinstance(caught.value.__cause__, (apsw.Error, psycopg.Error))
        with place.open().read() as view:
            assert view.size() == size
        store.reopen()
