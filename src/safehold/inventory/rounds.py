"""Rounds of the agent over this host, in a process of its own, and what they wrote taken into the ledger."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from safehold.inventory.agent_file import write_agent
from safehold.inventory.intake import Intake
from safehold.inventory.sweeps import take_spool
from safehold.ledger.keys import SigningKey
from safehold.model.errors import InputInvalid, SafeholdError, StorageFailed
from safehold.model.ids import HostId

__all__ = ["AgentOrder", "RoundResult", "run_round", "take_spools"]

_TIMEOUT = 1800
_PARTLY = 6
_NOT_WRITTEN = 5


class AgentOrder(msgspec.Struct, frozen=True):
    """What to sweep and where its messages go; ``code``: seconds for comparing compiled code."""

    host: HostId
    environments: tuple[Path, ...] = ()
    projects: tuple[Path, ...] = ()
    indicators: Path | None = None
    broker: str | None = None
    key: Path | None = None
    spool: Path | None = None
    code: float = 0.0
    full: bool = False


class RoundResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one round did; ``said``: why something is unknown, or waits."""

    environments: int
    failed: int
    written: int
    sent: int = 0
    waiting: int = 0
    recorded: int = 0
    findings: int = 0
    said: tuple[str, ...] = ()


def run_round(order: AgentOrder, spool: Path, indicators: tuple[str, ...]) -> RoundResult:
    """One round, isolated (``-I -S``). ``indicators`` are paths to look for, where the order names no file of them.

    Raises ``InputInvalid`` (``inventory.agent_round``) with what the agent said, or ``StorageFailed``
    (``inventory.agent_round_disk``). Environments that failed are counted in the result.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = order.indicators
        if listed is None and indicators:
            listed = Path(folder) / "indicators.json"
            listed.write_text(json.dumps(indicators), encoding="utf-8")
        command = [sys.executable, "-I", "-S", str(write_agent(Path(folder) / "agent.pyz")), "once"]
        command += ["--host", order.host, "--spool", str(spool.absolute()), "--code", str(order.code)]
        command += [word for one in order.environments for word in ("--environment", str(one.absolute()))]
        command += [word for one in order.projects for word in ("--project", str(one.absolute()))]
        command += ["--indicators", str(listed.absolute())] if listed else []
        command += ["--broker", order.broker, "--key", str(order.key)] if order.broker else []
        command += ["--full"] if order.full else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputInvalid("inventory.agent_round", f"the agent could not run: {error}") from error
    said = tuple(line.removeprefix("agent: ") for line in done.stderr.strip().splitlines())
    if done.returncode not in (0, _PARTLY):
        why = f"the agent stopped: {said[-1] if said else f'exit code {done.returncode}'}"
        if done.returncode == _NOT_WRITTEN:
            raise StorageFailed("inventory.agent_round_disk", why, "check the disk, then run it again")
        raise InputInvalid("inventory.agent_round", why, "check the options: safehold agent once --help")
    told = json.loads(done.stdout)
    return RoundResult(**told, said=said)


def take_spools(
    intake: Intake, host: HostId, spool: Path, signer: SigningKey | None, result: RoundResult
) -> RoundResult:
    """Take in what waits in the spools below a folder, environment by environment, and add it to the result.

    Raises what ``take_spool`` raises; what was taken in before that is in the ledger and no longer in the spool.
    """
    recorded = findings = 0
    for folder in sorted(path for path in spool.iterdir() if path.is_dir()):
        try:
            taken = take_spool(intake, host, folder, signer, remove=True)
        except StorageFailed:
            raise  # nothing is wrong with the messages: the next round takes them in
        except SafeholdError:
            # A message that is refused once is refused for ever, and would stand before all that follow. Without its
            # state the agent reports anew and in full.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        recorded += len(taken)
        findings += sum(len(one.findings) for one in taken)
    return msgspec.structs.replace(result, recorded=recorded, findings=findings, waiting=0)
