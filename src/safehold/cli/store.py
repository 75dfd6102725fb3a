"""``safehold store``: check a store, and clear what no release names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import click

from safehold.cli.context import Session, session_of
from safehold.vault.store import Store, StoredObject, parse_location
from safehold.vault.store_probe import probe_store
from safehold.vault.stored_release import find_orphans, remove_orphans

__all__ = ["command"]

_OURS: Final = re.compile(r"(?:(.+)/)?(parts/[0-9a-f]{64}|[1-9][0-9]{0,8}/manifest\.json)")
_HOUR: Final = 3600 * 1_000_000
_older = click.option(
    "--older-than",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    help="Hours: a younger part may belong to a sealer at work.",
)


@click.group("store")
def command() -> None:
    """Check a store (a folder or s3://BUCKET/PREFIX); clear what no release names."""


@command.command("check", epilog="Example: safehold store check s3://my-bucket/releases")
@click.argument("location")
@_older
@click.pass_context
def _check(context: click.Context, location: str, older_than: int) -> None:
    """Try the conditional writes of the store at LOCATION; count its releases, parts, and parts that no release names."""
    session = session_of(context)
    store = probe_store(session.open_store(location))
    datasets = [
        _counts(name, objects, find_orphans(below, session.clock(), older_than * _HOUR))
        for name, below, objects in _datasets(session, store)
    ]
    document = {"store": store.location.url, "conditional_writes": True, "datasets": datasets}
    session.out.result(document, [f"{store.location.url}: conditional writes hold; {len(datasets)} datasets."])
    columns = ["dataset", "releases", "parts", "bytes", "orphans", "orphan bytes"]
    session.out.table("", columns, [tuple(one.values()) for one in datasets])


@command.command("clean", epilog="Example: safehold store clean s3://my-bucket/releases --dry-run")
@click.argument("location")
@_older
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@click.pass_context
def _clean(context: click.Context, location: str, older_than: int, dry_run: bool) -> None:
    """Remove parts that no release in LOCATION names: what sealers left that lost a race or died.

    Pieces of broken multipart uploads are in no list of objects: let a lifecycle rule of the bucket end them.
    """
    session = session_of(context)
    found: list[dict[str, Any]] = []
    freed = 0
    for name, below, _ in _datasets(session, probe_store(session.open_store(location))):
        orphans = find_orphans(below, session.clock(), older_than * _HOUR)
        found += [{"dataset": name, "name": one.name, "bytes": one.size} for one in orphans]
        freed += sum(one.size for one in orphans) if dry_run else remove_orphans(below, orphans)
    document = {"store": location, "dry_run": dry_run, "orphans": found, "bytes": freed}
    told = f"{'Would remove' if dry_run else 'Removed'} {len(found)} parts that no release names, {freed:,} bytes."
    session.out.result(document, [told])
    if found:
        session.out.table("", ["dataset", "part", "bytes"], [tuple(one.values()) for one in found])


def _datasets(session: Session, store: Store) -> Iterator[tuple[str, Store, list[StoredObject]]]:
    """Each dataset in the store: its name, its own place, its objects."""
    known: dict[str, list[StoredObject]] = {}
    for one in store.list():
        match = _OURS.fullmatch(one.name)
        if match is not None:
            known.setdefault(match[1] or "", []).append(one)
    for name, objects in sorted(known.items()):
        place = store.location.below(name) if name else store.location
        yield name or store.location.name, session.open_store(parse_location(place.url).url), objects


def _counts(name: str, objects: list[StoredObject], orphans: list[StoredObject]) -> dict[str, Any]:
    parts = [one for one in objects if not one.name.endswith("manifest.json")]
    return {
        "dataset": name,
        "releases": len(objects) - len(parts),
        "parts": len(parts),
        "bytes": sum(one.size for one in parts),
        "orphans": len(orphans),
        "orphan_bytes": sum(one.size for one in orphans),
    }
