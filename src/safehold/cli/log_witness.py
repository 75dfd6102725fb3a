"""``safehold log policy`` and ``safehold log witness``: have the newest checkpoint cosigned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from safehold.cli.context import Home, session_of
from safehold.cli.output import iso_time
from safehold.ledger.export import write_file
from safehold.ledger.policy import Policy, parse_policy
from safehold.ledger.witness_client import Gathered, add_collected, gather
from safehold.model.errors import NotFound, StorageFailed

__all__ = ["home_policy", "policy_command", "read_policy", "witness_command"]

_POLICY_FILE: Final = "witness.policy"
_MAX_BYTES: Final = (1 << 20) + 1


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises ``NotFound`` (``cli.policy_file``) or ``InputInvalid`` (``ledger.policy_form``)."""
    return parse_policy(_read(path))


def home_policy(home: Home) -> Policy:
    """The policy that this home was given; ``NotFound`` (``cli.no_policy``)."""
    path = home.path / _POLICY_FILE
    if not path.exists():
        raise NotFound("cli.no_policy", "this home has no witness policy", "give it one: safehold log policy FILE")
    return read_policy(path)


@click.command("policy", epilog="Example: safehold log policy witnesses.policy")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def policy_command(context: click.Context, file: Path) -> None:
    """Say in FILE (C2SP tlog-policy) which witnesses cosign this ledger, where they are, and how many are enough."""
    session = session_of(context)
    data = _read(file)
    policy = parse_policy(data)
    with session.open_home() as home:
        policy.check_log(home.log.verifier)
        try:
            write_file(home.path / _POLICY_FILE, data)
        except OSError as error:
            raise StorageFailed(
                "cli.write", f"the policy cannot be kept: {error.strerror}", "free some space"
            ) from error
    names = [witness.key.name for witness in policy.witnesses]
    session.out.result(
        {"witnesses": names, "quorum": policy.quorum},
        [f"Witnesses: {', '.join(names) or 'none'}; quorum {policy.quorum}."],
    )


@click.command("witness", epilog="Example: safehold log witness")
@click.option("--lines", type=click.Path(path_type=Path), help="Take cosignatures from this file and ask nobody.")
@click.option("--forget", help="Forget what the witness NAME+KEYID knew: your word that it was wrong.")
@click.pass_context
def witness_command(context: click.Context, lines: Path | None, forget: str | None) -> int:
    """Submit the newest checkpoint to the witnesses of the policy, and keep their cosignatures with it.

    Exports and receipts carry them from then on. Ends with exit code 4 while the policy's quorum is not reached. A witness
    that knows more entries than this ledger has is remembered: the home then opens read-only.
    """
    session = session_of(context)
    with session.open_home() as home:
        if forget is not None:
            home.witnessed.forget(forget)
            session.out.result({"forgotten": forget}, [f"Forgotten: {forget}."])
            return 0
        policy = home_policy(home)
        if home.log.read_only is not None:
            raise home.log.read_only
        if lines is not None:
            gathered = add_collected(home.log, policy, home.witnessed, _signature_lines(_read(lines)))
        else:
            gathered = gather(home.log, policy, home.witnessed)
    document = _document(gathered)
    if gathered.lacking is not None:
        shown = _shown(gathered)
        if not session.json:
            session.out.result(document, shown)
        session.out.failure(gathered.lacking, **document)
        return gathered.lacking.exit_code
    session.out.result(document, _shown(gathered))
    return 0


def _signature_lines(data: bytes) -> bytes:
    """The lines alone, from a file that may hold the whole checkpoint before them."""
    return data.rpartition(b"\n\n")[2]


def _document(gathered: Gathered) -> dict[str, Any]:
    outcomes = [
        {
            "witness": one.witness,
            "time": iso_time(None if one.seconds is None else one.seconds * 1_000_000),
            "error": None if one.error is None else one.error.code,
        }
        for one in gathered.outcomes
    ]
    return {"size": gathered.checkpoint.size, "complete": gathered.lacking is None, "witnesses": outcomes}


def _shown(gathered: Gathered) -> list[str]:
    said = [f"  {one.witness}: {'cosigned' if one.error is None else one.error}" for one in gathered.outcomes]
    return [
        f"Checkpoint of {gathered.checkpoint.size} entries:",
        *said,
        "The policy holds." if gathered.lacking is None else "The policy does not hold yet.",
    ]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise NotFound("cli.policy_file", f"{path} cannot be read: {error.strerror}", "name another file") from error
