"""Write the files of one part: group, encrypt, hash.

A part is gathered in memory (``cut`` bounds it) and then written, one file a column group, each hashed as its
ciphertext passes. It counts as sealed once its files are durable (``WrittenPart.settle``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.model.errors import StorageFailed
from safehold.model.ids import DatasetId, PartyId
from safehold.vault.cut import Chunk, CutRule
from safehold.vault.disk import storage_failed
from safehold.vault.hashed_file import HashedFile as _HashingFile
from safehold.vault.manifest import ColumnGroup, PartFile, part_file_name
from safehold.vault.maps import without_maps, without_maps_schema
from safehold.vault.parquet_form import part_schema, part_writer
from safehold.vault.part_keys import aad_text, key_commitment, new_part_key
from safehold.vault.row_digests import RowTree, row_entries
from safehold.vault.row_form import rows_of

__all__ = ["PartPlan", "SealedPart", "WrittenPart", "write_part"]

_GROUP_BYTES: Final = 32 * 1024 * 1024


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How records become part files; ``cut`` tells where a part ends, ``workers`` how many are written at once.

    ``numbers``: of the first parts, in order; further ones are numbered on. ``row_tree``: makes the root of the digests of a file's records; None: none are made.
    """

    party: PartyId
    dataset: DatasetId
    version: int
    groups: tuple[ColumnGroup, ...]
    cut: CutRule
    level: int
    group_rows: int
    workers: int
    numbers: tuple[int, ...] = ()
    row_tree: RowTree | None = None


class SealedPart(msgspec.Struct, frozen=True):
    """A part whose files are durable, with their keys by file name."""

    files: tuple[PartFile, ...]
    keys: Mapping[str, bytes]


class _OpenFile:
    """One part file being written, with its key."""

    def __init__(self, folder: Path, plan: PartPlan, part: int, group: ColumnGroup, schema: pa.Schema) -> None:
        self.name = part_file_name(plan.version, part, group.name)
        self.key = new_part_key()
        self._aad = aad_text(plan.party, plan.dataset, plan.version, part, group.name)
        self.sink = _HashingFile(folder / self.name, pieces=True)
        try:
            self._writer: Any = part_writer(
                self.sink, part_schema(schema, group.columns), plan.level, self.key, self._aad
            )
        except BaseException:
            self.sink.drop()
            raise

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def end(self, plan: PartPlan, part: int, group: ColumnGroup, chunk: Chunk) -> PartFile:
        """All is written; durable it is after ``sink.finish``."""
        # Between the last page and the footer: readers of Parquet find both by their places and look at nothing else.
        self.sink.begin_tail()
        self._writer.close()
        root = None
        if plan.row_tree is not None:
            root = plan.row_tree(row_entries(rows_of(chunk.batches, group.columns), self.key, self._aad))
        return PartFile(
            sealed=plan.version,
            part=part,
            group=group.name,
            file=self.name,
            sha256=self.sink.sha256,
            size=self.sink.size,
            rows=chunk.rows,
            commitment=key_commitment(self.key, self._aad),
            aad=self._aad,
            tag=chunk.tag,
            rows_root=root,
            tail=self.sink.tail,
        )

    def drop(self) -> None:
        # pyarrow's writer would try to write a footer when collected; there is nowhere left to write it to.
        self._writer.is_open = False
        self.sink.drop()


class WrittenPart:
    """A part whose files are written and hashed, not yet durable."""

    def __init__(self, folder: Path, sealed: SealedPart, sinks: Sequence[_HashingFile]) -> None:
        self._folder = folder
        self._sealed = sealed
        self._sinks = sinks

    def settle(self) -> SealedPart:
        """Make them durable. Raises ``StorageFailed``."""
        try:
            with _translated(self._folder):
                for sink in self._sinks:
                    sink.finish()
        except BaseException:
            self.drop()
            raise
        return self._sealed

    def drop(self) -> None:
        """Close them as they are."""
        for sink in self._sinks:
            sink.drop()


def write_part(
    folder: Path, plan: PartPlan, part: int, chunk: Chunk, groups: Sequence[ColumnGroup] | None = None
) -> WrittenPart:
    """Write the files of one part (of ``groups``; None: of all) into ``folder``. Nothing is left open on an error.

    Raises ``StorageFailed``.
    """
    schema = without_maps_schema(chunk.batches[0].schema)
    table = pa.Table.from_batches([without_maps(batch, schema) for batch in chunk.batches])
    step = _group_rows(table, plan.group_rows)
    files: list[PartFile] = []
    keys: dict[str, bytes] = {}
    sinks: list[_HashingFile] = []
    try:
        for group in plan.groups if groups is None else groups:
            columns = table.select(group.columns)
            with _translated(folder):
                file = _OpenFile(folder, plan, part, group, table.schema)
                sinks.append(file.sink)
                try:
                    for first in range(0, table.num_rows, step):
                        file.write(columns.slice(first, step))
                    files.append(file.end(plan, part, group, chunk))
                except BaseException:
                    file.drop()
                    raise
            keys[file.name] = file.key
    except BaseException:
        for sink in sinks:
            sink.drop()
        raise
    return WrittenPart(folder, SealedPart(tuple(files), keys), sinks)


def _group_rows(table: pa.Table, most: int) -> int:
    """Records a row group: no more than ``most``, and not many more bytes than a reader should hold."""
    weight = max(1, int(table.nbytes) // max(1, int(table.num_rows)))
    return max(1, min(most, _GROUP_BYTES // weight))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_failed(error, str(folder)) from error
    except pa.ArrowException as error:
        raise StorageFailed("vault.write", f"Arrow could not write a part: {error}") from error
