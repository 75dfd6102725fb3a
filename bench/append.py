"""Durable append beside plain SQLite and pymerkle, fsync beside both, and the verification of a whole exported ledger.

All on one disk, one after the other, in one process, repeated in rounds; the best round of each is compared, and the
worst is printed. An append is durable, has its place, and is covered by a signed checkpoint when it returns; one call is one
entry unless it says otherwise. The peers: one ``INSERT`` with one ``COMMIT`` (SQLite through apsw, WAL, ``synchronous=FULL``:
durable, no tree, no signature) and pymerkle's SqliteTree (a tree in SQLite with its own settings: no tiles, no signature).

Two faces of one writer: tasks of an event loop (``AsyncLog`` on uvloop, as the served home runs) and threads (``Log``). Two
kinds of statement: a key release (630 bytes, with a row and four indexes in the projections) and a registered party (200 bytes).
With the projections of ``state``, as Safehold runs it, and without them: the ledger alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw
import msgspec
import pymerkle
import uvloop

from safehold.ledger.async_log import AsyncLog
from safehold.ledger.audit import audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log, tile_reader
from safehold.ledger.proof import verify_inclusion
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, Projector, Transaction
from safehold.ledger.tree import Frontier, inclusion_proof, leaf_hashes
from safehold.model.ids import DatasetId, Digest, GrantId, GroupName, HostId, PartyId, Purpose, RequestId
from safehold.model.statements import KeyReleased, PartyRegistered, Statement, encode
from safehold.state.projection import StateProjector

ROUNDS = 3
SECONDS = 1.0
LARGE = 400_000


class _NoProjections:
    def prepare(self, transaction: Transaction) -> None:
        """Nothing to create."""

    def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Nothing to keep."""


def _statement(number: int, signer: SigningKey) -> KeyReleased:
    """A key release, the commonest entry: about 570 bytes."""
    digest = Digest(f"sha256:{number:064x}")
    return KeyReleased(
        t=1_774_310_400_000_000 + number,
        by=signer.key_id,
        request=RequestId(f"q-{number:032x}"),
        release=digest,
        dataset=DatasetId("quill-works/word-problems"),
        groups=(GroupName("question"), GroupName("answer")),
        parts=4,
        party=PartyId("north-lab"),
        host=HostId("north-lab/trainer"),
        member=None,
        grant=GrantId("g-0123456789abcdef"),
        purpose=Purpose("training"),
        inventories=(digest,),
        reader=digest,
        until=1_774_310_700_000_000,
    )


def key_releases(signer: SigningKey, count: int = 8192) -> list[Statement]:
    """Key releases with request ids as readers choose them: at random, so that their index is written all over."""
    made = (_statement(number, signer) for number in range(count))
    return [msgspec.structs.replace(one, request=RequestId(f"q-{secrets.token_hex(16)}")) for one in made]


def parties(signer: SigningKey, count: int = 8192) -> list[Statement]:
    """Small statements."""
    return [
        PartyRegistered(
            t=number, by=signer.key_id, party=PartyId(f"p-{number}"), role="supplier", title="Quill Works", key="k"
        )
        for number in range(count)
    ]


MakeStatements = Callable[[SigningKey], list[Statement]]


def fsync_times(folder: Path, count: int = 200) -> list[float]:
    """Seconds of ``count`` syncs of 4 KiB each, appended to one file."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(count):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return times


def run_threads(threads: int, act: Callable[[int], object]) -> tuple[float, list[float]]:
    """Let ``threads`` call ``act`` for about a second; return calls a second and the seconds of each call."""
    stop, barrier = threading.Event(), threading.Barrier(threads + 1)

    def work(worker: int) -> list[float]:
        taken, number = [], worker
        barrier.wait()
        while not stop.is_set():
            started = time.perf_counter()
            act(number)
            taken.append(time.perf_counter() - started)
            number += threads
        return taken

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work, worker) for worker in range(threads)]
        barrier.wait()
        started = time.perf_counter()
        time.sleep(SECONDS)
        stop.set()
        taken = [one for done in running for one in done.result()]
        return len(taken) / (time.perf_counter() - started), taken


def _log(folder: Path, projector: Projector, signer: SigningKey) -> Log:
    return Log(
        SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), signer, "bench.example/log", projector
    )


def measure_log(
    threads: int, projector: Projector, *, each: int = 1, make: MakeStatements = key_releases
) -> tuple[float, list[float]]:
    """Entries a second by threads, and the seconds of each call; ``each`` entries a call."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        signer = SigningKey.generate()
        log, made = _log(Path(folder), projector, signer), make(signer)
        rate, taken = run_threads(
            threads, lambda n: log.append_statements(*(made[(n + k) % len(made)] for k in range(each)))
        )
        log.close()
    return rate * each, taken


async def run_tasks(log: Log, made: list[Statement], tasks: int) -> tuple[float, list[float]]:
    """Let ``tasks`` append for about a second, each one entry after the other; entries a second, and seconds of each call."""
    taken: list[float] = []
    async with AsyncLog(log) as face:
        started = time.perf_counter()
        until = started + SECONDS

        async def work(number: int) -> None:
            while (begun := time.perf_counter()) < until:
                await face.append_statements(made[number % len(made)])
                taken.append(time.perf_counter() - begun)
                number += tasks

        await asyncio.gather(*(work(task) for task in range(tasks)))
        return len(taken) / (time.perf_counter() - started), taken


def measure_tasks(tasks: int, projector: Projector, make: MakeStatements = key_releases) -> tuple[float, list[float]]:
    """Entries a second by tasks of one event loop, and the seconds of each call."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        signer = SigningKey.generate()
        log = _log(Path(folder), projector, signer)
        result = uvloop.run(run_tasks(log, make(signer), tasks))
        log.close()
    return result


def measure_insert(threads: int) -> tuple[float, list[float]]:
    """One INSERT with one COMMIT, one connection a thread as SQLite wants it."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        body, own = encode(_statement(1, SigningKey.generate())), threading.local()
        path = str(Path(folder) / "plain.db")

        def connect() -> apsw.Connection:
            connection = apsw.Connection(path)
            connection.set_busy_timeout(60_000)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 2)
            connection.execute("CREATE TABLE IF NOT EXISTS entry(idx INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            return connection

        first = connect()

        def insert(_number: int) -> None:
            if not hasattr(own, "connection"):
                own.connection = connect()
            own.connection.execute("INSERT INTO entry(body) VALUES(?)", (body,))

        result = run_threads(threads, insert)
        first.close()
    return result


def measure_pymerkle() -> tuple[float, list[float]]:
    """Pymerkle's SqliteTree from one thread: it commits each entry, and is not made for several threads."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        tree, body = pymerkle.SqliteTree(str(Path(folder) / "tree.db")), encode(_statement(1, SigningKey.generate()))
        started, taken = time.perf_counter(), []
        while time.perf_counter() - started < SECONDS:
            begun = time.perf_counter()
            tree.append_entry(body)
            taken.append(time.perf_counter() - begun)
        rate = len(taken) / (time.perf_counter() - started)
        tree.con.close()
    return rate, taken


def report(name: str, measure: Callable[[], tuple[float, list[float]]]) -> float:
    """Print the best of the rounds; return its rate."""
    results = [measure() for _ in range(ROUNDS)]
    rate, taken = max(results, key=lambda result: result[0])
    taken.sort()
    p50, p99 = taken[len(taken) // 2] * 1e3, taken[int(len(taken) * 0.99)] * 1e3
    low = min(result[0] for result in results)
    print(
        f"{name:<52} {rate:>10,.0f}/s   p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   (worst round {low:,.0f}/s)", flush=True
    )
    return rate


def verification() -> None:
    """Make a large ledger, export it, and verify all of it from its files; then proofs."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        signer = SigningKey.generate()
        log = _log(Path(folder), _NoProjections(), signer)
        started = time.perf_counter()
        for begin in range(0, LARGE, 4096):
            log.append_statements(*(_statement(number, signer) for number in range(begin, min(begin + 4096, LARGE))))
        print(f"{'append in calls of 4,096 entries':<48} {LARGE / (time.perf_counter() - started):>10,.0f}/s")
        with log.view() as view:
            started = time.perf_counter()
            export_ledger(view, log.verifier, Path(folder) / "export")
            print(f"{'export, each file synced':<48} {LARGE / (time.perf_counter() - started):>10,.0f}/s")
            alone, shared, tree = float("inf"), float("inf"), float("inf")
            cores = len(os.sched_getaffinity(0))
            for _ in range(ROUNDS):
                for processes in (1, cores):
                    started = time.perf_counter()
                    report = audit_export(Path(folder) / "export", log.verifier, processes=processes)
                    took = time.perf_counter() - started
                    assert report.checkpoint.size == LARGE
                    alone, shared = (min(alone, took), shared) if processes == 1 else (alone, min(shared, took))
                stored = view.bodies(0, LARGE)
                started = time.perf_counter()
                Frontier().extend(leaf_hashes(stored), {})
                tree = min(tree, time.perf_counter() - started)
            what = "verify the whole export: hashes, tiles, statements"
            print(f"{what + ', 1 process':<64} {LARGE / alone:>10,.0f}/s")
            print(f"{what + f', {cores} processes':<64} {LARGE / shared:>10,.0f}/s")
            print(f"{'  of it the tree alone, entries in memory, 1 process':<64} {LARGE / tree:>10,.0f}/s")

            read, root = tile_reader(view), log.checkpoint().root
            places = [number * 7919 % LARGE for number in range(500)]
            started = time.perf_counter()
            paths = [inclusion_proof(place, LARGE, read) for place in places]
            made = (time.perf_counter() - started) / len(places) * 1e6
            bodies = [view.body(place) or b"" for place in places]
            started = time.perf_counter()
            for place, path, body in zip(places, paths, bodies, strict=True):
                verify_inclusion(body, place, LARGE, path, root)
            checked = (time.perf_counter() - started) / len(places) * 1e6
            print(
                f"inclusion proof at {LARGE:,} entries: made in {made:.0f} µs from the database, checked in {checked:.0f} µs"
            )
        log.close()
        started = time.perf_counter()
        log = _log(Path(folder), _NoProjections(), signer)
        print(f"open a ledger of {LARGE:,} entries: {(time.perf_counter() - started) * 1e3:.1f} ms")
        log.close()


def main() -> int:
    """Print every figure."""
    warnings.simplefilter("ignore")
    times = sorted(fsync_times(FOLDER))
    print(
        f"fdatasync of 4 KiB: p50 {statistics.median(times) * 1e3:.2f} ms, p99 {times[-3] * 1e3:.2f} ms; load {os.getloadavg()[0]:.1f}"
    )
    state, none = StateProjector(), _NoProjections()
    rates = {}
    for tasks in (1, 64, 256):
        rates[tasks] = report(f"{tasks} tasks, key releases, ledger alone", partial(measure_tasks, tasks, none))
    small = report("64 tasks, small statements, ledger alone", partial(measure_tasks, 64, none, parties))
    report("64 tasks, key releases, with projections", partial(measure_tasks, 64, state))
    report("256 tasks, key releases, with projections", partial(measure_tasks, 256, state))
    report("64 tasks, small statements, with projections", partial(measure_tasks, 64, state, parties))
    for threads in (1, 64):
        report(f"{threads} threads, key releases, ledger alone", partial(measure_log, threads, none))
    report("64 threads, 16 key releases a call, ledger alone", partial(measure_log, 64, none, each=16))
    plain = {
        threads: report(f"plain INSERT per commit, {threads} threads", partial(measure_insert, threads))
        for threads in (1, 64)
    }
    peer = report("pymerkle SqliteTree, 1 thread", measure_pymerkle)
    best = max(plain.values())
    print(
        f"64 tasks, key releases: {rates[64] / best:.1f} × the best plain INSERT, {rates[64] / peer:.1f} × pymerkle;"
        f" small statements: {small / best:.1f} ×, {small / peer:.1f} ×"
    )
    times = sorted(fsync_times(FOLDER))
    print(
        f"fdatasync of 4 KiB: p50 {statistics.median(times) * 1e3:.2f} ms, p99 {times[-3] * 1e3:.2f} ms; load {os.getloadavg()[0]:.1f}"
    )
    verification()
    return 0


FOLDER = Path(os.environ.get("BENCH_FOLDER", tempfile.gettempdir()))

if __name__ == "__main__":
    sys.exit(main())
