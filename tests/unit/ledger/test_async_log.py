"""The log for an event loop: the promises of the log, one writer for tasks and threads, bounds, and cancelling."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from safehold.ledger.async_log import AsyncLog
from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Draft, Log
from safehold.ledger.receipt import verify_receipt
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Transaction, View
from safehold.model.errors import InputInvalid, NotAppended, StorageFailed, Uncertain
from safehold.model.statements import decode, encode
from tests.ledger_kit import VERIFIER, open_log, party


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path)
    yield opened
    opened.close()


def _play(log: Log, act: Callable[[AsyncLog], Awaitable[Any]], capacity: int = 4096) -> Any:
    async def run() -> Any:
        async with AsyncLog(log, capacity=capacity) as face:
            return await act(face)

    return asyncio.run(asyncio.wait_for(run(), 60))


def _times(log: Log) -> list[int]:
    with log.view() as view:
        assert check_ledger(view, VERIFIER) == []
        return [decode(body).t for body in view.bodies(0, view.size())]


class _Held:
    """A proposal that holds the writer inside a commit until it is let go."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.inside, self.go = threading.Event(), threading.Event()

    def __call__(self, _view: View) -> Draft:
        self.inside.set()
        assert self.go.wait(30)
        return Draft((party(self.number),))

    async def hold(self, face: AsyncLog) -> asyncio.Task[Any]:
        task = asyncio.create_task(face.append(self))
        await asyncio.get_running_loop().run_in_executor(None, self.inside.wait, 30)
        return task


async def _until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110 - the queue of the log has no event, and is not to have one for a test
        await asyncio.sleep(0)


def test_what_is_awaited_is_durable_in_its_place_and_proven(log: Log) -> None:
    async def act(face: AsyncLog) -> None:
        first, second = await face.append_statements(party(0), party(1))
        (third,) = await face.append(lambda view: Draft((party(view.size()),)))
        assert [entry.index for entry in (first, second, third)] == [0, 1, 2]
        assert third.body == encode(party(2))
        assert log.checkpoint().size == 3, "of the checkpoint that covers it"
        assert verify_receipt(log.receipt(2), VERIFIER).body == third.body
        assert await face.append_statements() == ()
        assert await face.append(lambda _view: Draft(())) == ()

    _play(log, act)
    assert _times(log) == [0, 1, 2]


def test_tasks_and_threads_share_one_order_and_none_is_lost(log: Log) -> None:
    def thread(worker: int) -> list[int]:
        return [log.append_statements(party(worker * 1000 + n))[0].index for n in range(30)]

    async def act(face: AsyncLog) -> list[list[int]]:
        async def task(worker: int) -> list[int]:
            return [(await face.append_statements(party(worker * 1000 + n)))[0].index for n in range(30)]

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            threads = [loop.run_in_executor(pool, thread, worker) for worker in range(4)]
            return [*await asyncio.gather(*(task(worker) for worker in range(4, 24)), *threads)]

    places = _play(log, act)
    assert sorted(index for mine in places for index in mine) == list(range(24 * 30))
    assert all(mine == sorted(mine) for mine in places)
    times = _times(log)
    for worker in range(24):
        assert [t for t in times if t // 1000 == worker] == [worker * 1000 + n for n in range(30)]


def test_two_loops_on_one_log(log: Log) -> None:
    def one(first: int) -> list[int]:
        async def act(face: AsyncLog) -> list[int]:
            done = await asyncio.gather(*(face.append_statements(party(first + n)) for n in range(100)))
            return [entries[0].index for entries in done]

        return list(_play(log, act))

    with ThreadPoolExecutor(2) as pool:
        places = [*pool.map(one, (0, 1000))]
    assert sorted(places[0] + places[1]) == list(range(200))
    assert all(mine == sorted(mine) for mine in places), "calls of one loop keep their order"
    _times(log)


def test_a_group_is_one_commit_and_a_proposal_sees_what_is_before_it(tmp_path: Path) -> None:
    commits = 0

    class Counting(SqliteStore):
        @contextmanager
        def write(self) -> Iterator[Transaction]:  # type: ignore[override]  # narrower than the store's own class
            nonlocal commits
            commits += 1
            with super().write() as transaction:
                yield transaction

    log = open_log(tmp_path, Counting)
    seen: list[int] = []

    def looking(view: View) -> Draft:
        seen.append(view.rows("SELECT count(*) FROM party")[0][0])
        assert view.size() == seen[-1]
        return Draft((party(seen[-1]),))

    async def act(face: AsyncLog) -> None:
        held = _Held()
        first = await held.hold(face)
        others = [
            asyncio.create_task(face.append(looking) if n % 3 == 0 else face.append_statements(party(n)))
            for n in range(1, 31)
        ]
        await _until(lambda: len(log.queue) == 30)
        before = commits
        held.go.set()
        await asyncio.gather(first, *others)
        assert commits == before + 1

    _play(log, act)
    assert seen == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert _times(log) == list(range(31))
    log.close()


def test_what_cannot_be_written_takes_no_other_with_it(log: Log) -> None:
    def stops(_view: View) -> Draft:
        raise StopIteration

    def exits(_view: View) -> Draft:
        raise SystemExit(3)

    async def act(face: AsyncLog) -> list[Any]:
        held = _Held()
        first = await held.hold(face)
        others = [
            asyncio.create_task(face.append_statements(party(1))),
            asyncio.create_task(face.append_statements(party(2), party(3, title=None))),
            asyncio.create_task(face.append(stops)),
            asyncio.create_task(face.append_statements(party(4, title="\ud800"))),
            asyncio.create_task(face.append_statements(party(5))),
        ]
        await _until(lambda: len(log.queue) == 5)
        held.go.set()
        await first
        answers = await asyncio.gather(*others, return_exceptions=True)
        with pytest.raises(SystemExit):
            await face.append(exits)
        await face.append_statements(party(6))  # the writer is still there
        return answers

    answers = _play(log, act)
    assert [type(answer) for answer in answers] == [tuple, InputInvalid, RuntimeError, InputInvalid, tuple]
    assert _times(log) == [0, 1, 5, 6]


def test_who_does_not_wait_is_refused_and_who_waits_comes_in_turn(log: Log) -> None:
    async def act(face: AsyncLog) -> None:
        held = _Held()
        first = await held.hold(face)
        second = asyncio.create_task(face.append_statements(party(1)))
        await _until(lambda: len(log.queue) == 1)
        with pytest.raises(NotAppended) as caught:
            await face.append_statements(party(99), wait=False)
        assert caught.value.code == "ledger.busy"
        waiting = [asyncio.create_task(face.append_statements(party(2 + n))) for n in range(20)]
        waiting[3].cancel()
        await asyncio.sleep(0)
        waiting[5].cancel()  # it waits for room by now
        await asyncio.sleep(0)
        assert len(log.queue) == 1, "two are under way, and no more were queued"
        with pytest.raises(NotAppended):
            await face.append(lambda _view: Draft((party(99),)), wait=False)
        held.go.set()
        await asyncio.gather(first, second)
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [at for at, one in enumerate(done) if isinstance(one, asyncio.CancelledError)] == [3, 5]
        assert await face.append_statements(party(50), wait=False)

    _play(log, act, capacity=2)
    assert _times(log) == [0, 1, *(2 + n for n in range(20) if n not in (3, 5)), 50]


def test_threads_are_bounded_too(log: Log) -> None:
    log.queue.capacity = 3
    held = _Held()
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(log.append, held)
        assert held.inside.wait(30)
        others = [pool.submit(log.append_statements, party(1 + n)) for n in range(10)]
        while len(log.queue) < 3:
            pass
        with pytest.raises(NotAppended) as caught:
            log.append(lambda _view: Draft((party(99),)), wait=False)
        assert caught.value.code == "ledger.busy"
        assert len(log.queue) == 3
        held.go.set()
        assert first.result(30)[0].index == 0
        assert sorted(done.result(30)[0].index for done in others) == list(range(1, 11))
    assert log.append(lambda _view: Draft((party(50),)), wait=False)
    assert sorted(_times(log)) == [*range(11), 50]


def test_cancelled_before_the_commit_takes_it_is_not_appended_and_afterwards_is(log: Log) -> None:
    async def act(face: AsyncLog) -> None:
        held = _Held()
        taken = await held.hold(face)
        queued = asyncio.create_task(face.append_statements(party(1)))
        stays = asyncio.create_task(face.append_statements(party(2)))
        await _until(lambda: len(log.queue) == 2)
        gathered = asyncio.create_task(face.append_statements(party(3)))
        await asyncio.sleep(0)  # it has run, and what it asked has not been queued yet
        for task in (taken, queued, gathered):
            task.cancel()
        for task in (taken, queued, gathered):
            with pytest.raises(asyncio.CancelledError):
                await task
        held.go.set()
        assert (await stays)[0].index == 1
        assert (await face.append_statements(party(4)))[0].index == 2

    _play(log, act)
    assert _times(log) == [0, 2, 4]


def test_all_cancelled_leaves_the_lead_to_others(log: Log) -> None:
    async def act(face: AsyncLog) -> None:
        for _ in range(50):
            tasks = [asyncio.create_task(face.append_statements(party(7))) for _ in range(3)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, log.append_statements, party(1))

    _play(log, act)
    log.append_statements(party(2))
    assert [t for t in _times(log) if t != 7] == [1, 2]


def test_closing_waits_for_what_is_under_way_and_takes_nothing_more(log: Log) -> None:
    async def act(face: AsyncLog) -> None:
        held = _Held()
        first = await held.hold(face)
        second = asyncio.create_task(face.append_statements(party(1)))
        third = asyncio.create_task(face.append_statements(party(2)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(face.close())
        await asyncio.sleep(0)
        with pytest.raises(StorageFailed) as caught:
            await face.append_statements(party(3))
        assert caught.value.code == "ledger.closed"
        assert not closing.done()
        held.go.set()
        await closing
        assert (await first)[0].index == 0
        assert (await second)[0].index == 1
        with pytest.raises(StorageFailed):
            await third  # it waited for room
        await face.close()

    before = threading.active_count()
    _play(log, act, capacity=2)
    assert threading.active_count() <= before, "its thread has ended"
    log.append_statements(party(9))
    assert _times(log) == [0, 1, 9]


def test_a_commit_that_fails_is_told_to_all(tmp_path: Path) -> None:
    class Failing(SqliteStore):
        fail = False

        @contextmanager
        def write(self) -> Iterator[Transaction]:  # type: ignore[override]  # narrower than the store's own class
            with super().write() as transaction:
                yield transaction
            if self.fail:
                self.close()
                raise Uncertain("ledger.uncertain", "who knows")

    made: list[Failing] = []

    def make(path: Path) -> SqliteStore:
        made.append(Failing(path))
        return made[-1]

    log = open_log(tmp_path, make)

    async def act(face: AsyncLog) -> list[Any]:
        await face.append_statements(party(0))
        made[0].fail = True
        tasks = [face.append_statements(party(1 + n)) for n in range(5)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(Uncertain):
            await face.append_statements(party(9))
        return answers

    answers = _play(log, act)
    assert [type(answer) for answer in answers] == [Uncertain] * 5
    log.close()
    log = open_log(tmp_path)
    assert _times(log) == [0, 1, 2, 3, 4, 5]
    log.close()


def test_a_loop_that_ended_does_not_stop_the_others(log: Log) -> None:
    held = _Held()

    async def leave() -> AsyncLog:
        face = AsyncLog(log)
        task = await held.hold(face)
        task.cancel()
        return face  # and is not closed: its loop ends with a commit under way

    asyncio.run(leave())
    held.go.set()
    assert log.append_statements(party(1))[0].index == 1
    assert _times(log) == [0, 1]
