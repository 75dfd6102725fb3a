"""Exposure over 10 M and 100 M key releases of one year: windows of 3, 30 and 365 days, with lineage.

Run: ``python bench/exposure.py [--rows 10000000 100000000] [--no-peer] [--keep FOLDER]``. ``--keep`` makes each ledger below
FOLDER once and asks it again in later runs: ``--keep FOLDER --rows 100000000 --no-peer``. 5,000 hosts, 60,000 grants (few are used much), 20,000
datasets with two releases each, 15,000 runs, 5,000 models; one host in fifty held the thing for a part of the window, and is not
observed for a while after. The key releases are sealed segments, sorted by time; all else is in the projections.

*query* is what the research asked: which key releases met those times, by host and release, and all that came of the releases
(later ones, runs, models). It holds each segment that it reads against its digest first, on two threads; *hashing alone* says how
long one thread takes for that. *whole report* loads the case and answers all 23 questions. The peer is PostgreSQL with 10 M rows, an index on
host and time, the same times and a recursive query; both must count the same.

``request`` is empty from 100 M rows on: no query reads it, and it is most of a row's bytes. Each measurement is made in a process
of its own, for its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from safehold.exposure.case import load_case
from safehold.exposure.case_wide import host_spans
from safehold.exposure.facts import Case
from safehold.exposure.lineage import Lineage
from safehold.exposure.openings import HostSpans, MemoryOpenings, SegmentOpenings
from safehold.exposure.report import answer_all
from safehold.ledger.segments.form import FORM, file_name
from safehold.ledger.segments.query import QueryLimits
from safehold.ledger.segments.seal import Segments
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, Transaction
from safehold.model.ids import Digest, KeyId, sha256_digest
from safehold.model.statements import SegmentSealed
from safehold.state.projection import StateProjector

__all__ = ["main"]

DAY: Final = 86_400_000_000
YEAR: Final = 365 * DAY
KEY = KeyId("SHA256:" + "A" * 43)
EVERY: Final = 250_000
HOSTS, GRANTS, DATASETS, RUNS, MODELS = 5_000, 60_000, 20_000, 15_000, 5_000
SPANS: Final = (("3 days", 3), ("30 days", 30), ("a year", 364))
LIMITS: Final = QueryLimits(memory=400, threads=2, seconds=300.0, rows=1_000_000)
ADVISORY: Final = "BENCH-{days}"
FOLDER: Final = os.environ.get("SAFEHOLD_BENCH_FOLDER")


# --- making it -----------------------------------------------------------------------------------------------------


def host_name(number: int) -> str:
    """A host by its number; fifty to a party."""
    return f"quill-{number // 50}/ci-{number}"


def release_name(dataset: int, version: int) -> Digest:
    """A release's digest."""
    return sha256_digest(b"%d@%d" % (dataset, version))


def write_segments(folder: Path, rows: int) -> None:
    """Key releases of a year, evenly in time; a grant belongs to one host and one dataset, and is chosen unevenly."""
    folder.mkdir()
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "1500MB"})
    connection.execute("CREATE TABLE made(g INTEGER, version INTEGER, release VARCHAR, dataset VARCHAR, host VARCHAR,"
                       " party VARCHAR, grant_ VARCHAR)")  # fmt: skip
    for begin in range(0, GRANTS, 5_000):
        values = [
            (g, version, release_name(g % DATASETS, version), f"quill-{g % DATASETS // 200}/d-{g % DATASETS}",
             host_name(g * 7919 % HOSTS), host_name(g * 7919 % HOSTS).split("/")[0], f"g-{g:016x}")
            for g in range(begin, begin + 5_000)
            for version in (1, 2)
        ]  # fmt: skip
        columns = {
            name: [one[place] for one in values] for place, name in enumerate(("a", "b", "c", "d", "e", "f", "g"))
        }
        import pyarrow as pa

        connection.register("piece", pa.table(columns))
        connection.execute("INSERT INTO made SELECT * FROM piece")
        connection.unregister("piece")
    for name in ("release", "dataset", "host", "party", "grant_"):  # a dictionary is made once, and not for each file
        connection.execute(f"CREATE TYPE {name}_names AS ENUM (SELECT DISTINCT {name} FROM made ORDER BY 1)")  # noqa: S608 - our own names
        connection.execute(f"ALTER TABLE made ALTER {name} TYPE {name}_names")
    request = "NULL::VARCHAR" if rows > 20_000_000 else "'q-' || md5(i::VARCHAR)"
    for begin in range(0, rows, EVERY):
        end = min(begin + EVERY, rows)
        connection.execute(
            f"""COPY (SELECT i AS idx, (i * {YEAR // rows})::BIGINT AS t, {request} AS request, host, party,
                NULL::VARCHAR AS member, release, dataset, grant_ AS "grant", 'training' AS purpose, ['text'] AS groups,
                ['{sha256_digest(b"inventory")}'] AS inventories, 4::BIGINT AS parts,
                (i * {YEAR // rows} + 300000000)::BIGINT AS until
                FROM (SELECT i, least((pow(hash(i) / 18446744073709551616.0, 2) * {GRANTS})::INTEGER, {GRANTS - 1}) AS k
                      FROM range({begin}, {end}) r(i)) s
                JOIN made ON made.g = s.k AND made.version = CASE WHEN s.i < {rows // 2} THEN 1 ELSE 2 END
                ORDER BY t, idx)
                TO '{folder / file_name("key_release", begin, end)}'
                (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072)"""  # noqa: S608 - our own numbers and names
        )
    connection.close()


def sealed_entries(folder: Path, rows: int) -> list[Entry]:
    """The entries that would seal these files."""
    made = []
    for begin in range(0, rows, EVERY):
        end = min(begin + EVERY, rows)
        for table in ("entry", "key_release"):
            data = (folder / file_name(table, begin, end)).read_bytes() if table == "key_release" else b""
            one = SegmentSealed(
                t=YEAR, by=KEY, table=table, form=FORM, begin=begin, end=end, rows=end - begin if data else 0,  # type: ignore[arg-type]  # one of the two
                since=begin * (YEAR // rows) if data else None, until=(end - 1) * (YEAR // rows) if data else None,
                size=len(data), digest=sha256_digest(data),
            )  # fmt: skip
            made.append(Entry(rows + len(made), b"", one))
    return sorted(made, key=lambda entry: (entry.statement.table, entry.statement.begin))  # type: ignore[union-attr]  # all of them seal segments


def _put(transaction: Transaction, table: str, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    transaction.execute(f'INSERT INTO "{table}"({names}) VALUES({", ".join("?" * len(values))})', *values.values())


def write_projections(path: Path) -> None:
    """All but the key releases, as rows of the projections."""
    chance, store = random.Random(1), SqliteStore(path)  # noqa: S311 - made-up rows, the same each time
    with store.write() as made:
        StateProjector().prepare(made)
        for number in range(HOSTS):
            host = host_name(number)
            _put(made, "host", host=host, party=host.split("/")[0], key="", expected_every=60, idx=number, t=0)
        for g in range(GRANTS):
            host = host_name(g * 7919 % HOSTS)
            _put(made, "grant", grant=f"g-{g:016x}", party=host.split("/")[0], host=host,
                 dataset=f"quill-{g % DATASETS // 200}/d-{g % DATASETS}", groups='["text"]', purposes='["training"]',
                 not_before=0, until=YEAR, token="", revocation="", idx=HOSTS + g, t=0)  # fmt: skip
        for d in range(DATASETS):
            for version, t in ((1, 0), (2, YEAR // 2)):
                parent = release_name(d, 1) if version == 2 else None
                _put(made, "release", release=release_name(d, version), dataset=f"quill-{d // 200}/d-{d}", version=version,
                     party=f"quill-{d // 200}", host=host_name(d % HOSTS), parent=parent, rows=100, size=1, parts=4,
                     groups='["text"]', classification="", purposes="[]", people="[]", idx=200_000 + 2 * d + version, t=t)  # fmt: skip
        for run in range(RUNS):
            _put(made, "run", run=f"lab/run-{run}", party="lab", host=None, idx=300_000 + run, t=YEAR)
            for d in {chance.randrange(DATASETS) for _ in range(4)}:
                _put(made, "run_release", run=f"lab/run-{run}", release=release_name(d, 1 + run % 2))
        for model in range(MODELS):
            _put(made, "model", model=f"lab/model-{model}", party="lab", idx=400_000 + model, t=YEAR)
            for run in {chance.randrange(RUNS) for _ in range(3)}:
                _put(made, "model_run", model=f"lab/model-{model}", run=f"lab/run-{run}")
        _incidents(made, chance)
    store.close()


def _incidents(made: Transaction, chance: random.Random) -> None:
    """An advisory for each window; each fiftieth host held its thing for a part of it and was silent for a part after."""
    idx = 500_000
    for _, days in SPANS:
        start = 0 if days > 100 else 100 * DAY
        end, document = start + days * DAY, sha256_digest(b"%d" % days)
        bad, clean = sha256_digest(b"bad %d" % days), sha256_digest(b"clean %d" % days)
        windows = json.dumps([{"source": "bench", "start": start, "end": end}])
        _put(made, "advisory", idx=idx, advisory=ADVISORY.format(days=days), document=document, format="osv", source="bench",
             aliases="[]", joined="[]", affected="[]", windows=windows, summary="", first_seen=end, published=None,
             modified=None, withdrawn=0, t=end)  # fmt: skip
        _put(made, "finding", idx=idx + 1, advisory=ADVISORY.format(days=days), document=document, inventory=bad,
             match="version", name="litellm", version="1.82.8", path="", t=end)  # fmt: skip
        for inventory in (bad, clean):
            _put(
                made,
                "item",
                inventory=inventory,
                place=0,
                kind="distribution",
                name="x",
                version="1",
                path="",
                sha256="",
                family="",
            )
        idx += 2
        for number in range(HOSTS):
            if number % 50 == days % 50:
                come = start + chance.randrange(days * DAY // 2)
                gone = come + chance.randrange(DAY // 4, days * DAY // 4)
                seen = ((clean, 0, come), (bad, come + 1, gone), (clean, gone + DAY // 8, YEAR))
            else:
                seen = ((clean, 0, YEAR),)
            for inventory, since, until in seen:
                _put(made, "observation", idx=idx, host=host_name(number), environment=f"main-{days}", inventory=inventory,
                     since=since, until=until, largest_gap=60_000_000, sweeps=2, report="", t=YEAR)  # fmt: skip
                idx += 1


# --- asking --------------------------------------------------------------------------------------------------------


class _AsInstalled(MetaPathFinder):
    """Hides pandas: no extra installs it, and pyarrow loads it (70 MB, 0.3 s) where tools for development did."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Refuse pandas; whatever else it is, others find."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


class _NoLog:
    """Stands where the log stands: a ledger that has nothing but its segments."""

    def __init__(self, size: int) -> None:
        self._size = size

    def view(self) -> _NoLog:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def size(self) -> int:
        """What the segments hold."""
        return self._size


def _timed(act: Callable[[], Any], runs: int) -> tuple[float, Any]:
    times, answer = [], None
    for _ in range(runs):
        started = time.perf_counter()
        answer = act()
        times.append(time.perf_counter() - started)
    return statistics.median(times), answer


def _hashing(folder: Path, sealed: Sequence[Entry], first: int, last: int) -> None:
    for entry in sealed:
        one = entry.statement
        assert isinstance(one, SegmentSealed)
        if one.since is not None and one.until is not None and one.since <= last and one.until >= first - DAY:
            sha256_digest((folder / file_name(one.table, one.begin, one.end)).read_bytes())


def ask(place: Path, rows: int, days: int, *, whole: bool) -> dict[str, Any]:
    """Measure one window, the query or the whole report; for a process of its own."""
    sys.meta_path.insert(0, _AsInstalled())
    folder = place / "segments"
    sealed = sealed_entries(folder, rows)
    segments = Segments(_NoLog(rows), folder, lambda _view: sealed, lambda: 0, KEY)  # type: ignore[arg-type]  # stands where a log stands
    store = SqliteStore(place / "projections.db")
    try:
        with store.read() as view:
            openings = SegmentOpenings(view, segments, LIMITS, few=-1)
            if whole:
                started = time.perf_counter()
                report = answer_all(load_case(view, ADVISORY.format(days=days), YEAR, None, openings))
                told: dict[str, Any] = {"whole": time.perf_counter() - started}
                told["exposed"] = report.counts["releases"]["exposed"]
            else:
                told = _query(
                    load_case(view, ADVISORY.format(days=days), YEAR, None, MemoryOpenings(())), openings, days
                )
                told["hashing"] = _timed(lambda: _hashing(folder, sealed, told["first"], told["last"]), 1)[0]
    finally:
        store.close()
    return told | {"memory": _memory()}


def _memory() -> float:
    """The most that this process had, in MB. (``getrusage`` also tells of the process that started it.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _query(case: Case, openings: SegmentOpenings, days: int) -> dict[str, Any]:
    """The query alone: the times of the hosts and the lineage are there already."""
    spans, lineage, runs = host_spans(case), Lineage(case), 3 if days < 100 else 1

    def query() -> tuple[Any, Any]:
        touches = openings.touching(spans)
        return touches, lineage.descendants({touch.release for touch in touches})

    import pyarrow.parquet  # noqa: F401 - loading libraries is no part of a query

    # Starting DuckDB for the first time in a process costs 0.4 s: it is told apart, and not part of a query.
    openings.touching((HostSpans(spans[0].host, spans[0].held[:1], ()),))
    processor = time.process_time()
    took, (touches, (later, used, models)) = _timed(query, runs)
    every = [span for one in spans for span in (*one.held, *one.unknown)]
    return {
        "query": took, "processor": (time.process_time() - processor) / runs, "hosts": len(spans), "groups": len(touches),
        "met": sum(touch.count for touch in touches), "releases": len({touch.release for touch in touches}),
        "later": len(later), "runs": len(used), "models": len(models),
        "first": min(span.start for span in every), "last": max(span.end for span in every),
        "spans": [(one.host, span.start, span.end, held) for one in spans
                  for held, own in ((True, one.held), (False, one.unknown)) for span in own],
    }  # fmt: skip


# --- the peer ------------------------------------------------------------------------------------------------------

_PEER: Final = """
WITH RECURSIVE met AS (
  SELECT k.idx, k.host, k.release, max(CASE WHEN s.held THEN CASE WHEN k.t >= s.start THEN 2 ELSE 1 END END) AS sure,
         max(CASE WHEN NOT s.held THEN CASE WHEN k.t >= s.start THEN 2 ELSE 1 END END) AS maybe
  FROM span s JOIN key_release k ON k.host = s.host AND k.t >= s.start - 86400000000 AND k.t <= s."end"
   AND (k.t >= s.start OR k.until > s.start) GROUP BY k.idx, k.host, k.release),
sums AS (
  SELECT release, count(sure) + count(CASE WHEN maybe IS DISTINCT FROM sure THEN maybe END) AS met FROM met GROUP BY release),
later(release) AS (
  SELECT release FROM sums UNION SELECT r.release FROM release r JOIN later l ON r.parent = l.release),
used AS (SELECT DISTINCT run FROM run_release JOIN later USING (release))
SELECT (SELECT sum(met) FROM sums), (SELECT count(*) FROM sums), (SELECT count(*) FROM used),
       (SELECT count(DISTINCT model) FROM model_run JOIN used USING (run))
"""


_LINEAGE: Final = {"release": ("release", "parent"), "run_release": ("run", "release"), "model_run": ("model", "run")}


@contextmanager
def peer(place: Path, rows: int) -> Iterator[Any]:
    """PostgreSQL with the same rows, and the tables of the lineage."""
    import psycopg
    from append_postgres import server

    with server() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE UNLOGGED TABLE key_release(idx bigint, t bigint, until bigint, host text, release text)"
        )
        pieces = duckdb.connect(config={"threads": 1})
        for begin in range(0, rows, EVERY):
            file = place / "segments" / file_name("key_release", begin, min(begin + EVERY, rows))
            columns = f"SELECT idx, t, until, host, release FROM '{file}'"  # noqa: S608 - our own file
            pieces.execute(f"COPY ({columns}) TO '{place / 'piece.csv'}' (HEADER false)")
            with (
                connection.cursor().copy("COPY key_release FROM STDIN (FORMAT csv)") as copy,
                (place / "piece.csv").open("rb") as source,
            ):
                while data := source.read(1 << 20):
                    copy.write(data)
        (place / "piece.csv").unlink()
        connection.execute("CREATE INDEX ON key_release(host, t)")
        store = SqliteStore(place / "projections.db")
        with store.read() as view:
            for table, names in _LINEAGE.items():
                connection.execute(f"CREATE TABLE {table}({', '.join(f'{name} text' for name in names)})")
                listed = ", ".join(f'"{name}"' for name in names)
                with connection.cursor().copy(f"COPY {table}({listed}) FROM STDIN") as copy:
                    for row in view.rows(f'SELECT {listed} FROM "{table}"'):  # noqa: S608 - our own names
                        copy.write_row(row)
        store.close()
        for sql in ("CREATE INDEX ON release(parent)", "CREATE INDEX ON run_release(release)", "CREATE INDEX ON model_run(run)",
                    "SET work_mem = '256MB'", "ANALYZE"):  # fmt: skip
            connection.execute(sql)
        yield connection


def ask_peer(connection: Any, told: dict[str, Any], runs: int) -> float:
    """The same question; raises where it is answered in another way."""
    connection.execute("DROP TABLE IF EXISTS span")
    connection.execute('CREATE TABLE span(host text, start bigint, "end" bigint, held boolean)')
    connection.cursor().executemany("INSERT INTO span VALUES(%s, %s, %s, %s)", told["spans"])
    connection.execute("ANALYZE span")
    took, row = _timed(lambda: connection.execute(_PEER).fetchone(), runs)
    expected = (told["met"], told["releases"], told["runs"], told["models"])
    assert tuple(int(one) for one in row) == expected, f"PostgreSQL says {row}, and not {expected}"
    return took


# --- the run -------------------------------------------------------------------------------------------------------


def _line(name: str, told: dict[str, Any], other: float | None) -> str:
    beside = "" if other is None else f" | PostgreSQL {other * 1000:,.0f} ms ({other / told['query']:.1f} ×)"
    return (
        f"  {name:>7}: query {told['query'] * 1000:7,.0f} ms ({told['processor'] * 1000:,.0f} ms CPU), hashing alone"
        f" {told['hashing'] * 1000:,.0f} ms{beside} | {told['memory']:,.0f} MB"
        f" | whole report {told['whole']:.1f} s, {told['whole_memory']:,.0f} MB\n"
        f"           {told['met']:,} key releases met the times of {told['hosts']} hosts, of {told['releases']:,} releases;"
        f" {told['later']:,} later ones, {told['runs']:,} runs, {told['models']:,} models"
    )


def make(place: Path, rows: int) -> str:
    """Make the ledger in ``place`` and return how long that took; one that was made whole before stays."""
    made, started = place / "made", time.perf_counter()
    if made.exists():
        if made.read_text(encoding="ascii") != str(rows):
            raise SystemExit(f"{place} holds another ledger: name another folder, or remove it")
        return "made before"
    if any(place.iterdir()):
        raise SystemExit(f"{place} is not empty and holds no whole ledger: name another folder, or remove it")
    write_segments(place / "segments", rows)
    write_projections(place / "projections.db")
    made.write_text(str(rows), encoding="ascii")  # the last step: what was cut short is never asked
    return f"made in {time.perf_counter() - started:.0f} s"


def measure(place: Path, rows: int, *, with_peer: bool) -> None:
    """Make it, ask, and print."""
    how = make(place, rows)
    size = sum(file.stat().st_size for file in (place / "segments").iterdir())
    print(f"{rows:,} key releases of a year in segments of {EVERY:,}: {size / 1e6:,.0f} MB, {size / rows:.0f} B a row,"
          f" {how}; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    found = {}
    for name, days in SPANS:
        found[name] = {}
        for part in ("query", "whole"):
            command = [sys.executable, __file__, "--ask", str(place), "--rows", str(rows), "--days", str(days)]
            done = subprocess.run([*command, "--part", part], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            told = json.loads(done.stdout)
            found[name] |= told if part == "query" else {"whole": told["whole"], "whole_memory": told["memory"]}
        if not with_peer:
            print(_line(name, found[name], None), flush=True)
    if with_peer:
        with peer(place, rows) as connection:
            for name, days in SPANS:
                print(_line(name, found[name], ask_peer(connection, found[name], 3 if days < 100 else 1)), flush=True)


def main() -> None:
    """One measurement in this process (``--ask``), or all of them in others."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000_000, 100_000_000])
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--keep", type=Path, help="where the ledgers are, or are made and stay; else they are removed")
    parser.add_argument("--ask", type=Path)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--part", default="query")
    given = parser.parse_args()
    if given.ask is not None:
        print(json.dumps(ask(given.ask, given.rows[0], given.days, whole=given.part == "whole")))
        return
    for rows in given.rows:
        with_peer = rows <= 10_000_000 and not given.no_peer
        if given.keep is not None:
            place = given.keep / f"{rows // 1_000_000}m"
            place.mkdir(parents=True, exist_ok=True)
            measure(place, rows, with_peer=with_peer)
            continue
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            measure(Path(folder), rows, with_peer=with_peer)


if __name__ == "__main__":
    main()
