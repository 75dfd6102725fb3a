"""``safehold prove match``: which records of a found file belong to a release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from safehold.assembly.row_match import FoundFile, Match, compared_columns, match_records
from safehold.cli.context import session_of
from safehold.cli.kinds import words
from safehold.cli.output import progress_of
from safehold.cli.reading import Reader, ReadWish, reading_options
from safehold.ledger.export import write_file
from safehold.model.errors import Conflict, StorageFailed
from safehold.vault.sources import open_source

__all__ = ["command"]

_SHOWN = 20


@click.command(
    "match",
    epilog="Example: safehold prove match leaked.jsonl quill-works/word-problems@1 --host north-lab/trainer"
    " --grant grant.json --out matches.jsonl",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("release")
@reading_options
@click.option("--out", type=click.Path(path_type=Path), help="A new JSONL file: a line for each record that matches.")
@click.pass_context
def command(
    context: click.Context,
    file: Path,
    release: str,
    out: Path | None,
    wish: ReadWish,
) -> None:
    """Find which records of FILE (a leak: JSONL, CSV or Parquet) belong to RELEASE (PARTY/DATASET@VERSION), and to which parts.

    Records are compared by the columns that both have. It works for every release, with row digests or without; no value is
    shown. To show one of them to others: safehold prove record.
    """
    session = session_of(context)
    if out is not None and out.exists():
        raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
    source = open_source(file)
    with session.open_home() as home, Reader(home, session, wish) as reader:
        named = reader.find(release)
        row, manifest = named.row, named.place.manifest
        # Before a key release is on record: a file that has nothing in common needs none.
        compared_columns(source, manifest, words(wish.groups) if wish.groups else row.groups)
        opening = reader.open(named)
        columns = compared_columns(source, manifest, [group.name for group in opening.opened.groups])
        found = FoundFile(source, columns)
        show = progress_of(session.out, "compared", manifest.rows)
        matches = list(match_records(found, opening.opened, show))
        session.out.progress_done()
    if out is not None:
        _write(out, matches)
    lines = {line for match in matches for line in match.lines}
    parts = Counter(match.part for match in matches)
    document = {
        "release": row.name,
        "digest": row.release,
        "columns": columns,
        "records": found.records,
        "records_in_release": len(lines),
        "release_records": manifest.rows,
        "release_records_found": len(matches),
        "parts": {str(part): count for part, count in sorted(parts.items())},
        "places": [match.place for match in matches[:_SHOWN]],
        "out": None if out is None else str(out),
        "entry": opening.keys.entry,
    }
    counted = f"{len(lines):,} of the {found.records:,} records of {file.name} are in {row.name}"
    told = [
        f"{counted}, by {', '.join(columns)} (keys: entry {opening.keys.entry}).",
        f"  {len(matches):,} of its {manifest.rows:,} records, in {len(parts):,} of {row.parts:,} parts",
    ]
    session.out.result(document, told)


def _write(out: Path, matches: list[Match]) -> None:
    encode: Callable[[Match], bytes] = msgspec.json.encode
    try:
        write_file(out, b"".join(encode(match) + b"\n" for match in matches))
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
