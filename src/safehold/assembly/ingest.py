"""Taking in a release that a supplier sealed elsewhere: verify everything, countersign, record.

The lab's second signature on the manifest is its word that this is what it took in: who holds the folder then sees both,
the maker's and the taker's. It changes neither payload nor identity. The order: verify (nothing of ours stands on what
does not hold), copy into the home and countersign there, then the entry. A crash before the entry leaves a folder without
one; the same command goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, NotFound, Refused, StorageFailed
from safehold.model.ids import Digest, KeyId, Subject
from safehold.model.statements import ReleaseSealed
from safehold.state.standing import active_holds, find_host, find_party_key, find_release, list_releases
from safehold.vault.disk import sync_folder
from safehold.vault.manifest import Manifest
from safehold.vault.verify import countersign, load_release, verify_release

__all__ = ["Ingest", "TakenIn"]


class TakenIn(msgspec.Struct, frozen=True):
    """A release that was taken in; ``entry`` None: it stood in the ledger already. ``signers``: maker, then taker."""

    manifest: Manifest
    release: Digest
    folder: Path
    signers: tuple[str, ...]
    entry: Entry | None


class Ingest:
    """Takes releases into one home. ``place`` says where a release lies there; ``clock`` gives µs UTC."""

    def __init__(self, log: Log, place: Callable[[Manifest], Path], clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._place = place
        self._clock = clock
        self._by = by

    def take_in(self, folder: Path, key: SigningKey) -> TakenIn:
        """Verify the release in ``folder`` and sign it with ``key``, the customer's.

        Raises what ``verify_release`` raises; ``NotFound`` (``assembly.no_dataset``), ``Refused`` (``assembly.held``,
        ``assembly.signer``), ``Conflict`` (``assembly.version``, ``assembly.other_release``) or ``StorageFailed``.
        """
        said = load_release(folder).manifest
        with self._log.view() as view:
            supplier = _check(view, said, key)
        report = verify_release(folder, supplier)
        manifest, release = report.release.manifest, report.release.digest
        place = self._place(manifest)
        if folder.resolve() != place.resolve():
            _copy(folder, place, release)
        countersign(place, key)
        signers = verify_release(place, supplier, [key.public], release).signers
        with self._log.view() as view:
            known = find_release(view, release) is not None
        entry = None if known else self._record(place)
        return TakenIn(manifest, release, place, signers, entry)

    def _record(self, place: Path) -> Entry:
        release = load_release(place)
        manifest = release.manifest

        def propose(view: View) -> Draft:
            versions = [one.version for one in list_releases(view, manifest.dataset)]
            if manifest.version != max(versions, default=0) + 1:
                raise Conflict(
                    "assembly.version",
                    f"the next release of {manifest.dataset} is version {max(versions, default=0) + 1},"
                    f" not {manifest.version}",
                    "take in the releases before it first; a version is taken in once",
                )
            statement = ReleaseSealed(
                t=self._clock(),
                by=self._by,
                release=release.digest,
                dataset=manifest.dataset,
                version=manifest.version,
                party=manifest.party,
                host=manifest.host if manifest.host is not None and find_host(view, manifest.host) else None,
                parent=manifest.parent,
                rows=manifest.rows,
                size=manifest.size,
                parts=len({part.part for part in manifest.parts}),
                groups=tuple(group.name for group in manifest.groups),
                classification=manifest.classification,
                purposes=manifest.purposes,
                people=manifest.people,
            )
            return Draft((statement,), (release.envelope.body,))

        return self._log.append(propose)[0]


def _check(view: View, manifest: Manifest, key: SigningKey) -> PublicKey:
    """The supplier's key, if the ledger says that this release may come in and that ``key`` is its customer's."""
    rows = view.rows("SELECT customer FROM dataset WHERE dataset = ?", manifest.dataset)
    line = find_party_key(view, manifest.party)
    if not rows or line is None or rows[0][0] != manifest.customer:
        raise NotFound(
            "assembly.no_dataset",
            f"{manifest.dataset} is not registered here for {manifest.customer}",
            "register the party and the dataset first: safehold party add, safehold dataset add",
        )
    if find_party_key(view, manifest.customer) != key.public.line:
        raise Refused(
            "assembly.signer",
            f"{key.key_id} is not the key that {manifest.customer} was registered with",
            "countersign with the customer's own key: --key FILE",
        )
    for hold in active_holds(view, [Subject("dataset", manifest.dataset), Subject("party", manifest.party)]):
        raise Refused(
            "assembly.held",
            f"{hold.subject} is suspended since entry {hold.placed_idx}: {hold.reason}",
            "nothing is taken in until the lab lifts the hold",
        )
    return PublicKey.parse(line)


def _copy(folder: Path, place: Path, release: Digest) -> None:
    """Copy a verified release to its place: whole, or not at all."""
    if place.is_dir():
        if load_release(place).digest != release:
            raise Conflict(
                "assembly.other_release",
                f"another release lies in {place}",
                "a release never changes: ask the supplier",
            )
        return
    staging = place.with_name(f".taking-in-{place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(folder, staging)
        for path in staging.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(staging)
        os.rename(staging, place)
        sync_folder(place.parent)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise StorageFailed(
            "assembly.copy", f"the release was not copied to {place}: {error.strerror}", "free some space, run it again"
        ) from error
