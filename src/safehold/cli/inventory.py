"""``safehold inventory``: run the agent over an environment, record what it says, list what is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from safehold.cli.context import Session, session_of
from safehold.cli.inventory_drift import drift_command
from safehold.cli.inventory_retire import retire_command
from safehold.cli.keys import host_signer
from safehold.cli.kinds import ENVIRONMENT, HOST, parse_moment
from safehold.cli.output import iso_time
from safehold.inventory.intake import TakenMessage
from safehold.inventory.report import NAMESPACE, InventoryReport
from safehold.inventory.sbom import MAX_LIST_BYTES, listed_message
from safehold.inventory.sweeps import run_agent, take_spool
from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.model.errors import NotFound, SafeholdError, StorageFailed
from safehold.model.ids import HostId
from safehold.state.standing import read_inventories

__all__ = ["command"]


@click.group("inventory")
def command() -> None:
    """Record what a host holds."""


@command.command("record", epilog="Example: safehold inventory record north-lab/trainer --environment .venv")
@click.argument("host", type=HOST)
@click.option(
    "--environment", type=click.Path(path_type=Path), required=True, help="A venv, or a site-packages folder."
)
@click.option(
    "--name", type=ENVIRONMENT, default="main", show_default=True, help="The environment's name in the ledger."
)
@click.option("--key", type=click.Path(path_type=Path), help="The host's private key; without, the one made here.")
@click.option("--at", help="The time of observation, RFC 3339; without, the system's clock.")
@click.pass_context
def _record(
    context: click.Context, host: HostId, environment: Path, name: str, key: Path | None, at: str | None
) -> None:
    """Run the agent over an environment, sign its report with the host's key, and record it.

    The agent runs isolated (python -I -S): nothing in the environment can run inside it.
    """
    session = session_of(context)
    with session.open_home() as home:
        signer = host_signer(home, host, key)
        spool = home.path / "spool" / host / name
        run_agent(environment, host, name, spool, "--once", *(["--at", at] if at else []))
        try:
            taken = take_spool(home.intake, host, spool, signer, remove=True)
        except StorageFailed:
            raise  # nothing is wrong with the messages: the next run takes them in
        except SafeholdError:
            # A message that is refused once is refused for ever, and would stand before all that follow. Without its
            # state the agent reports anew and in full.
            shutil.rmtree(spool, ignore_errors=True)
            raise
    _show(session, host, taken)


@command.command("import", epilog="Example: safehold inventory import quill-works/ci-1 spool/")
@click.argument("host", type=HOST)
@click.argument("spool", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Sign unsigned messages with this key of the host.")
@click.option(
    "--name", type=ENVIRONMENT, default="image", show_default=True, help="For a list: the environment's name."
)
@click.option("--at", help="For a list: when it was made, RFC 3339; without, now.")
@click.pass_context
def _import(context: click.Context, host: HostId, spool: Path, key: Path | None, name: str, at: str | None) -> None:
    """Record the messages of an agent's spool folder, in their order. Those that are here already are skipped.

    A file instead of a folder is a list of packages, for an image or a machine without an agent: CycloneDX, SPDX 2
    or 3, or Syft JSON. What such a list does not hold (hooks, unowned files, caches) stays unknown.
    """
    session = session_of(context)
    if spool.is_file():
        with session.open_home() as home:
            observed = parse_moment(at, home.clock()) if at else home.clock()
            message = listed_message(_read_list(spool), host, name, observed)
            signature = sshsig.sign(host_signer(home, host, key), message, NAMESPACE)
            recorded = [home.intake.record_message(host, message, signature)]
        _show(session, host, recorded)
        return
    if not spool.is_dir():
        raise NotFound("cli.spool", f"{spool} is not there", "name the agent's spool folder, or a list of packages")
    with session.open_home() as home:
        taken = take_spool(home.intake, host, spool, SigningKey.load(key) if key else None)
    _show(session, host, taken)


def _read_list(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise StorageFailed("cli.list_read", f"{path} cannot be read: {error.strerror}", "check the file") from error


@command.command("show", epilog="Example: safehold inventory show quill-works/ci-1")
@click.argument("host", type=HOST)
@click.pass_context
def _show_host(context: click.Context, host: HostId) -> None:
    """The newest inventory of each environment of a host, with what is found in it."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        inventories = read_inventories(view, host)
    if not inventories:
        raise NotFound("cli.no_inventory", f"{host} reports no environment", "see: safehold inventory record --help")
    session.out.table(
        "",
        ["environment", "last seen", "inventory", "findings"],
        [
            (one.environment, iso_time(one.until), one.inventory, ", ".join(f.what for f in one.findings) or "none")
            for one in inventories
        ],
    )
    if session.json:
        session.out.result({"host": host, "inventories": inventories})


def _show(session: Session, host: HostId, taken: list[TakenMessage]) -> None:
    rows = [
        {
            "kind": "report" if isinstance(one.message, InventoryReport) else "confirmation",
            "inventory": one.message.inventory,
            "findings": [
                f"{finding.name} {finding.version}" if finding.version else finding.path for finding in one.findings
            ],
            "known": one.known,
            "entry": one.entry,
        }
        for one in taken
    ]
    found = sum(len(one.findings) for one in taken)
    lines = [f"Recorded {len(taken)} messages of {host}, {found} findings."]
    lines += [
        f"  entry {row['entry']}: {row['kind']} {row['inventory']}{' (known)' if row['known'] else ''}" for row in rows
    ]
    session.out.result({"host": host, "messages": rows, "findings": found}, lines)


command.add_command(drift_command)
command.add_command(retire_command)
