"""``safehold follow``: a second node. It tails another home's ledger, verifies it, and serves reads by the normal verbs."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from safehold.cli.context import Session, session_of
from safehold.cli.output import one_line
from safehold.ledger.export import VERIFIER_FILE
from safehold.ledger.follow import Followed, Follower
from safehold.ledger.note import NoteVerifier
from safehold.ledger.replica import Replica
from safehold.ledger.source import Source, open_source
from safehold.model.errors import InputInvalid, NotFound, StorageFailed

__all__ = ["command"]


@click.command(
    "follow", epilog="Example: safehold follow https://ledger.my-lab.example/ copy-home --verifier LINE --once"
)
@click.argument("source")
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--verifier", help="The ledger's verifier line, as its operator gave it to you.")
@click.option("--every", type=click.IntRange(1, 86_400), default=5, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.pass_context
def command(context: click.Context, source: str, home: Path, verifier: str | None, every: int, once: bool) -> None:
    """Keep HOME as a read-only copy of the ledger at SOURCE, a folder or URL made by `log export`.

    Every entry is verified before it is taken over; a crash loses nothing. Read the copy with --home HOME and any verb that
    shows something; what would append is refused.
    """
    session = session_of(context)
    tree = open_source(source)
    try:
        told = _follow(session, tree, home, verifier, None if once else every)
    finally:
        tree.close()
    warning = "" if verifier else " The key was taken from the source itself: compare it with the line you were given."
    session.out.result(told, [f"{home} has {told['size']} entries of {told['origin']}, all verified.{warning}"])


def _follow(session: Session, tree: Source, path: Path, line: str | None, every: int | None) -> dict[str, Any]:
    known = NoteVerifier.parse(line) if line else _verifier_of(tree)
    home = session.factory().follow(path, known)
    try:
        if not isinstance(home.log, Replica):
            raise InputInvalid("cli.follow", f"{path} follows no ledger")
        follower = Follower(home.log, tree, path, session.clock)
        pause = threading.Event()
        while True:
            try:
                step = follower.step()
                if every is None:
                    return {"home": str(path), "verifier": known.text, **_told(step)}
                if step.before < step.checkpoint.size:
                    _say(f"{step.checkpoint.origin}: {step.before} to {step.checkpoint.size} entries")
            except StorageFailed as error:
                if error.code != "ledger.source" or every is None:
                    raise
                _say(str(error))  # a network that fails for a while is no reason to stop following
            pause.wait(every)
    finally:
        home.close()


def _told(step: Followed) -> dict[str, Any]:
    found = step.checkpoint
    return {"origin": found.origin, "before": step.before, "size": found.size, "payloads_missing": step.missing}


def _verifier_of(tree: Source) -> NoteVerifier:
    data = tree.read(VERIFIER_FILE, 1 << 16)
    if data is None:
        raise NotFound("cli.follow_verifier", f"{tree.name} names no verifier line", "give it: --verifier LINE")
    return NoteVerifier.parse(data.decode(errors="replace"))


def _say(text: str) -> None:
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()
