"""Adopting data that lies unsealed: an entry says what it is, then it is sealed where it lies, then originals may go.

1. ``adopt``: read every file once (SHA-256, size, records, columns) and append ``dataset.adopted`` with the listing as
   payload. From here on exposure can speak of it: no key guards it, and who could read it is unknown unless evidence says so.
2. ``seal``: the files become a release, part by part (``file_delivery``), by default in a store at the very place where they
   lie. Then every part is read back and decrypted, and each file's own SHA-256 compared with the listing. Only then
   ``adoption.sealed`` is appended.
3. ``remove``: the sealed release is verified and decrypted **again**, each original compared with the listing and removed.
   Then ``adoption.removed``. A crash before the entry leaves fewer originals than the ledger says, never more: what it says
   of plaintext that lies about errs on the side of too much. Run it again.

Files that come or change between the steps stop the next one: they would be in no release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from safehold.assembly.delivery import DeliveryOrder, Place, check_order
from safehold.assembly.file_delivery import FileDelivery, FilesDelivered, FilesKeys
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.encoding import canonical_bytes, decode_canonical, resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import DatasetId, Digest, HostId, KeyId, sha256_digest
from safehold.model.statements import AdoptionRemoved, AdoptionSealed, DatasetAdopted
from safehold.state.standing import AdoptedRow, list_adopted, list_releases, readable_as
from safehold.vault.check_files import HeldFile, PartsOf, folder_parts, sealed_files, stored_parts
from safehold.vault.file_facts import FileFacts, describe_file
from safehold.vault.file_tree import FileTree, FoundFile
from safehold.vault.manifest import Manifest, parse_manifest
from safehold.vault.store import Store
from safehold.vault.stored_release import expect_stored, load_stored
from safehold.vault.verify import expect_release, load_release
from safehold.vault.wrapped import WrappedKeys

__all__ = ["Adoption", "AdoptionPlace", "Listing", "Removal", "read_listing"]

_MAX_LISTING_BYTES: Final = 200 << 20
_Progress = Callable[[int, int], None]


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of ``dataset.adopted``: every file, by path."""

    v: int
    dataset: DatasetId
    location: str
    files: tuple[FileFacts, ...]


class AdoptionPlace(msgspec.Struct, frozen=True):
    """Where things are: the tree; where releases of the home lie; the store to seal into; a folder for one part at a time."""

    tree: FileTree
    place: Place
    store: Store | None
    scratch: Path


class Removal(msgspec.Struct, frozen=True):
    """Originals that a release holds and that are, or would be, removed."""

    release: Digest
    files: int
    size: int


class Adoption:
    """Adopts one tree as one dataset. ``by`` signs for the entries, ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId, dataset: DatasetId, place: AdoptionPlace) -> None:
        self._log, self._clock, self._by, self._dataset, self._place = log, clock, by, dataset, place
        self._tree = place.tree

    def known(self) -> AdoptedRow | None:
        """The newest adoption of this place whose originals were not removed."""
        with self._log.view() as view:
            known = list_adopted(view)
        here = [one for one in known if (one.dataset, one.location) == (self._dataset, self._tree.location.url)]
        return next((one for one in reversed(here) if not one.removed), None)

    def describe(self, progress: _Progress | None = None) -> Listing:
        """Read every file. Raises ``InputInvalid`` (``vault.files_*``, ``vault.source_changed``, ``assembly.listing_size``)."""
        found = self._tree.files()
        total, done, facts = sum(file.size for file in found), 0, []
        for file in found:
            facts.append(describe_file(self._tree, file))
            done += file.size
            if progress is not None:
                progress(done, total)
        return Listing(v=1, dataset=self._dataset, location=self._tree.location.url, files=tuple(facts))

    def adopt(self, listing: Listing, host: HostId | None) -> Entry | None:
        """Append the listing; None if this very listing is adopted already.

        Raises ``NotFound`` (``assembly.no_dataset``, ``assembly.no_host``), ``Refused`` (``assembly.held``).
        """
        body = canonical_bytes(listing)
        if len(body) > _MAX_LISTING_BYTES:
            raise InputInvalid(
                "assembly.listing_size",
                f"a listing of {len(listing.files):,} files takes {len(body):,} bytes",
                "adopt the folders in it one by one, as datasets of their own",
            )
        digest = sha256_digest(body)
        rows = [file.rows for file in listing.files]

        def propose(view: View) -> Draft:
            check_order(view, DeliveryOrder(dataset=self._dataset, host=host))
            if view.rows("SELECT 1 FROM adopted WHERE listing = ?", digest):
                return Draft(())
            said = DatasetAdopted(
                t=self._clock(),
                by=self._by,
                listing=digest,
                dataset=self._dataset,
                location=self._tree.location.url,
                endpoint=self._tree.endpoint,
                host=host,
                files=len(listing.files),
                size=sum(file.size for file in listing.files),
                rows=None if None in rows else sum(count or 0 for count in rows),
            )
            return Draft((said,), (body,))

        entries = self._log.append(propose)
        return entries[0] if entries else None

    def seal(self, order: DeliveryOrder, keys: FilesKeys, progress: _Progress | None = None) -> FilesDelivered | Digest:
        """Seal what was adopted, prove it, and append ``adoption.sealed``; gone on with after a death.

        The digest alone where an earlier run had sealed it. Raises ``NotFound`` (``assembly.not_adopted``), ``Conflict``
        (``assembly.adopted_changed``), ``VerificationFailed`` (``assembly.not_the_files``) and what sealing raises.
        """
        adopted, listing = self._adopted()
        if adopted.release is not None:
            return adopted.release
        self._compare(listing, all_there=True)
        there = self._sealed_already(listing, keys.parts)
        delivered: FilesDelivered | None = None
        if there is None:
            place = self._place
            delivery = FileDelivery(self._log, place.place, self._clock, self._by, place.store)
            delivered = delivery.deliver(self._tree, order, keys, progress)
            self._prove(listing, delivered.manifest, delivered.release, keys.parts)
        release = delivered.release if delivered is not None else there
        assert release is not None  # noqa: S101 - one of the two is there, for the reader's type checker
        self._log.append_statements(
            AdoptionSealed(t=self._clock(), by=self._by, listing=adopted.listing, release=release)
        )
        return delivered if delivered is not None else release

    def removal(self) -> Removal:
        """What ``remove`` would remove. Raises as it does, before anything is read or removed."""
        adopted, listing = self._adopted()
        if adopted.release is None:
            raise Conflict(
                "assembly.not_sealed",
                f"what lies in {adopted.location} is adopted and not sealed",
                "seal it first: safehold adopt … --seal",
            )
        left = self._compare(listing, all_there=False)
        with self._log.view() as view:
            holder = readable_as(view, adopted.release)
        return Removal(holder, len(left), sum(file.size for file in left))

    def remove(self, keys: WrappedKeys, progress: _Progress | None = None) -> Removal:
        """Verify the release and each original once more, remove the originals, and append ``adoption.removed``.

        Raises ``Conflict`` (``assembly.not_sealed``, ``assembly.adopted_changed``), ``VerificationFailed``
        (``assembly.not_the_files``, ``vault.part_altered`` …): then nothing was removed but what was compared before.
        """
        removal = self.removal()
        adopted, listing = self._adopted()
        self._prove(listing, self._manifest(removal.release), removal.release, keys)
        known = {file.path: file for file in listing.files}
        done = 0
        for file in self._compare(listing, all_there=False):
            # Not by its size alone: whoever wrote other bytes there since would lose them.
            if describe_file(self._tree, file).sha256 != known[file.path].sha256:
                raise self._changed(file.path)
            self._tree.remove(file)
            done += file.size
            if progress is not None:
                progress(done, removal.size)
        said = AdoptionRemoved(t=self._clock(), by=self._by, listing=adopted.listing, files=adopted.files)
        self._log.append_statements(said)
        return removal

    def _adopted(self) -> tuple[AdoptedRow, Listing]:
        adopted = self.known()
        if adopted is None:
            raise NotFound(
                "assembly.not_adopted",
                f"what lies in {self._tree.location.url} is not adopted as {self._dataset}",
                "adopt it first: safehold adopt LOCATION --dataset DATASET",
            )
        with self._log.view() as view:
            body = view.payload(adopted.listing)
        if body is None:
            raise NotFound(
                "assembly.listing_missing", f"the listing {adopted.listing} is not here any more", "adopt it again"
            )
        return adopted, read_listing(body, adopted.listing)

    def _compare(self, listing: Listing, *, all_there: bool) -> tuple[FoundFile, ...]:
        """The files that lie there, if each is in the listing with its size (and none is missing)."""
        known = {file.path: file.size for file in listing.files}
        try:
            found = self._tree.files()
        except InputInvalid as error:
            if all_there or error.code != "vault.files_none":
                raise
            return ()
        for file in found:
            if known.get(file.path) != file.size:
                raise self._changed(file.path)
        missing = known.keys() - {file.path for file in found}
        if all_there and missing:
            raise self._changed(min(missing))
        return found

    def _changed(self, path: str) -> Conflict:
        return Conflict(
            "assembly.adopted_changed",
            f"{path[:200]} is not as it was when {self._tree.location.url} was adopted",
            "adopt it again, so that the ledger knows what lies there now",
        )

    def _sealed_already(self, listing: Listing, keys: WrappedKeys) -> Digest | None:
        """The newest release, if it holds these very files: an earlier run died before it could say so."""
        with self._log.view() as view:
            newest = max(list_releases(view, self._dataset), key=lambda one: one.version, default=None)
        if newest is None:
            return None
        manifest = self._manifest(newest.release)
        facts = [(one.format, one.rows, one.size) for one in manifest.sources]
        if facts != [("files", len(listing.files), sum(file.size for file in listing.files))]:
            return None
        try:
            self._prove(listing, manifest, newest.release, keys)
        except SafeholdError:
            return None  # other files of the same sizes, or a release that lies elsewhere: these are sealed anew
        return newest.release

    def _manifest(self, release: Digest) -> Manifest:
        with self._log.view() as view:
            body = view.payload(release)
        if body is None or sha256_digest(body) != release:
            raise NotFound("assembly.manifest_missing", f"the manifest of {release} is not here", "run safehold fsck")
        return parse_manifest(body)

    def _prove(self, listing: Listing, manifest: Manifest, release: Digest, keys: WrappedKeys) -> None:
        held = sealed_files(
            manifest, keys.unwrap(release, [part.file for part in manifest.parts]), self._parts(manifest, release)
        )
        _same_files(listing, held)

    def _parts(self, manifest: Manifest, release: Digest) -> PartsOf:
        place = self._place
        if place.store is not None:
            stored = expect_stored(load_stored(place.store, str(manifest.version)), release)
            return stored_parts(stored, place.scratch)
        folder = place.place(manifest.dataset, manifest.version)
        expect_release(load_release(folder), release)
        return folder_parts(folder)


def read_listing(body: bytes, digest: Digest) -> Listing:
    """The listing in a payload. Raises ``VerificationFailed`` (``assembly.listing_altered``)."""
    try:
        if sha256_digest(body) == digest:
            return msgspec.convert(decode_canonical(body), resolved(Listing))
    except (msgspec.ValidationError, SafeholdError) as error:
        raise _altered(digest) from error
    raise _altered(digest)


def _altered(digest: Digest) -> VerificationFailed:
    return VerificationFailed(
        "assembly.listing_altered", f"the listing {digest} is not what was recorded", "run safehold fsck"
    )


def _same_files(listing: Listing, held: Iterable[HeldFile]) -> None:
    expected = iter(sorted(listing.files, key=lambda one: one.path))
    for found in held:
        wanted = next(expected, None)
        if wanted is None or (wanted.path, wanted.size, wanted.sha256) != (found.path, found.size, found.sha256):
            raise _not_these(found.path)
    for wanted in expected:
        raise _not_these(wanted.path)


def _not_these(path: str) -> VerificationFailed:
    return VerificationFailed(
        "assembly.not_the_files",
        f"the sealed release does not hold {path[:200]!r} as it was adopted",
        "adopt again and seal again; nothing was removed",
    )
