"""JSON Lines: one object a line, in UTF-8.

Not read by Arrow's JSON reader: that one turns text that looks like a date into a timestamp and accepts a name
twice. Python's parser is told to refuse what has no exact form: a duplicate name, ``NaN``, numbers that
overflow. What a line holds is named by its number, never echoed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import pyarrow as pa

from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.vault.disk import storage_failed
from safehold.vault.fields import arrow_schema, records, stored
from safehold.vault.input_file import BATCH_BYTES, BATCH_ROWS, InputFile
from safehold.vault.lines import read_lines, split_line_end
from safehold.vault.manifest import Field, SourceFile
from safehold.vault.shapes import ShapeFinder
from safehold.vault.texts import JSON_FORMS, StyleFinder

__all__ = ["JsonlSource", "parse_record"]

_SEALED_SHARE: Final = 3
"""Text takes about a third of its size when sealed (zstd level 3); only used to choose the number of parts."""

_Row = tuple[dict[str, Any], str, str]


class _Unfit(ValueError):
    """What a parser hook found: a code, a sentence and a hint."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise _Unfit("duplicate")
    return record


def _fraction(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Unfit("infinite")
    return value


def _constant(_text: str) -> NoReturn:
    raise _Unfit("infinite")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_fraction, parse_constant=_constant)


def parse_record(text: str, name: str, number: int, *, ended: bool = True) -> dict[str, Any]:
    """Return the object in one line; ``ended``: the line had a line end, so the file was not cut off in it.

    Raises ``InputInvalid``: ``vault.blank_line``, ``vault.cut_off``, ``vault.not_json``, ``vault.not_an_object``,
    ``vault.duplicate_name``, ``vault.not_finite``, ``vault.integer_range`` or ``vault.too_deep``.
    """
    where = f"{name}, line {number}"
    if not text.strip(" \t\r"):
        raise InputInvalid("vault.blank_line", f"{where}: the line is blank", "remove it: one record a line")
    try:
        value, end = _decoder.raw_decode(text, _start(text))
    except _Unfit as error:
        if error.args == ("duplicate",):
            raise InputInvalid(
                "vault.duplicate_name", f"{where}: an object has one name twice", "keep one of the two values"
            ) from error
        raise InputInvalid(
            "vault.not_finite", f"{where}: a number is not finite or too large for a double", "write null or text"
        ) from error
    except json.JSONDecodeError as error:
        if not ended:
            raise InputInvalid(
                "vault.cut_off", f"{where}: the file ends in the middle of a record", "seal a complete copy"
            ) from error
        raise InputInvalid(
            "vault.not_json", f"{where}, column {error.colno}: this is not JSON", "one JSON object a line"
        ) from error
    except RecursionError as error:
        raise InputInvalid("vault.too_deep", f"{where}: nested too deep") from error
    except ValueError as error:
        # Python refuses integers of more than 4,300 digits.
        raise InputInvalid(
            "vault.integer_range", f"{where}: an integer is beyond 64 bits", "write such numbers as text"
        ) from error
    if text[end:].strip(" \t\r"):
        raise InputInvalid("vault.not_json", f"{where}, column {end + 1}: more follows the record", "one record a line")
    if not isinstance(value, dict):
        raise InputInvalid("vault.not_an_object", f"{where}: a record must be a JSON object", 'like {"question": "…"}')
    return value


def _start(text: str) -> int:
    return len(text) - len(text.lstrip(" \t\r"))


class JsonlSource:
    """A JSONL file; its first pass is done on construction (see ``sources.open_source`` for the errors)."""

    def __init__(self, file: InputFile, line_limit: int) -> None:
        self._file = file
        self._limit = line_limit
        self._style = StyleFinder(JSON_FORMS)
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
        return self._file.size // _SEALED_SHARE

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
            format="jsonl",
            sha256=self._file.sha256,
            size=self._file.size,
            rows=self._rows,
            style=self._style.found(),
        )
        return (one,)

    def _learn(self) -> tuple[Field, ...]:
        finder = ShapeFinder(self._file.name)
        for number, (record, line, _) in enumerate(self._read(), start=1):
            finder.add(record, number, escapes="\\u" in line)
            self._rows = number
        if not self._rows:
            raise InputInvalid("vault.no_records", f"{self._file.name} holds no records", "name another file")
        columns = finder.fields()
        if not columns:
            raise InputInvalid(
                "vault.no_columns", f"the records of {self._file.name} are all empty", "name another file"
            )
        return columns

    def _read(self) -> Iterator[_Row]:
        """One pass: record, its line and its line end. Line numbers are record numbers: no line is skipped."""
        hasher = hashlib.sha256()
        try:
            with self._file.open() as file:
                for number, raw in read_lines(file, self._file.name, self._limit, hasher.update):
                    line, end = split_line_end(raw)
                    yield parse_record(line, self._file.name, number, ended=bool(end)), line, end
        except OSError as error:
            raise storage_failed(error, str(self._file.path)) from error
        self._file.end_pass(hasher)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises ``InputInvalid`` (``vault.source_changed``), ``VerificationFailed`` (``vault.not_preserved``)."""
        rows: list[_Row] = []
        size = 0
        try:
            for row in self._read():
                rows.append(row)
                size += len(row[1])
                if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield self._batch(rows)
                    rows, size = [], 0
        except InputInvalid as error:
            # The first pass refused nothing of this file, so it is not the file that the first pass read.
            raise self._file.changed() from error
        if rows:
            yield self._batch(rows)

    def _batch(self, rows: list[_Row]) -> pa.RecordBatch:
        try:
            read = [record for record, _, _ in rows]
            arrays = [
                pa.array(stored(read, column), type=field.type)
                for column, field in zip(self._columns, self._schema, strict=True)
            ]
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise self._file.changed() from error
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        # Trust nothing above: what a reader will get back is compared with what was read.
        for (record, line, end), restored in zip(rows, records(batch, self._columns), strict=True):
            self._style.json_line(restored, line, end)
            if self._style.found() is None and _exact(record) != _exact(restored):
                raise VerificationFailed(
                    "vault.not_preserved",
                    f"a record of {self._file.name} would not come back as it is; nothing was sealed",
                    "report this with the shape of the record, not its contents",
                )
        return batch


def _exact(record: dict[str, Any]) -> str:
    """Text that tells 1 from 1.0, true from 1 and -0.0 from 0.0, whatever the order of members."""
    return json.dumps(record, sort_keys=True)
