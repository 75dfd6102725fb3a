"""Queries over segments: a window of 3 days and the whole year, over key releases of one year, segments sorted by time.

Run: ``python bench/segments.py [--rows 3000000] [--every 100000]``. The rows are synthetic and are written as segments by
the real form (``ledger/segments/form``); that they are entries of a ledger is left out, since appending them would take
longer than all that is measured here. Beside the query stands what comes before it: reading each segment whole and
holding it against its digest. The peer is the same SQL over one table in SQLite with an index, the way the projection
``key_release`` is asked.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import apsw

from safehold.ledger.segments.form import FORM, arrow_rows, file_name, parquet_bytes
from safehold.ledger.segments.query import QueryLimits, Window, run_query
from safehold.ledger.segments.seal import Segments
from safehold.ledger.storage import Entry
from safehold.model.ids import (
    DatasetId,
    Digest,
    GrantId,
    GroupName,
    HostId,
    KeyId,
    PartyId,
    Purpose,
    RequestId,
    sha256_digest,
)
from safehold.model.statements import KeyReleased, SegmentSealed

__all__ = ["main"]

DAY: Final = 86_400_000_000
YEAR: Final = 365 * DAY
KEY = KeyId("SHA256:" + "A" * 43)
QUERY: Final = "SELECT release, count(*), count(DISTINCT host) FROM key_release GROUP BY release ORDER BY release"


class _NoLog:
    """Stands where the log stands: a ledger that has nothing but its segments."""

    def view(self) -> _NoLog:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __init__(self, size: int) -> None:
        self._size = size

    def size(self) -> int:
        """What the segments hold."""
        return self._size


def _release(number: int, rows: int, chance: random.Random) -> Entry:
    statement = KeyReleased(
        t=number * YEAR // rows, by=KEY, request=RequestId(f"q-{chance.getrandbits(128):032x}"),
        release=Digest("sha256:" + hashlib.sha256(b"%d" % chance.randrange(20_000)).hexdigest()),
        dataset=DatasetId(f"quill-works/d-{chance.randrange(500)}"), groups=(GroupName("text"),), parts=4,
        party=PartyId("quill-works"), host=HostId(f"quill-works/ci-{int(chance.paretovariate(0.5)) % 5000}"),
        member=None, grant=GrantId(f"g-{chance.randrange(60_000):016x}"), purpose=Purpose("training"),
        inventories=(sha256_digest(b"%d" % chance.randrange(5000)),), reader=sha256_digest(b""), until=0,
    )  # fmt: skip
    return Entry(number, b"", statement)


def _write(folder: Path, rows: int, every: int) -> list[Entry]:
    """Segments of synthetic key releases; the entries that would seal them."""
    chance, sealed = random.Random(1), list[Entry]()  # noqa: S311 - made-up rows, the same each time
    for begin in range(0, rows, every):
        entries = [_release(number, rows, chance) for number in range(begin, min(begin + every, rows))]
        for table, of in (("entry", []), ("key_release", entries)):
            arrow = arrow_rows(table, of)  # type: ignore[arg-type]  # one of the two tables
            data = parquet_bytes(arrow)
            (folder / file_name(table, begin, begin + len(entries))).write_bytes(data)
            times = [entry.statement.t for entry in of if isinstance(entry.statement, KeyReleased)]
            one = SegmentSealed(
                t=YEAR, by=KEY, table=table, form=FORM, begin=begin, end=begin + len(entries), rows=len(of),  # type: ignore[arg-type]  # one of the two tables
                since=times[0] if times else None, until=times[-1] if times else None, size=len(data),
                digest=sha256_digest(data),
            )  # fmt: skip
            sealed.append(Entry(rows + len(sealed), b"", one))
    return sorted(sealed, key=lambda entry: (entry.statement.table, entry.statement.begin))  # type: ignore[union-attr]  # all of them seal segments


def _peer(path: Path, folder: Path) -> apsw.Connection:
    import pyarrow.parquet as pq

    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE key_release(idx INTEGER PRIMARY KEY, t INTEGER, host TEXT, release TEXT)")
    with connection:
        for file in sorted(folder.glob("key_release-*.parquet")):
            columns = pq.read_table(file, columns=["idx", "t", "host", "release"]).to_pydict().values()
            connection.executemany("INSERT INTO key_release VALUES(?,?,?,?)", zip(*columns, strict=True))
    connection.execute("CREATE INDEX key_release_t ON key_release(t)")
    return connection


def _timed(act: Callable[[], Any], runs: int) -> tuple[float, Any]:
    times, answer = [], None
    for _ in range(runs):
        started = time.perf_counter()
        answer = act()
        times.append(time.perf_counter() - started)
    return statistics.median(times), answer


def main() -> None:
    """Write the segments, then ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--every", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "segments"
        folder.mkdir()
        started = time.perf_counter()
        sealed = _write(folder, given.rows, given.every)
        took, size = time.perf_counter() - started, sum(file.stat().st_size for file in folder.iterdir())
        print(
            f"{given.rows:,} key releases of a year in {len(sealed) // 2} segments of {given.every:,}, load {os.getloadavg()[0]:.1f}"
        )
        print(
            f"  rows made up, sorted and written in {took:.1f} s; {size / 1e6:.0f} MB, {size / given.rows:.0f} B a row"
        )
        peer = _peer(Path(place) / "peer.db", folder)
        segments = Segments(_NoLog(given.rows), folder, lambda _view: sealed, lambda: 0, KEY)  # type: ignore[arg-type]  # stands where a log stands
        limits = QueryLimits(rows=given.rows)
        for name, window in (
            ("3 days", Window(100 * DAY, 103 * DAY)),
            ("30 days", Window(100 * DAY, 130 * DAY)),
            ("a year", Window()),
        ):
            wanted = [one.statement for one in sealed if window.touches(one.statement)]  # type: ignore[arg-type]  # all of them seal segments
            files = [folder / file_name(one.table, one.begin, one.end) for one in wanted]  # type: ignore[union-attr]  # all of them seal segments
            hashed, _ = _timed(lambda files=files: [sha256_digest(file.read_bytes()) for file in files], given.runs)  # type: ignore[misc]  # bound to the value of now
            whole, answer = _timed(lambda window=window: run_query(segments, QUERY, window, limits), given.runs)  # type: ignore[misc]  # bound to the value of now
            sql = QUERY.replace("GROUP", f"WHERE {window.condition()} GROUP", 1)
            sqlite, rows = _timed(lambda sql=sql: tuple(peer.execute(sql)), given.runs)  # type: ignore[misc]  # bound to the value of now
            assert answer.rows == rows, "segments and SQLite must answer the same"
            print(
                f"  {name:>7}: {whole * 1000:7.0f} ms, of them {hashed * 1000:.0f} ms hashing {len(files)} files;"
                f" SQLite {sqlite * 1000:.0f} ms; {len(rows):,} releases"
            )
        peer.close()


if __name__ == "__main__":
    main()
