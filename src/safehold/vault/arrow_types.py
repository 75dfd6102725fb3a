"""Which Arrow columns can be sealed: every type that Parquet gives back unchanged, nothing cast."""

from __future__ import annotations

import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.vault.fields import describe
from safehold.vault.manifest import Field
from safehold.vault.maps import without_maps_schema
from safehold.vault.parquet_form import unchanged_by_parquet
from safehold.vault.shapes import MAX_FIELDS

__all__ = ["check_columns"]


def check_columns(schema: pa.Schema, name: str) -> tuple[Field, ...]:
    """Describe the columns of ``name``, or raise ``InputInvalid``.

    ``vault.no_columns``, ``vault.duplicate_name``, ``vault.too_many_columns``, ``vault.parquet_type``.
    """
    columns = describe(schema)
    if not columns:
        raise InputInvalid("vault.no_columns", f"{name} has no columns", "name another input")
    if len(set(schema.names)) != len(columns):
        raise InputInvalid("vault.duplicate_name", f"{name} names a column twice", "rename one of them")
    if len(columns) > MAX_FIELDS:
        raise InputInvalid("vault.too_many_columns", f"{name} has more than {MAX_FIELDS:,} columns")
    changed = unchanged_by_parquet(without_maps_schema(schema))
    if changed is not None:
        raise InputInvalid(
            "vault.parquet_type",
            f"{name}: Parquet does not give back column {changed!r} as it is",
            "cast it to a plain type first",
        )
    return columns
