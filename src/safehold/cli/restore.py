"""``safehold restore``: a new home out of a backup, and the operator's word that it may go on."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.backup import document_of
from safehold.cli.backup_port import RestoreWish
from safehold.cli.context import session_of
from safehold.cli.default_verb import DefaultGroup
from safehold.cli.output import iso_time
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.statements import LedgerRestored

__all__ = ["command"]

_MAX_NOTE_BYTES = 1 << 20


@click.group("restore", cls=DefaultGroup, default="from")
def command() -> None:
    """Make a home out of a backup; let it append again. `safehold restore FOLDER` is short for `restore from FOLDER`."""


@command.command("from", epilog="Example: safehold restore from /mnt/backup --home new-home")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--home", type=click.Path(path_type=Path), help="The new home; must not exist or be empty.")
@click.option("--keys", type=click.Path(path_type=Path), help="The private keys, for a backup made without them.")
@click.option("--verifier", help="The ledger's verifier line, as `init` printed it.")
@click.pass_context
def _from(context: click.Context, folder: Path, home: Path | None, keys: Path | None, verifier: str | None) -> None:
    """Verify the backup in FOLDER and make a new home of it. The home starts read-only: see `restore accept`."""
    session = session_of(context)
    target = home or session.home
    wish = RestoreWish(folder=folder, home=target, keys=keys, verifier=verifier, progress=session.out.progress)
    report = session.factory().restore(wish)
    session.out.progress_done()
    session.out.result(
        {"home": str(target), "read_only": True, **document_of(report)},
        [
            f"Restored {report.size} entries as of {iso_time(report.taken)} to {target}. It is READ-ONLY.",
            "Entries made after the backup are not in it. Ask whoever keeps checkpoints, exports or receipts, then:",
            f"  safehold --home {target} restore accept --checkpoint FILE   (nothing is missing)",
            f"  safehold --home {target} restore accept --reason '…'        (you answer for it, for good)",
            "Keys that were erased after the backup are back: erase them again.",
            *(f"NOT in it: the release {name}." for name in report.missing),
            *([] if report.releases else ["The backup holds no releases: put their folders back to open them."]),
        ],
    )


@command.command(
    "accept", epilog="Example: safehold restore accept --reason 'disk failed; partners hold nothing newer'"
)
@click.option("--reason", default="", help="Why it is right to go on; it stays in the ledger for good.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The newest checkpoint that someone else kept.")
@click.pass_context
def _accept(context: click.Context, reason: str, checkpoint: Path | None) -> None:
    """Let a restored home append again: by a checkpoint that someone else kept, or by your reason.

    A checkpoint of more entries than were restored, or of others, is refused, and says how many are missing.
    """
    session = session_of(context)
    note = None if checkpoint is None else _read(checkpoint)
    with session.open_home() as home:
        entry = home.accept_restored(reason, note)
    if not isinstance(entry.statement, LedgerRestored):
        raise InputInvalid("cli.restore_entry", f"entry {entry.index} is of another kind", "see `safehold log list`")
    said = entry.statement
    session.out.result(
        {
            "entry": entry.index,
            "size": said.size,
            "root": said.root,
            "witnessed": said.witnessed,
            "reason": said.reason,
        },
        [f"The ledger goes on after {said.size} entries: entry {entry.index} says so."],
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise NotFound(
            "cli.checkpoint_file", f"the checkpoint {path} cannot be read: {error.strerror}", "name another file"
        ) from error
