"""``safehold advisory``: take in advisories, list them, show their versions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from safehold.cli.advisory_sync import bundle_command, recorded_with_changes, sync_command, trust_command
from safehold.cli.context import session_of
from safehold.cli.kinds import ADVISORY
from safehold.cli.output import iso_time
from safehold.inventory import agent
from safehold.inventory.advisories import read_advisories
from safehold.inventory.changes import claim_lines
from safehold.model.errors import NotFound, SafeholdError
from safehold.model.ids import AdvisoryId

__all__ = ["command"]

_TEXT_LINES = 60


@click.group("advisory")
def command() -> None:
    """Take in advisories; match them with inventories."""


@command.command("add", epilog="Example: safehold advisory add advisories/PYSEC-2026-2.json")
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--source", help="Where it comes from, for people (default: the file's name).")
@click.pass_context
def _add(context: click.Context, paths: tuple[Path, ...], source: str | None) -> int:
    """Take in files or folders of advisories, and match them with all inventories.

    Forms: OSV, GitHub's API, CSAF 2.0, STIX 2.1 bundles, and plain indicator files. Of an advisory that says something
    else than before, the difference is shown, in its claims and in the answers.

    Every version is kept with the time we first saw it. A file that cannot be read does not stop the others.
    """
    session = session_of(context)
    rows: list[dict[str, object]] = []
    changed: dict[str, list[str]] = {}
    notes: list[tuple[str, ...]] = []
    failures: list[tuple[str, SafeholdError]] = []
    readings = [(path, read_advisories(path)) for path in paths]
    with session.open_home() as home:
        for path, reading in readings:
            failures += reading.failures
            for document in reading.documents:
                act = partial(home.intake.record_advisory, document, source or path.name)
                taken = recorded_with_changes(home, document, act, changed)
                rows.append(
                    {
                        "advisory": document.advisory,
                        "document": document.digest,
                        "findings": len(taken.findings),
                        "known": taken.entry is None,
                        "entry": taken.entry.index if taken.entry else None,
                        "notes": document.notes,
                        "changes": changed.get(document.advisory, []),
                    }
                )
                notes.append(document.notes)
    failed = [{"file": name, "code": error.code, "message": error.message} for name, error in failures]
    lines: list[str] = []
    for row, said in zip(rows, notes, strict=True):
        what = "known already" if row["known"] else f"{row['findings']} findings (entry {row['entry']})"
        lines += [f"{row['advisory']}: {what}", *(f"  {line}" for line in changed.get(str(row["advisory"]), []))]
        lines += [f"  note: {note}" for note in said]
    lines += [f"NOT READ {one['file']}: {one['message']} [{one['code']}]" for one in failed]
    session.out.result({"advisories": rows, "failed": failed}, lines)
    return 2 if failed else 0


@command.command("list", epilog="Example: safehold advisory list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All advisories in their newest version."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        rows = view.rows(
            "SELECT advisory, summary, first_seen, published, (SELECT count(*) FROM advisory b WHERE b.advisory ="
            " a.advisory), (SELECT count(DISTINCT inventory) FROM finding f WHERE f.document = a.document), idx"
            " FROM advisory a WHERE idx = (SELECT max(idx) FROM advisory b WHERE b.advisory = a.advisory) ORDER BY advisory"
        )
    names = ("advisory", "summary", "first_seen", "published", "versions", "inventories", "entry")
    shown = [(row[0], row[1], iso_time(row[2]), iso_time(row[3]), *row[4:]) for row in rows]
    session.out.table("", names, shown)
    if session.json:
        session.out.result({"advisories": [dict(zip(names, row, strict=True)) for row in shown]})


@command.command("show", epilog="Example: safehold advisory show PYSEC-2026-2")
@click.argument("advisory", type=ADVISORY)
@click.pass_context
def _show(context: click.Context, advisory: AdvisoryId) -> None:
    """Every version of an advisory: when we first saw it. Of the newest: its claims, and its text beside them.

    Structured claims can be wrong: read the text, too.
    """
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            sql = "SELECT idx, first_seen, published, modified, document, summary, withdrawn FROM advisory WHERE advisory = ? ORDER BY idx"
            rows = view.rows(sql, advisory)
        newest = home.intake.newest_document(advisory) if rows else None
    if not rows:
        raise NotFound("cli.no_advisory", f"{advisory} is not known here", "take it in: safehold advisory add FILE")
    names = ("entry", "first_seen", "published", "modified", "document", "summary", "withdrawn")
    shown = [
        (row[0], iso_time(row[1]), iso_time(row[2]), iso_time(row[3]), row[4], row[5], bool(row[6])) for row in rows
    ]
    claims = claim_lines(newest) if newest else []
    text = (
        [agent.shown(line.encode("utf-8", "surrogatepass")) for line in newest.details.splitlines()] if newest else []
    )
    session.out.table(advisory, names, shown)
    versions = [dict(zip(names, row, strict=True)) for row in shown]
    told = {"claims": claims, "notes": newest.notes if newest else (), "text": "\n".join(text)}
    lines = [*(f"claim: {line}" for line in claims), *(f"note: {line}" for line in told["notes"])]
    lines += [f"text: {line}" for line in text[:_TEXT_LINES]] or ["text: none was given"]
    session.out.result({"advisory": advisory, "versions": versions} | told, lines)


command.add_command(trust_command)
command.add_command(bundle_command)
command.add_command(sync_command)
