"""Write the part files of a release: cut, group, encrypt, hash.

Memory is bounded: records wait in their part until a row group is full, and when all parts together hold too
much, the fullest is written early. Each file is hashed as its ciphertext passes, and is durable when
``finish`` returns.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.model.errors import SafeholdError, StorageFailed
from safehold.model.ids import DatasetId, Digest, PartyId
from safehold.vault.cut import cut_batch
from safehold.vault.disk import storage_failed
from safehold.vault.manifest import ROW_COLUMN, ColumnGroup, PartFile, RecordId, part_file_name
from safehold.vault.parquet_form import part_schema, part_writer
from safehold.vault.part_keys import aad_text, key_commitment, new_part_key

__all__ = ["PartPlan", "PartWriters"]

_GROUP_BYTES: Final = 32 * 1024 * 1024
_WAITING_BYTES: Final = 256 * 1024 * 1024


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How records become part files."""

    party: PartyId
    dataset: DatasetId
    version: int
    groups: tuple[ColumnGroup, ...]
    record_id: RecordId
    parts: int
    cut_key: bytes
    level: int
    group_rows: int


class _HashingFile:
    """A new file that hashes what is written to it; what pyarrow asks of a Python file, and no more."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def sha256(self) -> Digest:
        return Digest("sha256:" + self._hasher.hexdigest())

    def write(self, data: bytes) -> int:
        self._hasher.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Called by Arrow too early; ``finish`` closes."""

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        with suppress(OSError):
            self._file.close()


class _OpenFile:
    """One part file being written, with its key."""

    def __init__(self, folder: Path, plan: PartPlan, part: int, group: ColumnGroup, schema: pa.Schema) -> None:
        self.name = part_file_name(part, group.name)
        self.key = new_part_key()
        self.rows = 0
        self._part, self._group = part, group
        self._aad = aad_text(plan.party, plan.dataset, plan.version, part, group.name)
        self._columns = [ROW_COLUMN, *group.columns]
        self._sink = _HashingFile(folder / self.name)
        try:
            self._writer: Any = part_writer(
                self._sink, part_schema(schema, group.columns), plan.level, self.key, self._aad
            )
        except BaseException:
            self._sink.drop()
            raise

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table.select(self._columns), row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def finish(self) -> PartFile:
        self._writer.close()
        self._sink.finish()
        return PartFile(
            part=self._part,
            group=self._group.name,
            file=self.name,
            sha256=self._sink.sha256,
            size=self._sink.size,
            rows=self.rows,
            commitment=key_commitment(self.key, self._aad),
            aad=self._aad,
        )

    def drop(self) -> None:
        # pyarrow's writer would try to write a footer when collected; there is nowhere left to write it to.
        self._writer.is_open = False
        self._sink.drop()


class _Part:
    """Records waiting for their row group, and the part's files, one a column group."""

    def __init__(self, files: list[_OpenFile]) -> None:
        self.files = files
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0
        self.size = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.waiting.append(batch)
        self.rows += batch.num_rows
        self.size += batch.nbytes

    def write(self) -> None:
        if self.waiting:
            table = pa.Table.from_batches(self.waiting)
            for file in self.files:
                file.write(table)
            self.waiting, self.rows, self.size = [], 0, 0


class PartWriters:
    """All part files of one release while they are written into ``folder``."""

    def __init__(self, folder: Path, plan: PartPlan, schema: pa.Schema) -> None:
        self._folder = folder
        self._plan = plan
        self._schema = schema
        self._numbered = part_schema(schema, tuple(schema.names))
        self._parts: dict[int, _Part] = {}
        self._rows = 0
        self._waiting = 0

    @property
    def keys(self) -> dict[str, bytes]:
        """The key of each file by its name."""
        return {file.name: file.key for part in self._parts.values() for file in part.files}

    @property
    def rows(self) -> int:
        """Records taken so far."""
        return self._rows

    def write(self, batches: Iterable[pa.RecordBatch]) -> tuple[PartFile, ...]:
        """Take all records, then return the finished, durable files in the manifest's order.

        Raises what the source raises, or ``StorageFailed``; then nothing is left open.
        """
        try:
            for batch in batches:
                self._add(batch)
            return tuple(self._finish())
        except SafeholdError:
            self._drop()
            raise
        except OSError as error:
            self._drop()
            raise storage_failed(error, str(self._folder)) from error
        except pa.ArrowException as error:
            self._drop()
            raise StorageFailed("vault.write", f"Arrow could not write a part: {error}") from error
        except BaseException:
            self._drop()
            raise

    def _add(self, batch: pa.RecordBatch) -> None:
        plan = self._plan
        places = pa.array(range(self._rows, self._rows + batch.num_rows), pa.int64())
        numbered = pa.RecordBatch.from_arrays([places, *batch.columns], schema=self._numbered)
        self._rows += batch.num_rows
        if plan.parts == 1:
            self._add_to_part(0, numbered)
            return
        for number, chosen in cut_batch(batch, plan.record_id, plan.parts, plan.cut_key).items():
            self._add_to_part(number, numbered.take(pa.array(chosen, pa.int64())))

    def _add_to_part(self, number: int, batch: pa.RecordBatch) -> None:
        part = self._parts.get(number) or self._open_part(number)
        part.add(batch)
        self._waiting += batch.nbytes
        if part.rows >= self._plan.group_rows or part.size >= _GROUP_BYTES:
            self._write_part(part)
        elif self._waiting > _WAITING_BYTES:
            self._write_part(max(self._parts.values(), key=lambda each: each.size))

    def _write_part(self, part: _Part) -> None:
        self._waiting -= part.size
        part.write()

    def _open_part(self, number: int) -> _Part:
        part = self._parts[number] = _Part([])
        for group in self._plan.groups:
            part.files.append(_OpenFile(self._folder, self._plan, number, group, self._schema))
        return part

    def _finish(self) -> Iterator[PartFile]:
        for number in sorted(self._parts):
            part = self._parts[number]
            self._write_part(part)
            for file in part.files:
                yield file.finish()

    def _drop(self) -> None:
        for part in self._parts.values():
            for file in part.files:
                file.drop()
