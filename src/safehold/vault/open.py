"""Open a release: from keys to records, in the order of the input.

What can be checked at once is checked before the first record: the manifest is the one that the ledger names, every
key is the one committed to, every file is there and has its size. The SHA-256 of a part is computed in another thread
while Arrow decrypts it, and no record leaves the part before it fits; of one that is read in some columns, that of the pieces
that they lie in (``pieces``). GCM authenticates each page under its key and the
AAD of its place. Only the column groups asked for are touched; their columns come in the order of the input.

Keys stay in memory and go to no file. Arrow never asks anyone for a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.disk import storage_failed
from safehold.vault.envelope import Verifier, check_signature
from safehold.vault.fields import describe, records, same_types, sealed_form
from safehold.vault.manifest import ROW_COLUMN, Field, Manifest, PartFile, Run
from safehold.vault.maps import with_maps
from safehold.vault.merge import join_groups, merge_parts, side_by_side
from safehold.vault.parquet_form import open_part
from safehold.vault.part_keys import check_key
from safehold.vault.pieces import Asked, PartColumns
from safehold.vault.verify import PartGuard, PartPlaces, Release, check_size, expect_release, load_release

__all__ = ["OpenedRelease", "needed_files", "open_loaded", "open_release"]

_BATCH_ROWS: Final = 16_384
_BATCH_BYTES: Final = 32 * 1024 * 1024
_LIKELY_RATIO: Final = 4
"""How much larger records may be than their sealed bytes; only used to choose the rows of a batch."""


class OpenedRelease:
    """A release with checked keys; each call of ``batches`` or ``records`` reads it from the start.

    ``guard`` checks the SHA-256 of each part before its first record is given out; None: they were checked before.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        keys: Mapping[str, bytes],
        groups: Sequence[str],
        guard: PartPlaces | None = None,
    ) -> None:
        self.manifest = manifest
        self.groups = tuple(group for group in manifest.groups if group.name in groups)
        # What lies in chunk containers is no column of a table: ``open_files`` reads it.
        tables = [group for group in self.groups if group.name not in manifest.chunked]
        granted = {column for group in tables for column in group.columns}
        self.columns: tuple[Field, ...] = tuple(column for column in manifest.columns if column.name in granted)
        self._folder = folder
        self._keys = keys
        self._guard = guard
        self._files: dict[int, list[PartFile]] = {}
        for file in manifest.files([group.name for group in tables]):
            self._files.setdefault(file.part, []).append(file)

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._folder

    @property
    def whole(self) -> bool:
        """Whether all columns are open, so that the input can be given back and not just a part of it."""
        return len(self.columns) == len(self.manifest.columns)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Arrow record batches of the open columns, or of those of them that are named.

        Raises ``InputInvalid`` (``vault.column_unknown``), ``VerificationFailed`` (``vault.part_altered``,
        ``vault.part_schema``, ``vault.rows``), or ``StorageFailed``, naming the part.
        """
        if not self._files:
            raise InputInvalid(
                "vault.no_table",
                "the open column groups hold files and no records",
                "open them into a folder: give --out a name without a suffix",
            )
        if self.manifest.numbered:
            yield from self._merged(columns)
            return
        order = self.manifest.sequence()
        for place, run in enumerate(order):
            # The next two parts are hashed while this one is read.
            self.ahead([coming.part for coming in order[place : place + 3]], columns)
            yield from self.run_batches(run, columns)

    def ahead(self, parts: Iterable[int], columns: Sequence[str] | None = None) -> None:
        """Begin to check, and from a store to fetch, what a read of these parts needs. Raises as ``run_batches``."""
        if self._guard is not None:
            wanted = self._wanted(columns)
            for part in parts:
                self._guard.start([self._asked(file, wanted) for file in self._files[part] if self._of(file, wanted)])

    def run_batches(self, run: Run, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The records of one run of ``manifest.sequence()``, or of any stretch of one part; raises as ``batches``."""
        wanted = self._wanted(columns)
        files = [file for file in self._files[run.part] if self._of(file, wanted)]
        with ExitStack() as stack:
            asked = [self._asked(file, wanted) for file in files]
            readers = [
                self._stretch(one, file, run, self._of(file, wanted), stack)
                for one, file in zip(asked, files, strict=True)
            ]
            done = 0
            for batch in side_by_side(readers, run.part):
                if self._guard is not None and not done:
                    self._guard.wait(asked)
                done += batch.num_rows
                yield self._restored(batch, wanted)
        if done != run.rows:
            raise VerificationFailed(
                "vault.rows",
                f"part {run.part} gave {done:,} of {run.rows:,} records",
                "these parts were not sealed together: fetch the release again",
            )

    def part_file(self, part: PartFile) -> tuple[Path, bytes]:
        """The checked file of a part, and its key. Raises as ``check_part``."""
        if self._guard is not None:
            self._guard.wait([part])
        return self._place(part), self._keys[part.file]

    def records(self) -> Iterator[dict[str, Any]]:
        """The records as Python objects, just as they were read when sealed (of the open columns)."""
        for batch in self.batches():
            yield from records(batch, self.columns)

    def _wanted(self, columns: Sequence[str] | None) -> list[Field]:
        if columns is None:
            return list(self.columns)
        open_columns = {column.name: column for column in self.columns}
        for name in columns:
            if name not in open_columns:
                raise InputInvalid(
                    "vault.column_unknown",
                    f"there is no open column {name[:80]!r}",
                    f"the open columns are: {', '.join(list(open_columns)[:12])}",
                )
        return [open_columns[name] for name in columns]

    def _of(self, file: PartFile, wanted: Sequence[Field]) -> list[str]:
        """The wanted columns that stand in this file."""
        columns = next(group.columns for group in self.groups if group.name == file.group)
        return [field.name for field in wanted if field.name in columns]

    def _asked(self, file: PartFile, wanted: Sequence[Field]) -> Asked:
        """The whole file, or its wanted columns where they can be checked alone."""
        names = self._of(file, wanted)
        columns = next(group.columns for group in self.groups if group.name == file.group)
        if file.tail is None or len(names) == len(columns):
            return file
        return PartColumns(file, tuple(names), self._keys[file.file])

    def _restored(self, batch: pa.RecordBatch, wanted: Sequence[Field]) -> pa.RecordBatch:
        if batch.schema.names != [field.name for field in wanted]:
            batch = batch.select([field.name for field in wanted])
        return with_maps(batch, wanted)

    def _stretch(
        self, asked: Asked, part: PartFile, run: Run, columns: list[str], stack: ExitStack
    ) -> Iterator[pa.RecordBatch]:
        file = self._open(part, stack, asked)
        self._check_schema(part, file.schema_arrow)
        groups: list[int] = []
        skip = first = 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if first + rows <= run.first:
                skip += rows
            elif first < run.first + run.rows:
                groups.append(number)
            first += rows
        return _cut_out(_batches(file, part, 1, groups, columns), run.first - skip, run.rows)

    def _merged(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """Version 1: every part at once, merged by the hidden row column."""
        wanted = self._wanted(columns)
        if self._guard is not None:
            self._guard.wait([file for files in self._files.values() for file in files])
        with ExitStack() as stack:
            parts = []
            for number, files in self._files.items():
                readers = []
                for part in files:
                    file = self._open(part, stack)
                    self._check_schema(part, file.schema_arrow)
                    readers.append(_batches(file, part, len(self._files), None, None))
                parts.append(join_groups(readers, number))
            for batch in merge_parts(parts, self.manifest.rows):
                yield self._restored(batch, wanted)

    def _place(self, part: PartFile, asked: Asked | None = None) -> Path:
        return self._folder / part.file if self._guard is None else self._guard.place(part if asked is None else asked)

    def _open(self, part: PartFile, stack: ExitStack, asked: Asked | None = None) -> Any:
        place = self._place(part, asked)
        try:
            return stack.enter_context(open_part(place, self._keys[part.file], part.aad))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from error

    def _check_schema(self, part: PartFile, schema: pa.Schema) -> None:
        columns = next(group.columns for group in self.groups if group.name == part.group)
        expected = [column for name in columns for column in self.columns if column.name == name]
        try:
            found = describe(pa.schema(list(schema)[1:]) if self.manifest.numbered else schema)
        except InputInvalid as error:
            raise _wrong_schema(part) from error
        if self.manifest.numbered != (schema.names[:1] == [ROW_COLUMN]):
            raise _wrong_schema(part)
        if not same_types(found, [sealed_form(column) for column in expected]):
            raise _wrong_schema(part)


def _wrong_schema(part: PartFile) -> VerificationFailed:
    return VerificationFailed(
        "vault.part_schema", f"the part {part.file} has other columns than its manifest says", "ask the supplier"
    )


def _unreadable(part: PartFile, error: Exception) -> SafeholdError:
    if isinstance(error, OSError) and error.errno is not None:
        return storage_failed(error, part.file)
    return VerificationFailed(
        "vault.part_altered",
        f"the part {part.file} does not decrypt: it is not what was sealed with its key",
        "fetch the release again",
    )


def _batches(
    file: Any, part: PartFile, parts: int, groups: list[int] | None, columns: list[str] | None
) -> Iterator[pa.RecordBatch]:
    likely = max(1, part.size * _LIKELY_RATIO // max(1, part.rows))
    rows = max(1, min(_BATCH_ROWS // parts, _BATCH_BYTES // likely))
    try:
        yield from file.iter_batches(
            batch_size=max(rows, 64 if likely < 4096 else 1), row_groups=groups, columns=columns
        )
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(part, error) from error


def _cut_out(batches: Iterator[pa.RecordBatch], skip: int, rows: int) -> Iterator[pa.RecordBatch]:
    """``rows`` records after the first ``skip``."""
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        found = batch.slice(skip, rows)
        skip, rows = 0, rows - found.num_rows
        if found.num_rows:
            yield found
        if not rows:
            return


def needed_files(manifest: Manifest, groups: Sequence[str]) -> tuple[PartFile, ...]:
    """The part files whose keys a read of ``groups`` needs.

    Raises ``InputInvalid`` (``vault.group_unknown``) for a group that the release does not have, or for none.
    """
    known = [group.name for group in manifest.groups]
    unknown = [group for group in groups if group not in known]
    if unknown or not groups:
        raise InputInvalid(
            "vault.group_unknown",
            f"the release has no column group {unknown[0]!r}" if unknown else "no column group is named",
            f"its groups are: {', '.join(known)}",
        )
    return manifest.files(groups)


def open_release(
    folder: Path,
    expected: Digest,
    keys: Mapping[str, bytes],
    groups: Sequence[str],
    signers: Sequence[Verifier] = (),
) -> OpenedRelease:
    """Check what can be checked at once and return the release, opened for ``groups``; each of ``signers`` must have signed.

    ``expected`` is the release's digest as the ledger holds it; ``keys`` maps the name of each file of the
    groups to its key. Raises as ``load_release``; ``InputInvalid`` (``vault.group_unknown``);
    ``VerificationFailed``: ``vault.other_release``, ``vault.no_key``, ``vault.wrong_key``, ``vault.part_missing``,
    ``vault.part_truncated``, ``vault.part_altered``, ``vault.manifest_unsigned``, ``vault.manifest_signature``;
    ``StorageFailed``.
    """
    loaded = load_release(folder)
    for signer in signers:
        check_signature(loaded.envelope, signer)
    return open_loaded(loaded, expected, keys, groups)


def open_loaded(loaded: Release, expected: Digest, keys: Mapping[str, bytes], groups: Sequence[str]) -> OpenedRelease:
    """As ``open_release``, for whoever has read the manifest already: with 1,000 parts that is half of the work."""
    release, folder = expect_release(loaded, expected), loaded.folder
    needed = needed_files(release.manifest, groups)
    # All keys before any file: a wrong key must not cost a hash of everything.
    checked: dict[str, bytes] = {}
    for part in needed:
        if part.file not in keys:
            raise VerificationFailed(
                "vault.no_key", f"there is no key for {part.file}", "ask for the keys of every part of the column group"
            )
        checked[part.file] = check_key(keys[part.file], part.aad, part.commitment, part.file)
    for part in needed:
        check_size(folder, part)
    return OpenedRelease(folder, release.manifest, checked, groups, PartGuard(folder))
