"""What verbs share about stores: a location as text, and the release that lies there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safehold.cli.context import Home, Session
from safehold.model.errors import NotFound, SafeholdError
from safehold.model.ids import DatasetId, Digest
from safehold.state.standing import ReleaseRow, find_release, release_stores, resolve_release
from safehold.vault.manifest import parse_manifest
from safehold.vault.spool import Spool
from safehold.vault.store import Location, Store, parse_location
from safehold.vault.store_probe import probe_store
from safehold.vault.stored_release import StoredRelease, fetch_release, load_stored, release_location

__all__ = [
    "dataset_store",
    "find_stored",
    "holds_files",
    "lying_place",
    "named_release",
    "read_place",
    "recorded_copy",
    "stored_place",
]

_MANIFEST = "manifest.json"
_SPOOL_BYTES = 512 << 20


def stored_place(text: str) -> Location | None:
    """The location if ``text`` names a release in a store, None if it is an ordinary path or name.

    A folder counts as one in a store where its parts lie beside it and not in it.
    """
    if "://" in text:
        return parse_location(text)
    path = Path(text)
    if (path / _MANIFEST).is_file() and (path.parent / "parts").is_dir() and path.name.isdecimal():
        return parse_location(text)
    return None


def dataset_store(session: Session, root: str, dataset: DatasetId) -> Store:
    """The place of a dataset below the store ``root``, probed: conditional writes hold there."""
    return probe_store(session.open_store(parse_location(root).below(release_location(dataset)).url))


def find_stored(session: Session, place: Location) -> StoredRelease:
    """The release that lies at ``place`` (``…/PARTY/DATASET/VERSION``); its form is checked."""
    return load_stored(session.open_store(place.parent.url), place.name)


def named_release(session: Session, home: Home, text: str) -> tuple[ReleaseRow, StoredRelease | None]:
    """The release that ``text`` names, as the ledger has it: by name, or by where it lies.

    Raises ``NotFound`` (``cli.not_recorded``) for one that lies there and is in no entry of this ledger.
    """
    place = stored_place(text)
    with home.log.view() as view:
        if place is None:
            return resolve_release(view, text), None
        stored = find_stored(session, place)
        row = find_release(view, stored.digest)
    if row is None:
        raise NotFound(
            "cli.not_recorded",
            f"the release in {place.url} is in no entry of this ledger: {stored.digest}",
            "ask who sealed it: keys are released for what the ledger names",
        )
    return row, stored


def holds_files(home: Home, release: Digest) -> bool:
    """Whether a recorded release holds files and not records, as its manifest in the ledger says."""
    with home.log.view() as view:
        body = view.payload(release)
    return body is not None and bool(parse_manifest(body).chunked)


def lying_place(session: Session, home: Home, found: tuple[ReleaseRow, StoredRelease | None]) -> Path | StoredRelease:
    """Where a release lies: in the store that was named, else in the home's own folder, else in a store that the ledger names.

    The folder need not be there: who reads it says so. Raises as ``recorded_copy``.
    """
    row, stored = found
    folder = home.release_folder(row.dataset, row.version)
    if stored is None and not folder.is_dir():
        stored = recorded_copy(session, home, row.release)
    return folder if stored is None else stored


@contextmanager
def read_place(place: Path | StoredRelease, groups: Sequence[str], below: Path | None = None) -> Iterator[Path | Spool]:
    """What opens a release with the files of ``groups``: its folder, or a spool of the store where it lies.

    From a store its parts come one by one, as the ciphertext that they are, into a folder in ``below`` (None: where temporary
    files go) that is removed at the end of the block; those of the first form, which are merged, come together.
    """
    if isinstance(place, Path):
        yield place
    elif place.manifest.numbered:
        with TemporaryDirectory(prefix=".safehold-fetch-", dir=below) as temporary:
            yield fetch_release(place, Path(temporary) / "release", groups)
    else:
        with closing(Spool(place, below, _SPOOL_BYTES)) as spool:
            yield spool


def recorded_copy(session: Session, home: Home, release: Digest) -> StoredRelease | None:
    """The first copy that the ledger names and that can be reached; the last failure if there is none."""
    with home.log.view() as view:
        places = release_stores(view, release)
    failure: SafeholdError | None = None
    for place in places:
        try:
            return find_stored(session, parse_location(place))
        except SafeholdError as error:
            failure = error
    if failure is not None:
        raise failure
    return None
