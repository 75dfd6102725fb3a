"""Sealing a folder byte for byte: ``safehold seal --files``, and the sealing part of ``safehold adopt``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from safehold.assembly.delivery import DeliveryOrder
from safehold.assembly.file_delivery import FileDelivery, FilesDelivered, FilesKeys
from safehold.cli.context import Home, Session
from safehold.cli.keys import made_key, party_signer
from safehold.cli.stores import dataset_store
from safehold.model.errors import InputInvalid
from safehold.model.ids import party_of
from safehold.vault.file_tree import FolderTree

__all__ = ["FolderOptions", "file_progress", "files_keys", "seal_folder", "show_files"]


class FolderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to seal a folder: the party's private key if not the home's, a store, or nothing at all."""

    key: Path | None
    store: str | None
    dry_run: bool


def seal_folder(session: Session, folder: Path, order: DeliveryOrder, options: FolderOptions) -> None:
    """Seal ``folder`` as the next release of its dataset, and say so."""
    if order.groups is not None or order.record_id is not None:
        raise InputInvalid(
            "cli.files_groups",
            "files have the column groups names and content, and no record id",
            "leave --groups and --record-id away, or seal a table without --files",
        )
    tree = FolderTree(folder)
    with session.open_home() as home:
        shelf = None
        if options.store is not None and not options.dry_run:
            shelf = dataset_store(session, options.store, order.dataset)
        delivery = FileDelivery(home.log, home.release_folder, home.clock, home.registry.by, shelf)
        plan = delivery.plan(tree, order)
        if options.dry_run:
            document = {
                "dry_run": True,
                "release": f"{order.dataset}@{plan.version}",
                "parent": plan.parent,
                "files": plan.files,
                "bytes": plan.size,
            }
            told = f"Would seal {plan.files:,} files, {plan.size:,} bytes, as {order.dataset}@{plan.version}. Nothing was written."
            session.out.result(document, [told])
            return
        delivered = delivery.deliver(tree, order, files_keys(session, home, order, options.key), file_progress(session))
        session.out.progress_done()
    show_files(session, delivered)


def files_keys(session: Session, home: Home, order: DeliveryOrder, key: Path | None) -> FilesKeys:
    """The keys of a delivery: the supplier's, the customer's where this home made it, and where part keys are kept."""
    signer = party_signer(home, party_of(order.dataset), key)
    return FilesKeys(home.part_keys(session.read_passphrase), signer, partial(made_key, home))


def file_progress(session: Session, what: str = "sealed") -> Callable[[int, int], None]:
    """A line a second: bytes, rate and what remains."""
    started = last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1.0:
            last = now
            rate = done / (now - started)
            left = (total - done) / rate if rate else 0
            session.out.progress(f"{what} {done:,} of {total:,} bytes, {rate / 1e6:,.0f} MB/s, {left:,.0f} s left")

    return show


def show_files(session: Session, delivered: FilesDelivered) -> None:
    """What was sealed."""
    manifest = delivered.manifest
    name, source = f"{manifest.dataset}@{manifest.version}", manifest.sources[0]
    parts = len({part.part for part in manifest.parts})
    document = {
        "release": name,
        "digest": delivered.release,
        "files": source.rows,
        "bytes": source.size,
        "parts": parts,
        "parts_kept": delivered.kept,
        "groups": [group.name for group in manifest.groups],
        "where": delivered.where,
        "countersigned": delivered.countersigned,
        "entry": delivered.entry.index,
    }
    kept = f", {delivered.kept} of them by an earlier run" if delivered.kept else ""
    told = f"Sealed {name}: {source.rows:,} files, {source.size:,} bytes in {parts} parts{kept} (entry {delivered.entry.index})."
    session.out.result(document, [told, f"  {delivered.release}"])
