"""Put the columns of several groups side by side, and the records of version 1 back into the order of the input.

Releases of version 1 hold each record's place in a hidden row column, and are merged by it. Each part holds its records in rising order. A round takes from every part what lies up to the smallest of their
last rows, sorts it, and hands it out; so no more than one batch a part is in memory. Every row from 0 on must
appear once: anything else means that the parts are not those of one sealing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from safehold.model.errors import VerificationFailed
from safehold.vault.manifest import ROW_COLUMN

__all__ = ["join_groups", "merge_parts", "side_by_side"]


def join_groups(readers: Sequence[Iterator[pa.RecordBatch]], part: int) -> Iterator[pa.RecordBatch]:
    """The files of one part of version 1 side by side: one row column, then the columns of each group.

    Raises ``VerificationFailed`` (``vault.rows``) if the files do not hold the same rows.
    """
    for heads in _aligned(readers, part):
        yield _with_rows(heads, part)


def side_by_side(readers: Sequence[Iterator[pa.RecordBatch]], part: int) -> Iterator[pa.RecordBatch]:
    """The files of one part side by side: the columns of each group.

    Raises ``VerificationFailed`` (``vault.rows``) if the files do not hold as many records.
    """
    if len(readers) == 1:
        yield from readers[0]
        return
    for heads in _aligned(readers, part):
        fields = [field for head in heads for field in head.schema]
        arrays = [column for head in heads for column in head.columns]
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _aligned(readers: Sequence[Iterator[pa.RecordBatch]], part: int) -> Iterator[list[pa.RecordBatch]]:
    """One batch of each reader at a time, all of one length."""
    waiting: list[pa.RecordBatch | None] = [None] * len(readers)
    while True:
        for place, reader in enumerate(readers):
            if waiting[place] is None:
                waiting[place] = next((batch for batch in reader if batch.num_rows), None)
        present = [batch for batch in waiting if batch is not None]
        if not present:
            return
        if len(present) != len(readers):
            raise _wrong_rows(f"the files of part {part} differ in length")
        count = min(batch.num_rows for batch in present)
        waiting = [batch.slice(count) if batch.num_rows > count else None for batch in present]
        yield [batch.slice(0, count) for batch in present]


def _with_rows(heads: Sequence[pa.RecordBatch], part: int) -> pa.RecordBatch:
    rows = heads[0].column(0)
    if any(not head.column(0).equals(rows) for head in heads[1:]):
        raise _wrong_rows(f"the files of part {part} hold different rows")
    if len(heads) == 1:
        return heads[0]
    arrays, fields = [rows], [heads[0].schema.field(0)]
    for head in heads:
        arrays += head.columns[1:]
        fields += list(head.schema)[1:]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def merge_parts(parts: Sequence[Iterator[pa.RecordBatch]], rows: int) -> Iterator[pa.RecordBatch]:
    """All records in the order of the input; ``rows`` is how many there must be.

    Raises ``VerificationFailed`` (``vault.rows``) for a row that is missing, doubled or out of place.
    """
    done = 0
    for batch in _sorted_rounds(parts) if len(parts) > 1 else parts[0]:
        _check_range(batch.column(0), done)
        done += batch.num_rows
        yield batch
    if done != rows:
        raise _wrong_rows(f"the parts hold {done:,} of {rows:,} records")


def _sorted_rounds(parts: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    heads: list[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]] = []
    for part in parts:
        _refill(heads, part)
    while heads:
        limit = min(_last(batch) for batch, _ in heads)
        ready: list[pa.RecordBatch] = []
        rest: list[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]] = []
        for batch, part in heads:
            count = pc.sum(pc.less_equal(batch.column(0), limit)).as_py()
            if count:
                ready.append(batch.slice(0, count))
            if count < batch.num_rows:
                rest.append((batch.slice(count), part))
            else:
                _refill(rest, part)
        heads = rest
        table = pa.Table.from_batches(ready)
        yield from table.take(pc.sort_indices(table.column(ROW_COLUMN))).combine_chunks().to_batches()


def _refill(heads: list[Any], part: Iterator[pa.RecordBatch]) -> None:
    batch = next((batch for batch in part if batch.num_rows), None)
    if batch is not None:
        heads.append((batch, part))


def _last(batch: pa.RecordBatch) -> int:
    return int(batch.column(0)[-1].as_py())


def _check_range(places: pa.Array, start: int) -> None:
    steps = pc.min_max(pc.pairwise_diff(places)).as_py()
    if places[0].as_py() != start or (len(places) > 1 and steps != {"min": 1, "max": 1}):
        raise _wrong_rows(f"record {start:,} is not where it must be, or comes twice")


def _wrong_rows(reason: str) -> VerificationFailed:
    return VerificationFailed("vault.rows", reason, "these parts were not sealed together: fetch the release again")
