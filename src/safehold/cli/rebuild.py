"""``safehold rebuild``: fold the ledger anew."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.state.projection import digest_projections, rebuild

__all__ = ["command"]


@click.command("rebuild", epilog="Example: safehold rebuild")
@click.pass_context
def command(context: click.Context) -> None:
    """Drop all projections and fold every entry again. Interrupted, it leaves the old ones."""
    session = session_of(context)
    with session.open_home() as home, home.log.write() as transaction:
        before = digest_projections(transaction)
        size = rebuild(transaction, lambda done, size: session.out.progress(f"folded {done:,} of {size:,} entries"))
        after = digest_projections(transaction)
    session.out.progress_done()
    same = "the same as before" if before == after else f"before: {before}"
    session.out.result(
        {"size": size, "projections": after, "before": before, "same": before == after},
        [f"Folded {size} entries. Projections: {after} ({same})."],
    )
