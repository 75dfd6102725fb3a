"""``safehold prove``: that one record belongs to a release, for whoever has neither the keys nor the other records.

``prove match`` is in ``prove_match``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from safehold.assembly.row_proof import find_record, make_proof
from safehold.cli.context import session_of
from safehold.cli.output import progress_of
from safehold.cli.prove_match import command as match_command
from safehold.cli.reading import Reader, ReadWish, reading_options
from safehold.ledger.export import write_file
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed

__all__ = ["command"]

_MAX_RECORD_BYTES = 64 << 20


@click.group("prove", epilog="Example: safehold prove record --help")
def command() -> None:
    """Prove to others what a release holds; find which records of a leak it holds."""


command.add_command(match_command)


@command.command(
    "record",
    epilog="Example: safehold prove record quill-works/word-problems@1 --where id=17 --host north-lab/trainer"
    " --grant grant.json --out proof.json",
)
@click.argument("release")
@click.option("--record", "record_file", type=click.Path(path_type=Path), help="A JSON file with the record, or with some members of it.")  # fmt: skip
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="A member of the record; VALUE is JSON, or else text. May be repeated.")  # fmt: skip
@reading_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The proof's new file.")
@click.pass_context
def _record(
    context: click.Context,
    release: str,
    record_file: Path | None,
    where: tuple[str, ...],
    out: Path,
    wish: ReadWish,
) -> None:
    """Prove that a record belongs to RELEASE (PARTY/DATASET@VERSION or where it lies, sealed with --row-digests).

    The proof shows this record in the groups chosen, the signed manifest and the ledger's receipt, and nothing of any other
    record. Anyone checks it: safehold verify proof.json.
    """
    session = session_of(context)
    wanted = _wanted(record_file, where)
    if out.exists():
        raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
    with session.open_home() as home, Reader(home, session, wish) as reader:
        named = reader.find(release)
        row, loaded = named.row, named.place
        if all(
            part.rows_root is None for part in loaded.manifest.parts
        ):  # before a key release is on record for nothing
            raise NotFound(
                "assembly.no_row_digests",
                f"{row.name} holds no digests of its records",
                "seal the next version with --row-digests: unchanged parts stay and get theirs",
            )
        opening = reader.open(named)
        found = find_record(opening.opened, wanted, progress_of(session.out, "looked at", loaded.manifest.rows))
        session.out.progress_done()
        data = make_proof(opening.opened, opening.keys.keys, loaded.envelope, found, home.log.receipt(row.idx))
    try:
        write_file(out, data)
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
    document: dict[str, Any] = {
        "release": row.name,
        "digest": row.release,
        "place": found.place,
        "part": found.part,
        "equal_records": found.others,
        "groups": [group.name for group in opening.opened.groups],
        "out": str(out),
        "entry": opening.keys.entry,
    }
    lines = [f"Record {found.place:,} of {row.name}: its proof is in {out} (keys: entry {opening.keys.entry})."]
    if found.others:
        lines.append(f"  {found.others:,} more records are equal in this; the first was taken")
    session.out.result(document, [*lines, f"Anyone can check it: safehold verify {out} --verifier LINE"])


def _wanted(file: Path | None, where: tuple[str, ...]) -> dict[str, Any]:
    """The members that are asked for."""
    wanted = _read(file) if file is not None else {}
    for text in where:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputInvalid("cli.where", f"{text[:60]!r} names no member", "write COLUMN=VALUE: --where id=17")
        try:
            wanted[name] = msgspec.json.decode(value)
        except msgspec.MsgspecError:
            wanted[name] = value
    return wanted


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as source:
            data = source.read(_MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise NotFound("cli.record_file", f"{file} cannot be read: {error.strerror}", "name another") from error
    if len(data) > _MAX_RECORD_BYTES:
        raise InputInvalid("cli.record", f"{file} is larger than 64 MiB", "give one record, or some members of it")
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid(
            "cli.record", f"{file} holds no JSON object: {error}", "give one record, such as one line of a JSONL file"
        ) from error
