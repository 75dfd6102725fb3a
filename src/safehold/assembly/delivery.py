"""Delivering a file as a release: seal, keep the keys, publish, record. In this order, and why.

1. seal into a staging folder (``vault.seal``): a crash leaves nothing but what the next run removes;
2. wrap the part keys and keep them, durably: keys of a release that never comes are harmless;
3. publish the folder by renaming it, then let the customer countersign it where its key is at hand, then publish it in the
   store where one is given (``vault.stored_release``: one conditional write);
4. append ``release.sealed`` with the manifest as payload (and ``release.stored``): **the commit point**. Before it no grant can open the
   release, since the broker knows releases by the ledger alone.

A crash between 3 and 4 leaves a whole folder without an entry. ``deliver`` finds it there, checks that it was made
from the same input and that its keys are kept, and does what is missing: so the same command can simply be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from safehold.ledger.keys import SigningKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, NotFound, Refused
from safehold.model.ids import DatasetId, Digest, HostId, KeyId, PartyId, Purpose, Subject, party_of
from safehold.model.statements import ReleaseSealed, ReleaseStored, Statement, SubjectCount
from safehold.state.standing import (
    ReleaseRow,
    active_holds,
    find_host,
    find_party_key,
    list_releases,
)
from safehold.vault.groups import plan_groups
from safehold.vault.manifest import Manifest, parse_manifest, walk_fields
from safehold.vault.open import open_release
from safehold.vault.reuse import Parent
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.sources import Source
from safehold.vault.store import Store
from safehold.vault.stored_release import publish_folder
from safehold.vault.verify import countersign, expect_release, load_release, verify_release
from safehold.vault.wrapped import WrappedKeys

__all__ = [
    "CustomerKey",
    "Delivered",
    "Delivery",
    "DeliveryOrder",
    "Place",
    "Plan",
    "add_countersignature",
    "check_holds",
    "check_order",
    "check_signer",
    "sealed_statement",
]


class DeliveryOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to make of a file; ``version`` None takes the next one, ``groups`` None puts all columns into one.

    ``keep``: what may stay of the release before. ``runs``: parts and stretches of them (records that are gone stay in
    their files, encrypted, and belong to the release no more); ``parts``: parts that are wholly the same; ``nothing``.
    """

    dataset: DatasetId
    version: int | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    host: HostId | None = None
    classification: str = "confidential"
    purposes: tuple[Purpose, ...] = ()
    people: tuple[SubjectCount, ...] = ()
    order: str | None = None
    record_id: str | None = None
    again: bool = False
    keep: Literal["runs", "parts", "nothing"] = "runs"


class Plan(msgspec.Struct, frozen=True):
    """What a delivery would make: nothing was written. ``as_json``: columns whose values have no one type."""

    dataset: DatasetId
    version: int
    parent: Digest | None
    columns: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    size_hint: int
    rows: int | None
    as_json: tuple[str, ...]


class Delivered(msgspec.Struct, frozen=True):
    """A release that is sealed and recorded; ``resumed`` if an earlier run had sealed it.

    ``countersigned``: the customer's signature is on it too. ``fresh``: bytes sealed for it; the rest it shares with its parent.
    """

    manifest: Manifest
    release: Digest
    folder: Path
    entry: Entry
    resumed: bool
    countersigned: bool
    fresh: int


class Place(Protocol):
    """Where releases lie."""

    def __call__(self, dataset: DatasetId, version: int) -> Path:
        """The folder of a release."""
        ...


CustomerKey = Callable[[PartyId], SigningKey | None]
"""The signing key of the customer, or None where it is not at hand."""


class Delivery:
    """Delivers files into one home, and into ``store`` if one is given: a dataset's own place, probed.

    ``by`` signs for the entries, ``clock`` gives µs UTC.
    """

    def __init__(self, log: Log, place: Place, clock: Callable[[], int], by: KeyId, store: Store | None = None) -> None:
        self._store = store
        self._log = log
        self._place = place
        self._clock = clock
        self._by = by

    def plan(self, source: Source, order: DeliveryOrder) -> Plan:
        """Check everything that can be checked without sealing. Raises as ``deliver``."""
        with self._log.view() as view:
            version, parent, _ = check_order(view, order)
        groups = plan_groups([column.name for column in source.columns], order.groups)
        return Plan(
            order.dataset,
            version,
            parent,
            tuple((column.name, column.type) for column in source.columns),
            tuple((group.name, group.columns) for group in groups),
            source.size_hint,
            source.rows,
            tuple(column.name for column in source.columns if any(one.json for one, _ in walk_fields((column,)))),
        )

    def deliver(
        self,
        source: Source,
        order: DeliveryOrder,
        keys: WrappedKeys,
        signer: SigningKey,
        options: SealOptions | None = None,
        customer_key: CustomerKey | None = None,
    ) -> Delivered:
        """Seal ``source`` as the next release; ``customer_key`` finds the key that countersigns, where it is at hand.

        Raises ``NotFound`` (``assembly.no_dataset``, ``assembly.no_host``), ``Refused`` (``assembly.held``,
        ``assembly.signer``), ``Conflict`` (``assembly.version``, ``assembly.same_input``, ``assembly.other_folder``)
        and what sealing raises.
        """
        with self._log.view() as view:
            version, parent, customer = check_order(view, order)
            check_signer(view, party_of(order.dataset), signer)
        self._refuse_same(source, parent, order)
        folder = self._place(order.dataset, version)
        if folder.is_dir():
            return self._resume(folder, source, order, keys, signer, customer_key)
        spec = ReleaseSpec(
            dataset=order.dataset,
            version=version,
            customer=customer,
            classification=order.classification,
            purposes=order.purposes,
            people=order.people,
            order=order.order,
            host=order.host,
            parent=parent,
            groups=order.groups,
            record_id=order.record_id,
            sealed_at=self._clock(),
        )
        chosen = options if options is not None else SealOptions()
        if chosen.wrap is None:
            chosen = msgspec.structs.replace(chosen, wrap=keys.kek)
        if chosen.parent is None and parent is not None and order.keep != "nothing":
            chosen = msgspec.structs.replace(chosen, parent=self._parent(parent, order, version - 1, keys))
        with prepare(source, spec, signer, folder, chosen) as prepared:  # 1
            keys.store(prepared.release, prepared.keys)  # 2
            prepared.publish()  # 3
            signed = add_countersignature(folder, customer, customer_key)
            recorded = self._record(folder, order, resumed=False, countersigned=signed)  # 4
            return msgspec.structs.replace(recorded, fresh=prepared.fresh)

    def _parent(self, digest: Digest, order: DeliveryOrder, version: int, keys: WrappedKeys) -> Parent | None:
        """The release before, opened to see what stays; None where its files or keys are not at hand.

        No key leaves this process: it has the new records, and compares the old ones with them.
        """
        folder = self._place(order.dataset, version)
        if not folder.is_dir():
            return None
        manifest = expect_release(load_release(folder), digest).manifest
        try:
            opened_by = keys.unwrap(digest, [part.file for part in manifest.parts])
        except NotFound:  # erased, or sealed in another home
            return None
        if manifest.numbered:
            return None
        groups = [group.name for group in manifest.groups]
        return Parent(open_release(folder, digest, opened_by, groups), opened_by, deltas=order.keep == "runs")

    def _refuse_same(self, source: Source, parent: Digest | None, order: DeliveryOrder) -> None:
        """The same input again is most often a command run twice, not a wish for two equal releases."""
        if order.again or parent is None or source.identity is None:
            return
        with self._log.view() as view:
            body = view.payload(parent)
        if body is not None:
            before = parse_manifest(body)
            if " ".join(one.sha256 for one in before.sources) == source.identity:
                raise Conflict(
                    "assembly.same_input",
                    f"{order.dataset}@{before.version} was sealed from this very file",
                    "use that release, or give --again to seal it once more",
                )

    def _resume(
        self,
        folder: Path,
        source: Source,
        order: DeliveryOrder,
        keys: WrappedKeys,
        signer: SigningKey,
        customer_key: CustomerKey | None,
    ) -> Delivered:
        """An earlier run died between publishing and recording: finish it, if it is the same delivery."""
        release = load_release(folder)
        for _ in source.batches():  # to its end: the source then knows its digest
            pass
        same = [one.sha256 for one in release.manifest.sources] == [one.sha256 for one in source.files()]
        if not same or release.manifest.dataset != order.dataset:
            raise Conflict(
                "assembly.other_folder",
                f"{folder} holds a release that no entry names and that was made from another file",
                "seal that file again to record it, or move the folder away",
            )
        verify_release(folder, signer.public)
        if keys.held(release.digest) < len(release.manifest.parts):
            raise NotFound(
                "assembly.keys_missing",
                f"the keys of the release in {folder} are not kept here",
                "move the folder away, seal again",
            )
        signed = add_countersignature(folder, release.manifest.customer, customer_key)
        return self._record(folder, order, resumed=True, countersigned=signed)

    def _record(self, folder: Path, order: DeliveryOrder, *, resumed: bool, countersigned: bool) -> Delivered:
        release = load_release(folder)
        manifest = release.manifest
        stored: list[Statement] = []
        if self._store is not None:
            where = publish_folder(folder, self._store, self._clock()).location
            copy = ReleaseStored(
                t=self._clock(), by=self._by, release=release.digest, location=where, endpoint=self._store.endpoint
            )
            stored.append(copy)

        def propose(view: View) -> Draft:
            version, _, _ = check_order(view, msgspec.structs.replace(order, version=manifest.version))
            statement = sealed_statement(
                msgspec.structs.replace(manifest, version=version), release.digest, self._clock(), self._by
            )
            return Draft((statement, *stored), (release.envelope.body,))

        entry = self._log.append(propose)[0]
        return Delivered(manifest, release.digest, folder, entry, resumed, countersigned, 0)


def add_countersignature(folder: Path, customer: PartyId, customer_key: CustomerKey | None) -> bool:
    """Add the customer's signature: the lab's word that this is what it took in. Before the entry, so that a run
    that dies here finds the folder without one and comes by again. Signing twice changes nothing.
    """
    key = customer_key(customer) if customer_key is not None else None
    if key is None:
        return False
    countersign(folder, key)
    return True


def sealed_statement(manifest: Manifest, release: Digest, t: int, by: KeyId) -> ReleaseSealed:
    """What the ledger says of a release that was sealed."""
    return ReleaseSealed(
        t=t,
        by=by,
        release=release,
        dataset=manifest.dataset,
        version=manifest.version,
        party=manifest.party,
        host=manifest.host,
        parent=manifest.parent,
        rows=manifest.rows,
        size=manifest.size,
        parts=len({part.part for part in manifest.parts}),
        groups=tuple(group.name for group in manifest.groups),
        classification=manifest.classification,
        purposes=manifest.purposes,
        people=manifest.people,
    )


def check_order(view: View, order: DeliveryOrder) -> tuple[int, Digest | None, PartyId]:
    """The version to make, its parent, the customer.

    Raises where the ledger says no: ``assembly.no_dataset``, ``assembly.no_host``, ``assembly.held``, ``assembly.version``.
    """
    rows = view.rows("SELECT customer FROM dataset WHERE dataset = ?", order.dataset)
    if not rows:
        raise NotFound(
            "assembly.no_dataset", f"{order.dataset} is not registered", "register it first: safehold dataset add"
        )
    if order.host is not None and find_host(view, order.host) is None:
        raise NotFound("assembly.no_host", f"{order.host} is not registered", "register it first: safehold host add")
    subjects = [Subject("dataset", order.dataset), Subject("party", party_of(order.dataset))]
    if order.host is not None:
        subjects.append(Subject("host", order.host))
    check_holds(view, subjects)
    releases: tuple[ReleaseRow, ...] = list_releases(view, order.dataset)
    newest = max(releases, key=lambda one: one.version, default=None)
    following = newest.version + 1 if newest else 1
    if order.version is not None and order.version != following:
        raise Conflict(
            "assembly.version",
            f"the next release of {order.dataset} is version {following}, not {order.version}",
            "it was sealed by someone else just now: look at it, then run the command again",
        )
    return following, newest.release if newest else None, PartyId(rows[0][0])


def check_holds(view: View, subjects: Iterable[Subject]) -> None:
    """Raise ``Refused`` (``assembly.held``) if one of ``subjects`` is suspended."""
    for hold in active_holds(view, subjects):
        raise Refused(
            "assembly.held",
            f"{hold.subject} is suspended since entry {hold.placed_idx}: {hold.reason}",
            "nothing is taken in until the lab lifts the hold",
        )


def check_signer(view: View, party: PartyId, signer: SigningKey) -> None:
    """Raise ``Refused`` (``assembly.signer``) unless ``signer`` is the key that the party was registered with."""
    if find_party_key(view, party) != signer.public.line:
        raise Refused(
            "assembly.signer",
            f"{signer.key_id} is not the key that {party} was registered with",
            "sign with the party's own key: --key FILE",
        )
