"""The one form of a part file: how Parquet is written and encrypted here, and nowhere else.

Parquet Modular Encryption (https://github.com/apache/parquet-format/blob/master/Encryption.md) by one direct
key: ``AES_GCM_V1`` for every module, footer encrypted, AAD prefix not stored. Version 1 data pages, because
other readers fail on encrypted version 2 pages; no Bloom filters, which cannot be encrypted; never the CTR mode,
in which a changed byte of a page goes unseen. Arrow's ``CryptoFactory`` is not used: it shares keys between
files, keeps them after a revocation, and aborts the process on a refused column.

pyarrow's direct-key calls are young; they stand in this module alone, and files written by it are kept as test vectors.
It is loaded when a part file is written or read: the broker's process, which opens homes and no part file, goes without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["open_part", "part_schema", "part_writer", "unchanged_by_parquet"]

_READ_BUFFER: Final = 1 << 20


def part_schema(schema: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    """The schema of the files of one column group."""
    import pyarrow as pa

    return pa.schema([schema.field(schema.get_field_index(name)) for name in columns])


def _empty_file(schema: pa.Schema) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return sink.getvalue()


def unchanged_by_parquet(schema: pa.Schema) -> str | None:
    """None if Parquet gives every column back with its type, else the name of the first that it does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for field in schema:
        one = pa.schema([field]).remove_metadata()
        try:
            back = pq.ParquetFile(pa.BufferReader(_empty_file(one))).schema_arrow.remove_metadata()
        except (pa.ArrowException, OSError):
            return str(field.name)
        if not back.equals(one):
            return str(field.name)
    return None


def part_writer(sink: Any, schema: pa.Schema, level: int, key: bytes, aad: str) -> Any:
    """A ``ParquetWriter`` of one part file on an open file."""
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe

    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=level,
        encryption_properties=pe.create_encryption_properties(
            key, aad_prefix=aad.encode(), store_aad_prefix=False, encryption_algorithm="AES_GCM_V1"
        ),
    )


def open_part(place: Path | pa.NativeFile, key: bytes, aad: str) -> Any:
    """A ``ParquetFile`` of one part file, or of what ends as it does. A wrong key or AAD is an ``OSError`` here, before any record.

    The file is read, never mapped: a file that shrinks under a mapping kills the process.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe

    return pq.ParquetFile(
        pa.OSFile(str(place), "rb") if isinstance(place, Path) else place,
        decryption_properties=pe.create_decryption_properties(key, aad_prefix=aad.encode()),
        pre_buffer=False,
        buffer_size=_READ_BUFFER,
    )
