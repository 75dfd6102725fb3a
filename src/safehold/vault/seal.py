"""Seal a release: from a source to a published folder, in steps that a crash cannot leave half done.

The write order. The vault does steps 1-4 in ``prepare`` and step 6 in ``Prepared.publish``; 5 and 7 are the
caller's, who owns the key store and the ledger.

1. Take the lock beside the final folder; remove what a killed sealer left in the staging folder.
2. Write each part file into the staging folder, encrypted from the first byte; hash it, fsync it.
3. Write the sidecars and the signed manifest, which names their digests; fsync it and the staging folder.
4. Return ``Prepared``: the digest and the part keys, which exist in memory alone.
5. *(caller)* Wrap the keys and store them durably under the release's digest.
6. **Publish: rename the staging folder to its final name.** This is the commit point of the folder.
   fsync its parent, give the lock back.
7. *(caller)* Append the release to the ledger: the commit point of the release as a fact.

What a crash means: in 1-4, nothing was published and no key is anywhere; the next run removes the staging
folder. After 5, the key store holds wrapped keys for a digest that was never published: harmless, and
``KeyStore.releases`` finds them. After 6, a whole release lies in its place without an entry:
``verify.load_release`` reads it, and the seal command appends what is missing. Nobody is given a key before 7.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa

from safehold.model.errors import Conflict, InputInvalid, StorageFailed
from safehold.model.ids import DatasetId, Digest, HostId, PartyId, Purpose, party_of
from safehold.model.statements import SubjectCount
from safehold.vault.cut import CutRule
from safehold.vault.disk import FolderLock, storage_failed, sync_folder, write_new
from safehold.vault.envelope import Signer, sign
from safehold.vault.groups import plan_groups
from safehold.vault.input_file import Source
from safehold.vault.manifest import MANIFEST_FILE, Manifest, RecordId, manifest_bytes, release_digest
from safehold.vault.parts import PartPlan, PartWriters
from safehold.vault.sidecars import bound, make_sidecars

__all__ = ["Prepared", "ReleaseSpec", "SealOptions", "prepare"]


class ReleaseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a release is and belongs to; ids are parsed already.

    ``groups`` None puts all columns into one group, ``data``. ``record_id`` names the column whose value tells where
    a part ends; None takes the shape of the whole record. ``sealed_at`` (µs UTC) is for the sidecars.
    """

    dataset: DatasetId
    version: int
    customer: PartyId
    classification: str
    purposes: tuple[Purpose, ...]
    people: tuple[SubjectCount, ...] = ()
    order: str | None = None
    host: HostId | None = None
    parent: Digest | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    record_id: str | None = None
    sealed_at: int | None = None


class SealOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to write it: zstd level, bytes in memory that a part should have, rows a row group.

    ``part_rows`` fixes about how many records a part gets. ``cut_key`` (16-64 bytes) is the dataset's secret for
    cutting; None draws a fresh one, and then the next release is cut anew. ``workers``: parts written at once.
    """

    level: int = 3
    part_bytes: int = 64 * 1024 * 1024
    group_rows: int = 16_384
    part_rows: int | None = None
    cut_key: bytes | None = None
    workers: int = 1


class Prepared:
    """A sealed release in its staging folder: publish it, or leave the ``with`` block and it is gone."""

    def __init__(self, folder: Path, manifest: Manifest, keys: Mapping[str, bytes], work: _Work) -> None:
        self.folder = folder
        self.manifest = manifest
        self.release = work.digest
        self.keys = keys
        self._work = work

    def publish(self) -> Path:
        """Step 6: give the folder its final name, durably, and return it.

        Raises ``Conflict`` (``vault.release_exists``) or ``StorageFailed``; then nothing was published, except
        for ``vault.publish_unsure``: the folder is in its place, but a power cut may yet undo that.
        """
        self._work.publish(self.folder)
        return self.folder

    def discard(self) -> None:
        """Remove the staging folder and give the lock back; after ``publish`` it does nothing."""
        self._work.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class _Work:
    """The staging folder and its lock."""

    def __init__(self, folder: Path) -> None:
        """Step 1."""
        self.digest = Digest("")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder.with_name(f".sealing-{folder.name}.lock"), str(folder))
            self.staging = folder.with_name(f".sealing-{folder.name}")
            try:
                _refuse_existing(folder)
                # The lock is ours, so no living sealer owns what may lie here.
                _remove(self.staging)
                self.staging.mkdir(mode=0o700)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise storage_failed(error, str(folder)) from error

    def publish(self, folder: Path) -> None:
        """Step 6."""
        if not self.staging.is_dir():
            raise StorageFailed("vault.staging_gone", f"{self.staging} is gone: nothing was published", "seal it again")
        _refuse_existing(folder)
        try:
            # The commit point. Before it there is no release here; after it there is a whole one.
            os.rename(self.staging, folder)
        except OSError as error:
            raise storage_failed(error, str(folder)) from error
        try:
            sync_folder(folder.parent)
        except OSError as error:
            raise StorageFailed(
                "vault.publish_unsure",
                f"{folder} is in place, but the disk did not confirm it: {error.strerror}",
                "run it again: it goes on from what is there",
            ) from error
        self._lock.release()

    def end(self) -> None:
        """Remove what was not published."""
        _remove(self.staging)
        self._lock.release()


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        raise Conflict(
            "vault.release_exists", f"{folder} exists already", "a release never changes: seal the next version"
        )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def prepare(
    source: Source, spec: ReleaseSpec, signer: Signer, folder: Path, options: SealOptions | None = None
) -> Prepared:
    """Steps 1-4: seal ``source`` into a staging folder beside ``folder``.

    Raises ``Conflict`` (``vault.release_exists``, ``vault.busy``), ``InputInvalid`` (from the source, the groups
    or the manifest) or ``StorageFailed`` (``vault.disk_full`` …); in each case the staging folder is gone.
    """
    chosen = options if options is not None else SealOptions()
    _check_options(source, spec, chosen)
    work = _Work(folder)
    try:
        batches = iter(source.batches())
        head = list(islice(batches, 1))
        plan = _plan(source, spec, chosen, head)
        laid = PartWriters(work.staging, plan).write(chain(head, batches))
        manifest = Manifest(
            dataset=spec.dataset,
            version=spec.version,
            party=plan.party,
            customer=spec.customer,
            order=spec.order,
            host=spec.host,
            parent=spec.parent,
            classification=spec.classification,
            purposes=spec.purposes,
            people=spec.people,
            sources=source.files(),
            columns=source.columns,
            groups=plan.groups,
            record_id=plan.cut.record_id,
            compression=f"zstd:{plan.level}",
            rows=laid.rows,
            part_rows=plan.cut.rows,
            parts=laid.files,
            runs=laid.runs,
            sidecars=(),
        )
        manifest = _with_sidecars(work.staging, manifest, spec.sealed_at)
        body = manifest_bytes(manifest)
        write_new(work.staging / MANIFEST_FILE, sign(body, signer).encode())
        sync_folder(work.staging)
        work.digest = release_digest(body)
        return Prepared(folder, manifest, laid.keys, work)
    except OSError as error:
        work.end()
        raise storage_failed(error, str(folder)) from error
    except BaseException:
        work.end()
        raise


def _with_sidecars(folder: Path, manifest: Manifest, sealed_at: int | None) -> Manifest:
    """Write the sidecars into the staging folder; the manifest names their digests, and its signature covers them."""
    files = make_sidecars(manifest, sealed_at)
    for name, data in files.items():
        write_new(folder / name, data)
    return msgspec.structs.replace(manifest, sidecars=bound(files))


def _check_options(source: Source, spec: ReleaseSpec, options: SealOptions) -> None:
    names = [column.name for column in source.columns]
    if spec.record_id is not None and spec.record_id not in names:
        raise InputInvalid(
            "vault.record_id_column",
            f"the input has no column {spec.record_id!r} to take the record id from",
            f"its columns are: {', '.join(names[:12])}",
        )
    sizes = (options.group_rows, options.part_bytes, options.workers, options.part_rows or 1)
    if not 1 <= options.level <= 19 or min(sizes) < 1 or options.part_rows == 0:
        raise InputInvalid("vault.seal_options", "level is 1 to 19; rows, bytes and workers are at least 1")
    if options.cut_key is not None and not 16 <= len(options.cut_key) <= 64:
        raise InputInvalid("vault.seal_options", "a cut key has 16 to 64 bytes")
    plan_groups(names, spec.groups)


def _plan(source: Source, spec: ReleaseSpec, options: SealOptions, head: Sequence[pa.RecordBatch]) -> PartPlan:
    """How to cut, for records like those of ``head``."""
    weight = max(1.0, sum(batch.nbytes for batch in head) / max(1, sum(batch.num_rows for batch in head)))
    rule = CutRule(
        record_id=RecordId(rule="record" if spec.record_id is None else "column", column=spec.record_id),
        rows=options.part_rows or max(1, int(options.part_bytes / weight)),
        size=options.part_bytes * 5 // 2,
        key=secrets.token_bytes(32) if options.cut_key is None else options.cut_key,
    )
    return PartPlan(
        party=party_of(spec.dataset),
        dataset=spec.dataset,
        version=spec.version,
        groups=plan_groups([column.name for column in source.columns], spec.groups),
        cut=rule,
        level=options.level,
        group_rows=options.group_rows,
        workers=options.workers,
    )
