"""A hold lands while readers hammer: no key release has a higher place, and how soon other processes refuse.

Run: ``python bench/race.py [--rounds 1000] [--readers 32] [--seen 300]``.

*Order*: in each round ``--readers`` threads ask until they are refused while a hold is placed; then it is lifted. What is
counted is key releases with a place above the hold: it must be 0, and the whole ledger is checked by ``fsck``'s rule at the
end. *Elsewhere*: three other processes, with connections of their own and nothing shared but the files, look at SQLite's
``data_version`` in a loop and read the holds anew when it has moved, as a cache outside of the vault process does. From
the return of the append that placed the hold to the moment when they see it, by one clock of the machine. Their decisions
need none of this: inside the commit a hold is exact. With ``--postgres`` the same over a real PostgreSQL, by its NOTIFY.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import apsw

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from safehold.model.errors import Refused
from safehold.model.ids import parse_subject
from safehold.model.statements import HoldPlaced, KeyReleased
from safehold.state.invariants import check_order
from tests.broker_kit import CI, GROUPS, World, make_world

__all__ = ["main"]

WATCHERS = 3


def _round(world: World, readers: int, number: int) -> tuple[int, int]:
    """One hold under fire: how many were answered, and how many of them above the hold."""
    answered: list[int] = []
    begun = threading.Event()

    def read() -> None:
        try:
            while True:
                answered.append(world.ask(groups=GROUPS[:1]).entry)
                begun.set()
        except Refused:
            begun.set()

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    subject = ("party:quill-works", f"host:{CI}", "dataset:quill-works/word-problems")[number % 3]
    place = world.hold(subject).entry.index
    for thread in threads:
        thread.join(60)
    world.containment.lift(parse_subject(subject), "next round")
    return len(answered), sum(entry > place for entry in answered)


def order(rounds: int, readers: int) -> int:
    """The race itself; returns key releases above their hold."""
    with tempfile.TemporaryDirectory(prefix="safehold-race-") as folder:
        world = make_world(Path(folder))
        start, answered, above = time.perf_counter(), 0, 0
        for number in range(rounds):
            one, late = _round(world, readers, number)
            answered, above = answered + one, above + late
            if (number + 1) % 100 == 0:
                print(f"  {number + 1} rounds, {answered} answered, {above} above a hold", flush=True)
                world.report(CI)
        entries = world.entries()
        problems = check_order(entries)
        released = sum(isinstance(entry.statement, KeyReleased) for entry in entries)
        holds = sum(isinstance(entry.statement, HoldPlaced) for entry in entries)
        assert (released, holds) == (answered, rounds), "each answer and each hold has its entry"
        assert not problems, problems[:3]
        world.close()
    print(
        f"order: {rounds} rounds, {readers} readers: {answered} key releases, {above} above the hold that forbids them;"
        f" fsck's order: {len(problems)} problems ({time.perf_counter() - start:.0f} s)"
    )
    return above


def _watch_sqlite(path: str, pipe: Connection) -> None:
    """Another process: sees by ``data_version`` that something was committed, and reads the holds anew."""
    connection = apsw.Connection(path)
    connection.set_busy_timeout(10_000)
    seen, held = -1, 0
    pipe.send("ready")
    while True:
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version == seen:
            if pipe.poll(0.001):
                return
            continue
        seen = version
        now_held = connection.execute("SELECT count(*) FROM hold WHERE lifted_idx IS NULL").fetchone()[0]
        if now_held > held:
            pipe.send(time.monotonic_ns())
        held = now_held


def seen_elsewhere(rounds: int) -> None:
    """How long after the commit other processes see a hold."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="safehold-race-") as folder:
        world = make_world(Path(folder))
        pipes, processes = [], []
        for _ in range(WATCHERS):
            mine, theirs = context.Pipe()
            process = context.Process(target=_watch_sqlite, args=(str(Path(folder) / "ledger.db"), theirs), daemon=True)
            process.start()
            assert mine.recv() == "ready"
            pipes.append(mine)
            processes.append(process)
        taken = []
        for _ in range(rounds):
            world.hold("party:quill-works")
            committed = time.monotonic_ns()
            taken += [max(0, pipe.recv() - committed) / 1e6 for pipe in pipes]
            world.containment.lift(parse_subject("party:quill-works"), "next round")
        for pipe in pipes:
            pipe.send("end")
        world.close()
    _print("elsewhere, SQLite data_version looked at each millisecond", taken)


def seen_elsewhere_postgres(rounds: int) -> None:
    """The same over PostgreSQL: other sessions wait for its NOTIFY."""
    import psycopg

    from tests.postgres_kit import postgres_server

    context: Any = None
    with postgres_server() as server:
        context = server
        with psycopg.connect(server.url, autocommit=True) as writer, psycopg.connect(server.url, autocommit=True) as reader:
            reader.execute("LISTEN safehold")
            taken = []
            for number in range(rounds):
                stamp: list[int] = []

                def wait(found: list[int] = stamp) -> None:
                    for _ in reader.notifies(timeout=5, stop_after=1):
                        found.append(time.monotonic_ns())

                thread = threading.Thread(target=wait)
                thread.start()
                time.sleep(0.002)
                with writer.transaction():
                    writer.execute("SELECT pg_notify('safehold', %s)", (str(number),))
                committed = time.monotonic_ns()
                thread.join()
                taken.append(max(0, stamp[0] - committed) / 1e6)
    assert context is not None
    _print("elsewhere, PostgreSQL NOTIFY to another session", taken)


def _print(what: str, taken: list[float]) -> None:
    taken.sort()
    print(
        f"{what}: {len(taken)} looks, p50 {taken[len(taken) // 2]:.2f} ms,"
        f" p99 {taken[len(taken) * 99 // 100]:.2f} ms, longest {taken[-1]:.2f} ms"
    )


def main() -> None:
    """Race, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--readers", type=int, default=32)
    parser.add_argument("--seen", type=int, default=300)
    arguments = parser.parse_args()
    above = order(arguments.rounds, arguments.readers)
    seen_elsewhere(arguments.seen)
    assert above == 0, "a key release has a higher place than the hold that forbids it"


if __name__ == "__main__":
    main()
