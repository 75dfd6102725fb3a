"""``safehold adopt``: data that lies unsealed becomes known, then sealed where it lies, then its originals may go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from safehold.assembly.adoption import Adoption, AdoptionPlace, Listing
from safehold.assembly.delivery import DeliveryOrder
from safehold.assembly.file_delivery import FilesDelivered
from safehold.cli.context import Home, Session, session_of
from safehold.cli.kinds import DATASET, HOST, words
from safehold.cli.seal_files import file_progress, files_keys
from safehold.cli.stores import dataset_store
from safehold.ledger.storage import Entry
from safehold.model.errors import InputInvalid
from safehold.model.ids import DatasetId, HostId, parse_purpose
from safehold.vault.file_tree import FileTree, FolderTree, StoreTree
from safehold.vault.store import parse_location
from safehold.vault.stored_release import release_location

__all__ = ["command"]


@click.command("adopt", epilog="Example: safehold adopt s3://old-bucket/chats --dataset quill-works/chats")
@click.argument("location")
@click.option("--dataset", type=DATASET, required=True, help="The dataset that these files are.")
@click.option("--host", type=HOST, help="The machine on which they lie.")
@click.option(
    "--seal", "sealing", is_flag=True, help="Seal them where they lie, part by part; run it again after a crash."
)
@click.option("--remove", is_flag=True, help="Then remove the originals, each compared once more. Not without --seal.")
@click.option("--store", help="Seal into this store and not at LOCATION: a folder or s3://BUCKET/PREFIX.")
@click.option("--key", type=click.Path(path_type=Path), help="The party's private key; without, the one made here.")
@click.option("--purposes", default="training", show_default=True, help="What the release may be used for.")
@click.option("--classification", default="confidential", show_default=True, help="How secret it is, in your words.")
@click.option("--dry-run", is_flag=True, help="Show what would be adopted, sealed or removed, and change nothing.")
@click.pass_context
def command(
    context: click.Context,
    location: str,
    dataset: DatasetId,
    host: HostId | None,
    sealing: bool,
    remove: bool,
    store: str | None,
    key: Path | None,
    purposes: str,
    classification: str,
    dry_run: bool,
) -> None:
    """Adopt the unsealed files at LOCATION (a folder or s3://BUCKET/PREFIX) as a dataset.

    The entry names each file with its SHA-256, size, records and columns, so that exposure can speak of it. Nobody needs
    a key to read such files: who could is unknown unless there is evidence.
    """
    session = session_of(context)
    if remove and not sealing:
        raise InputInvalid(
            "cli.adopt_remove",
            "--remove without --seal would leave nothing",
            "seal first: safehold adopt … --seal --remove",
        )
    order = DeliveryOrder(
        dataset=dataset,
        host=host,
        classification=classification,
        purposes=tuple(parse_purpose(word) for word in words(purposes)),
    )
    with session.open_home() as home:
        adoption = _adoption(session, home, location, dataset, store, probe=sealing and not dry_run)
        document: dict[str, Any] = {"dataset": dataset, "location": parse_location(location).url, "dry_run": dry_run}
        lines = _adopt(session, adoption, order, document, sealing=sealing, dry_run=dry_run)
        if sealing and not dry_run:
            lines += _seal(session, home, adoption, order, key, document)
        if remove:
            lines += _remove(session, home, adoption, document, dry_run=dry_run)
        session.out.progress_done()
    session.out.result(document, lines)


def _adoption(
    session: Session, home: Home, location: str, dataset: DatasetId, store: str | None, *, probe: bool
) -> Adoption:
    place = parse_location(location)
    below = release_location(dataset)
    tree: FileTree
    if place.bucket is None:
        tree = FolderTree(Path(place.path), below)
    else:
        tree = StoreTree(session.open_store(place.url), below)
    root = store or place.url
    shelf = (
        dataset_store(session, root, dataset) if probe else session.open_store(parse_location(root).below(below).url)
    )
    where = AdoptionPlace(tree, home.release_folder, shelf, home.path)
    return Adoption(home.log, home.clock, home.registry.by, dataset, where)


def _adopt(
    session: Session,
    adoption: Adoption,
    order: DeliveryOrder,
    document: dict[str, Any],
    *,
    sealing: bool,
    dry_run: bool,
) -> list[str]:
    """Adopt what lies there. Where it is to be sealed and was adopted before, it is not read again: sealing compares."""
    known = adoption.known()
    if known is not None and sealing:
        document |= {"listing": known.listing, "files": known.files, "bytes": known.size, "rows": known.rows}
        return [f"Adopted before: {known.files:,} files, {known.size:,} bytes (entry {known.idx})."]
    listing = adoption.describe(file_progress(session, "read"))
    size = sum(file.size for file in listing.files)
    rows = [file.rows for file in listing.files]
    records = None if None in rows else sum(count or 0 for count in rows)
    document |= {"files": len(listing.files), "bytes": size, "rows": records, "formats": _formats(listing)}
    what = f"{len(listing.files):,} files, {size:,} bytes" + (f", {records:,} records" if records is not None else "")
    if dry_run:
        session.out.table("", ["file", "bytes", "records", "columns"], _rows(listing))
        return [f"Would adopt {what}. Nothing was recorded."]
    entry: Entry | None = adoption.adopt(listing, order.host)
    document["entry"] = entry.index if entry else None
    found = adoption.known()
    document["listing"] = found.listing if found else None
    return [f"Adopted {what} (entry {entry.index})." if entry else f"Adopted before, and unchanged: {what}."]


def _rows(listing: Listing) -> list[tuple[object, ...]]:
    shown = [(file.path, file.size, file.rows, ", ".join(file.columns)) for file in listing.files[:100]]
    more = len(listing.files) - len(shown)
    return [*shown, (f"and {more} more", "", "", "")] if more else list(shown)


def _formats(listing: Listing) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in listing.files:
        counts[file.format] = counts.get(file.format, 0) + 1
    return counts


def _seal(
    session: Session, home: Home, adoption: Adoption, order: DeliveryOrder, key: Path | None, document: dict[str, Any]
) -> list[str]:
    sealed = adoption.seal(order, files_keys(session, home, order, key), file_progress(session))
    if not isinstance(sealed, FilesDelivered):
        document["release"] = sealed
        return [f"Sealed before: {sealed}."]
    name = f"{sealed.manifest.dataset}@{sealed.manifest.version}"
    document |= {"release": sealed.release, "name": name, "where": sealed.where, "parts_kept": sealed.kept}
    return [f"Sealed as {name} in {sealed.where} (entry {sealed.entry.index}): every file was read back and compared."]


def _remove(session: Session, home: Home, adoption: Adoption, document: dict[str, Any], *, dry_run: bool) -> list[str]:
    if dry_run:
        removal = adoption.removal()
    else:
        removal = adoption.remove(home.part_keys(session.read_passphrase), file_progress(session, "removed"))
    document |= {
        "removed": 0 if dry_run else removal.files,
        "would_remove": removal.files,
        "removed_bytes": removal.size,
    }
    how = "Would remove" if dry_run else "Removed"
    return [f"{how} {removal.files:,} originals, {removal.size:,} bytes."]
