"""Open a release: from keys to records, in the order of the input.

Everything that can be checked is checked before the first record: the manifest is the one that the ledger
names, every key is the one committed to, every file has its size and SHA-256. Then GCM authenticates each page
under that key and the AAD of its place. Only the column groups asked for are touched; their columns come in the
order of the input.

Keys stay in memory and go to no file. Arrow never asks anyone for a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.disk import storage_failed
from safehold.vault.fields import describe, records, same_types
from safehold.vault.manifest import ROW_COLUMN, Field, Manifest, PartFile
from safehold.vault.merge import join_groups, merge_parts
from safehold.vault.parquet_form import open_part
from safehold.vault.part_keys import check_key
from safehold.vault.verify import check_part, expect_release, load_release

__all__ = ["OpenedRelease", "needed_files", "open_release"]

_BATCH_ROWS: Final = 16_384
_BATCH_BYTES: Final = 32 * 1024 * 1024
_LIKELY_RATIO: Final = 4
"""How much larger records may be than their sealed bytes; only used to choose the rows of a batch."""


class OpenedRelease:
    """A release with checked keys and files; each call of ``batches`` or ``records`` reads it from the start."""

    def __init__(self, folder: Path, manifest: Manifest, keys: Mapping[str, bytes], groups: Sequence[str]) -> None:
        self.manifest = manifest
        self.groups = tuple(group for group in manifest.groups if group.name in groups)
        granted = {column for group in self.groups for column in group.columns}
        self.columns: tuple[Field, ...] = tuple(column for column in manifest.columns if column.name in granted)
        self._folder = folder
        self._keys = keys

    @property
    def whole(self) -> bool:
        """Whether all columns are open, so that the input can be given back and not just a part of it."""
        return len(self.columns) == len(self.manifest.columns)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Arrow record batches of the open columns.

        Raises ``VerificationFailed`` (``vault.part_altered``, ``vault.part_schema``, ``vault.rows``), or
        ``StorageFailed``, naming the part.
        """
        names = [column.name for column in self.columns]
        with ExitStack() as stack:
            numbers = dict.fromkeys(part.part for part in self.manifest.parts)
            parts = [self._part(number, len(numbers), stack) for number in numbers]
            for batch in merge_parts(parts, self.manifest.rows):
                yield batch.select(names)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records as Python objects, just as they were read when sealed (of the open columns)."""
        for batch in self.batches():
            yield from records(batch, self.columns)

    def _part(self, number: int, parts: int, stack: ExitStack) -> Iterator[pa.RecordBatch]:
        wanted = [group.name for group in self.groups]
        files = [file for file in self.manifest.files(wanted) if file.part == number]
        return join_groups([self._file(file, parts, stack) for file in files], number)

    def _file(self, part: PartFile, parts: int, stack: ExitStack) -> Iterator[pa.RecordBatch]:
        try:
            file = stack.enter_context(open_part(self._folder / part.file, self._keys[part.file], part.aad))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from error
        self._check_schema(part, file.schema_arrow)
        return _batches(file, part, parts)

    def _check_schema(self, part: PartFile, schema: pa.Schema) -> None:
        columns = next(group.columns for group in self.groups if group.name == part.group)
        expected = [column for name in columns for column in self.columns if column.name == name]
        try:
            found = describe(pa.schema(list(schema)[1:]))
        except InputInvalid as error:
            raise _wrong_schema(part) from error
        if schema.names[:1] != [ROW_COLUMN] or not same_types(found, expected):
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


def _batches(file: Any, part: PartFile, parts: int) -> Iterator[pa.RecordBatch]:
    likely = max(1, part.size * _LIKELY_RATIO // max(1, part.rows))
    rows = max(1, min(_BATCH_ROWS // parts, _BATCH_BYTES // likely))
    try:
        yield from file.iter_batches(batch_size=max(rows, 64 if likely < 4096 else 1))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(part, error) from error


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


def open_release(folder: Path, expected: Digest, keys: Mapping[str, bytes], groups: Sequence[str]) -> OpenedRelease:
    """Check everything and return the release, opened for ``groups``.

    ``expected`` is the release's digest as the ledger holds it; ``keys`` maps the name of each file of the
    groups to its key. Raises as ``load_release``; ``InputInvalid`` (``vault.group_unknown``);
    ``VerificationFailed``: ``vault.other_release``, ``vault.no_key``, ``vault.wrong_key``, ``vault.part_missing``,
    ``vault.part_truncated``, ``vault.part_altered``; ``StorageFailed``.
    """
    release = expect_release(load_release(folder), expected)
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
        check_part(folder, part)
    return OpenedRelease(folder, release.manifest, checked, groups)
