"""A stream of record batches as a source: for programs that have their records in Arrow already.

The stream is read once, so nothing of it can be compared and a killed sealer begins anew. What the manifest names as the
input is the SHA-256 of the batches in Arrow's IPC form, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.model.ids import Digest
from safehold.vault.arrow_types import check_columns
from safehold.vault.input_file import BATCH_BYTES, BATCH_ROWS, bounded
from safehold.vault.manifest import Field, SourceFile

__all__ = ["BatchSource"]


class BatchSource:
    """``batches`` of ``schema``; ``name`` stands for them in the manifest, ``size_hint`` is about their bytes if known.

    Raises ``InputInvalid`` (``vault.duplicate_name``, ``vault.parquet_type`` …) for a schema that cannot be sealed.
    """

    def __init__(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], name: str = "batches", size_hint: int = 0
    ) -> None:
        self._schema = schema.remove_metadata()
        self._columns = check_columns(self._schema, name)
        self._batches = iter(batches)
        self._name = name.replace("/", "_") or "batches"
        self._hasher = hashlib.sha256()
        self._rows = self._size = 0
        self._size_hint = size_hint

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
        return self._size_hint

    @property
    def rows(self) -> int | None:
        """See ``Source``."""
        return None

    @property
    def identity(self) -> str | None:
        """See ``Source``."""
        return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises ``InputInvalid`` (``vault.batch_schema``, ``vault.no_records``)."""
        for batch in self._batches:
            plain = batch.replace_schema_metadata(None)
            if not plain.schema.equals(self._schema):
                raise InputInvalid(
                    "vault.batch_schema",
                    f"a batch of {self._name} has another schema than was announced",
                    "give every batch the schema of the source",
                )
            for part in bounded(plain, BATCH_ROWS, BATCH_BYTES):
                data = part.serialize()
                self._hasher.update(data)
                self._rows += part.num_rows
                self._size += data.size
                yield part
        if not self._rows:
            raise InputInvalid("vault.no_records", f"{self._name} holds no records", "name another source")

    def files(self) -> tuple[SourceFile, ...]:
        """See ``Source``."""
        digest = Digest("sha256:" + self._hasher.hexdigest())
        one = SourceFile(name=self._name, format="batches", sha256=digest, size=self._size, rows=self._rows, style=None)
        return (one,)
