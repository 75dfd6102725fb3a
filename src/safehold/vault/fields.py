"""Between Arrow and the manifest: schemas described, schemas built, records given back as they came.

Parquet files keep Arrow's exact schema themselves, encrypted. The manifest's ``Field`` tree is its description
for people and checks, plus the rules that Arrow cannot hold (absent members, whole numbers in double columns, values of several types).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.vault.manifest import Field
from safehold.vault.shapes import RESERVED

__all__ = ["arrow_schema", "describe", "record_of", "records", "same_types", "sealed_form", "stored"]

_LEAVES: Final[dict[str, Any]] = {
    "null": pa.null(),
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
_EMPTY: Final = RESERVED + "empty"

_Restore = Callable[[Any], Any]


def arrow_schema(columns: Sequence[Field]) -> pa.Schema:
    """The Arrow schema of columns that came from JSON or CSV (no other types have a way back from their name)."""
    return pa.schema([pa.field(column.name, _arrow_type(column), column.nullable) for column in columns])


def _arrow_type(field: Field) -> pa.DataType:
    if field.type == "list":
        return pa.list_(pa.field("element", _arrow_type(field.fields[0])))
    if field.type == "struct":
        return pa.struct([pa.field(member.name, _arrow_type(member)) for member in field.fields])
    return _LEAVES[field.type]


def describe(schema: pa.Schema) -> tuple[Field, ...]:
    """Describe an Arrow schema; raises ``InputInvalid`` (``vault.column_name``)."""
    return tuple(_describe(field) for field in schema)


def _describe(field: pa.Field) -> Field:
    kind = str(field.type)
    members: tuple[Field, ...] = ()
    if field.name.startswith(RESERVED) and field.name != _EMPTY:
        raise InputInvalid(
            "vault.column_name", f"the name {field.name[:60]!r} is reserved", f"rename it: not {RESERVED}…"
        )
    if pa.types.is_map(field.type):
        kind, members = "map", (_describe(field.type.key_field), _describe(field.type.item_field))
    elif pa.types.is_list(field.type):
        kind, members = "list", (_describe(field.type.value_field),)
    elif pa.types.is_struct(field.type):
        kind, members = "struct", tuple(_describe(member) for member in field.type)
    return Field(
        name=field.name, type=kind, nullable=field.nullable, omit=False, integers=False, json=False, fields=members
    )


def sealed_form(field: Field) -> Field:
    """How a column stands in its part file: a map as a list of structs, everything else as it is."""
    members = tuple(sealed_form(member) for member in field.fields)
    if field.type != "map":
        return msgspec.structs.replace(field, fields=members)
    pair = msgspec.structs.replace(field, name="element", type="struct", nullable=False, omit=False, fields=members)
    return msgspec.structs.replace(field, type="list", fields=(pair,))


def same_types(left: Sequence[Field], right: Sequence[Field]) -> bool:
    """Whether two descriptions name the same columns of the same types, whatever their rules."""
    return len(left) == len(right) and all(
        a.name == b.name and _same_type(a, b) for a, b in zip(left, right, strict=True)
    )


def _same_type(left: Field, right: Field) -> bool:
    if left.type != right.type or left.nullable != right.nullable:
        return False
    if left.type == "list":  # Arrow and Parquet call the element by different names, and neither means anything by it
        return _same_type(left.fields[0], right.fields[0])
    return same_types(left.fields, right.fields)


_ABSENT: Final = object()


def records(batch: pa.RecordBatch, columns: Sequence[Field]) -> Iterator[dict[str, Any]]:
    """The records of ``batch`` as Python objects, members in the order and form in which they came."""
    lists: list[list[Any]] = []
    for column in columns:
        restore = _restorer(column)
        nothing = _ABSENT if column.omit else None
        values = batch.column(batch.schema.get_field_index(column.name)).to_pylist()
        if restore is not None:
            values = [nothing if v is None else restore(v) for v in values]
        elif column.omit:
            values = [nothing if v is None else v for v in values]
        lists.append(values)
    names = [column.name for column in columns]
    if not any(column.omit for column in columns):
        for row in zip(*lists, strict=True):
            yield dict(zip(names, row, strict=True))
        return
    for row in zip(*lists, strict=True):
        yield {name: value for name, value in zip(names, row, strict=True) if value is not _ABSENT}


def record_of(values: Sequence[Any], columns: Sequence[Field]) -> dict[str, Any]:
    """One record from the values of its columns as Arrow gives them to Python: what ``records`` does for many."""
    record: dict[str, Any] = {}
    for column, value in zip(columns, values, strict=True):
        if value is None:
            if not column.omit:
                record[column.name] = None
        else:
            restore = _restorer(column)
            record[column.name] = value if restore is None else restore(value)
    return record


def stored(rows: Sequence[dict[str, Any]], column: Field) -> list[Any]:
    """The values of one column of JSON records as Arrow takes them: the inverse of ``records``."""
    store = _storer(column)
    name = column.name
    if store is None:
        return [row.get(name) for row in rows]
    return [store(row[name]) if name in row else None for row in rows]


def _storer(field: Field) -> _Restore | None:
    """What turns a value into what Arrow takes, or None if it is that already."""
    if field.json:
        return _to_json
    inner = [(member.name, _storer(member)) for member in field.fields]
    if not any(store for _, store in inner):
        return None
    if field.type == "list":
        item = inner[0][1]
        return lambda values: None if values is None else [item(v) for v in values] if item else values
    plain = dict(inner)

    def store_struct(value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {name: member if (store := plain.get(name)) is None else store(member) for name, member in value.items()}

    return store_struct


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _restorer(field: Field) -> _Restore | None:
    """What turns a non-null value of ``field`` into what was read, or None if it is that already."""
    if field.json:
        return json.loads
    if field.type == "double":
        return _whole if field.integers else None
    if field.type == "list":
        item = _restorer(field.fields[0])
        return None if item is None else lambda values: [None if v is None else item(v) for v in values]
    if field.type == "struct":
        return _struct_restorer(field)
    return None


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _struct_restorer(field: Field) -> _Restore | None:
    members = [(member.name, member.omit, _restorer(member)) for member in field.fields if member.name != _EMPTY]
    if len(members) == len(field.fields) and not any(omit or restore for _, omit, restore in members):
        return None

    def restore_struct(value: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, omit, restore in members:
            inner = value[name]
            if inner is None:
                if not omit:
                    out[name] = None
            else:
                out[name] = inner if restore is None else restore(inner)
        return out

    return restore_struct
