"""A hold lands while readers hammer: no key release has a higher place, and how soon other processes refuse.

Run: ``python bench/race.py [--rounds 1000] [--readers 32] [--seen 300]``.

*Order*: in each round ``--readers`` threads ask until they are refused while a hold is placed; then it is lifted. What is
counted is key releases with a place above the hold: it must be 0, and the whole ledger is checked by ``fsck``'s rule at the
end. *Elsewhere*: three other processes, with stores of their own and nothing shared but the files or the
server, wait for a change and read the holds anew, as a cache outside of the vault process does. Measured from the return
of the append that placed the hold to the moment when each of them knows it, by one clock of the machine. What the broker
decides needs none of this: inside the commit a hold is exact.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from safehold.containment import Containment
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.postgres import PostgresStore
from safehold.ledger.sqlite import SqliteStore
from safehold.model.errors import Refused
from safehold.model.ids import PartyId, Subject, parse_subject
from safehold.model.statements import HoldPlaced, KeyReleased
from safehold.registry import Registry
from safehold.state.invariants import check_order
from safehold.state.projection import StateProjector
from safehold.state.standing import active_holds
from tests.broker_kit import CI, GROUPS, World, make_world
from tests.ledger_kit import KEY, ORIGIN, open_log
from tests.postgres_kit import start_server

__all__ = ["main"]

WATCHERS = 3
SUBJECT = Subject("party", "quill-works")


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


def _watch(kind: str, where: str, pipe: Connection) -> None:
    """Another process: is told that something was committed, and reads the holds anew."""
    store = SqliteStore(Path(where)) if kind == "sqlite" else PostgresStore(where, ORIGIN)
    size, held = 0, -1
    pipe.send("ready")
    while not pipe.poll():
        size = store.wait_for_change(size, 0.2)
        with store.read() as view:
            now_held = max((hold.placed_idx for hold in active_holds(view)), default=held)
        if now_held > held:
            pipe.send(time.monotonic_ns())
        held = now_held
    store.close()


def seen_elsewhere(kind: str, where: str, log: Log, rounds: int) -> None:
    """How long after the commit other processes refuse: they have seen the hold then."""
    context = multiprocessing.get_context("spawn")
    containment = Containment(log, lambda: time.time_ns() // 1000, KEY.key_id)
    pipes, processes = [], []
    for _ in range(WATCHERS):
        mine, theirs = context.Pipe()
        process = context.Process(target=_watch, args=(kind, where, theirs), daemon=True)
        process.start()
        assert mine.recv() == "ready"
        pipes.append(mine)
        processes.append(process)
    taken = []
    for _ in range(rounds):
        containment.suspend(SUBJECT, "a drill")
        committed = time.monotonic_ns()
        taken += [max(0, pipe.recv() - committed) / 1e6 for pipe in pipes]
        containment.lift(SUBJECT, "next round", despite_findings=True)
    for pipe in pipes:
        pipe.send("end")
    for process in processes:
        process.join(10)
    told = "SQLite, data_version looked at each millisecond" if kind == "sqlite" else "PostgreSQL, NOTIFY"
    _print(f"seen by {WATCHERS} other processes, {told}", taken)


def elsewhere(rounds: int) -> None:
    """Both homes: the embedded one and the served one."""
    with tempfile.TemporaryDirectory(prefix="safehold-race-") as folder:
        path = Path(folder)
        log = open_log(path)
        _register(log)
        seen_elsewhere("sqlite", str(path / "ledger.db"), log, rounds)
        log.close()
        url = start_server(path, path)
        store = PostgresStore(url, ORIGIN)
        log = Log(store, CheckpointLock(path / "postgres-lock.db"), KEY, ORIGIN, StateProjector())
        _register(log)
        seen_elsewhere("postgres", url, log, rounds)
        log.close()


def _register(log: Log) -> None:
    Registry(log, lambda: time.time_ns() // 1000, KEY.key_id).add_party(
        PartyId(SUBJECT.id), "supplier", "Quill Works", SigningKey.generate().public
    )


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
    elsewhere(arguments.seen)
    assert above == 0, "a key release has a higher place than the hold that forbids it"


if __name__ == "__main__":
    main()
