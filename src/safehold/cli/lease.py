"""``safehold lease``: list leases and what was released by them; end one."""

from __future__ import annotations

import click

from safehold.broker.acts import GrantActs
from safehold.cli.context import session_of
from safehold.cli.kinds import HOST, LEASE
from safehold.cli.output import iso_time
from safehold.model.ids import HostId, LeaseId
from safehold.state.standing_access import LeaseRow, list_leases

__all__ = ["command"]


@click.group("lease")
def command() -> None:
    """List leases; end one."""


@command.command("list", epilog="Example: safehold lease list --host quill-works/ci-1")
@click.option("--host", type=HOST, help="Only those of this host.")
@click.pass_context
def _list(context: click.Context, host: HostId | None) -> None:
    """All leases with what was released by each. One that broke since shows so at its next request."""
    session = session_of(context)
    with session.open_home() as home:
        now = home.clock()
        with home.log.view() as view:
            leases = list_leases(view, host)
    names = ("lease", "host", "member", "dataset", "until", "keys", "releases", "last_entry", "state", "entry")
    rows = [
        (
            one.lease.lease,
            one.lease.host,
            one.lease.member or "",
            one.lease.dataset,
            iso_time(one.lease.until),
            one.lease.keys,
            one.releases,
            one.last_idx if one.last_idx is not None else "",
            _state(one.lease, now),
            one.lease.idx,
        )
        for one in leases
    ]
    session.out.table("", [name.replace("_", " ") for name in names], rows)
    if session.json:
        session.out.result({"leases": [dict(zip(names, row, strict=True)) for row in rows]})


def _state(lease: LeaseRow, now: int) -> str:
    if lease.ended_idx is not None:
        return f"ended in entry {lease.ended_idx}: {lease.code}"
    return "running" if now < lease.until else "over"


@command.command("end", epilog="Example: safehold lease end l-0123456789abcdef --reason 'the job is done'")
@click.argument("lease", type=LEASE)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.pass_context
def _end(context: click.Context, lease: LeaseId, reason: str) -> None:
    """End a lease: from its entry on nothing is released by it. Keys that left before cannot be called back."""
    session = session_of(context)
    with session.open_home() as home:
        entry = GrantActs(home.log, home.clock, home.registry.by).end_lease(lease, reason)
    session.out.result({"lease": lease, "entry": entry.index}, [f"Ended {lease} (entry {entry.index})."])
