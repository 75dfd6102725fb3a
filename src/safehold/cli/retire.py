"""``safehold retire``: a release is given out no more."""

from __future__ import annotations

import click

from safehold.assembly.retirement import Retirement
from safehold.cli.context import session_of

__all__ = ["command"]


@click.command("retire", epilog="Example: safehold retire quill-works/word-problems@1 --reason 'replaced by version 2'")
@click.argument("release")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.pass_context
def command(context: click.Context, release: str, reason: str) -> None:
    """Give out no more keys of RELEASE (PARTY/DATASET@VERSION).

    Its keys are kept, and leases that run go on to their end. `safehold erase` destroys the keys.
    """
    session = session_of(context)
    with session.open_home() as home:
        entry = Retirement(home.log, home.clock, home.registry.by).retire(release, reason)
    session.out.result(
        {"release": release, "entry": entry.index},
        [f"Retired {release}: no key of it leaves any more (entry {entry.index})."],
    )
