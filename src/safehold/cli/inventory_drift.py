"""``safehold inventory drift``: what is different on a host since a baseline, whether or not anybody vouches for it."""

from __future__ import annotations

import click

from safehold.cli.context import Home, session_of
from safehold.cli.kinds import ENVIRONMENT, HOST, parse_moment
from safehold.cli.output import iso_time
from safehold.inventory.drift import Difference, drift_of
from safehold.ledger.storage import View
from safehold.model.contents import Contents, parse_contents
from safehold.model.errors import NotFound
from safehold.model.ids import HostId

__all__ = ["drift_command"]


@click.command("drift", epilog="Example: safehold inventory drift quill-works/ci-1 --since 2026-03-24")
@click.argument("host", type=HOST)
@click.option("--environment", type=ENVIRONMENT, help="This one alone; without, all of the host.")
@click.option("--since", help="Compare with what was seen last at this time; without, with what was seen first.")
@click.pass_context
def drift_command(context: click.Context, host: HostId, environment: str | None, since: str | None) -> None:
    """What is different on a host since a baseline: hooks, versions and which way they went, files, credentials."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        names = [environment] if environment else _environments(view, host)
        told = {name: _drift(home, view, (host, name), since) for name in names}
    if not told:
        raise NotFound("cli.no_inventory", f"{host} has never reported", "see: safehold agent once --help")
    lines = [f"{host}:"]
    document = []
    for name, (at, differences) in told.items():
        what = f"{len(differences)} differences since {iso_time(at)}" if differences else f"as it was at {iso_time(at)}"
        lines += [f"{name}: {what}", *(f"  {one}" for one in differences)]
        document.append({"environment": name, "since": iso_time(at), "differences": differences})
    session.out.result({"host": host, "environments": document}, lines)


def _environments(view: View, host: HostId) -> list[str]:
    sql = "SELECT DISTINCT environment FROM observation WHERE host = ? ORDER BY environment"
    return [row[0] for row in view.rows(sql, host)]


def _drift(home: Home, view: View, of: tuple[HostId, str], since: str | None) -> tuple[int, tuple[Difference, ...]]:
    sql = "SELECT inventory, since FROM observation WHERE host = ? AND environment = ?"
    if since is None:
        first = view.rows(f"{sql} ORDER BY since, idx LIMIT 1", *of)
    else:
        at = parse_moment(since, home.clock())
        first = view.rows(f"{sql} AND since <= ? ORDER BY since DESC, idx DESC LIMIT 1", *of, at)
    newest = view.rows(f"{sql} ORDER BY until DESC, idx DESC LIMIT 1", *of)
    if not first or not newest:
        raise NotFound("cli.no_baseline", f"nothing was seen of {of[1]} on {of[0]} by then", "name a later time")
    return first[0][1], drift_of(_contents(view, first[0][0]), _contents(view, newest[0][0]))


def _contents(view: View, inventory: str) -> Contents:
    data = view.payload(inventory)  # type: ignore[arg-type]  # a digest of the ledger
    if data is None:
        raise NotFound("cli.no_contents", f"the contents of {inventory} are gone", "restore them from a backup")
    return parse_contents(data)
