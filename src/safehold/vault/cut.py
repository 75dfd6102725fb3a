"""Which part a record goes to: by a keyed hash of its id, so that an edit changes few parts.

The hash is BLAKE2b keyed with a secret of the dataset: part numbers are public, and without the key they say
nothing about an id. The same key for the next release cuts the same ids into the same parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.vault.manifest import RecordId

__all__ = ["MAX_AUTO_PARTS", "cut_batch", "part_count"]

MAX_AUTO_PARTS: Final = 256
"""Opening in the input's order holds one file a part and group open; this stays below usual limits."""


def part_count(size_hint: int, target_bytes: int) -> int:
    """How many parts an input of ``size_hint`` sealed bytes is cut into: as few as keep them near the target."""
    return max(1, min(MAX_AUTO_PARTS, -(-size_hint // target_bytes)))


def cut_batch(batch: pa.RecordBatch, record_id: RecordId, parts: int, key: bytes) -> dict[int, list[int]]:
    """The places in ``batch`` of the records of each part, parts from 0 to ``parts`` - 1.

    Raises ``InputInvalid``: ``vault.record_id_type`` (the id is neither text nor integer, or a record has
    values that need an id column) or ``vault.record_id_null``.
    """
    ids = _whole_records(batch) if record_id.column is None else _column_ids(batch, record_id.column)
    keyed = hashlib.blake2b(digest_size=8, key=key, person=b"safehold cut v1")
    members: dict[int, list[int]] = {}
    for place, text in enumerate(ids):
        hasher = keyed.copy()
        hasher.update(text.encode("utf-8", "surrogatepass"))
        members.setdefault(int.from_bytes(hasher.digest(), "big") % parts, []).append(place)
    return members


def _column_ids(batch: pa.RecordBatch, column: str) -> Iterator[str]:
    values = batch.column(batch.schema.get_field_index(column))
    if not (
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_integer(values.type)
    ):
        raise InputInvalid(
            "vault.record_id_type",
            f"the record id {column!r} is of type {values.type}",
            "choose a column of texts or integers",
        )
    for value in values.to_pylist():
        if value is None:
            raise InputInvalid(
                "vault.record_id_null", f"the record id {column!r} is null in a record", "choose another column"
            )
        yield str(value)


def _whole_records(batch: pa.RecordBatch) -> Iterator[str]:
    columns = [_plain_values(batch.schema.field(place).name, column) for place, column in enumerate(batch.columns)]
    for row in zip(*columns, strict=True):
        yield json.dumps(row, sort_keys=True, default=repr)


def _plain_values(name: str, column: pa.Array) -> list[Any]:
    if pa.types.is_temporal(column.type):
        # As the integers they are: Python's own times have no nanoseconds and need a time-zone database.
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    try:
        values: list[Any] = column.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise InputInvalid(
            "vault.record_id_type",
            f"column {name!r} holds values that have no plain form to hash",
            "name a column of texts or integers as the record id",
        ) from error
    return values
