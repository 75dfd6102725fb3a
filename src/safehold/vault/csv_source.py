"""CSV (RFC 4180) in UTF-8 with a header line. Every cell is text, exactly as it stands in the file.

No type is guessed: ``007``, ``1e5``, ``NA`` and an empty cell stay what they are. Rows that do not have the
header's number of cells are refused, and so are stray quotes, which lenient readers repair by changing a value.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator

import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.vault.disk import storage_failed
from safehold.vault.fields import arrow_schema
from safehold.vault.input_file import BATCH_BYTES, BATCH_ROWS, InputFile
from safehold.vault.lines import read_lines, split_line_end
from safehold.vault.manifest import Field, SourceFile
from safehold.vault.shapes import MAX_FIELDS, RESERVED
from safehold.vault.texts import CSV_FORMS, StyleFinder

__all__ = ["CsvSource"]

_Row = tuple[int, list[str], str]


class CsvSource:
    """A CSV file; its first pass is done on construction (see ``sources.open_source`` for the errors)."""

    def __init__(self, file: InputFile, line_limit: int) -> None:
        self._file = file
        self._limit = line_limit
        self._style = StyleFinder(CSV_FORMS)
        self._rows = 0
        self._columns = self._learn()
        self._schema = arrow_schema(self._columns)

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
        return self._file.size // 3

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
            format="csv",
            sha256=self._file.sha256,
            size=self._file.size,
            rows=self._rows,
            style=self._style.found(),
        )
        return (one,)

    def _learn(self) -> tuple[Field, ...]:
        header: list[str] | None = None
        for number, cells, _ in self._read():
            if header is None:
                header = self._check_header(cells)
            elif len(cells) != len(header):
                raise InputInvalid(
                    "vault.csv_ragged",
                    f"{self._file.name}, line {number}: {len(cells)} cells where the header has {len(header)}",
                    "give every row a cell for every column; quote cells that hold commas",
                )
            else:
                self._rows += 1
        if header is None or not self._rows:
            raise InputInvalid("vault.no_records", f"{self._file.name} holds no records", "name another file")
        return tuple(
            Field(name=name, type="string", nullable=False, omit=False, integers=False, json=False, fields=())
            for name in header
        )

    def _check_header(self, names: list[str]) -> list[str]:
        where = f"{self._file.name}, line 1"
        if not names:
            raise InputInvalid("vault.no_columns", f"{where}: the header line is blank", "name the columns there")
        if len(set(names)) != len(names):
            raise InputInvalid(
                "vault.duplicate_name", f"{where}: the header names a column twice", "rename one of them"
            )
        if len(names) > MAX_FIELDS:
            raise InputInvalid("vault.too_many_columns", f"{where}: more than {MAX_FIELDS:,} columns")
        for name in names:
            if name.startswith(RESERVED) or len(name) > 1024 or not name:
                raise InputInvalid(
                    "vault.column_name",
                    f"{where}: the column name {name[:60]!r} is empty, reserved or too long",
                    f"rename it: 1 to 1,024 characters, not beginning with {RESERVED}",
                )
        return names

    def _read(self) -> Iterator[_Row]:
        """One pass: number of the row's last line, its cells, the text that it was read from."""
        hasher = hashlib.sha256()
        text: list[str] = []
        number = 0
        # Python's default of 131,072 characters a cell is for the whole process; a higher one harms nobody.
        csv.field_size_limit(max(csv.field_size_limit(), self._limit))
        try:
            with self._file.open() as file:
                lines = read_lines(file, self._file.name, self._limit, hasher.update)
                reader = csv.reader(_noted(lines, text), strict=True)
                for cells in reader:
                    number = reader.line_num
                    yield number, cells, "".join(text)
                    text.clear()
        except csv.Error as error:
            raise InputInvalid(
                "vault.csv_malformed",
                f"{self._file.name}, after line {number}: {error}",
                "quote cells that hold quotes, commas or line ends; double a quote inside quotes",
            ) from error
        except OSError as error:
            raise storage_failed(error, str(self._file.path)) from error
        self._file.end_pass(hasher)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises ``InputInvalid`` (``vault.source_changed``)."""
        rows: list[list[str]] = []
        size = 0
        header = True
        try:
            for _, cells, text in self._read():
                line, end = split_line_end(text)
                self._style.csv_line(cells, line, end)
                if header or len(cells) != len(self._columns):
                    header = self._skip_header(cells)
                    continue
                rows.append(cells)
                size += len(text)
                if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield self._batch(rows)
                    rows, size = [], 0
        except InputInvalid as error:
            raise self._file.changed() from error
        if rows:
            yield self._batch(rows)

    def _skip_header(self, cells: list[str]) -> bool:
        if cells != [column.name for column in self._columns]:
            raise self._file.changed()
        return False

    def _batch(self, rows: list[list[str]]) -> pa.RecordBatch:
        columns = list(zip(*rows, strict=True))
        return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], schema=self._schema)


def _noted(lines: Iterator[tuple[int, str]], text: list[str]) -> Iterator[str]:
    for _, line in lines:
        text.append(line)
        yield line
