"""From a host's folder to the ledger: run the agent as hosts do, and take in what it wrote to its spool."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from safehold.inventory import agent
from safehold.inventory.agent_file import write_agent
from safehold.inventory.intake import Intake, TakenMessage
from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.model.errors import InputInvalid, SafeholdError, StorageFailed
from safehold.model.ids import HostId

__all__ = ["run_agent", "take_spool"]

_TIMEOUT = 900
_NOT_WRITTEN = 5
"""The agent's exit code for a disk that does not let it."""
_MAX_SIGNATURE_BYTES = 16_384


def run_agent(folder: Path, host: HostId, name: str, spool: Path, *more: str) -> None:
    """Run the agent in a process of its own, isolated and without ``site``: nothing in ``folder`` can run in it.

    ``more`` are further options of the agent. Raises ``InputInvalid`` (``inventory.agent``) with what it said, or
    ``StorageFailed`` (``inventory.agent_disk``).
    """
    arguments = [str(folder.absolute()), "--host", host, "--name", name, "--spool", str(spool.absolute()), *more]
    try:
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-I", "-S", str(write_agent(Path(place) / "agent.pyz")), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputInvalid(
            "inventory.agent",
            f"the agent could not run: {error}",
            "try it by hand: safehold agent file agent.pyz; python3 -I -S agent.pyz --help",
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        if done.returncode == _NOT_WRITTEN:
            raise StorageFailed(
                "inventory.agent_disk",
                f"the agent could not read or write: {said[-1]}",
                "check the disk, then run it again",
            )
        raise InputInvalid("inventory.agent", f"the agent stopped: {said[-1]}", "check the environment's folder")


def take_spool(
    intake: Intake, host: HostId, spool: Path, signer: SigningKey | None, *, remove: bool = False
) -> list[TakenMessage]:
    """Take in all messages of a spool in the order of their numbers; ``signer`` signs those that are not signed.

    ``remove`` deletes them once all are in the ledger: a crash before that takes them in again, as known ones.
    Raises ``InputInvalid`` (``inventory.unsigned``) and what ``Intake.record_message`` raises.
    """
    taken, done = [], []
    for path in sorted(spool.glob("*.json")):
        data, signature = _read(path, agent.MAX_MESSAGE_BYTES + 1), path.with_suffix(".sig")
        if signature.is_file():
            text: str | bytes = _read(signature, _MAX_SIGNATURE_BYTES)
        elif signer is not None:
            text = sshsig.sign(signer, data, agent.NAMESPACE)
        else:
            raise InputInvalid(
                "inventory.unsigned", f"{path.name} is not signed", "let the agent sign (--key), or give the host's key"
            )
        try:
            taken.append(intake.record_message(host, data, text))
        except SafeholdError as error:
            error.add_note(f"in {path.name}")
            raise
        done.append(path)
    for path in done if remove else ():
        path.unlink(missing_ok=True)
        path.with_suffix(".sig").unlink(missing_ok=True)
    return taken


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise StorageFailed(
            "inventory.spool", f"{path} cannot be read: {error.strerror}", "check the spool folder's owner"
        ) from error
