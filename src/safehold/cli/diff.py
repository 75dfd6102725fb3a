"""``safehold diff``: what changed between two releases of a dataset, by records and by columns."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.reading import Reader, ReadWish, reading_options
from safehold.state.standing import find_rekeyed
from safehold.vault.diff import Difference, differ

__all__ = ["command"]


@click.command(
    "diff",
    epilog="Example: safehold diff quill-works/word-problems@1 quill-works/word-problems@2 --host north-lab/trainer --grant grant.json",
)
@click.argument("old")
@click.argument("new")
@reading_options
@click.option("--record-id", help="The column that names a record: then a changed record is told from a new one.")
@click.pass_context
def command(
    context: click.Context,
    old: str,
    new: str,
    record_id: str | None,
    wish: ReadWish,
) -> None:
    """Compare the releases OLD and NEW (PARTY/DATASET@VERSION, or where they lie in a store). Both are opened with keys from the broker.

    No value is shown: how many records, which columns, and where the first of them stand.
    """
    session = session_of(context)
    with session.open_home() as home, Reader(home, session, wish) as reader:
        named = [reader.find(name) for name in (old, new)]
        with home.log.view() as view:
            known = find_rekeyed(view, named[0].row.release)
        before, after = (reader.open(one).opened for one in named)
        found = differ(before, after, record_id)
    rekeyed = known.idx if known is not None and known.release == named[1].row.release else None
    session.out.result(
        {
            "old": old,
            "new": new,
            "rekeyed": rekeyed,
            **{name: getattr(found, name) for name in found.__struct_fields__},
        },
        [*_lines(found), *([] if rekeyed is None else [f"  {new} is {old} under new keys (entry {rekeyed})."])],
    )
    if found.changed_columns and not session.json:
        session.out.table("Changed records", ["column", "records"], sorted(found.changed_columns.items()))


def _lines(found: Difference) -> list[str]:
    counted = f"{found.unchanged:,} records are the same, {found.changed:,} changed, {found.added:,} added"
    lines = [f"{counted}, {found.removed:,} removed ({found.read:,} had to be read)."]
    for word, names in (
        ("added", found.columns_added),
        ("removed", found.columns_removed),
        ("of another type", found.columns_retyped),
    ):
        if names:
            lines.append(f"  columns {word}: {', '.join(names)}")
    for word, rows in (("added", found.added_rows), ("removed", found.removed_rows)):
        if rows:
            lines.append(f"  {word} at: {', '.join(str(row) for row in rows[:10])}{' …' if len(rows) > 10 else ''}")
    return lines
