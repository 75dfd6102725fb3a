"""``safehold seal``: a file becomes a release."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from safehold.assembly.delivery import Delivered, Delivery, DeliveryOrder, Plan
from safehold.assembly.row_tree import row_root
from safehold.cli.context import Home, Session, session_of
from safehold.cli.keys import made_key, party_signer
from safehold.cli.kinds import DATASET, HOST, words
from safehold.cli.output import progress_of
from safehold.cli.seal_files import FolderOptions, seal_folder
from safehold.cli.stores import dataset_store
from safehold.model.errors import InputInvalid
from safehold.model.ids import DatasetId, HostId, parse_group_name, parse_purpose, party_of
from safehold.model.statements import SubjectCount
from safehold.vault.patterns import PatternCounter
from safehold.vault.seal import SealOptions
from safehold.vault.sources import Source, SourceFormat, open_source
from safehold.vault.watched import Watched

if TYPE_CHECKING:
    from safehold.vault.store import Store

__all__ = ["command"]


@click.command(
    "seal",
    epilog="Example: safehold seal train.jsonl --dataset quill-works/word-problems --groups question=question,answer=answer",
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--dataset", type=DATASET, required=True, help="The dataset that this is a release of.")
@click.option("--groups", help="Column groups, GROUP=COLUMN[+COLUMN]…, comma-separated. Without: one group, data.")
@click.option("--host", type=HOST, help="The machine that seals, and so has the plaintext.")
@click.option("--key", type=click.Path(path_type=Path), help="The party's private key; without, the one made here.")
@click.option("--purposes", default="training", show_default=True, help="What it may be used for, comma-separated.")
@click.option("--people", multiple=True, help="CATEGORY:JURISDICTION=COUNT of people in it; may be repeated.")
@click.option(
    "--classification",
    default="confidential",
    show_default=True,
    help="How secret it is, in your words; the manifest says it.",
)
@click.option("--order", help="The customer's order number.")
@click.option("--record-id", help="The column that names a record; it tells where parts end.")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv", "parquet"]), help="What SOURCE is. Without: by its name."
)
@click.option("--files", is_flag=True, help="SOURCE is a folder of files that are no tables: seal them byte for byte.")
@click.option("--store", help="Also put it into this store: a folder or s3://BUCKET/PREFIX.")
@click.option("--no-copy", is_flag=True, help="With --store: keep no copy of it in the home.")
@click.option(
    "--keep",
    type=click.Choice(["runs", "parts", "nothing"]),
    default="runs",
    show_default=True,
    help="What stays of the release before: stretches of parts, whole parts only, or nothing.",
)
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Parts written at once.")
@click.option(
    "--row-digests",
    is_flag=True,
    help="Digest each record, so that one can be proved to belong (safehold prove record).",
)
@click.option("--again", is_flag=True, help="Seal although the newest release was made from this very file.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show columns, groups, version and what looks like personal data, and write nothing.",
)
@click.pass_context
def command(
    context: click.Context,
    source: Path,
    dataset: DatasetId,
    groups: str | None,
    host: HostId | None,
    key: Path | None,
    purposes: str,
    people: tuple[str, ...],
    classification: str,
    order: str | None,
    record_id: str | None,
    form: SourceFormat | None,
    files: bool,
    store: str | None,
    no_copy: bool,
    keep: Literal["runs", "parts", "nothing"],
    workers: int,
    row_digests: bool,
    again: bool,
    dry_run: bool,
) -> None:
    """Seal SOURCE as the next release of a dataset: JSONL, CSV, Parquet, a folder of save_to_disk, or with --files any folder.

    Interrupted or killed, it has published nothing that is not whole: run the same command again, and it goes on where
    it was. What did not change since the release before keeps its sealed files.
    """
    session = session_of(context)
    _check_flags(store, no_copy=no_copy, digests_of_files=files and row_digests, format_of_files=files and form)
    wish = DeliveryOrder(
        dataset=dataset,
        groups=_groups(groups),
        host=host,
        classification=classification,
        purposes=tuple(parse_purpose(word) for word in words(purposes)),
        people=tuple(_people(text) for text in people),
        order=order,
        record_id=record_id,
        again=again,
        keep=keep,
    )
    if files:
        seal_folder(session, source, wish, FolderOptions(key=key, store=store, dry_run=dry_run))
        return
    with session.open_home() as home:
        shelf = _shelf(session, store, dataset, probe=not dry_run)
        delivery = Delivery(home.log, home.release_folder, home.clock, home.registry.by, shelf)
        read = open_source(source, form)
        if dry_run:
            _show_plan(session, delivery.plan(read, wish), _patterns(session, read))
            return
        delivery.plan(read, wish)
        signer = party_signer(home, party_of(dataset), key)
        keys = home.part_keys(session.read_passphrase)
        watched = Watched(read, progress_of(session.out, "sealed", read.rows))
        options = _options(home, dataset, workers, row_digests=row_digests)
        delivered = delivery.deliver(watched, wish, keys, signer, options, partial(made_key, home))
        session.out.progress_done()
        _drop_copy(delivered, no_copy=no_copy and shelf is not None)
    _show(session, delivered)


def _drop_copy(delivered: Delivered, *, no_copy: bool) -> None:
    if no_copy:
        shutil.rmtree(delivered.folder)  # the entry names the store's copy; a crash here leaves a copy too many


def _options(home: Home, dataset: DatasetId, workers: int, *, row_digests: bool) -> SealOptions:
    tree = row_root if row_digests else None
    return SealOptions(cut_key=home.cut_key(dataset), workers=workers, row_tree=tree)


def _check_flags(store: str | None, *, no_copy: bool, digests_of_files: bool, format_of_files: object) -> None:
    if format_of_files:
        raise InputInvalid("cli.files_format", "--files takes any file as it is", "leave out --format, or --files")
    if digests_of_files:
        raise InputInvalid("cli.row_digests", "files are no records", "leave out --row-digests, or --files")
    if no_copy and store is None:
        raise InputInvalid(
            "cli.no_copy", "--no-copy without --store would keep nothing", "name the store: --store LOCATION"
        )


def _shelf(session: Session, store: str | None, dataset: DatasetId, *, probe: bool) -> Store | None:
    """The dataset's place in the store; a dry run reads its location alone, since a probe writes."""
    if store is None:
        return None
    return dataset_store(session, store, dataset) if probe else session.open_store(store)


def _patterns(session: Session, source: Source) -> dict[tuple[str, str], int]:
    """How many texts of each column have what looks like personal data."""
    counter = PatternCounter()
    for batch in Watched(source, progress_of(session.out, "looked at", source.rows)).batches():
        counter.add(batch)
    session.out.progress_done()
    return counter.counts


def _groups(text: str | None) -> dict[str, list[str]] | None:
    if text is None:
        return None
    mapping: dict[str, list[str]] = {}
    for word in words(text):
        name, separator, columns = word.partition("=")
        if not separator or not columns:
            raise InputInvalid(
                "cli.groups", f"{word[:60]!r} is no column group", "write GROUP=COLUMN, or GROUP=COLUMN+COLUMN"
            )
        mapping.setdefault(parse_group_name(name), []).extend(columns.split("+"))
    return mapping


def _people(text: str) -> SubjectCount:
    what, _, count = text.partition("=")
    category, _, jurisdiction = what.partition(":")
    if not category or not jurisdiction or not count.isdecimal() or len(count) > 12:
        raise InputInvalid(
            "cli.people", f"{text[:60]!r} is no count of people", "write CATEGORY:JURISDICTION=COUNT: writers:DE=12"
        )
    return SubjectCount(category=category, jurisdiction=jurisdiction, count=int(count))


def _show_plan(session: Session, plan: Plan, patterns: dict[tuple[str, str], int]) -> None:
    document = {
        "dry_run": True,
        "release": f"{plan.dataset}@{plan.version}",
        "parent": plan.parent,
        "columns": [{"name": name, "type": kind, "json": name in plan.as_json} for name, kind in plan.columns],
        "groups": dict(plan.groups),
        "rows": plan.rows,
        "bytes": plan.size_hint,
        "patterns": [
            {"column": column, "pattern": pattern, "texts": count} for (column, pattern), count in patterns.items()
        ],
    }
    session.out.result(
        document,
        [f"Would seal {plan.dataset}@{plan.version} (about {plan.size_hint:,} bytes to read). Nothing was written."],
    )
    group_of = {column: name for name, columns in plan.groups for column in columns}
    shown = [(name, "JSON text" if name in plan.as_json else kind, group_of[name]) for name, kind in plan.columns]
    session.out.table("", ["column", "type", "group"], shown)
    found = [(column, pattern, count) for (column, pattern), count in sorted(patterns.items())]
    if found:
        session.out.table("Looks like personal data (patterns, no proof)", ["column", "pattern", "texts"], found)


def _show(session: Session, delivered: Delivered) -> None:
    manifest = delivered.manifest
    name = f"{manifest.dataset}@{manifest.version}"
    document = {
        "release": name,
        "digest": delivered.release,
        "rows": manifest.rows,
        "bytes": manifest.size,
        "parts": len(manifest.parts),
        "bytes_sealed_anew": delivered.fresh,
        "groups": [group.name for group in manifest.groups],
        "folder": str(delivered.folder),
        "countersigned": delivered.countersigned,
        "resumed": delivered.resumed,
        "entry": delivered.entry.index,
    }
    how = "Recorded (sealed by an earlier run)" if delivered.resumed else "Sealed"
    told = (
        f"{how} {name}: {manifest.rows:,} records, {manifest.size:,} bytes in {len(manifest.parts)} files"
        f" (entry {delivered.entry.index})."
    )
    lines = [told, f"  {delivered.release}"]
    if manifest.parent is not None and not delivered.resumed:
        kept = sum(part.sealed < manifest.version for part in manifest.parts)
        lines.append(f"  {delivered.fresh:,} bytes were sealed anew; {kept} files stay from the release before")
    session.out.result(document, lines)
