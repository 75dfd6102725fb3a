"""Maps as lists of their pairs, and back: several readers of sealed files cannot read Parquet's map type.

A map and a list of structs (key, value) have the same buffers, so neither way copies a value. Maps may stand at any
depth, in lists and structs. Pairs keep their order, and a key that comes twice stays twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from safehold.vault.manifest import Field, walk_fields

__all__ = ["with_maps", "without_maps", "without_maps_schema"]


def _sealed_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        key, value = _sealed_field(kind.key_field), _sealed_field(kind.item_field)
        return pa.list_(pa.field("element", pa.struct([key, value]), nullable=False))
    if pa.types.is_list(kind):
        return pa.list_(_sealed_field(kind.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([_sealed_field(member) for member in kind])
    return kind


def _sealed_field(field: pa.Field) -> pa.Field:
    return field.with_type(_sealed_type(field.type))


def without_maps_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the part files for records of ``schema``."""
    return pa.schema([_sealed_field(field) for field in schema])


def without_maps(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """``batch`` with lists of pairs in place of its maps; ``schema`` is ``without_maps_schema`` of its own."""
    if batch.schema.equals(schema):
        return batch
    arrays = [_as(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def with_maps(batch: pa.RecordBatch, columns: Sequence[Field]) -> pa.RecordBatch:
    """``batch`` with its maps again, where ``columns`` says that there were some."""
    if not any(field.type == "map" for field, _ in walk_fields(tuple(columns))):
        return batch
    fields = [one.with_type(_read_type(one.type, column)) for one, column in zip(batch.schema, columns, strict=True)]
    arrays = [_as(column, field.type) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _read_type(kind: pa.DataType, column: Field) -> pa.DataType:
    if column.type == "map":
        pair = kind.value_type
        key, value = (pair.field(at).with_type(_read_type(pair.field(at).type, column.fields[at])) for at in (0, 1))
        return pa.map_(key, value)
    if column.type == "list":
        element = kind.value_field
        return pa.list_(element.with_type(_read_type(element.type, column.fields[0])))
    if column.type == "struct":
        members = (kind.field(at) for at in range(kind.num_fields))
        return pa.struct(
            [one.with_type(_read_type(one.type, field)) for one, field in zip(members, column.fields, strict=True)]
        )
    return kind


def _as(array: Any, kind: pa.DataType) -> Any:
    """The same buffers under another type, which differs in maps and lists of pairs alone."""
    if array.type.equals(kind):
        return array
    # offset 0: a slice's buffers begin before it
    whole = pa.concat_arrays([array, array.slice(0, 0)]) if array.offset else array
    if pa.types.is_struct(kind):
        children = [_as(whole.field(at), kind.field(at).type) for at in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, len(whole), whole.buffers()[:1], children=children)
    child = _child(whole)
    inner = _pairs_type(kind) if pa.types.is_map(kind) else kind.value_type
    return pa.Array.from_buffers(kind, len(whole), whole.buffers()[:2], children=[_as(child, inner)])


def _pairs_type(kind: pa.DataType) -> pa.DataType:
    return pa.struct([kind.key_field, kind.item_field])


def _child(array: Any) -> Any:
    """All pairs or elements that lie behind a map or list, whatever its offsets."""
    if pa.types.is_map(array.type):
        pairs = _pairs_type(array.type)
        return pa.Array.from_buffers(pairs, len(array.keys), [None], children=[array.keys, array.items])
    return array.values
