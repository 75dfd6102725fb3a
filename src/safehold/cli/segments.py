"""``safehold log segment`` and ``safehold log query``: files for queries, and the queries."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import parse_moment
from safehold.ledger.segments.query import QueryLimits, Window, run_query
from safehold.ledger.segments.seal import DEFAULT_EVERY, SegmentRule
from safehold.ledger.segments.verified import segment_of
from safehold.ledger.storage import Entry
from safehold.model.errors import InputInvalid

__all__ = ["query", "segment"]


@click.command("segment", epilog="Example: safehold log segment --every 100000")
@click.option(
    "--every",
    type=click.IntRange(1, 10_000_000),
    default=DEFAULT_EVERY,
    show_default=True,
    help="Entries in a segment. Only full ranges are sealed.",
)
@click.option("--all", "rest", is_flag=True, help="Seal what is left in a shorter segment too.")
@click.option(
    "--due",
    is_flag=True,
    help="Seal what is due: all full ranges, and the rest when its oldest entry is a day old. For a timer.",
)
@click.option(
    "--mend", is_flag=True, help="Seal nothing; write files again that are missing or do not match their entries."
)
@click.pass_context
def segment(context: click.Context, /, every: int, **flags: bool) -> None:
    """Seal entries that are in no segment yet as Parquet files for queries. Interrupted, it can be run again."""
    session = session_of(context)
    mend, due, rest = flags["mend"], flags["due"], flags["rest"]
    if sum(flags.values()) > 1:
        raise InputInvalid(
            "cli.segment_flags", "--all, --due and --mend are three different wishes", "give one of them"
        )
    with session.open_home() as home:
        mended = home.segments.mend() if mend else ()
        entries: tuple[Entry, ...] = ()
        if due:
            entries = home.segments.seal_due(SegmentRule(every))
        elif not mend:
            entries = home.segments.seal(every, rest=rest)
        folder = home.segments.folder
    sealed = [(entry.index, segment_of(entry)) for entry in entries]
    rows = [
        {"entry": index, **{name: getattr(one, name) for name in ("table", "begin", "end", "rows", "size", "digest")}}
        for index, one in sealed
    ]
    lines = [f"Wrote {name} again." for name in mended]
    lines += [f"Sealed {one.table} {one.begin}-{one.end - 1}: {one.rows} rows." for _, one in sealed]
    session.out.result(
        {"folder": str(folder), "sealed": rows, "mended": mended},
        lines or [_nothing(every, mend=mend, due=due)],
    )


def _nothing(every: int, *, mend: bool, due: bool) -> str:
    if mend:
        return "Every file matches its entry."
    return "Nothing is due." if due else f"Nothing to seal: {every} entries make a segment; see --all."


@click.command("query", epilog="Example: safehold log query 'SELECT kind, count(*) FROM entry GROUP BY kind'")
@click.argument("sql")
@click.option("--since", help="Only rows from this time on: RFC 3339 or a date. Older segments are not read.")
@click.option("--until", help="Only rows before this time. Newer segments are not read.")
@click.option("--rows", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="At most so many.")
@click.option("--memory", type=click.IntRange(64, 65_536), default=1024, show_default=True, help="At most so many MiB.")
@click.option("--seconds", type=click.IntRange(1, 86_400), default=60, show_default=True, help="At most so long.")
@click.pass_context
def query(context: click.Context, /, sql: str, **options: Any) -> None:
    """Ask one SELECT of the tables entry and key_release: verified segments and what came after them."""
    session = session_of(context)
    now = session.clock()
    window = Window(
        *(None if options[name] is None else parse_moment(options[name], now) for name in ("since", "until"))
    )
    limits = QueryLimits(rows=options["rows"], memory=options["memory"], seconds=options["seconds"])
    with session.open_home() as home:
        answer = run_query(home.segments, sql, window, limits)
    rows = [[_plain(value) for value in row] for row in answer.rows]
    session.out.table("", answer.columns, [["" if value is None else value for value in row] for row in rows])
    if answer.more:
        session.out.progress(f"There are more than {limits.rows} rows: only these are shown.")
        session.out.progress_done()
    document = {
        "columns": answer.columns, "rows": rows, "more": answer.more, "size": answer.size, "tail": answer.tail,
        "segments": answer.segments,
    }  # fmt: skip
    if session.json:
        session.out.result(document)


def _plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it; what JSON has not becomes text."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, dict):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
