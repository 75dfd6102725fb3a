"""Parquet files as they are: every type that Parquet gives back unchanged, nothing cast.

Key-value metadata of the input is left out: it belongs to no column group, and writers put values into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from safehold.model.errors import InputInvalid
from safehold.vault.arrow_types import check_columns
from safehold.vault.input_file import BATCH_BYTES, BATCH_ROWS, InputFile
from safehold.vault.manifest import Field, SourceFile

__all__ = ["ParquetSource"]

_BUFFER: Final = 1 << 20


class ParquetSource:
    """A Parquet file; hashed and its schema checked on construction (see ``sources.open_source`` for the errors)."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        file.hash()
        with self._open() as parquet:
            metadata = parquet.metadata
            self._rows = int(metadata.num_rows)
            plain = sum(int(metadata.row_group(i).total_byte_size) for i in range(metadata.num_row_groups))
            self._schema = parquet.schema_arrow.remove_metadata()
        if not self._rows or not len(self._schema):
            raise InputInvalid("vault.no_records", f"{file.name} holds no records", "name another file")
        self._batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * self._rows // max(1, plain)))
        self._columns = check_columns(self._schema, file.name)

    @property
    def columns(self) -> tuple[Field, ...]:
        """See ``Source``."""
        return self._columns

    @property
    def schema(self) -> pa.Schema:
        """See ``Source``."""
        return self._schema

    @property
    def size_hint(self) -> int:
        """See ``Source``."""
        return self._file.size

    @property
    def rows(self) -> int | None:
        """See ``Source``."""
        return self._rows

    @property
    def identity(self) -> str | None:
        """See ``Source``."""
        return self._file.sha256

    def files(self) -> tuple[SourceFile, ...]:
        """See ``Source``."""
        one = SourceFile(
            name=self._file.name,
            format="parquet",
            sha256=self._file.sha256,
            size=self._file.size,
            rows=self._rows,
            style=None,
        )
        return (one,)

    def _open(self) -> Any:
        self._file.check_state()
        try:
            return pq.ParquetFile(
                self._file.path, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputInvalid:
        return InputInvalid(
            "vault.parquet_unreadable",
            f"{self._file.name} cannot be read as Parquet: {str(error).splitlines()[0][:200] if str(error) else ''}",
            "it may be truncated, damaged or encrypted: seal a complete plain copy",
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises ``InputInvalid`` (``vault.parquet_unreadable``, ``vault.source_changed``)."""
        rows = 0
        with self._open() as parquet:
            try:
                for batch in parquet.iter_batches(batch_size=self._batch_rows, use_threads=False):
                    rows += batch.num_rows
                    yield batch.replace_schema_metadata(None)
            except (pa.ArrowException, OSError) as error:
                self._file.check_state()
                raise self._unreadable(error) from error
        if rows != self._rows:
            raise self._file.changed()
        # Arrow read the file by itself: hash it once more, so that the manifest names what was really sealed.
        self._file.hash()
