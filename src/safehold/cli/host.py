"""``safehold host``: register and list machines."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.context import session_of
from safehold.cli.keys import read_public_key
from safehold.cli.kinds import HOST
from safehold.cli.output import iso_time
from safehold.model.ids import HostId
from safehold.state.standing import list_hosts, read_inventories

__all__ = ["command"]


@click.group("host")
def command() -> None:
    """Register and list hosts."""


@command.command("add", epilog="Example: safehold host add quill-works/ci-1 --key ci-1.pub --every 60")
@click.argument("host", type=HOST)
@click.option(
    "--key", type=click.Path(path_type=Path), help="Its SSH Ed25519 public key (.pub); without, one is made here."
)
@click.option("--every", type=int, default=60, show_default=True, help="Seconds between its sweeps.")
@click.pass_context
def _add(context: click.Context, host: HostId, key: Path | None, every: int) -> None:
    """Register a machine with its SSH key. Silence longer than three sweeps counts as not observed."""
    session = session_of(context)
    with session.open_home() as home:
        public = read_public_key(key) if key else home.new_host_key(host).public
        entry = home.registry.add_host(host, public, every)
    session.out.result(
        {"host": host, "key": public.key_id, "expected_every": every, "entry": entry.index},
        [f"Registered host {host}, key {public.key_id} (entry {entry.index})."],
    )


@command.command("list", epilog="Example: safehold host list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All hosts, with the newest that is known of each environment."""
    session = session_of(context)
    shown = []
    with session.open_home() as home, home.log.view() as view:
        for host in list_hosts(view):
            seen = read_inventories(view, host.host)
            findings = sum(len(one.findings) for one in seen)
            newest = max((one.until for one in seen), default=None)
            shown.append((host.host, host.party, len(seen), iso_time(newest) or "never", findings))
    session.out.table("", ["host", "party", "environments", "last seen", "findings"], shown)
    if session.json:
        names = ("host", "party", "environments", "last_seen", "findings")
        session.out.result({"hosts": [dict(zip(names, row, strict=True)) for row in shown]})
