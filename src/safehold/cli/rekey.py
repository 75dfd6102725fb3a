"""``safehold rekey``: wrap all part keys anew with another key-encryption key, or give one release new keys."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.context import Session, session_of
from safehold.cli.kinds import HOST
from safehold.cli.rekey_release import ReleaseOptions, finish_release, rekey_release
from safehold.model.errors import InputInvalid
from safehold.model.ids import HostId

__all__ = ["command"]


@click.command("rekey", epilog="Example: safehold rekey kek.toml --dry-run")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--release", help="Give this release (PARTY/DATASET@VERSION) new data keys, as the next release.")
@click.option("--reason", help="With --release: why; it stands in the ledger.")
@click.option("--host", type=HOST, help="With --release: this machine, which has the records in memory meanwhile.")
@click.option("--key", type=click.Path(path_type=Path), help="The party's private key; without, the one made here.")
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Parts written at once.")
@click.option(
    "--finish", is_flag=True, help="With --release: retire it, and destroy its keys once no lease on them runs."
)
@click.option("--yes", is_flag=True, help="With --finish: do it. There is no way back.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, try a new key-encryption key; change nothing.")
@click.pass_context
def command(
    context: click.Context,
    file: Path | None,
    release: str | None,
    reason: str | None,
    host: HostId | None,
    key: Path | None,
    workers: int,
    finish: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Move the part keys of all releases to the key-encryption key that FILE names (an HSM, or a transit server).

    With --release and no FILE: seal the records of that release anew under fresh keys, as the next release; then, with
    --finish, end the old one. Others may read and seal meanwhile. After an interruption, run the same command again.
    """
    session = session_of(context)
    if (file is None) == (release is None):
        raise InputInvalid(
            "cli.rekey", "rekey takes the file of a key-encryption key, or a release", "give FILE, or --release RELEASE"
        )
    if release is None:
        if file is not None:
            _move(session, file, dry_run=dry_run)
        return
    options = ReleaseOptions(name=release, reason=reason, host=host, key=key, workers=workers, yes=yes, dry_run=dry_run)
    if finish:
        finish_release(session, options)
    else:
        rekey_release(session, options)


def _move(session: Session, file: Path, *, dry_run: bool) -> None:
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
