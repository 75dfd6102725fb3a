"""``safehold approval``: a second member's word, written and signed anywhere, recorded at the lab."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.broker.approvals import (
    APPROVAL_NAMESPACE,
    Approval,
    Rulings,
    format_approval,
    parse_approval,
)
from safehold.cli.context import session_of
from safehold.cli.kinds import DATASET, HOST, MEMBER, parse_moment
from safehold.cli.output import iso_time
from safehold.ledger.export import write_file
from safehold.ledger.keys import SigningKey
from safehold.ledger.sshsig import sign
from safehold.model.errors import Conflict, NotFound, StorageFailed
from safehold.model.ids import DatasetId, HostId, MemberId

__all__ = ["command"]

_MAX_BYTES = 8192


@click.group("approval")
def command() -> None:
    """Approve access to a dataset as a second member."""


@command.command(
    "write",
    epilog="Example: safehold approval write quill-works/word-problems --host north-lab/trainer"
    " --member north-lab/m-0123456789abcdef0123 --approver north-lab/m-aaaaaaaaaaaaaaaaaaaa --until +1d --key me --out ok.json",
)
@click.argument("dataset", type=DATASET)
@click.option("--host", type=HOST, required=True, help="The machine that will open it.")
@click.option("--member", type=MEMBER, required=True, help="Who will ask.")
@click.option("--approver", type=MEMBER, required=True, help="Who approves: you.")
@click.option("--until", required=True, help="When the approval ends: 2026-04-30T12:00:00Z or +1d.")
@click.option("--key", type=click.Path(path_type=Path), help="Your private key; without, sign with ssh-keygen.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new file; its signature gets .sig.")
@click.pass_context
def _write(
    context: click.Context,
    dataset: DatasetId,
    host: HostId,
    member: MemberId,
    approver: MemberId,
    until: str,
    key: Path | None,
    out: Path,
) -> None:
    """Write the approval to sign: offline, without a home. With --key it is signed at once."""
    session = session_of(context)
    end = parse_moment(until, session.clock())
    text = format_approval(Approval(dataset=dataset, host=host, member=member, approver=approver, until=end))
    signature = _signature_path(out)
    for path in (out, signature) if key else (out,):
        if path.exists():
            raise Conflict("cli.out_exists", f"{path} is there already", "choose another --out")
    signed = sign(SigningKey.load(key), text, APPROVAL_NAMESPACE) if key else None
    try:
        write_file(out, text)
        if signed is not None:
            write_file(signature, signed.encode())
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
    then = f"Signed in {signature}." if key else f"Sign it: ssh-keygen -Y sign -n {APPROVAL_NAMESPACE} -f KEY {out}"
    session.out.result({"file": str(out), "signed": key is not None, "until": iso_time(end)}, [f"Wrote {out}.", then])


@command.command("record", epilog="Example: safehold approval record ok.json")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def _record(context: click.Context, file: Path) -> None:
    """Verify FILE and FILE.sig with the approver's registered key, and record the approval."""
    session = session_of(context)
    text, signature = _read(file), _read(_signature_path(file)).decode(errors="replace")
    with session.open_home() as home:
        entry = Rulings(home.log, home.clock, home.registry.by).record_approval(text, signature)
    approval = parse_approval(text)
    session.out.result(
        {"dataset": approval.dataset, "member": approval.member, "approver": approval.approver, "entry": entry.index},
        [
            f"{approval.member} may open {approval.dataset} on {approval.host} until {iso_time(approval.until)} (entry {entry.index})."
        ],
    )


def _signature_path(path: Path) -> Path:
    return path.with_name(path.name + ".sig")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise NotFound(
            "cli.approval_file", f"{path} cannot be read: {error.strerror}", "name the file that was signed"
        ) from error
