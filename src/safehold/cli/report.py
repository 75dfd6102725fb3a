"""``safehold report``: the exposure in the form that another tool or reader wants, as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from safehold import __version__
from safehold.cli.context import session_of
from safehold.cli.kinds import ADVISORY, parse_moment
from safehold.exposure.as_of import view_as_of
from safehold.exposure.case import load_case
from safehold.exposure.facts import Case
from safehold.exposure.formats import csaf_document, ocsf_events, openvex_document, stix_bundle
from safehold.exposure.html import report_html
from safehold.exposure.judgement import Judgement, judge
from safehold.exposure.report import answer_all, report_json, report_schema
from safehold.exposure.text import text_lines
from safehold.ledger.export import write_file
from safehold.model.encoding import pretty_json
from safehold.model.errors import StorageFailed
from safehold.model.ids import AdvisoryId

__all__ = ["command"]


def _json(document: object) -> bytes:
    return (pretty_json(document) + "\n").encode()


def _text(case: Case, _judgement: Judgement, _author: str) -> bytes:
    return ("\n".join(line.text for line in text_lines(answer_all(case), tables=True)) + "\n").encode()


def _events(case: Case, judgement: Judgement, _author: str) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in ocsf_events(case, judgement, __version__))


_FORMATS: Final[dict[str, Callable[[Case, Judgement, str], bytes]]] = {
    "csaf": lambda case, judgement, author: _json(csaf_document(case, judgement, author, __version__)),
    "html": lambda case, _judgement, _author: report_html(answer_all(case)).encode(),
    "json": lambda case, _judgement, _author: _json(report_json(answer_all(case))),
    "ocsf": _events,
    "openvex": lambda case, judgement, author: _json(openvex_document(case, judgement, author)),
    "schema": lambda _case, _judgement, _author: _json(report_schema()),
    "stix": lambda case, judgement, _author: _json(stix_bundle(case, judgement)),
    "text": _text,
}


@click.command("report", epilog="Example: safehold report PYSEC-2026-2 --format stix --out incident.stix.json")
@click.argument("advisory", type=ADVISORY)
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), required=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file; an older one is replaced.")
@click.option("--window", help="The source whose window counts (default: the widest of all claims).")
@click.option("--as-of", "as_of", help="Answer as it was known at this time: 2026-03-25 or 2026-03-25T09:00:00Z.")
@click.pass_context
def command(
    context: click.Context, advisory: AdvisoryId, form: str, out: Path, window: str | None, as_of: str | None
) -> None:
    """Write the exposure to ADVISORY as a file: STIX 2.1, OpenVEX, CSAF 2.0, OCSF events (a line each), JSON, its schema, HTML, text."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        now = home.clock()
        author = home.log.verifier.name
        if as_of is None:
            case = load_case(view, advisory, now, window)
        else:
            at = min(parse_moment(as_of, now), now)
            with view_as_of(view, at) as cut:
                case = load_case(cut, advisory, at, window)
    data = _FORMATS[form](case, judge(case), author)
    try:
        write_file(out, data)
    except OSError as error:
        raise StorageFailed("cli.write", f"{out} cannot be written: {error.strerror}", "choose another file") from error
    session.out.result(
        {"advisory": advisory, "format": form, "file": str(out), "bytes": len(data), "entries": case.size},
        [f"Wrote {out}: {form}, {len(data):,} bytes, on {case.size:,} entries."],
    )
