"""``safehold policy``: what the broker decides by, set and shown."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from safehold.broker.approvals import Rulings
from safehold.broker.policy import BrokerPolicy
from safehold.broker.policy_file import MAX_POLICY_BYTES, parse_policy
from safehold.cli.context import session_of
from safehold.cli.policy_in_force import policy_in_force
from safehold.model.errors import NotFound

__all__ = ["command"]


@click.group("policy")
def command() -> None:
    """Set and show what the broker decides by."""


@command.command("set", epilog="Example: safehold policy set policy.toml --dry-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Read and check the file, and change nothing.")
@click.pass_context
def _set(context: click.Context, file: Path, dry_run: bool) -> None:
    """Let the broker decide by FILE (policy.toml) from its entry on. The file is kept with the entry."""
    session = session_of(context)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise NotFound("cli.policy_file", f"{file} cannot be read: {error.strerror}", "name another file") from error
    policy = parse_policy(data)
    if dry_run:
        session.out.result({"dry_run": True, "policy": _shown(policy)}, ["Nothing was changed. The file can be used."])
        return
    with session.open_home() as home:
        entry = Rulings(home.log, home.clock, home.registry.by).record_policy(data)
    session.out.result(
        {"policy": _shown(policy), "entry": entry.index}, [f"The broker decides by {file} (entry {entry.index})."]
    )


@command.command("show", epilog="Example: safehold policy show")
@click.pass_context
def _show(context: click.Context) -> None:
    """The policy in force, as it was set; without one, the limits that are built in."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        policy, data, entry = policy_in_force(view)
    text = data.decode() if data else "# no policy was set: these limits are built in\n" + _limits(policy)
    session.out.result({"policy": _shown(policy), "entry": entry}, text.splitlines())


def _shown(policy: BrokerPolicy) -> object:
    return msgspec.to_builtins(policy)


def _limits(policy: BrokerPolicy) -> str:
    names = ("inventory_max_age", "clock_tolerance", "lease", "lease_keys")
    limits = "[limits]\n" + "\n".join(f"{name} = {getattr(policy, name)}" for name in names)
    return f'{limits}\n\n[response]\nprofile = "{policy.response}"'
