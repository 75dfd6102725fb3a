"""``safehold exposure``: what an incident exposed, in the terminal, as JSON, and as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import ADVISORY
from safehold.cli.output import Painted, one_line
from safehold.exposure.case import load_case
from safehold.exposure.html import report_html
from safehold.exposure.report import Report, answer_all, report_json
from safehold.exposure.text import Line, text_lines
from safehold.ledger.export import write_file
from safehold.model.errors import StorageFailed
from safehold.model.ids import AdvisoryId

__all__ = ["coloured", "command", "write_report"]

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
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Also write one self-contained HTML file.")
@click.option("--tables/--no-tables", default=True, help="Show the table under each answer.")
@click.pass_context
def command(
    context: click.Context, advisory: AdvisoryId | None, window: str | None, html_file: Path | None, tables: bool
) -> None:
    """Answer what an incident exposed: which releases, by which hosts, in which hours; and what was not seen.

    ADVISORY names the incident; left out, the only one that is known is taken. Verdicts: exposed, held, not held
    (observed), unknown (not observed). Unknown never means not affected.
    """
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        report = answer_all(load_case(view, advisory, home.clock(), window))
    if html_file is not None:
        write_report(report, html_file)
    lines = coloured(text_lines(report, tables=tables), sys.stdout.isatty())
    session.out.result(report_json(report), [*lines, *([f"Report: {html_file}"] if html_file else [])])


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
