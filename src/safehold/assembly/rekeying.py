"""The records of a release under new keys: the next release of the dataset, sealed from the sealed one.

A release's identity is its manifest, which commits to its keys. So new keys make a new release, and its entry says that
its records are those of the one before. The order, and why:

1. open the release with its own keys, which never leave this process, and seal its records part by part with fresh keys,
   sharing no file; a killed run goes on where it was (``vault.journal``);
2. wrap and keep the new keys; read them back, open the new parts with them and compare them with the old, bit for bit;
3. publish, as ``delivery`` does; a copy in a store is read back whole;
4. append ``release.sealed`` and ``release.rekeyed`` **in one commit**. Before it nothing is known of the new release; after
   it both can be opened, so nobody who reads the old one is stopped.

``finish`` ends the old release, and is asked for by itself: the new one is verified once more and its keys are held against
its manifest; the old one is retired; its keys are destroyed once no lease on them runs. A crash at any place leaves at
least one release whole: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from safehold.assembly.delivery import (
    DeliveryOrder,
    Place,
    add_countersignature,
    check_holds,
    check_order,
    check_signer,
    sealed_statement,
)
from safehold.assembly.file_delivery import Closing, FileDelivery, FilesKeys
from safehold.assembly.row_tree import row_root
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import View
from safehold.model.errors import Conflict, InputInvalid, NotFound, VerificationFailed
from safehold.model.ids import Digest, HostId, KeyId, Subject
from safehold.model.statements import ReleaseRekeyed, ReleaseStored, Statement
from safehold.state.standing import (
    ReleaseRow,
    erased_at,
    find_rekeyed,
    find_release,
    resolve_release,
)
from safehold.vault.check_files import PartsOf, folder_parts, sealed_files, stored_parts
from safehold.vault.manifest import Manifest, parse_manifest
from safehold.vault.open import OpenedRelease, open_release
from safehold.vault.part_keys import check_key
from safehold.vault.resealed import SealedSource, check_resealed, prove_resealed, whole_parts
from safehold.vault.resealed_files import SealedTree, prove_same_files
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.spool import Spool, check_stored_sizes
from safehold.vault.store import Store
from safehold.vault.stored_release import StoredRelease, expect_stored, publish_folder, verify_stored
from safehold.vault.verify import expect_release, load_release, verify_release
from safehold.vault.watched import Watched

__all__ = ["Progress", "RekeyPlaces", "RekeyPlan", "RekeyWish", "Rekeyed", "Rekeying", "not_rekeyed"]

_SPOOL_BYTES: Final = 256 << 20

Progress = Callable[[str, int, int], None]
"""What is being done (``sealed``, ``compared``), how much of how much: records of a table, bytes of files."""


class RekeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """Which release, why, and the host on which its records are in memory meanwhile (None: not said)."""

    name: str
    reason: str
    host: HostId | None = None


class RekeyPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """Where the old release lies, and the dataset's places in the stores that get the new one.

    ``folder``: whether the home keeps the new release in a folder.
    """

    old: Path | StoredRelease
    stores: tuple[Store, ...]
    folder: bool


class RekeyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rekeying starts from; ``done``: the release that holds the records under new keys already."""

    old: ReleaseRow
    manifest: Manifest
    version: int
    done: ReleaseRow | None


class Rekeyed(msgspec.Struct, frozen=True, kw_only=True):
    """The old release, and the new one with the entry that says what it is; ``earlier``: an earlier run recorded it."""

    old: ReleaseRow
    new: ReleaseRow
    entry: int
    earlier: bool


class Rekeying:
    """Gives releases of one home new keys. ``by`` signs for the entries, ``clock`` gives µs UTC."""

    def __init__(self, log: Log, place: Place, clock: Callable[[], int], by: KeyId) -> None:
        self._log, self._place, self._clock, self._by = log, place, clock, by

    def plan(self, wish: RekeyWish) -> RekeyPlan:
        """Check what can be checked without reading the release. Raises as ``rekey``."""
        with self._log.view() as view:
            old = resolve_release(view, wish.name)
            body = view.payload(old.release)
            if body is None:
                raise NotFound(
                    "assembly.manifest_missing", f"the manifest of {old.name} is not kept here", "run safehold fsck"
                )
            manifest = parse_manifest(body)
            known = find_rekeyed(view, old.release)
            if known is not None:
                return RekeyPlan(old=old, manifest=manifest, version=0, done=find_release(view, known.release))
            version = self._check(view, old, _order(manifest, wish))
        return RekeyPlan(old=old, manifest=manifest, version=version, done=None)

    def _check(self, view: View, old: ReleaseRow, order: DeliveryOrder) -> int:
        """The version that the records get. Raises where the ledger says no."""
        self._check_alive(view, old)
        check_holds(view, [Subject("release", old.release)])
        version, newest, _ = check_order(view, order)
        if newest != old.release:
            raise Conflict(
                "assembly.rekey_not_newest",
                f"{old.name} is not the newest release of {old.dataset}",
                "rekey the newest one, then end older ones: safehold retire, safehold erase",
            )
        return version

    @staticmethod
    def _check_alive(view: View, old: ReleaseRow) -> None:
        """Raise if the old release has ended: there is no way back from that, other than from a hold."""
        erased = erased_at(view, old.release)
        if erased is not None:
            raise Conflict("assembly.erased", f"{old.name} was erased in entry {erased}", "nobody can read it any more")
        now = find_release(view, old.release)
        if now is not None and now.retired is not None:
            raise Conflict(
                "assembly.retired",
                f"{old.name} was retired in entry {now.retired}",
                "no key of it is given out: destroy its keys with safehold erase",
            )

    def rekey(
        self,
        wish: RekeyWish,
        places: RekeyPlaces,
        keys: FilesKeys,
        options: SealOptions,
        progress: Progress | None = None,
    ) -> Rekeyed:
        """Seal the records of the release anew as the next one; one that is there already is only told.

        ``options`` gives cut key and workers. Raises ``NotFound`` (``state.no_release``, ``assembly.keys_missing``),
        ``Conflict`` (``assembly.erased``, ``assembly.retired``, ``assembly.rekey_not_newest``, ``assembly.other_folder``),
        ``Refused`` (``assembly.held``, ``assembly.signer``), ``VerificationFailed`` (``vault.part_altered``,
        ``vault.resealed_differs`` …: the part is named) and what sealing raises; then the old release is as it was.
        """
        plan = self.plan(wish)
        if plan.done is not None:
            return self.known(plan.old)
        with self._log.view() as view:
            check_signer(view, plan.old.party, keys.signer)
        with _opened(places.old, plan, keys) as opened:
            scratch = self._place(plan.old.dataset, plan.version).parent
            work = _Work(wish, plan, places, keys, opened, scratch, progress or _quiet)
            if plan.manifest.chunked:
                self._rekey_files(work)
            else:
                self._rekey_table(work, options)
        return msgspec.structs.replace(self.known(plan.old), earlier=False)

    def known(self, old: ReleaseRow) -> Rekeyed:
        """What is on record of ``old`` under new keys. Raises ``Conflict`` (``assembly.not_rekeyed``)."""
        with self._log.view() as view:
            known = find_rekeyed(view, old.release)
            new = find_release(view, known.release) if known is not None else None
        if known is None or new is None:
            raise not_rekeyed(old)
        return Rekeyed(old=old, new=new, entry=known.idx, earlier=True)

    def _statement(self, view: View, work: _Work, manifest: Manifest, release: Digest) -> ReleaseRekeyed:
        """In the commit: the old release must be what it was when the work began."""
        self._check(view, work.plan.old, _order(work.plan.manifest, work.wish))
        before, count = work.plan.old.release, len(manifest.parts)
        return ReleaseRekeyed(
            t=self._clock(), by=self._by, release=release, before=before, keys=count, reason=work.wish.reason
        )

    # --- tables ----------------------------------------------------------------------------------

    def _rekey_table(self, work: _Work, options: SealOptions) -> None:
        plan, keys = work.plan, work.keys
        folder = self._place(plan.old.dataset, plan.version)
        if folder.is_dir():
            self._check_lying(work, folder)
        else:
            rows = plan.manifest.rows
            source = Watched(SealedSource(work.opened, plan.old.release), work.shown("sealed", rows))
            spec, chosen = self._spec(work), _options(plan.manifest, options, keys)
            with prepare(source, spec, keys.signer, folder, chosen) as prepared:
                keys.parts.store(prepared.release, prepared.keys)
                work.prove_table(prepared.staging, prepared.release)
                with self._log.view() as view:  # what ended meanwhile must not leave a folder that no entry will name
                    self._check_alive(view, plan.old)
                prepared.publish()
        customer = load_release(folder).manifest.customer
        add_countersignature(folder, customer, keys.customer)
        self._record_table(work, folder)

    def _check_lying(self, work: _Work, folder: Path) -> None:
        """An earlier run died between publishing and recording, or somebody's else did: only the first is gone on with."""
        release = verify_release(folder, work.keys.signer.public).release
        try:
            check_resealed(work.plan.manifest, release.manifest, work.plan.old.release)
        except VerificationFailed as error:
            raise Conflict(
                "assembly.other_folder",
                f"{folder} holds a release that no entry names and that was made from other records",
                "seal those again to record it, or move the folder away",
            ) from error
        if work.keys.parts.held(release.digest) < len(release.manifest.parts):
            raise NotFound(
                "assembly.keys_missing",
                f"the keys of the release in {folder} are not kept here",
                "move the folder away, then run the command again",
            )
        work.prove_table(folder, release.digest)

    def _record_table(self, work: _Work, folder: Path) -> None:
        release = load_release(folder)
        stored: list[Statement] = []
        for store in work.places.stores:
            copy = publish_folder(folder, store, self._clock())
            verify_stored(store, copy.version, work.keys.signer.public, expected=release.digest)
            stored.append(_stored(store, copy, self._clock(), self._by))

        def propose(view: View) -> Draft:
            said = self._statement(view, work, release.manifest, release.digest)
            sealed = sealed_statement(release.manifest, release.digest, said.t, self._by)
            return Draft((sealed, said, *stored), (release.envelope.body,))

        self._log.append(propose)

    def _spec(self, work: _Work) -> ReleaseSpec:
        manifest = work.plan.manifest
        with self._log.view() as view:
            _, parent, customer = check_order(view, _order(manifest, work.wish))
        return ReleaseSpec(
            dataset=manifest.dataset,
            version=work.plan.version,
            customer=customer,
            classification=manifest.classification,
            purposes=manifest.purposes,
            people=manifest.people,
            order=manifest.order,
            host=work.wish.host,
            parent=parent,
            groups={group.name: group.columns for group in manifest.groups},
            record_id=manifest.record_id.column,
            sealed_at=self._clock(),
        )

    # --- files -----------------------------------------------------------------------------------

    def _rekey_files(self, work: _Work) -> None:
        plan = work.plan
        if len(work.places.stores) > 1:
            raise InputInvalid(
                "assembly.rekey_stores", "a release of files goes into one store", "name one: --store LOCATION"
            )
        store = next(iter(work.places.stores), None)  # its parts go there as they are finished, and not to the home

        def prove(manifest: Manifest, release: Digest, parts: PartsOf) -> None:
            work.prove_files(manifest, release, parts)
            with self._log.view() as view:
                self._check_alive(view, plan.old)

        closing = Closing(prove, lambda view, manifest, release: (self._statement(view, work, manifest, release),))
        delivery = FileDelivery(self._log, self._place, self._clock, self._by, store, closing)
        with SealedTree(work.opened, plan.old.release) as tree:
            tree.files()
            delivery.deliver(
                tree,
                _order(plan.manifest, work.wish),
                work.keys,
                lambda done, total: work.progress("sealed", done, total),
                tree.part_bytes,
            )


class _Work(msgspec.Struct, frozen=True):
    """One rekeying: what was asked for, from what, to where, with whose keys."""

    wish: RekeyWish
    plan: RekeyPlan
    places: RekeyPlaces
    keys: FilesKeys
    opened: OpenedRelease
    scratch: Path
    progress: Progress

    def shown(self, act: str, total: int) -> Callable[[int], None]:
        return lambda done: self.progress(act, done, total)

    def prove_table(self, folder: Path, release: Digest) -> None:
        """With the keys as the store gives them back: what is compared is what a reader will get."""
        manifest = expect_release(load_release(folder), release).manifest
        check_resealed(self.plan.manifest, manifest, self.plan.old.release)
        mine = self.keys.parts.unwrap(release, [part.file for part in manifest.parts])
        groups = [group.name for group in manifest.groups]
        new = open_release(folder, release, mine, groups, (self.keys.signer.public,))
        prove_resealed(self.opened, new, self.shown("compared", manifest.rows))

    def prove_files(self, manifest: Manifest, release: Digest, parts: PartsOf) -> None:
        """As ``prove_table``, by the SHA-256 of every file."""
        old, place = self.plan.manifest, self.places.old
        check_resealed(old, manifest, self.plan.old.release)
        theirs = self.keys.parts.unwrap(self.plan.old.release, [part.file for part in old.parts])
        mine = self.keys.parts.unwrap(release, [part.file for part in manifest.parts])
        before = stored_parts(place, self.scratch) if isinstance(place, StoredRelease) else folder_parts(place)
        size = sum(source.size for source in old.sources)
        prove_same_files(
            sealed_files(old, theirs, before), sealed_files(manifest, mine, parts), self.shown("compared", size)
        )


@contextmanager
def _opened(place: Path | StoredRelease, plan: RekeyPlan, keys: FilesKeys) -> Iterator[OpenedRelease]:
    """The old release with the keys of all groups, in its folder or read from its store part by part."""
    manifest, release = plan.manifest, plan.old.release
    known = keys.parts.unwrap(release, [part.file for part in manifest.parts])
    groups = [group.name for group in manifest.groups]
    if not isinstance(place, StoredRelease):
        yield open_release(place, release, known, groups)
        return
    expect_stored(place, release)
    checked = {part.file: check_key(known[part.file], part.aad, part.commitment, part.file) for part in manifest.parts}
    check_stored_sizes(place, manifest.parts)
    spool = Spool(place, limit=_SPOOL_BYTES)
    try:
        yield OpenedRelease(spool.folder, manifest, checked, groups, spool)
    finally:
        spool.close()


def _order(manifest: Manifest, wish: RekeyWish) -> DeliveryOrder:
    return DeliveryOrder(
        dataset=manifest.dataset,
        host=wish.host,
        classification=manifest.classification,
        purposes=manifest.purposes,
        people=manifest.people,
        order=manifest.order,
        again=True,
        keep="nothing",
    )


def _options(manifest: Manifest, options: SealOptions, keys: FilesKeys) -> SealOptions:
    """Written as the old release was: level, part ends, digests of records; nothing is kept of it."""
    level = manifest.compression.partition(":")[2]
    return msgspec.structs.replace(
        options,
        level=int(level) if level.isdecimal() else options.level,
        part_rows=manifest.part_rows or None,
        parts_as=whole_parts(manifest),
        parent=None,
        wrap=keys.parts.kek,
        row_tree=row_root if any(part.rows_root is not None for part in manifest.parts) else None,
    )


def _stored(store: Store, copy: StoredRelease, t: int, by: KeyId) -> ReleaseStored:
    return ReleaseStored(t=t, by=by, release=copy.digest, location=copy.location, endpoint=store.endpoint)


def not_rekeyed(old: ReleaseRow) -> Conflict:
    """The error for a release that has no successor under new keys."""
    return Conflict(
        "assembly.not_rekeyed",
        f"no release holds the records of {old.name} under new keys",
        f"make one first: safehold rekey --release {old.name} --reason WHY",
    )


def _quiet(_act: str, _done: int, _total: int) -> None:
    """Nobody watches."""
