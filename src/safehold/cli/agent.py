"""``safehold agent``: the agent as one file, and rounds of it over this host into the home or to a broker."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from safehold.cli.context import Session, session_of
from safehold.cli.keys import host_signer
from safehold.cli.kinds import HOST
from safehold.inventory.agent_file import agent_archive, write_agent
from safehold.inventory.rounds import AgentOrder, RoundResult, run_round, take_spools
from safehold.ledger.keys import SigningKey
from safehold.model.errors import InputInvalid
from safehold.model.ids import HostId, sha256_digest

__all__ = ["command"]

_FOLDER = click.Path(path_type=Path)


@click.group("agent")
def command() -> None:
    """Sweep this host: its Python environments, and what lies beside them."""


@command.command("file", epilog="Example: safehold agent file agent.pyz")
@click.argument("path", type=_FOLDER)
@click.pass_context
def _file(context: click.Context, path: Path) -> None:
    """Write the agent as one file that needs nothing but Python 3.9: python3 -I -S agent.pyz --help.

    The same sources give the same bytes everywhere: compare the digest that is printed.
    """
    write_agent(path)
    digest = sha256_digest(agent_archive())
    session_of(context).out.result({"path": str(path), "digest": digest}, [f"{path} is the agent, {digest}"])


def _options(function: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(
        (
            click.option("--environment", type=_FOLDER, multiple=True, help="This one; without, all are found."),
            click.option("--project", type=_FOLDER, multiple=True, help="Read lockfiles and names in .env files here."),
            click.option("--indicators", type=_FOLDER, help="Paths to look for; without, those of known advisories."),
            click.option("--broker", metavar="URL", help="Deliver there and not into the home; needs --key."),
            click.option("--key", type=_FOLDER, help="The host's private key; without, the one made here."),
            click.option("--spool", type=_FOLDER, help="Where messages wait; without, a folder of the home."),
            click.option("--code", type=float, default=0.0, help="Compare compiled code for so many seconds a round."),
            click.option("--full", is_flag=True, help="Hash every file again."),
        )
    ):
        function = option(function)
    return function


@command.command("once", epilog="Example: safehold agent once quill-works/ci-1 --project .")
@click.argument("host", type=HOST)
@_options
@click.pass_context
def _once(
    context: click.Context,
    host: HostId,
    environment: tuple[Path, ...],
    project: tuple[Path, ...],
    indicators: Path | None,
    broker: str | None,
    key: Path | None,
    spool: Path | None,
    code: float,
    full: bool,
) -> int:
    """Sweep all environments of this host and the host itself, once, and record what changed.

    An environment that cannot be swept does not stop the others: it stays unknown, and the exit code is 2.
    """
    session = session_of(context)
    order = AgentOrder(host, environment, project, indicators, broker, key, spool, code, full)
    result = _round(session, order)
    return _tell(session, order, result)


@command.command("run", epilog="Example: safehold agent run quill-works/ci-1 --broker https://broker.example --key id")
@click.argument("host", type=HOST)
@_options
@click.option("--every", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Seconds between rounds.")
@click.option("--rounds", type=click.IntRange(1), help="End after so many.")
@click.pass_context
def _run(
    context: click.Context,
    host: HostId,
    environment: tuple[Path, ...],
    project: tuple[Path, ...],
    indicators: Path | None,
    broker: str | None,
    key: Path | None,
    spool: Path | None,
    code: float,
    full: bool,
    every: int,
    rounds: int | None,
) -> None:
    """Sweep this host again and again; only changes travel. Ends on Ctrl-C; what waits stays in the spool.

    On hosts without Safehold, `agent.pyz run` does the same and glances at start-up hooks every second.
    """
    session = session_of(context)
    order = AgentOrder(host, environment, project, indicators, broker, key, spool, code, full)
    pause, done = threading.Event(), 0
    while rounds is None or done < rounds:
        result = _round(session, order)
        done += 1
        session.out.progress(_line(order, result))
        if rounds is None or done < rounds:
            pause.wait(every)
    session.out.progress_done()
    session.out.result({"host": host, "rounds": done}, [f"{done} rounds of {host}."])


def _round(session: Session, order: AgentOrder) -> RoundResult:
    if order.broker is not None:
        if order.key is None or order.spool is None:
            raise InputInvalid("cli.agent_broker", "to a broker go signed messages alone", "give --key and --spool")
        return run_round(order, order.spool, ())
    with session.open_home() as home:
        signer = SigningKey.load(order.key) if order.key else host_signer(home, order.host, None)
        with home.log.view() as view:
            paths = tuple(row[0] for row in view.rows("SELECT DISTINCT value FROM indicator WHERE kind = 'path'"))
        spool = order.spool or home.path / "spool" / "agent" / order.host
        result = run_round(order, spool, paths)
        return take_spools(home.intake, order.host, spool, signer, result)


def _line(order: AgentOrder, result: RoundResult) -> str:
    place = f"{result.sent} delivered, {result.waiting} wait" if order.broker else f"{result.recorded} recorded"
    unknown = f", {result.failed} unknown" if result.failed else ""
    return (
        f"{result.environments} environments{unknown}: {result.written} messages, {place}, {result.findings} findings"
    )


def _tell(session: Session, order: AgentOrder, result: RoundResult) -> int:
    session.out.result({"host": order.host, "round": result}, [_line(order, result), *result.said])
    return 2 if result.failed else 0
