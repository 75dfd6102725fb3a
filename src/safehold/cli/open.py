"""``safehold open``: a release becomes a file again, with keys from the broker."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from safehold.broker.client import KeyOrder
from safehold.broker.connection import Connection
from safehold.broker.proof import Signers
from safehold.cli.context import Session, session_of
from safehold.cli.grant_file import read_grant_file
from safehold.cli.keys import request_signer
from safehold.cli.kinds import HOST, MEMBER, words
from safehold.cli.output import iso_time
from safehold.cli.stores import holds_files, lying_place, named_release, read_place
from safehold.ledger.keys import SigningKey
from safehold.model.errors import Conflict, InputInvalid, NotFound
from safehold.model.ids import HostId, MemberId, parse_group_name, parse_purpose
from safehold.readers import open_with_broker
from safehold.readers.opening import Opening
from safehold.state.standing import find_grant
from safehold.vault.open_files import WrittenFiles, write_files
from safehold.vault.output import OutputFormat, Written, write_records

__all__ = ["command"]

_FORMS: Final[dict[str, OutputFormat]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


@click.command(
    "open",
    epilog="Example: safehold open quill-works/word-problems@1 --host north-lab/trainer --grant grant.json --out records.jsonl",
)
@click.argument("release")
@click.option("--host", type=HOST, required=True, help="The machine that opens.")
@click.option("--grant", "grant_file", type=click.Path(path_type=Path), required=True, help="The grant's file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A new file: .jsonl, .csv or .parquet; a new folder for files.",
)
@click.option("--groups", help="Column groups, comma-separated. Without: all that the grant names.")
@click.option("--purpose", default="training", show_default=True, help="What for; the grant must allow it.")
@click.option("--member", type=MEMBER, help="Who opens it.")
@click.option("--key", type=click.Path(path_type=Path), help="The host's key; a .pub file: ssh-agent signs with it.")
@click.option("--broker", "urls", multiple=True, metavar="URL", help="Ask a served broker; may be repeated.")
@click.option("--broker-ca", type=click.Path(path_type=Path), help="Whose signature its certificate must bear, PEM.")
@click.option(
    "--member-key", type=click.Path(path_type=Path), help="The member's private key, where the policy asks for it."
)
@click.pass_context
def command(
    context: click.Context,
    release: str,
    host: HostId,
    grant_file: Path,
    out: Path,
    groups: str | None,
    purpose: str,
    member: MemberId | None,
    member_key: Path | None,
    key: Path | None,
    urls: tuple[str, ...],
    broker_ca: Path | None,
) -> None:
    """Open RELEASE (PARTY/DATASET@VERSION, or where it lies: s3://BUCKET/PREFIX/PARTY/DATASET/VERSION) into a new file.

    The broker decides by grant, holds and the host's newest inventory; each answer, yes or no, is an entry.
    """
    session = session_of(context)
    file = read_grant_file(grant_file)
    with session.open_home() as home, ExitStack() as ending:
        found = named_release(session, home, release)
        row = found[0]
        files = holds_files(home, row.release)
        form = _output_form(out, files=files)
        with home.log.view() as view:
            grant = find_grant(view, file.grant)
        covered = grant.groups if grant else row.groups
        chosen = words(groups) if groups else [group for group in row.groups if group in covered]
        order = KeyOrder(
            release=row.release,
            groups=[parse_group_name(group) for group in chosen] or list(row.groups),
            purpose=parse_purpose(purpose),
            host=host,
            member=member,
            grant=file.token,
        )
        by_host = request_signer(session, home, host, key)
        signer = Signers(by_host, SigningKey.load(member_key) if member_key else None)
        broker = (
            ending.enter_context(Connection(urls, signer, trust=broker_ca))
            if urls
            else home.broker(session.read_passphrase)
        )
        with read_place(lying_place(session, home, found), order.groups, out.parent) as place:
            opening = open_with_broker(place, order, broker, signer, home.clock)
            written = write_records(opening.opened, out, form) if form else write_files(opening.opened, out)
    _show(session, release, out, order, opening, written)


def _show(
    session: Session,
    release: str,
    out: Path,
    order: KeyOrder,
    opening: Opening,
    written: WrittenFiles | Written,
) -> None:
    document: dict[str, Any] = {
        "release": release,
        "digest": order.release,
        "out": str(out),
        "groups": order.groups,
        "lease_until": iso_time(opening.keys.until),
        "entry": opening.keys.entry,
    }
    if isinstance(written, WrittenFiles):
        document |= {"files": written.files, "bytes": written.size}
        told = f"{written.files:,} files, {written.size:,} bytes in {out} (entry {opening.keys.entry})."
    else:
        document |= {"records": written.rows, "sha256": written.sha256, "as_sealed": written.as_source}
        same = " They are, byte for byte, the file that was sealed." if written.as_source else ""
        told = f"{written.rows:,} records in {out} (entry {opening.keys.entry}).{same}"
    session.out.result(document, [f"Opened {release}: {told}"])


def _output_form(out: Path, *, files: bool) -> OutputFormat | None:
    """The format that the name asks for; None for a release of files, which becomes a folder. Looked at before the broker is asked: a key release that nobody can use
    would still be an exposure on record.
    """
    form = None if files else _FORMS.get(out.suffix.lower())
    if form is None and not files:
        raise InputInvalid(
            "cli.out", f"{out.name}: the format is not clear", "end the name in .jsonl, .csv or .parquet"
        )
    if os.path.lexists(out):
        raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
    if not out.parent.is_dir():
        raise NotFound("cli.out_folder", f"there is no folder {out.parent}", "make it, or choose another --out")
    return form
