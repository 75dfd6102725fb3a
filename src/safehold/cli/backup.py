"""``safehold backup``: copy the home to a folder while it is in use, and verify such a copy."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.backup_port import BackupReport, BackupWish
from safehold.cli.context import session_of
from safehold.cli.default_verb import DefaultGroup
from safehold.cli.output import iso_time

__all__ = ["command", "document_of"]


@click.group("backup", cls=DefaultGroup, default="to")
def command() -> None:
    """Copy the home to a folder, online; verify such a copy. `safehold backup FOLDER` is short for `backup to FOLDER`."""


@command.command("to", epilog="Example: safehold backup to /mnt/backup --releases")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--without-keys", is_flag=True, help="Leave the private keys out; restoring then needs them from elsewhere."
)
@click.option("--releases", is_flag=True, help="Copy sealed releases too; parts that are there and equal stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and write nothing.")
@click.pass_context
def _to(context: click.Context, folder: Path, without_keys: bool, releases: bool, dry_run: bool) -> None:
    """Make or renew the backup in FOLDER. Others may go on appending; what was acknowledged before is in it.

    It holds names of members, wrapped keys and, unless you say otherwise, private keys: keep it as you keep the home.
    Interrupted, the same command finishes it.
    """
    session = session_of(context)
    wish = BackupWish(
        folder=folder, keys=not without_keys, releases=releases, dry_run=dry_run, progress=session.out.progress
    )
    with session.open_home() as home:
        report = home.back_up(wish)
    session.out.progress_done()
    if dry_run:
        lines = [f"Would copy {report.files} files, {report.bytes:,} bytes, to {folder}."]
    else:
        lines = [
            f"Backed up {report.size} entries to {folder}: {report.written} of {report.files} files written now.",
            f"Check it: safehold backup verify {folder} --verifier '{report.verifier}'",
            "It holds names of members and wrapped keys" + (", and private keys." if report.keys else "."),
        ]
    lines += [f"NOT in it: the release {name} is not in this home." for name in report.missing]
    session.out.result({"dry_run": dry_run, **document_of(report)}, lines)


@command.command("verify", epilog="Example: safehold backup verify /mnt/backup")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--verifier", help="The ledger's verifier line, as `init` printed it.")
@click.pass_context
def _verify(context: click.Context, folder: Path, verifier: str | None) -> None:
    """Check the backup in FOLDER whole: every hash, the ledger in it, its checkpoint and its order. Needs no home."""
    session = session_of(context)
    report = session.factory().verify_backup(folder, verifier, session.out.progress)
    session.out.progress_done()
    lines = [
        f"Verified the backup of {report.size} entries and {report.files} files, taken {iso_time(report.taken)}.",
        f"  root {report.root}",
        f"  signed by {report.verifier}",
    ]
    if verifier is None:
        lines.append("NOTE: The key was taken from the backup itself: compare it with the line you were given.")
    session.out.result({"verifier_from": "option" if verifier else "backup", **document_of(report)}, lines)


def document_of(report: BackupReport) -> dict[str, object]:
    """A report as JSON shows it."""
    return {name: getattr(report, name) for name in report.__struct_fields__}
