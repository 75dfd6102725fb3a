"""Opening a ledger of one and of ten million entries: how long, and how much memory the writer has, then and after a second of appends.

The ledger is made in bulk, without `Log` and without waiting for the disk, and it is a real one: canonical statements, all
tiles, a signed checkpoint, the projection's rows. Before anything is measured a thousand entries are proven against the root.
Opening is measured in a process of its own, from the call to the answer and without the imports, cold (the files just written
may be in the system's memory) and again. ``BENCH_ENTRIES`` names other sizes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw

from safehold.ledger.async_log import AsyncLog
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log, tile_reader
from safehold.ledger.note import sign_checkpoint
from safehold.ledger.proof import verify_inclusion
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.tree import Frontier, inclusion_proof, leaf_hashes
from safehold.model.ids import MemberId, PartyId
from safehold.model.statements import MemberRegistered, decode, encode
from safehold.state.projection import StateProjector

SIZES = [int(size) for size in os.environ.get("BENCH_ENTRIES", "1000000 10000000").split()]
FOLDER = Path(os.environ.get("BENCH_FOLDER", tempfile.gettempdir()))
ORIGIN = "bench.example/log"
BATCH = 1 << 16
TASKS = 64


def _member(number: int, signer: SigningKey) -> MemberRegistered:
    member = MemberId(f"north-lab/m-{number:020x}")
    return MemberRegistered(
        t=1_774_310_400_000_000 + number, by=signer.key_id, member=member, party=PartyId("north-lab")
    )


def make(folder: Path, signer: SigningKey, entries: int) -> None:
    """Write a ledger of ``entries`` statements."""
    Log(SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), signer, ORIGIN, StateProjector()).close()
    sample = encode(_member(0, signer))
    form = sample.replace(b"%", b"%%").replace(b"0" * 20, b"%020x").replace(b"1774310400000000", b"%d")
    assert decode(form % (5, 1_774_310_400_000_005)) == _member(5, signer)
    connection = apsw.Connection(str(folder / "ledger.db"))
    connection.pragma("journal_mode", "off")
    connection.pragma("synchronous", 0)
    connection.pragma("cache_size", -200_000)
    frontier = Frontier()
    with connection:
        for begin in range(0, entries, BATCH):
            numbers, full = range(begin, min(begin + BATCH, entries)), dict[tuple[int, int], bytes]()
            bodies = [form % (number, 1_774_310_400_000_000 + number) for number in numbers]
            frontier.extend(leaf_hashes(bodies), full)
            connection.executemany("INSERT INTO entry(idx, body) VALUES(?, ?)", zip(numbers, bodies, strict=True))
            connection.executemany(
                "INSERT INTO tile(level, idx, hashes) VALUES(?, ?, ?)",
                [(level, index, hashes) for (level, index), hashes in full.items()],
            )
            connection.executemany(
                "INSERT INTO member(member, party, idx, t) VALUES(?, ?, ?, ?)",
                [(f"north-lab/m-{at:020x}", "north-lab", at, 1_774_310_400_000_000 + at) for at in numbers],
            )
        connection.executemany("INSERT INTO tile(level, idx, hashes) VALUES(?, ?, ?)", frontier.partial_tiles())
        note = sign_checkpoint(ORIGIN, frontier.size, frontier.root(), signer).note
        connection.execute("INSERT INTO checkpoint(size, note) VALUES(?, ?)", (entries, note))
    connection.close()
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())  # what was only written to memory is not to be waited for by whoever opens it


def _memory() -> tuple[float, float]:
    """MB in use now, and at most until now."""
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(found["VmRSS"].split()[0]) / 1024, int(found["VmHWM"].split()[0]) / 1024


def _open(folder: Path, signer: SigningKey) -> tuple[Log, float]:
    started = time.perf_counter()
    log = Log(SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), signer, ORIGIN, StateProjector())
    return log, time.perf_counter() - started


async def _append(log: Log, signer: SigningKey, first: int) -> int:
    """Append for a second from many tasks; return how many."""
    done, until = 0, time.perf_counter() + 1
    async with AsyncLog(log) as face:

        async def work(number: int) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await face.append_statements(_member(number, signer))
                number += TASKS
                done += 1

        await asyncio.gather(*(work(first + task) for task in range(TASKS)))
    return done


def writer(folder: Path) -> None:
    """What a writer's process does: open, prove, append. Prints what it took."""
    signer, before = SigningKey.load(folder / "key"), _memory()[0]
    log, took = _open(folder, signer)
    opened = _memory()[0]
    with log.view() as view:
        size, root, read = view.size(), log.checkpoint().root, tile_reader(view)
        places = [number * 7_368_787 % size for number in range(1000)]
        bodies = [view.body(place) or b"" for place in places]
        started = time.perf_counter()
        paths = [inclusion_proof(place, size, read) for place in places]
        made = (time.perf_counter() - started) / len(places) * 1e6
        started = time.perf_counter()
        for place, path, body in zip(places, paths, bodies, strict=True):
            verify_inclusion(body, place, size, path, root)
        checked = (time.perf_counter() - started) / len(places) * 1e6
    done = asyncio.run(_append(log, signer, size))
    log.close()
    log, again = _open(folder, signer)
    log.close()
    print(f"open a ledger of {size:,} entries: {took * 1e3:.1f} ms, again {again * 1e3:.1f} ms")
    print(f"inclusion proof at {size:,} entries: made in {made:.0f} µs from the database, checked in {checked:.0f} µs")
    print(
        f"memory of the writer: {before:.0f} MB before it opened, {opened:.0f} MB open,"
        f" at most {_memory()[1]:.0f} MB while {TASKS} tasks appended {done:,} entries"
    )


def main() -> int:
    """Make the ledger here, open it in another process."""
    if len(sys.argv) == 2:
        writer(Path(sys.argv[1]))
        return 0
    for entries in SIZES:
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            started, signer = time.perf_counter(), SigningKey.generate()
            signer.save(Path(folder) / "key")
            make(Path(folder), signer, entries)
            size = (Path(folder) / "ledger.db").stat().st_size
            print(f"made in bulk in {time.perf_counter() - started:.0f} s: {size / 1e9:.2f} GB", flush=True)
            subprocess.run([sys.executable, __file__, folder], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
