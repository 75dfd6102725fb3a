"""An open release: checked, granted, and readable in the ways that training code reads.

``open_release`` checks the manifest against the digest that was asked for, gets all keys of the read in one request and
compares each with its commitment; then each part's size, its SHA-256 before its first record is given out, and by
GCM each page as it is read. A part that fails is named. Only the column groups of the order can be read.

**Keys are in memory alone**, and so is what they open, unless the caller writes it. ``cache`` keeps decoded records on a
disk under a key of this process (``vault.block_cache``).

**A hold stops it at the next part.** Before each part and each block the ring is asked; see ``ring``. What can not be
stopped that way is an Arrow dataset (``dataset``), which has its keys and reads by itself: it is made for one query.

**Where it lies** is a folder, or a store: then parts come ahead of their use as the ciphertext that they are (``vault.spool``),
and the release is never copied whole.

One release may be used by several threads, one iterator by one thread at a time. A forked process goes on with its own
files and asks its parent for keys (``desk``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds

from safehold.broker.client import KeyOrder, OpenedKeys
from safehold.broker.key_source import KeySource
from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.model.ids import Digest
from safehold.readers.arrow_dataset import part_dataset
from safehold.readers.desk import AskedParts, KeyDesk
from safehold.readers.extras import polars
from safehold.readers.feed import BlockSource
from safehold.readers.ring import KeyRing
from safehold.vault.block_cache import BlockCache
from safehold.vault.fields import records
from safehold.vault.manifest import Field, Manifest, PartFile, Run
from safehold.vault.open import OpenedRelease, needed_files
from safehold.vault.part_keys import check_key
from safehold.vault.spool import Spool, check_stored_sizes
from safehold.vault.stored_release import StoredRelease, expect_stored
from safehold.vault.verify import PartGuard, PartPlaces, check_size, expect_release, load_release

__all__ = ["OpenPart", "ReadOptions", "SealedRelease", "open_release"]

_AHEAD = 2
"""How many parts are hashed ahead of the one that is read."""


def _system_clock() -> int:
    return time.time_ns() // 1000


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``cache``: a folder for decoded records, encrypted, of at most ``cache_limit`` bytes.

    ``check_every``: seconds between two questions about holds. ``clock`` gives µs UTC. ``spool``: the folder below which
    sealed parts of a release in a store are kept while they are read, of about ``spool_limit`` bytes (None: where temporary
    files go).
    """

    cache: Path | None = None
    cache_limit: int | None = None
    check_every: int = 1
    spool: Path | None = None
    spool_limit: int = 2 << 30
    clock: Callable[[], int] = _system_clock


def open_release(
    place: Path | StoredRelease, order: KeyOrder, source: KeySource, options: ReadOptions | None = None
) -> SealedRelease:
    """Open the release in the folder ``place``, or as it lies in a store (``vault.stored_release.load_stored``), for the
    column groups of ``order``, with keys from ``source``.

    Raises ``ReadingStopped`` with the broker's reason, and as ``vault.open``: ``vault.other_release``,
    ``vault.group_unknown``, ``vault.no_key``, ``vault.wrong_key``, ``vault.part_missing`` …
    """
    chosen = options if options is not None else ReadOptions()
    # Before asking: a release that is not there, or is another one, must not cost a key release on record.
    manifest = _expected(place, order.release)
    if manifest.numbered:
        raise InputInvalid(
            "readers.first_form",
            "this release is of the first form, whose parts can only be read together",
            "open it with `safehold open`, or seal it anew",
        )
    if manifest.chunked & set(order.groups):
        raise InputInvalid(
            "readers.files",
            "this release holds files and no records",
            "open it into a folder: safehold open … --out FOLDER; the group names alone can be read as a table",
        )
    needed = needed_files(manifest, order.groups)
    ring = KeyRing(source, order, chosen.clock, chosen.check_every)
    if isinstance(place, StoredRelease):
        check_stored_sizes(place, needed)
        spool = Spool(place, chosen.spool, chosen.spool_limit)
        release = SealedRelease(spool.folder, manifest, ring, source, spool)
    else:
        for part in needed:
            check_size(place, part)
        release = SealedRelease(place, manifest, ring, source)
    try:
        release.allow()
    except BaseException:
        release.close()
        raise
    if chosen.cache is not None:
        release.cache = BlockCache(chosen.cache, chosen.cache_limit)
    return release


class OpenPart(msgspec.Struct, frozen=True):
    """A sealed part file, its key and its AAD prefix; ``repr`` shows no key."""

    path: Path
    part: int
    group: str
    rows: int
    key: bytes
    aad: bytes

    def __repr__(self) -> str:
        return f"OpenPart({self.path.name})"


class SealedRelease:
    """An open release; made by ``open_release``. Close it, or use it in a ``with`` block."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        ring: KeyRing,
        source: KeySource,
        parts: Spool | AskedParts | None = None,
    ) -> None:
        self.manifest = manifest
        self.cache: BlockCache | None = None
        self._folder = folder
        self._ring = ring
        self._source = source
        self._desk: KeyDesk | None = None
        self._state: tuple[OpenedKeys, OpenedRelease] | None = None
        self._parts = parts
        self._guard: PartPlaces = parts if parts is not None else PartGuard(folder)
        self._pid = os.getpid()
        self._files: dict[int, list[PartFile]] = {}
        for file in manifest.files(ring.order.groups):
            self._files.setdefault(file.part, []).append(file)

    # --- what it is ------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[Field, ...]:
        """The open columns, in the order of the input."""
        open_columns = {name for group in self.manifest.groups if group.name in self._groups for name in group.columns}
        return tuple(column for column in self.manifest.columns if column.name in open_columns)

    @property
    def _groups(self) -> tuple[str, ...]:
        return tuple(self._ring.order.groups)

    @property
    def digest(self) -> Digest:
        """The release's identity: the digest of its manifest."""
        return self._ring.order.release

    @property
    def rows(self) -> int:
        """How many records it holds."""
        return self.manifest.rows

    @property
    def runs(self) -> tuple[Run, ...]:
        """The release's records as stretches of parts, in order."""
        return self.manifest.sequence()

    @property
    def keys(self) -> OpenedKeys:
        """The key release that is in use: entry, receipt, end of its lease. Renewed if that has passed."""
        return self._ring.current()

    @property
    def opened(self) -> tuple[str, ...]:
        """The part files that were opened so far."""
        return self._ring.opened

    @property
    def key_requests(self) -> int:
        """How many times keys were asked for."""
        return self._ring.requests

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the open columns; reads the first record's page."""
        return self._schema_of(None)

    def _schema_of(self, columns: Sequence[str] | None) -> pa.Schema:
        first = self.runs[0]
        return next(self._opened([first.part], (), columns).run_batches(_one(first), columns)).schema

    # --- reading in the order of the input -------------------------------------------------------

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Arrow record batches in the order of the input; ``columns`` None gives all open ones."""
        for place, run in enumerate(self.runs):
            following = [coming.part for coming in self.runs[place + 1 : place + 1 + _AHEAD]]
            yield from self._opened([run.part], following, columns).run_batches(run, columns)

    def records(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The records as Python objects, as they were before they were sealed."""
        fields = self.fields(columns)
        for batch in self.batches(columns):
            yield from records(batch, fields)

    def fields(self, columns: Sequence[str] | None) -> tuple[Field, ...]:
        """The fields of ``columns``, or of all. Raises ``InputInvalid`` (``readers.column``)."""
        known = {field.name: field for field in self.columns}
        if columns is None:
            return tuple(known.values())
        for name in columns:
            if name not in known:
                raise InputInvalid(
                    "readers.column",
                    f"there is no open column {name[:80]!r}",
                    f"the open columns are: {', '.join(list(known)[:12])}",
                )
        return tuple(known[name] for name in columns)

    def reader(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """A stream for whatever takes Arrow: ``duckdb.sql("select … from reader")``, pandas, a Parquet writer."""
        self.fields(columns)
        return pa.RecordBatchReader.from_batches(self._schema_of(columns), self.batches(columns))

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None) -> Any:  # noqa: A002 - pyarrow's word
        """A ``pyarrow.dataset.Scanner`` over the stream: projection reaches the files, the filter the records."""
        wanted = None if columns is None else list(columns)
        read = wanted
        if wanted is not None and filter is not None:
            read = [field.name for field in self.columns]  # the filter may name any column
        return ds.Scanner.from_batches(self.reader(read), columns=wanted, filter=filter)

    def dataset(self) -> Any:
        """A ``pyarrow.dataset.Dataset`` of the part files, each with its own key: projection and filters reach the pages.

        All parts are verified first. Raises ``InputInvalid`` (``readers.no_dataset``) where files alone are not the
        release: several column groups, records left out, maps.
        """
        self._refuse_stored()
        files = [file for part in dict.fromkeys(run.part for run in self.runs) for file in self._files[part]]
        return part_dataset(self._folder, self.manifest, files, lambda: self._checked(files))

    def part_files(self) -> tuple[OpenPart, ...]:
        """The part files with key and AAD prefix, for any reader of Parquet that takes both; all are verified first.

        Plain pyarrow and Polars open them. Where files alone are not the release, that reader must do what is left: put the
        files of a part side by side, and follow ``runs``. Raises ``InputInvalid`` (``readers.no_dataset``) for a release in a
        store, whose parts come and go.
        """
        self._refuse_stored()
        files = [file for part in dict.fromkeys(run.part for run in self.runs) for file in self._files[part]]
        keys = self._checked(files)
        return tuple(
            OpenPart(self._folder / file.file, file.part, file.group, file.rows, keys[file.file], file.aad.encode())
            for file in files
        )

    def _refuse_stored(self) -> None:
        if self._parts is not None:
            raise InputInvalid(
                "readers.no_dataset", "files alone are not this release: it lies in a store", "use scanner()"
            )

    def _checked(self, files: Sequence[PartFile]) -> dict[str, bytes]:
        keys = self._ring.keys()
        self._guard.wait(files)
        for file in files:
            self._ring.note(file.file)
        return {file.file: keys[file.file] for file in files}

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All records in memory, as an Arrow table."""
        return self.reader(columns).read_all()

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """All records in memory, as a Polars frame (extra ``polars``)."""
        return polars().from_arrow(self.to_table(columns))

    # --- what feeds read through -----------------------------------------------------------------

    def blocks(self, columns: Sequence[str] | None = None, streams: int = 17) -> BlockSource:
        """Blocks of it, for a feed."""
        self.fields(columns)
        return BlockSource(self, columns, self.cache, streams)

    def stretch(self, part: int, first: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The records of a part from ``first`` to its end, whether or not they belong to the release."""
        rows = self._files[part][0].rows
        return self._opened([part], (), columns).run_batches(Run(part, first, rows - first), columns)

    def allow(self) -> None:
        """Raise ``ReadingStopped`` if there is no further reading; renews keys whose lease has ended."""
        self._in_this_process()
        self._ring.current()

    # --- keys and processes ----------------------------------------------------------------------

    def _opened(
        self, parts: Sequence[int], following: Sequence[int] = (), columns: Sequence[str] | None = None
    ) -> OpenedRelease:
        """The vault's release with keys in their lease, before ``parts`` are read."""
        self._in_this_process()
        keys = self._ring.current()
        for part in parts:
            for file in self._files[part]:
                self._ring.note(file.file)
        if self._state is None or self._state[0] is not keys:
            checked = {}
            for file in needed_files(self.manifest, self._groups):
                if file.file not in keys.keys:
                    raise _no_key(file)
                checked[file.file] = check_key(keys.keys[file.file], file.aad, file.commitment, file.file)
            opened = OpenedRelease(self._folder, self.manifest, checked, self._groups, self._guard)
            self._state = (keys, opened)
        self._state[1].ahead([*parts, *following], columns)
        return self._state[1]

    def _in_this_process(self) -> None:
        """After a fork: no thread, connection or database of the parent is used."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._state = None
            if isinstance(self._parts, Spool):
                # Its threads and connections are the parent's: the desk hands out what they fetch.
                self._parts = self._sharing().parts_for_worker(self._parts)
            self._guard = self._parts if self._parts is not None else PartGuard(self._folder)
            if self._desk is not None:
                self._ring.use(self._desk.for_worker())

    def _sharing(self) -> KeyDesk:
        if self._desk is None:
            raise InputInvalid(
                "readers.pickled",
                "an open release is not sent to another process: its keys stay in memory",
                "open it there, or call share_keys() first, so that the other process asks this one",
            )
        return self._desk

    def share_keys(self) -> None:
        """Make ready for worker processes: they ask this one for keys."""
        if self._desk is None:
            self._desk = KeyDesk(self._source, self._parts if isinstance(self._parts, Spool) else None)

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is started, not forked: neither keys nor connection, but where to ask."""
        desk = self._sharing()
        ring = self._ring.__getstate__() | {"_source": desk.for_worker()}
        parts = desk.parts_for_worker(self._parts) if isinstance(self._parts, Spool) else self._parts
        return {
            "folder": self._folder,
            "manifest": self.manifest,
            "ring": ring,
            "source": desk.for_worker(),
            "parts": parts,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        ring = KeyRing.__new__(KeyRing)
        ring.__setstate__(state["ring"])
        self.__init__(state["folder"], state["manifest"], ring, state["source"], state["parts"])  # type: ignore[misc]  # as when made

    def close(self) -> None:
        """Forget the keys, remove the cache, answer no worker any more."""
        self._ring.forget()
        self._state = None
        if self.cache is not None:
            self.cache.close()
        if self._desk is not None:
            self._desk.close()
            self._desk = None
        if isinstance(self._parts, Spool) and self._pid == os.getpid():
            self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _expected(place: Path | StoredRelease, digest: Digest) -> Manifest:
    if isinstance(place, StoredRelease):
        return expect_stored(place, digest).manifest
    return expect_release(load_release(place), digest).manifest


def _one(run: Run) -> Run:
    return Run(run.part, run.first, 1)


def _no_key(file: PartFile) -> VerificationFailed:
    return VerificationFailed("readers.no_key", f"the broker gave no key for {file.file}", "ask whoever runs it")
