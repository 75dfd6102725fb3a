"""``safehold run``: training runs, so that exposure can name what was trained on what."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import HOST, RUN
from safehold.model.ids import HostId, RunId
from safehold.state.standing import resolve_release

__all__ = ["command"]


@click.group("run")
def command() -> None:
    """Declare a training run."""


@command.command(
    "declare", epilog="Example: safehold run declare north-lab/run-7 --release quill-works/word-problems@1"
)
@click.argument("run", type=RUN)
@click.option("--release", "releases", multiple=True, required=True, help="PARTY/DATASET@VERSION; may be repeated.")
@click.option("--host", type=HOST, help="Where it ran.")
@click.pass_context
def _declare(context: click.Context, run: RunId, releases: tuple[str, ...], host: HostId | None) -> None:
    """Record that RUN used these releases."""
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            digests = [resolve_release(view, name).release for name in releases]
        entry = home.registry.declare_run(run, digests, host)
    session.out.result(
        {"run": run, "releases": digests, "entry": entry.index},
        [f"Declared run {run} on {len(digests)} releases (entry {entry.index})."],
    )
