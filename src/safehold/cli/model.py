"""``safehold model``: models, the end of the lineage."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import MODEL, RUN
from safehold.model.ids import ModelId, RunId

__all__ = ["command"]


@click.group("model")
def command() -> None:
    """Declare a model."""


@command.command("declare", epilog="Example: safehold model declare north-lab/tutor-1 --run north-lab/run-7")
@click.argument("model", type=MODEL)
@click.option("--run", "runs", type=RUN, multiple=True, required=True, help="The run that made it; may be repeated.")
@click.pass_context
def _declare(context: click.Context, model: ModelId, runs: tuple[RunId, ...]) -> None:
    """Record that MODEL was made by these runs."""
    session = session_of(context)
    with session.open_home() as home:
        entry = home.registry.declare_model(model, list(runs))
    session.out.result(
        {"model": model, "runs": runs, "entry": entry.index}, [f"Declared model {model} (entry {entry.index})."]
    )
