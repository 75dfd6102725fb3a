"""``safehold rekey``: wrap all part keys anew with another key-encryption key."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.context import session_of

__all__ = ["command"]


@click.command("rekey", epilog="Example: safehold rekey kek.toml --dry-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Try the new key, count what would be moved, and change nothing.")
@click.pass_context
def command(context: click.Context, file: Path, dry_run: bool) -> None:
    """Move the part keys of all releases to the key-encryption key that FILE names (an HSM, or a transit server).

    Others may read and seal meanwhile. Each release that was moved is an entry. After an interruption, run it again.
    """
    session = session_of(context)

    def progress(done: int, total: int) -> None:
        session.out.progress(f"{done:,} of {total:,} keys")

    with session.open_home() as home:
        report = home.rekey(file, session.read_passphrase, progress, dry_run=dry_run)
    session.out.progress_done()
    document = {
        "dry_run": dry_run,
        "kek": report.kek,
        "keys": report.keys,
        "releases": report.releases,
        "entries": report.entries,
        "left": report.left,
    }
    if dry_run:
        session.out.result(
            document, [f"Nothing was changed. {report.kek} works; {report.left:,} keys would be moved to it."]
        )
        return
    told = (
        f"{report.keys:,} keys of {report.releases} releases are wrapped by {report.kek} now; {report.left:,} are left."
    )
    session.out.result(document, [told])
