"""``safehold exposure``: what an incident exposed, in the terminal, as JSON, and as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from safehold.cli.context import Home, Session, session_of
from safehold.cli.exposure_part import (
    chosen_answers,
    part_document,
    receipts_of,
    ten_answers,
    ten_lines,
    write_receipts,
)
from safehold.cli.exposure_watch import differences, follow_head
from safehold.cli.kinds import ADVISORY, parse_moment
from safehold.cli.output import Painted, iso_time, one_line
from safehold.exposure.as_of import view_as_of
from safehold.exposure.case import load_case
from safehold.exposure.html import report_html
from safehold.exposure.openings import Openings, SegmentOpenings, ViewOpenings, has_few
from safehold.exposure.report import Report, answer_all
from safehold.exposure.text import Line, text_lines
from safehold.ledger.export import write_file
from safehold.ledger.segments.query import QueryLimits
from safehold.ledger.storage import View
from safehold.model.errors import InputInvalid, StorageFailed
from safehold.model.ids import AdvisoryId

__all__ = ["coloured", "command", "write_report"]

_LIMITS: Final = QueryLimits(memory=400, seconds=120.0, rows=1_000_000)

_COLOURS: Final[dict[str, str]] = {
    "title": "1",
    "headline": "1",
    "head": "1;4",
    "dim": "2",
    "exposed": "1;31",
    "unknown": "33",
    "held": "35",
    "not_held": "32",
}


@click.command("exposure", epilog="Example: safehold exposure PYSEC-2026-2 --html report.html")
@click.argument("advisory", type=ADVISORY, required=False)
@click.option("--window", help="The source whose window counts (default: the widest of all claims).")
@click.option("--as-of", "as_of", help="Answer as it was known at this time: 2026-03-25 or 2026-03-25T09:00:00Z.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Also write one self-contained HTML file.")
@click.option(
    "--question",
    "numbers",
    type=click.IntRange(1, 23),
    multiple=True,
    help="Show this question alone; may be repeated.",
)
@click.option("--ten", is_flag=True, help="Answer the ten questions that customers asked in public.")
@click.option(
    "--receipts",
    type=click.Path(path_type=Path),
    help="Write the ledger's receipt of each entry that the answers rest on into this folder.",
)
@click.option("--tables/--no-tables", default=True, help="Show the table under each answer.")
@click.option("--watch", is_flag=True, help="Answer again whenever the ledger has grown, and say what is different.")
@click.option("--every", type=click.FloatRange(min=0.05), default=2.0, help="With --watch: seconds between looks. [2]")
@click.pass_context
def command(context: click.Context, /, advisory: AdvisoryId | None, **given: Any) -> None:
    """Answer what an incident exposed: which releases, by which hosts, in which hours; and what was not seen.

    ADVISORY names the incident; left out, the only one that is known is taken. Verdicts: exposed, held, not held
    (observed), unknown (not observed). Unknown never means not affected.
    """
    session = session_of(context)
    wish = _Wish(advisory=advisory, window=given["window"], as_of=given["as_of"])
    if given["watch"]:
        if given["as_of"] is not None:
            raise InputInvalid("cli.watch_as_of", "a time that has passed does not change", "leave out one of the two")
        _watch(session, wish, given["every"])
        return
    with session.open_home() as home:
        whole = _answer(home, wish)
        report = chosen_answers(whole, given["numbers"])
        ten = ten_answers(home, whole) if given["ten"] else ()
        folder: Path | None = given["receipts"]
        receipts = None if folder is None else write_receipts(home, receipts_of(report, ten), folder)
    html_file: Path | None = given["html_file"]
    if html_file is not None:
        write_report(whole, html_file)
    shown = text_lines(report, tables=given["tables"], only=bool(given["numbers"] or ten), answers=not ten)
    lines = [*coloured(shown, sys.stdout.isatty()), *ten_lines(ten)]
    if receipts is not None:
        lines.append(f"{len(receipts['entries'])} receipts in {folder}: safehold verify {folder}/entry-… --verifier …")
    document = part_document(report, ten) | ({"receipts": receipts} if receipts is not None else {})
    session.out.result(document, [*lines, *([f"Report: {html_file}"] if html_file else [])])


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    advisory: AdvisoryId | None
    window: str | None
    as_of: str | None = None


def _answer(home: Home, wish: _Wish) -> Report:
    now = home.clock()
    with home.log.view() as view:
        if wish.as_of is None:
            return answer_all(load_case(view, wish.advisory, now, wish.window, _openings(home, view)))
        at = min(parse_moment(wish.as_of, now), now)
        with view_as_of(view, at) as cut:
            return answer_all(load_case(cut, wish.advisory, at, wish.window))


def _openings(home: Home, view: View) -> Openings | None:
    """Where key releases are asked for: nowhere in particular if they are few, else in segments where there are some."""
    if has_few(view):
        return None
    sealed = view.rows("SELECT sum(rows) FROM segment WHERE \"table\" = 'key_release'")[0][0]
    if sealed and find_spec("duckdb") is not None:
        return SegmentOpenings(view, home.segments, _LIMITS)
    return ViewOpenings(view)


def _watch(session: Session, wish: _Wish, every: float) -> None:
    """The headline first, then differences; with ``--json`` a document a change. Ends when it is interrupted."""
    with session.open_home() as home:
        before: Report | None = None
        for size in follow_head(home.log, every):
            report = _answer(home, wish)
            changed = [report.headline] if before is None else differences(before, report)
            if changed:
                document = {"now": report.now, "size": size, "headline": report.headline, "changed": changed}
                session.out.result(document, [f"{iso_time(report.now)} #{size}", *(f"  {line}" for line in changed)])
            before = report


def write_report(report: Report, path: Path) -> None:
    """Write the HTML report, over an older one. Raises ``StorageFailed`` (``cli.write``)."""
    try:
        write_file(path, report_html(report).encode())
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{path} cannot be written: {error.strerror}", "choose another file"
        ) from error


def coloured(lines: Iterable[Line], colours: bool) -> list[str]:
    """Lines for a terminal, coloured by tone if ``colours``."""
    return [
        Painted(f"\x1b[{_COLOURS[line.tone]}m{one_line(line.text)}\x1b[0m")
        if colours and line.tone in _COLOURS
        else one_line(line.text)
        for line in lines
    ]
