"""A source that tells how far it was read, for progress on long work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from safehold.vault.input_file import Source
from safehold.vault.manifest import Field, SourceFile

__all__ = ["Watched"]


class Watched:
    """``source``, with ``progress`` called after each batch with the records so far."""

    def __init__(self, source: Source, progress: Callable[[int], None]) -> None:
        self._source = source
        self._progress = progress

    @property
    def columns(self) -> tuple[Field, ...]:
        """See ``Source``."""
        return self._source.columns

    @property
    def schema(self) -> pa.Schema:
        """See ``Source``."""
        return self._source.schema

    @property
    def size_hint(self) -> int:
        """See ``Source``."""
        return self._source.size_hint

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        done = 0
        for batch in self._source.batches():
            yield batch
            done += batch.num_rows
            self._progress(done)

    @property
    def rows(self) -> int | None:
        """See ``Source``."""
        return self._source.rows

    @property
    def identity(self) -> str | None:
        """See ``Source``."""
        return self._source.identity

    def files(self) -> tuple[SourceFile, ...]:
        """See ``Source``."""
        return self._source.files()
