"""``safehold inventory retire``: a host has an environment no more."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import ENVIRONMENT, HOST
from safehold.cli.output import iso_time
from safehold.model.errors import NotFound
from safehold.model.ids import HostId
from safehold.state.standing import read_inventories

__all__ = ["retire_command"]


@click.command(
    "retire",
    epilog="Example: safehold inventory retire quill-works/ci-1 old-venv --reason 'the folder was removed'",
)
@click.argument("host", type=HOST)
@click.argument("environment", type=ENVIRONMENT)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option("--dry-run", is_flag=True, help="Show what would count no longer, and record nothing.")
@click.pass_context
def retire_command(context: click.Context, host: HostId, environment: str, reason: str, *, dry_run: bool) -> None:
    """Say that HOST has ENVIRONMENT no more, so that its last report blocks the host no longer.

    What it held stays on record for exposure. A later report of the same name counts again.
    """
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            seen = next((one for one in read_inventories(view, host) if one.environment == environment), None)
        if seen is None:
            raise NotFound(
                "cli.no_environment",
                f"{host} reports no environment {environment[:80]} now",
                f"see: safehold inventory show {host}",
            )
        entry = None if dry_run else home.registry.retire_environment(host, environment, reason).index
    findings = [f"{one.advisory}: {one.what}" for one in seen.findings]
    place = "nothing was recorded" if entry is None else f"entry {entry}"
    lines = [f"{'Would retire' if dry_run else 'Retired'} {environment} of {host} ({place})."]
    lines += [f"Last seen {iso_time(seen.until)}, {seen.inventory}."]
    lines += [f"Blocks the host no longer, and stays in every exposure: {one}" for one in findings]
    told = {"environment": environment, "host": host, "inventory": seen.inventory, "last_seen": iso_time(seen.until)}
    session.out.result(told | {"dry_run": dry_run, "entry": entry, "findings": findings}, lines)
