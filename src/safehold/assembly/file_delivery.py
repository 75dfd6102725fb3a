"""Delivering a tree of files as a release: the order of writes of ``delivery``, part by part and gone on with.

Parts go to their place as they are finished: into the release's folder of the home, or into a store, where the home then
holds one part at a time. A run that died is gone on with at the part it broke (``vault.seal_files``). Then, as for tables:
keys kept, manifest published, countersigned where the customer's key is at hand, ``release.sealed`` appended.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from safehold.assembly.delivery import (
    CustomerKey,
    DeliveryOrder,
    Place,
    check_order,
    check_signer,
    sealed_statement,
)
from safehold.ledger.keys import SigningKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, NotFound
from safehold.model.ids import Digest, KeyId, PartyId, party_of
from safehold.model.statements import ReleaseStored, Statement
from safehold.vault.check_files import PartsOf, folder_parts, stored_parts
from safehold.vault.disk import storage_failed
from safehold.vault.envelope import Envelope
from safehold.vault.file_tree import FileTree
from safehold.vault.manifest import Manifest, PartFile, parse_manifest, release_digest
from safehold.vault.seal import ReleaseSpec
from safehold.vault.seal_files import FileSeal, publish_staging
from safehold.vault.store import Store
from safehold.vault.stored_release import (
    StoredRelease,
    countersign_stored,
    has_part,
    load_stored,
    publish_manifest,
    put_part,
)
from safehold.vault.verify import check_part, countersign, load_release
from safehold.vault.wrapped import WrappedKeys

__all__ = ["Closing", "FileDelivery", "FilePlan", "FilesDelivered", "FilesKeys"]

_PART_BYTES: Final = 64 << 20


class FilePlan(msgspec.Struct, frozen=True):
    """What a delivery would make: nothing was written."""

    version: int
    parent: Digest | None
    files: int
    size: int


class FilesKeys(msgspec.Struct, frozen=True):
    """Who signs, and where keys are kept."""

    parts: WrappedKeys
    signer: SigningKey
    customer: CustomerKey | None = None


class FilesDelivered(msgspec.Struct, frozen=True):
    """A release of files that is sealed and recorded; ``kept`` parts were of an earlier run, ``where`` it lies."""

    manifest: Manifest
    release: Digest
    where: str
    entry: Entry
    kept: int
    countersigned: bool


class Closing(msgspec.Struct, frozen=True):
    """What more a delivery does: ``prove`` raises unless the sealed parts are what they must be, before they are published;
    ``say`` gives statements for the commit of the entry, or raises.
    """

    prove: Callable[[Manifest, Digest, PartsOf], None]
    say: Callable[[View, Manifest, Digest], tuple[Statement, ...]]


class _Published(msgspec.Struct, frozen=True):
    where: str
    envelope: Envelope
    countersigned: bool


class FileDelivery:
    """Delivers trees of files into one home, or into ``store`` if one is given: a dataset's own place, probed."""

    def __init__(
        self, log: Log, place: Place, clock: Callable[[], int], by: KeyId, store: Store | None = None,
        closing: Closing | None = None,
    ) -> None:  # fmt: skip
        self._log, self._place, self._clock, self._by, self._store = log, place, clock, by, store
        self._closing = closing

    def plan(self, tree: FileTree, order: DeliveryOrder) -> FilePlan:
        """Check what can be checked without sealing. Raises as ``deliver``."""
        with self._log.view() as view:
            version, parent, _ = check_order(view, order)
        files = tree.files()
        return FilePlan(version, parent, len(files), sum(file.size for file in files))

    def deliver(
        self,
        tree: FileTree,
        order: DeliveryOrder,
        keys: FilesKeys,
        progress: Callable[[int, int], None] | None = None,
        part_bytes: int = _PART_BYTES,
    ) -> FilesDelivered:
        """Seal ``tree`` as the next release. ``progress`` gets bytes done and in all.

        Raises as ``Delivery.deliver``, and ``Conflict`` (``vault.busy``).
        """
        with self._log.view() as view:
            version, parent, customer = check_order(view, order)
            check_signer(view, party_of(order.dataset), keys.signer)
        folder = self._place(order.dataset, version)
        seal = FileSeal(
            tree,
            _spec(order, version, parent, customer),
            folder.with_name(f".sealing-{folder.name}"),
            keys.parts.kek,
            part_bytes,
        )
        try:
            there = self._lying(folder, version, seal.published_before())
            kept = 0
            if there is None:
                kept = seal.resume(self._held)
                sealed = seal.seal(keys.signer, self._keep, progress)  # 1
                self._refuse_same(sealed.manifest, order, seal)
                keys.parts.store(sealed.release, sealed.keys)  # 2
                self._prove(sealed.manifest, sealed.envelope, seal.staging)
                if self._store is None:
                    publish_staging(seal, sealed, folder)  # 3
                else:
                    publish_manifest(self._store, sealed.envelope)
            else:
                self._prove_published(folder, version)
            published = self._countersigned(folder, version, customer, keys)
            delivered = self._record(published, order, kept, keys)  # 4
            seal.finished()
        finally:
            seal.release_lock()
        return delivered

    def _prove_published(self, folder: Path, version: int) -> None:
        if self._store is None:
            lying = load_release(folder)
            self._prove(lying.manifest, lying.envelope, folder)
        else:
            stored = load_stored(self._store, str(version))
            self._prove(stored.manifest, stored.envelope, folder)

    def _prove(self, manifest: Manifest, envelope: Envelope, folder: Path) -> None:
        """Before an entry speaks of it; its parts lie in ``folder``, or in the store."""
        if self._closing is None:
            return
        release = release_digest(envelope.body)
        parts = folder_parts(folder)
        if self._store is not None:
            stored = StoredRelease(self._store, str(manifest.version), release, manifest, envelope, "")
            parts = stored_parts(stored, folder.parent)
        self._closing.prove(manifest, release, parts)

    def _held(self, path: Path, part: PartFile) -> None:
        if self._store is None:
            check_part(path.parent, part)
        else:
            has_part(self._store, part)

    def _keep(self, path: Path, part: PartFile) -> None:
        """A part in a store needs no room here any more."""
        if self._store is not None:
            put_part(self._store, path, part)
            try:
                path.unlink()
            except OSError as error:
                raise storage_failed(error, str(path)) from error

    def _lying(self, folder: Path, version: int, before: Digest | None) -> Digest | None:
        """The release that lies in its place already, if an earlier run of this very delivery put it there."""
        if self._store is not None:
            try:
                found, where = load_stored(self._store, str(version)).digest, self._store.location.url
            except NotFound:
                return None
        elif folder.is_dir():
            found, where = load_release(folder).digest, str(folder)
        else:
            return None
        if found != before:
            raise Conflict(
                "assembly.other_folder",
                f"{where} holds a release {version} that no entry names and that was made from other files",
                "seal those files again to record it, or move it away",
            )
        return found

    def _refuse_same(self, manifest: Manifest, order: DeliveryOrder, seal: FileSeal) -> None:
        """See ``Delivery``: the same files again are most often a command run twice."""
        if order.again or manifest.parent is None:
            return
        with self._log.view() as view:
            body = view.payload(manifest.parent)
        if body is not None and [one.sha256 for one in parse_manifest(body).sources] == [
            one.sha256 for one in manifest.sources
        ]:
            seal.finished()
            raise Conflict(
                "assembly.same_input",
                f"the newest release of {order.dataset} was sealed from these very files",
                "use that release, or give --again to seal them once more",
            )

    def _countersigned(self, folder: Path, version: int, customer: PartyId, keys: FilesKeys) -> _Published:
        key = keys.customer(customer) if keys.customer is not None else None
        if self._store is not None:
            stored = load_stored(self._store, str(version))
            if key is not None:
                stored = countersign_stored(self._store, str(version), key)
            return _Published(stored.location, stored.envelope, key is not None)
        release = countersign(folder, key) if key is not None else load_release(folder)
        return _Published(str(folder), release.envelope, key is not None)

    def _record(self, published: _Published, order: DeliveryOrder, kept: int, keys: FilesKeys) -> FilesDelivered:
        body = published.envelope.body
        manifest = parse_manifest(body)
        release = release_digest(body)
        if keys.parts.held(release) < len(manifest.parts):
            raise NotFound(
                "assembly.keys_missing", f"the keys of {published.where} are not kept here", "move it away, seal again"
            )

        def propose(view: View) -> Draft:
            check_order(view, msgspec.structs.replace(order, version=manifest.version))
            now = self._clock()
            said: list[Statement] = [sealed_statement(manifest, release, now, self._by)]
            if self._store is not None:
                endpoint = self._store.endpoint
                said.append(
                    ReleaseStored(t=now, by=self._by, release=release, location=published.where, endpoint=endpoint)
                )
            if self._closing is not None:
                said.extend(self._closing.say(view, manifest, release))
            return Draft(tuple(said), (body,))

        entry = self._log.append(propose)[0]
        return FilesDelivered(manifest, release, published.where, entry, kept, published.countersigned)


def _spec(order: DeliveryOrder, version: int, parent: Digest | None, customer: PartyId) -> ReleaseSpec:
    return ReleaseSpec(
        dataset=order.dataset,
        version=version,
        customer=customer,
        classification=order.classification,
        purposes=order.purposes,
        people=order.people,
        order=order.order,
        host=order.host,
        parent=parent,
    )
