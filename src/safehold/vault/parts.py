"""Write the part files of a release: cut, group, encrypt, hash.

A part is gathered in memory (``cut`` bounds it) and then written, one file a column group, each hashed as its
ciphertext passes and durable before the part counts as sealed. With several workers as many parts are in memory, and
one more; the parts stand in the manifest in the order of the records, whoever was done first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.model.errors import StorageFailed
from safehold.model.ids import DatasetId, PartyId
from safehold.vault.cut import Chunk, CutRule, cut
from safehold.vault.disk import storage_failed
from safehold.vault.hashed_file import HashedFile as _HashingFile
from safehold.vault.manifest import ColumnGroup, PartFile, Run, part_file_name
from safehold.vault.maps import without_maps, without_maps_schema
from safehold.vault.parquet_form import part_schema, part_writer
from safehold.vault.part_keys import aad_text, key_commitment, new_part_key

__all__ = ["Laid", "PartPlan", "PartWriters", "SealedPart", "seal_part"]

_GROUP_BYTES: Final = 32 * 1024 * 1024


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How records become part files; ``cut`` tells where a part ends, ``workers`` how many are written at once."""

    party: PartyId
    dataset: DatasetId
    version: int
    groups: tuple[ColumnGroup, ...]
    cut: CutRule
    level: int
    group_rows: int
    workers: int


class SealedPart(msgspec.Struct, frozen=True):
    """A part whose files are durable, with their keys by file name."""

    files: tuple[PartFile, ...]
    keys: Mapping[str, bytes]


class Laid(msgspec.Struct, frozen=True):
    """All parts of a release, the order of its records, and the key of each file by its name."""

    files: tuple[PartFile, ...]
    runs: tuple[Run, ...]
    keys: Mapping[str, bytes]
    rows: int


class _OpenFile:
    """One part file being written, with its key."""

    def __init__(self, folder: Path, plan: PartPlan, part: int, group: ColumnGroup, schema: pa.Schema) -> None:
        self.name = part_file_name(plan.version, part, group.name)
        self.key = new_part_key()
        self._aad = aad_text(plan.party, plan.dataset, plan.version, part, group.name)
        self._sink = _HashingFile(folder / self.name)
        try:
            self._writer: Any = part_writer(
                self._sink, part_schema(schema, group.columns), plan.level, self.key, self._aad
            )
        except BaseException:
            self._sink.drop()
            raise

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def finish(self, plan: PartPlan, part: int, group: ColumnGroup, chunk: Chunk) -> PartFile:
        self._writer.close()
        self._sink.finish()
        return PartFile(
            sealed=plan.version,
            part=part,
            group=group.name,
            file=self.name,
            sha256=self._sink.sha256,
            size=self._sink.size,
            rows=chunk.rows,
            commitment=key_commitment(self.key, self._aad),
            aad=self._aad,
            tag=chunk.tag,
            rows_root=None,
        )

    def drop(self) -> None:
        # pyarrow's writer would try to write a footer when collected; there is nowhere left to write it to.
        self._writer.is_open = False
        self._sink.drop()


def seal_part(folder: Path, plan: PartPlan, part: int, chunk: Chunk) -> SealedPart:
    """Write the files of one part into ``folder``; they are durable on return. Nothing is left open on an error.

    Raises ``StorageFailed``.
    """
    schema = without_maps_schema(chunk.batches[0].schema)
    table = pa.Table.from_batches([without_maps(batch, schema) for batch in chunk.batches])
    step = _group_rows(table, plan.group_rows)
    files: list[PartFile] = []
    keys: dict[str, bytes] = {}
    for group in plan.groups:
        columns = table.select(group.columns)
        with _translated(folder):
            file = _OpenFile(folder, plan, part, group, table.schema)
            try:
                for first in range(0, table.num_rows, step):
                    file.write(columns.slice(first, step))
                files.append(file.finish(plan, part, group, chunk))
            except BaseException:
                file.drop()
                raise
        keys[file.name] = file.key
    return SealedPart(tuple(files), keys)


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


class PartWriters:
    """Seals chunk after chunk into ``folder``."""

    def __init__(self, folder: Path, plan: PartPlan) -> None:
        self._folder = folder
        self._plan = plan
        self._next = 0
        self._runs: list[Run] = []
        self._waiting: deque[Future[SealedPart]] = deque()
        self._done: list[SealedPart] = []
        self._pool = ThreadPoolExecutor(plan.workers, "seal") if plan.workers > 1 else None

    def write(self, batches: Iterable[pa.RecordBatch]) -> Laid:
        """Take all records; the files are durable on return, in the manifest's order.

        Raises what the source raises, or ``StorageFailed``; then nothing is left open.
        """
        try:
            for chunk in cut(batches, self._plan.cut):
                self._add(chunk)
            while self._waiting:
                self._done.append(self._waiting.popleft().result())
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
        return self._laid()

    def _add(self, chunk: Chunk) -> None:
        number, self._next = self._next, self._next + 1
        self._runs.append(Run(number, 0, chunk.rows))
        if self._pool is None:
            self._done.append(seal_part(self._folder, self._plan, number, chunk))
            return
        # Bounded: with every worker busy, the next part waits here and not in memory.
        while len(self._waiting) >= self._plan.workers:
            self._done.append(self._waiting.popleft().result())
        self._waiting.append(self._pool.submit(seal_part, self._folder, self._plan, number, chunk))

    def _laid(self) -> Laid:
        files = tuple(file for part in self._done for file in part.files)
        keys = {name: key for part in self._done for name, key in part.keys.items()}
        rows = sum(run.rows for run in self._runs)
        whole = [(run.part, run.first) for run in self._runs] == [(number, 0) for number in range(len(self._done))]
        return Laid(files, () if whole else tuple(self._runs), keys, rows)
