"""``safehold demo``: the whole story with one command, in a folder of its own."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from safehold.cli.context import Session, session_of
from safehold.cli.demo.records import check_records, take_records
from safehold.cli.demo.story import BEGIN, BUSY, Story
from safehold.cli.demo.tamper import alter_ledger, alter_release, audit_copy
from safehold.cli.demo.world import Clock, World, moment
from safehold.cli.exposure import coloured, write_report
from safehold.exposure.report import Report, report_json
from safehold.exposure.text import text_lines
from safehold.ledger.audit import AuditReport
from safehold.model.errors import Conflict, InputInvalid, SafeholdError, StorageFailed
from safehold.state.standing import resolve_release

__all__ = ["command"]

_MARK = ".safehold-demo"


@click.command("demo", epilog="Example: safehold demo --records train.jsonl --folder my-demo")
@click.option(
    "--records", type=click.Path(path_type=Path), help="Your own JSONL records (default: Python's own texts)."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("demo-home"),
    show_default=True,
    help="Where to play; an earlier demo there is replaced.",
)
@click.option("--answers", is_flag=True, help="Print every answer of the exposure, not only its heads.")
@click.pass_context
def command(context: click.Context, records: Path | None, folder: Path, answers: bool) -> None:
    """Replay the incident of March 2026: seal, grant, open, get breached, answer, suspend, verify.

    Everything is real but the clock and the bad package, which is a harmless stand-in.
    """
    session = session_of(context)
    started = time.monotonic()
    if records is not None:
        check_records(records, folder)  # before an earlier demo is removed for nothing
    _make_folder(folder)
    say = _sayer(session)
    say("Safehold replays the incident of March 2026. The names are made up, the advisories are public facts.\n")
    passphrase = secrets.token_hex(16)
    (folder / "passphrase").write_text(passphrase + "\n", encoding="ascii")
    source = take_records(records, folder)
    world = World(session.factory(), folder, Clock(moment(BEGIN)), passphrase, BUSY)
    try:
        story = Story(world, source, say)
        story.people_and_hosts()
        story.before()
        story.the_day()
        story.outside()
        story.the_ruling()
        _finish(session, world, story, answers, started)
    finally:
        world.home.close()


def _finish(session: Session, world: World, story: Story, answers: bool, started: float) -> None:
    report = story.outcome.report
    if report is None:
        raise InputInvalid("cli.demo_story", "the story ended without a report")
    audit = audit_copy(world.home.log, world.folder / "ledger-export")
    found = _alter_copies(world)
    path = world.folder / "report.html"
    write_report(report, path)
    if not session.json:
        _print_report(report, answers)
    document: dict[str, Any] = {
        "records": story.outcome.records,
        "records_exact": story.outcome.exact,
        "sweeps": world.sweeps,
        "refusals": [{"code": code, "host": host, "entry": entry} for code, host, entry in story.outcome.refusals],
        "releases": [
            {"name": one.name, "verdict": one.verdict, "reasons": one.reasons, "evidence": one.evidence}
            for one in report.releases
        ],
        "hosts": [{"host": one.host, "verdict": one.verdict, "words": one.words} for one in report.hosts],
        "audit": {"size": audit.checkpoint.size, "root": audit.checkpoint.root.hex(), "kinds": audit.kinds},
        "tampering_found": [{"code": error.code, "message": error.message} for error in found],
        "report": str(path),
        "exposure": report_json(report),
        "seconds": round(time.monotonic() - started, 1),
    }
    session.out.result(document, _closing(world, audit, found, path, document["seconds"]))


def _alter_copies(world: World) -> list[SafeholdError]:
    copies = world.folder / "altered"
    with world.home.log.view() as view:
        row = resolve_release(view, "quill-works/texts@1")
    folder = world.home.release_folder(row.dataset, row.version)
    supplier = world.home.party_key(row.party).public
    return [
        alter_release(folder, copies / "release", supplier, row.release),
        alter_ledger(world.folder / "ledger-export", copies / "ledger", world.home.log.verifier),
    ]


def _print_report(report: Report, answers: bool) -> None:
    lines = list(text_lines(report, tables=answers))
    if not answers:
        end = next((place for place, line in enumerate(lines) if line.text == "Questions"), len(lines))
        lines = lines[:end]
    for line in ["", *coloured(lines, sys.stdout.isatty())]:
        sys.stdout.write(line + "\n")


def _closing(world: World, audit: AuditReport, found: list[SafeholdError], path: Path, seconds: float) -> list[str]:
    size = audit.checkpoint.size
    return [
        "",
        f"Ledger: {size} entries verified by the auditor's path, from exported files and one public key.",
        *(f"One byte changed in a copy, found: {error.message}" for error in found),
        f"Report for people: {path}",
        f"Look around: safehold --home {world.folder / 'home'} log list",
        f"             safehold --home {world.folder / 'home'} exposure PYSEC-2026-2",
        f"{world.sweeps:,} sweeps of four hosts, {size} entries, {seconds} s.",
    ]


def _sayer(session: Session) -> Any:
    def say(text: str) -> None:
        if not session.json:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    return say


def _make_folder(folder: Path) -> None:
    """An empty folder with our mark; one without our mark is not ours to remove."""
    try:
        if folder.exists():
            if any(folder.iterdir()) and not (folder / _MARK).is_file():
                raise Conflict("cli.demo_folder", f"{folder} is not a demo's folder", "name another with --folder")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{folder} cannot be made: {error.strerror}", "name another with --folder"
        ) from error
