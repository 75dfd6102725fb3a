"""``safehold log``: what was recorded, and the proofs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from safehold.cli.context import session_of
from safehold.cli.log_witness import policy_command, witness_command
from safehold.cli.output import iso_time
from safehold.cli.segments import query, segment
from safehold.ledger.export import SEGMENTS_FOLDER, export_ledger, write_file
from safehold.ledger.note import open_checkpoint
from safehold.ledger.segments.carry import carry_segments
from safehold.ledger.storage import Entry
from safehold.model.errors import Conflict, NotFound, StorageFailed
from safehold.model.statements import Statement, Unknown, decode

__all__ = ["command", "describe"]


@click.group("log")
def command() -> None:
    """List, show, prove, export and query entries of the ledger; have them witnessed."""


command.add_command(segment)
command.add_command(query)
command.add_command(policy_command)
command.add_command(witness_command)


@command.command("list", epilog="Example: safehold log list --kind key.released --last 20")
@click.option("--kind", help="Only statements of this kind, such as key.released.")
@click.option(
    "--last", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many, the newest."
)
@click.pass_context
def _list(context: click.Context, kind: str | None, last: int) -> None:
    """The newest entries, oldest first."""
    session = session_of(context)
    found: list[Entry] = []
    with session.open_home() as home, home.log.view() as view:
        end = view.size()
        while end > 0 and len(found) < last:
            begin = max(0, end - 1024)
            bodies = view.bodies(begin, end)
            for offset in range(len(bodies) - 1, -1, -1):
                entry = Entry(begin + offset, bodies[offset], decode(bodies[offset]))
                if kind in (None, _kind(entry)) and len(found) < last:
                    found.append(entry)
            end = begin
    found.reverse()
    rows = [(entry.index, _time(entry), _kind(entry), describe(entry)) for entry in found]
    session.out.table("", ["entry", "time", "kind", "what"], rows)
    if session.json:
        session.out.result({"entries": [{"entry": entry.index, **_plain(entry)} for entry in found]})


@command.command("show", epilog="Example: safehold log show 12")
@click.argument("index", type=click.IntRange(0))
@click.pass_context
def _show(context: click.Context, index: int) -> None:
    """One entry, whole."""
    session = session_of(context)
    with session.open_home() as home:
        entry = home.log.entry(index)
    plain = _plain(entry)
    session.out.result({"entry": index, **plain}, [f"{name:>14}  {value}" for name, value in plain.items()])


@command.command("checkpoint", epilog="Example: safehold log checkpoint")
@click.pass_context
def _checkpoint(context: click.Context) -> None:
    """The newest signed checkpoint: what to print, mail and compare."""
    session = session_of(context)
    with session.open_home() as home:
        found, verifier = home.log.checkpoint(), home.log.verifier
    document = {"origin": found.origin, "size": found.size, "note": found.note.decode(), "verifier": verifier.text}
    session.out.result(document, found.note.decode().rstrip("\n").split("\n"))


@command.command("receipt", epilog="Example: safehold log receipt 12 --out hold.tlog-proof")
@click.argument("index", type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new file.")
@click.option("--witnessed", is_flag=True, help="Against the newest checkpoint that fulfilled the witness policy.")
@click.pass_context
def _receipt(context: click.Context, index: int, out: Path, witnessed: bool) -> None:
    """The receipt of an entry: it proves offline, for ever, that the entry is in the ledger."""
    session = session_of(context)
    if out.exists():
        raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
    with session.open_home() as home:
        note = home.witnessed.complete(home.log.verifier.name) if witnessed else None
        if witnessed and (note is None or open_checkpoint(note, home.log.verifier).size <= index):
            raise NotFound(
                "cli.not_witnessed", f"entry {index} is not witnessed yet", "ask the witnesses: safehold log witness"
            )
        data = home.log.receipt(index, note)
    try:
        write_file(out, data)
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
    session.out.result({"entry": index, "out": str(out)}, [f"Wrote the receipt of entry {index} to {out}."])


@command.command("export", epilog="Example: safehold log export ledger-copy/")
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_context
def _export(context: click.Context, folder: Path) -> None:
    """Write the ledger as static files (C2SP tlog-tiles) that anyone can verify. Run again, it adds what is new."""
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            report = export_ledger(view, home.log.verifier, folder)
            segments = carry_segments(home.segments.folder, home.segments.sealed(view), folder / SEGMENTS_FOLDER)
        verifier = home.log.verifier.text
    written = report.files + segments.written
    session.out.result(
        {
            "folder": str(folder),
            "size": report.checkpoint.size,
            "files_written": written,
            "verifier": verifier,
            "segments": segments.files,
            "segments_left_out": segments.left_out,
        },
        [
            f"Exported {report.checkpoint.size} entries to {folder} ({written} files written).",
            *(
                f"{name} does not match its entry and was left out; see `log segment --mend`."
                for name in segments.left_out
            ),
            f"Anyone can check it: safehold verify {folder} --verifier '{verifier}'",
        ],
    )


def _kind(entry: Entry) -> str:
    statement = entry.statement
    return statement.kind if isinstance(statement, Unknown) else str(statement.__struct_config__.tag)


def _time(entry: Entry) -> str:
    return "" if isinstance(entry.statement, Unknown) else iso_time(entry.statement.t)


def _plain(entry: Entry) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(entry.body)
    return plain


_TELLING = (
    "party", "host", "member", "dataset", "version", "release", "before", "grant", "groups", "advisory", "environment", "name",
    "subject", "code", "reason", "run", "model", "origin", "table", "begin", "end",
)  # fmt: skip


def describe(entry: Entry) -> str:
    """An entry in one line for people: its telling fields, digests shortened."""
    statement = entry.statement
    if not isinstance(statement, Statement):
        return "(of a kind that this Safehold does not know)"
    words = []
    for name in _TELLING:
        value = getattr(statement, name, None)
        if value not in (None, "", ()):
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"{name} {text[:19] + '…' if text.startswith('sha256:') else text}")
    return " · ".join(words)
