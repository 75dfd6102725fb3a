"""Queries over segments and the tail: one text of SQL, answered by DuckDB, which cannot write and cannot look around.

Two views have the same columns over sealed segments and over the entries that are not sealed yet: ``entry`` and
``key_release``. The tail is handed over as Arrow from the same snapshot of the ledger that names the segments, so the
answer is of one size of the ledger.

**Locked down** before the text is looked at: one statement, a ``SELECT``; no file, no network, no extension, no
settings; a limit of memory without spilling to disk, of time and of rows. The allowed paths are those of the verified
segments alone.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from safehold.ledger.segments.form import SEGMENT_TABLES, SegmentTable, arrow_rows
from safehold.ledger.segments.seal import Segments, read_entries
from safehold.ledger.segments.verified import VerifiedFile, check_ranges, recheck, sealed_end, segment_of, verify_files
from safehold.model.errors import InputInvalid, NotFound, Refused, SafeholdError
from safehold.model.statements import SegmentSealed

__all__ = ["Answer", "Beside", "Offer", "QueryLimits", "Window", "run_query"]

_LOCKED: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}


class Window(msgspec.Struct, frozen=True):
    """Rows with ``since`` <= t < ``until`` (µs UTC), each None for no limit. Segments outside are not read at all."""

    since: int | None = None
    until: int | None = None

    def touches(self, segment: SegmentSealed) -> bool:
        """Whether a row of the segment may be in the window."""
        if self == Window():
            return True
        if segment.since is None or segment.until is None:
            return False
        return (self.until is None or segment.since < self.until) and (
            self.since is None or segment.until >= self.since
        )

    def condition(self) -> str:
        """The window in SQL, of our own integers."""
        after = [] if self.since is None else [f"t >= {self.since:d}"]
        before = [] if self.until is None else [f"t < {self.until:d}"]
        return " AND ".join([*after, *before]) or "true"


class QueryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a query may use: ``memory`` in MiB, ``threads``, ``seconds``, and how many ``rows`` are given."""

    memory: int = 1024
    threads: int = 2
    seconds: float = 60.0
    rows: int = 10_000


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A small table of the asker's own, for joining: ``columns`` as name and type (text, integer, boolean), then rows."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query may see: ``tables`` of the ledger (only their segments are read) and the asker's own ``beside``."""

    tables: tuple[SegmentTable, ...] = SEGMENT_TABLES
    beside: tuple[Beside, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Columns and rows; ``more`` if there were more rows than allowed. ``size`` is that of the ledger.

    ``segments`` files were verified and read; entries from ``tail`` on came from the ledger itself.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    size: int
    segments: int
    tail: int


_ALL: Final = Offer()


def run_query(segments: Segments, sql: str, window: Window, limits: QueryLimits, offer: Offer = _ALL) -> Answer:
    """Answer one ``SELECT`` over ``entry`` and ``key_release``, or over what is offered.

    Raises ``NotFound`` (``ledger.no_duckdb``) without the extra, ``InputInvalid`` (``ledger.query_statement``,
    ``ledger.query``), ``Refused`` (``ledger.query_outside``, ``ledger.query_memory``, ``ledger.query_time``), and
    ``VerificationFailed`` (``ledger.segment_*``) for a segment that does not match its entry.
    """
    duckdb = _duckdb()
    with segments.log.view() as view:
        sealed = check_ranges(segments.sealed(view))
        size, tail = view.size(), sealed_end(sealed)
        entries = read_entries(view, tail, size)
    all_sealed = [segment_of(entry) for entry in sealed]
    wanted = [one for one in all_sealed if one.table in offer.tables and window.touches(one)]
    files = verify_files(segments.folder, sealed, wanted)
    tails = {table: arrow_rows(table, entries) for table in offer.tables}
    with _connected(duckdb, limits) as connection, _plain_paths(segments.folder) as folder:
        statement = _one_select(duckdb, connection, sql)
        allowed = ", ".join(_quoted(folder / one.path.name) for one in files)
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        for own in offer.beside:
            connection.register(own.name, _arrow_beside(own))
        for table in offer.tables:
            connection.register(f"{table}_tail", tails[table])
            connection.execute(_view(table, [one for one in files if one.segment.table == table], folder, window))
        connection.execute("SET lock_configuration = true")
        columns, rows = _fetch(duckdb, connection, statement, limits)
    recheck(files)
    given = tuple(rows[: limits.rows])
    more = len(rows) > limits.rows
    return Answer(columns=columns, rows=given, more=more, size=size, segments=len(files), tail=tail)


def _arrow_beside(own: Beside) -> Any:
    import pyarrow as pa  # late, as in form: whoever asks nothing does not pay for it

    kinds = {"text": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
    schema = pa.schema([pa.field(name, kinds[kind]) for name, kind in own.columns])
    columns: list[list[Any]] = [[row[place] for row in own.rows] for place in range(len(own.columns))]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as error:
        raise NotFound(
            "ledger.no_duckdb", "queries need DuckDB, which is not installed", "install the extra: safehold[analytics]"
        ) from error
    return duckdb


@contextmanager
def _connected(duckdb: ModuleType, limits: QueryLimits) -> Iterator[Any]:
    settings = {name: value for name, value in _LOCKED.items() if name != "enable_external_access"}
    given = {"threads": str(limits.threads), "memory_limit": f"{limits.memory}MiB"}
    connection = duckdb.connect(":memory:", config=settings | given)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _plain_paths(folder: Path) -> Iterator[Path]:
    """The folder under a name without the characters that DuckDB takes for patterns."""
    with tempfile.TemporaryDirectory(prefix="safehold-") as plain:
        link = Path(plain) / "segments"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _one_select(duckdb: ModuleType, connection: Any, sql: str) -> Any:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise _wrong(error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputInvalid(
            "ledger.query_statement",
            "a query is one SELECT statement, and nothing else",
            "such as: SELECT kind, count(*) FROM entry GROUP BY kind",
        )
    return statements[0]


def _view(table: SegmentTable, files: Sequence[VerifiedFile], folder: Path, window: Window) -> str:
    parts = [f"SELECT * FROM {table}_tail"]
    if files:
        names = ", ".join(_quoted(folder / one.path.name) for one in files)
        parts.insert(0, f"SELECT * FROM read_parquet([{names}])")
    both = " UNION ALL BY NAME ".join(parts)
    return f"CREATE VIEW {table} AS SELECT * FROM ({both}) WHERE {window.condition()}"


def _fetch(
    duckdb: ModuleType, connection: Any, statement: Any, limits: QueryLimits
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    timer = threading.Timer(limits.seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        done = connection.execute(statement)
        columns = tuple(str(column[0]) for column in done.description or ())
        return columns, done.fetchmany(limits.rows + 1)
    except duckdb.OutOfMemoryException as error:
        raise Refused(
            "ledger.query_memory", f"the query needs more than {limits.memory} MiB", "narrow it, or raise --memory"
        ) from error
    except duckdb.InterruptException as error:
        raise Refused(
            "ledger.query_time", f"the query took more than {limits.seconds:g} s", "narrow it, or raise --seconds"
        ) from error
    except duckdb.PermissionException as error:
        raise Refused(
            "ledger.query_outside",
            "a query sees the tables entry and key_release, and no file, extension or setting",
            "select from entry or key_release",
        ) from error
    except duckdb.Error as error:
        raise _wrong(error) from error
    finally:
        timer.cancel()


def _wrong(error: Exception) -> SafeholdError:
    lines = str(error).strip().splitlines() or ["no words"]
    return InputInvalid("ledger.query", f"the query is not understood: {lines[0][:300]}", "see docs/spec/segments.md")
