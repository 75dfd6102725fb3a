"""The form of a segment: which rows entries become, and in which bytes. ``docs/spec/segments.md`` gives the columns.

Pure: entries in, bytes out. The rows depend on the entries alone; the bytes also on the version of pyarrow, so a
segment that is written again may need an entry again, and two segments are compared by rows.

pyarrow is imported where it is used: whoever lists, verifies or audits a ledger does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from safehold.ledger.storage import Entry
from safehold.model.statements import KeyReleased, Unknown

__all__ = ["FORM", "SEGMENT_TABLES", "SegmentTable", "arrow_rows", "file_name", "parquet_bytes", "parquet_rows"]

FORM: Final = 1
"""The version of the format that is written. Another one is refused by name."""

SegmentTable = Literal["entry", "key_release"]
SEGMENT_TABLES: Final[tuple[SegmentTable, ...]] = ("entry", "key_release")

_ROW_GROUP: Final = 131_072


def file_name(table: str, begin: int, end: int) -> str:
    """The name of a segment's file: the same range has the same name, so that a file without an entry is replaced."""
    return f"{table}-{begin:012d}-{end:012d}.parquet"


def _schema(table: SegmentTable) -> Any:
    import pyarrow as pa

    place = [pa.field("idx", pa.int64(), nullable=False), pa.field("t", pa.int64())]
    if table == "entry":
        # 64-bit offsets: the bodies of a range may be more than 2 GiB together
        return pa.schema([*place, pa.field("kind", pa.string(), nullable=False), pa.field("body", pa.large_string())])
    texts = ("request", "host", "party", "member", "release", "dataset", "grant", "purpose")
    lists = ("groups", "inventories")
    return pa.schema(
        [
            *place,
            *(pa.field(name, pa.string()) for name in texts),
            *(pa.field(name, pa.list_(pa.string())) for name in lists),
            pa.field("parts", pa.int64()),
            pa.field("until", pa.int64()),
        ]
    )


def arrow_rows(table: SegmentTable, entries: Sequence[Entry]) -> Any:
    """The rows of ``table`` from ``entries`` as a ``pyarrow.Table``, sorted by time, then by place; no time comes last."""
    import pyarrow as pa

    schema = _schema(table)
    timed = [(_time(entry), entry) for entry in entries if table == "entry" or isinstance(entry.statement, KeyReleased)]
    timed.sort(key=lambda one: (one[0] is None, one[0] or 0, one[1].index))
    columns: dict[str, list[Any]] = {"idx": [entry.index for _, entry in timed], "t": [t for t, _ in timed]}
    if table == "entry":
        columns["kind"] = [_kind(entry) for _, entry in timed]
        columns["body"] = [entry.body.decode() for _, entry in timed]  # canonical bytes are UTF-8: decode() saw to it
    else:
        for name in schema.names[2:]:
            columns[name] = [getattr(entry.statement, name) for _, entry in timed]
    return pa.table(columns, schema=schema)


def _kind(entry: Entry) -> str:
    statement = entry.statement
    return statement.kind if isinstance(statement, Unknown) else str(statement.__struct_config__.tag)


def _time(entry: Entry) -> int | None:
    """``t``; of a kind or version that is not known here it is what stands under that name, if it is an integer."""
    if not isinstance(entry.statement, Unknown):
        return entry.statement.t
    found = msgspec.json.decode(entry.body).get("t")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def parquet_bytes(rows: Any) -> bytes:
    """A ``pyarrow.Table`` as the bytes of a Parquet file (zstd, level 1)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
    return bytes(sink.getvalue())


def parquet_rows(data: bytes) -> Any:
    """The rows in the bytes of a segment. Only for bytes that were held against their entry."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(data))
