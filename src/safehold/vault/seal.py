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

What a crash means: in 1-4, nothing was published and no key is anywhere but, wrapped, in the journal beside the
staging folder; the next run of the same work goes on from there, any other removes both. After 5, the key store holds wrapped keys for a digest that was never published: harmless, and
``KeyStore.releases`` finds them. After 6, a whole release lies in its place without an entry:
``verify.load_release`` reads it, and the seal command appends what is missing. Nobody is given a key before 7.
"""

from __future__ import annotations

import hashlib
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

from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Conflict, InputInvalid, StorageFailed
from safehold.model.ids import DatasetId, Digest, HostId, PartyId, Purpose, party_of
from safehold.model.statements import SubjectCount
from safehold.vault.cut import CutRule
from safehold.vault.disk import FolderLock, storage_failed, sync_folder, write_new
from safehold.vault.envelope import Signer, sign
from safehold.vault.groups import plan_groups
from safehold.vault.input_file import Source
from safehold.vault.journal import Journal, KeyWrap
from safehold.vault.lay import Laid, Layout
from safehold.vault.manifest import MANIFEST_FILE, Manifest, RecordId, Run, manifest_bytes, release_digest
from safehold.vault.parts import PartPlan
from safehold.vault.reuse import Parent, Reuse
from safehold.vault.row_digests import RowTree
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

    ``part_rows`` fixes about how many records a part gets, ``parts_as`` names whole parts: their numbers and records. ``cut_key`` (16-64
    bytes) is the dataset's secret for cutting; None draws a fresh one, and then the next release is cut anew. ``workers``:
    parts written at once.
    ``parent``: what did not change since keeps its files and keys. ``wrap``: wraps keys for the journal, so that a
    killed run goes on where it was; that needs a ``cut_key`` too. ``row_tree``: the manifest gets the root of the digests
    of each file's records (``row_digests``), files that are kept included; None: it gets none but those of kept files.
    """

    level: int = 3
    part_bytes: int = 64 * 1024 * 1024
    group_rows: int = 16_384
    part_rows: int | None = None
    parts_as: tuple[Run, ...] = ()
    cut_key: bytes | None = None
    workers: int = 1
    parent: Parent | None = None
    wrap: KeyWrap | None = None
    row_tree: RowTree | None = None


class Prepared:
    """A sealed release in its staging folder: publish it, or leave the ``with`` block and it is gone."""

    def __init__(self, folder: Path, manifest: Manifest, laid: Laid, work: _Work) -> None:
        self.folder = folder
        self.manifest = manifest
        self.release = work.digest
        self.keys = laid.keys
        self.fresh = laid.fresh
        self._work = work

    @property
    def staging(self) -> Path:
        """Where the whole release lies until it is published: for whoever opens it once before that."""
        return self._work.staging

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
    """The staging folder, its lock, and its journal where there is one."""

    def __init__(self, folder: Path, identity: Digest | None, wrap: KeyWrap | None) -> None:
        """Step 1. What a killed sealer left is removed, but for what the journal of this same work speaks of."""
        self.digest = Digest("")
        self.journal: Journal | None = None
        journal = folder.with_name(f".sealing-{folder.name}.journal")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder.with_name(f".sealing-{folder.name}.lock"), str(folder))
            self.staging = folder.with_name(f".sealing-{folder.name}")
            try:
                _refuse_existing(folder)
                # The lock is ours, so no living sealer owns what may lie here.
                if identity is not None and wrap is not None:
                    self.journal = Journal(journal, self.staging, identity, wrap)
                else:
                    journal.unlink(missing_ok=True)
                _clear(self.staging, self.journal.files if self.journal is not None else frozenset())
                self.staging.mkdir(mode=0o700, exist_ok=True)
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
            if self.journal is not None:
                self.journal.remove()
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
        if self.journal is not None:
            self.journal.remove()
        self._lock.release()

    def leave(self) -> None:
        """Give the lock back and leave what the journal speaks of to the next run."""
        if self.journal is None:
            self.end()
        else:
            self._lock.release()


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        raise Conflict(
            "vault.release_exists", f"{folder} exists already", "a release never changes: seal the next version"
        )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _clear(folder: Path, but: frozenset[str]) -> None:
    if not but:
        _remove(folder)
    elif folder.is_dir():
        for entry in folder.iterdir():
            if entry.name not in but:
                entry.unlink()


def prepare(
    source: Source, spec: ReleaseSpec, signer: Signer, folder: Path, options: SealOptions | None = None
) -> Prepared:
    """Steps 1-4: seal ``source`` into a staging folder beside ``folder``.

    Raises ``Conflict`` (``vault.release_exists``, ``vault.busy``), ``InputInvalid`` (from the source, the groups
    or the manifest) or ``StorageFailed`` (``vault.disk_full`` …); in each case the staging folder is gone.
    """
    chosen = options if options is not None else SealOptions()
    _check_options(source, spec, chosen)
    work = _Work(folder, _identity(source, spec, chosen), chosen.wrap)
    try:
        batches = iter(source.batches())
        head = list(islice(batches, 1))
        plan = _plan(source, spec, chosen, head)
        parent = chosen.parent if chosen.parent is not None and not chosen.parent.opened.manifest.numbered else None
        reuse = Reuse(parent, source.columns, plan.groups) if parent is not None else None
        laid = Layout(work.staging, plan, reuse, parent, work.journal).write(chain(head, batches))
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
        return Prepared(folder, manifest, laid, work)
    except OSError as error:
        work.end()
        raise storage_failed(error, str(folder)) from error
    except Exception:
        work.end()
        raise
    except BaseException:  # interrupted: the next run goes on
        work.leave()
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


def _identity(source: Source, spec: ReleaseSpec, options: SealOptions) -> Digest | None:
    """What work this is: two runs of one identity seal the same records in the same way. None where that is not known."""
    if source.identity is None or options.cut_key is None:
        return None
    chosen = [
        options.level,
        options.part_bytes,
        options.part_rows or 0,
        options.group_rows,
        options.row_tree is not None,
    ]
    parent = options.parent
    groups = None if spec.groups is None else {name: list(columns) for name, columns in spec.groups.items()}
    plain = [
        "safehold sealing v2",
        source.identity,
        [spec.dataset, spec.version, spec.record_id, groups],
        source.columns,
        chosen,
        None if parent is None else [release_digest(manifest_bytes(parent.opened.manifest)), parent.deltas],
    ]
    return Digest("sha256:" + hashlib.blake2b(canonical_bytes(plain), digest_size=32, key=options.cut_key).hexdigest())


def _plan(source: Source, spec: ReleaseSpec, options: SealOptions, head: Sequence[pa.RecordBatch]) -> PartPlan:
    """How to cut, for records like those of ``head``."""
    weight = max(1.0, sum(batch.nbytes for batch in head) / max(1, sum(batch.num_rows for batch in head)))
    rule = CutRule(
        record_id=RecordId(rule="record" if spec.record_id is None else "column", column=spec.record_id),
        rows=options.part_rows or _parent_rows(options.parent) or max(1, int(options.part_bytes / weight)),
        size=options.part_bytes * 5 // 2,
        key=secrets.token_bytes(32) if options.cut_key is None else options.cut_key,
        counts=tuple(run.rows for run in options.parts_as),
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
        numbers=tuple(run.part for run in options.parts_as),
        row_tree=options.row_tree,
    )


def _parent_rows(parent: Parent | None) -> int:
    """About how many records its parts have: other parts would end at other places, and none could be kept."""
    return parent.opened.manifest.part_rows if parent is not None else 0
