"""Write opened records to a file: whole or not at all, never over an existing file, mode 0600.

JSONL and CSV come back in the style in which they came, where they had one and all columns are open: then the
file is the input byte for byte, and its SHA-256 is the one in the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from safehold.model.errors import InputInvalid
from safehold.model.ids import Digest
from safehold.vault.disk import new_file, storage_failed
from safehold.vault.fields import records
from safehold.vault.manifest import TextStyle, walk_fields
from safehold.vault.open import OpenedRelease
from safehold.vault.texts import JSON_FORMS, TextForm, render_csv, render_json

__all__ = ["OutputFormat", "Written", "write_csv", "write_jsonl", "write_parquet", "write_records"]

OutputFormat = Literal["jsonl", "csv", "parquet"]

_JSON_TYPES: Final = frozenset(
    {"null", "string", "large_string", "bool", "double", "float", "list", "struct"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_CSV_TYPES: Final = frozenset({"string", "large_string"})


class Written(msgspec.Struct, frozen=True):
    """A file that was written: its SHA-256, size in bytes and records.

    ``as_source``: it is, byte for byte, the input that was sealed.
    """

    path: Path
    sha256: Digest
    size: int
    rows: int
    as_source: bool


class _Sink:
    """Counts and hashes what goes into the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = hashlib.sha256()
        self.size = 0
        self.rows = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hasher.update(data)
        self.size += len(data)

    def written(self, path: Path, opened: OpenedRelease) -> Written:
        digest = Digest("sha256:" + self._hasher.hexdigest())
        sources = opened.manifest.sources
        return Written(path, digest, self.size, self.rows, len(sources) == 1 and sources[0].sha256 == digest)


def write_records(opened: OpenedRelease, path: Path, form: OutputFormat) -> Written:
    """Write ``opened`` to ``path`` in the format named; see the function of each."""
    writers: dict[OutputFormat, Callable[[OpenedRelease, Path], Written]] = {
        "jsonl": write_jsonl,
        "csv": write_csv,
        "parquet": write_parquet,
    }
    return writers[form](opened, path)


def _style(opened: OpenedRelease, form: str) -> TextStyle | None:
    sources = opened.manifest.sources
    same = len(sources) == 1 and sources[0].format == form
    return sources[0].style if same else None


def write_jsonl(opened: OpenedRelease, path: Path, form: TextForm | None = None) -> Written:
    """One JSON object a line. ``form`` None: as the input was written, else as Python's ``json.dumps`` writes.

    Raises ``InputInvalid`` (``vault.no_json_form``) for values that JSON cannot hold, ``Conflict``
    (``vault.output_exists``), and whatever reading raises.
    """
    _check_types(opened, _JSON_TYPES, "vault.no_json_form")
    style = _style(opened, "jsonl")
    if form is not None or style is None:
        style = TextStyle(form=form or "json", crlf=False, last_line_ends=True)
    if style.form not in JSON_FORMS:
        raise InputInvalid("vault.output_form", f"{style.form} is no form of JSON", f"one of {', '.join(JSON_FORMS)}")
    encode = style.form

    def lines(batch: pa.RecordBatch) -> Iterator[str]:
        try:
            for record in records(batch, opened.columns):
                yield render_json(record, encode)
        except ValueError as error:
            raise _no_form("vault.no_json_form", "a number is not finite") from error

    return _write_text(opened, path, style, lines)


def write_csv(opened: OpenedRelease, path: Path) -> Written:
    """A header and one row a record; text columns without nulls alone, since CSV has one way to say nothing.

    Raises ``InputInvalid`` (``vault.no_csv_form``), ``Conflict`` (``vault.output_exists``), and whatever reading
    raises.
    """
    _check_types(opened, _CSV_TYPES, "vault.no_csv_form")
    style = _style(opened, "csv") or TextStyle(form="csv", crlf=False, last_line_ends=True)
    header = render_csv([column.name for column in opened.columns], style.form)

    def lines(batch: pa.RecordBatch) -> Iterator[str]:
        if any(column.null_count for column in batch.columns):
            raise _no_form("vault.no_csv_form", "a value is null")
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield render_csv(row, style.form)

    return _write_text(opened, path, style, lines, header)


def _check_types(opened: OpenedRelease, allowed: frozenset[str], code: str) -> None:
    for field, _ in walk_fields(opened.columns):
        if field.type not in allowed:
            raise _no_form(code, f"column {field.name[:60]!r} is of type {field.type}")


def _no_form(code: str, reason: str) -> InputInvalid:
    if code == "vault.no_csv_form":
        return InputInvalid("vault.no_csv_form", f"CSV cannot hold these records: {reason}", "write JSONL or Parquet")
    return InputInvalid("vault.no_json_form", f"JSON cannot hold these records: {reason}", "write Parquet")


def _write_text(
    opened: OpenedRelease,
    path: Path,
    style: TextStyle,
    lines: Callable[[pa.RecordBatch], Iterator[str]],
    header: str | None = None,
) -> Written:
    end = "\r\n" if style.crlf else "\n"
    last = opened.manifest.rows
    with new_file(path) as file:
        sink = _Sink(file)
        if header is not None:
            sink.write((header + end).encode())
        for batch in opened.batches():
            text = end.join(lines(batch))
            sink.rows += batch.num_rows
            closing = "" if sink.rows == last and not style.last_line_ends else end
            sink.write((text + closing).encode())
    return sink.written(path, opened)


def write_parquet(opened: OpenedRelease, path: Path) -> Written:
    """A plain Parquet file (zstd) with the columns as they were sealed.

    Members that were absent become nulls, as Parquet has it; the hidden stand-in of an empty object stays.
    Raises ``Conflict`` (``vault.output_exists``), and whatever reading raises.
    """
    with new_file(path) as file:
        sink = _Sink(file)
        writer: Any = None
        try:
            for batch in opened.batches():
                if writer is None:
                    writer = pq.ParquetWriter(_ArrowSink(sink), batch.schema, compression="zstd", compression_level=3)
                sink.rows += batch.num_rows
                writer.write_batch(batch)
            writer.close()
        except BaseException as error:
            if writer is not None:
                writer.is_open = False
            if isinstance(error, OSError):
                raise storage_failed(error, str(path)) from error
            raise
    return sink.written(path, opened)


class _ArrowSink:
    """What pyarrow asks of a Python file."""

    closed = False

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        return len(data)

    def tell(self) -> int:
        return self._sink.size

    def flush(self) -> None:
        """Done once, by the file's owner."""

    def close(self) -> None:
        """Done once, by the file's owner."""
