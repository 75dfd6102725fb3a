"""What a file is, without trusting its name: SHA-256, size and, where it is a table, records and columns.

For data that is adopted before it is sealed. One pass over the bytes; nothing is kept of the values. A file that is not
what its name says is no table here: its bytes are known, its records are not.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from safehold.model.errors import SafeholdError
from safehold.model.ids import Digest
from safehold.vault.file_tree import FileTree, FoundFile

__all__ = ["FileFacts", "describe_file"]

_LINE_LIMIT: Final = 64 << 20
_COLUMNS: Final = 1000
_NAME: Final = 256


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a listing; ``rows`` is None and ``columns`` empty where it is no table that could be read."""

    path: str
    size: int
    sha256: Digest
    format: str
    rows: int | None
    columns: tuple[str, ...]


def describe_file(tree: FileTree, file: FoundFile) -> FileFacts:
    """Read ``file`` to its end. Raises ``InputInvalid`` (``vault.source_changed``) or what the tree raises."""
    suffix = file.path.rpartition(".")[2].lower() if "." in file.path else ""
    form = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet", "pq": "parquet"}.get(suffix, "")
    hasher = hashlib.sha256()
    counter = _COUNTERS.get(form, _Nothing)()
    for data in tree.read(file, 0, file.size):
        hasher.update(data)
        counter.take(data)
    rows, columns = _parquet(tree, file) if form == "parquet" else counter.result()
    return FileFacts(
        path=file.path,
        size=file.size,
        sha256=Digest("sha256:" + hasher.hexdigest()),
        format=form if rows is not None else "other",
        rows=rows,
        columns=tuple(name[:_NAME] for name in columns[:_COLUMNS]),
    )


_Result = tuple[int | None, list[str]]


class _Nothing:
    """A file that is no table."""

    def take(self, data: bytes) -> None:
        """Nothing to learn."""

    def result(self) -> _Result:
        """Neither records nor columns."""
        return None, []


class _Lines:
    """JSONL: whole lines, each an object; the names of all members."""

    def __init__(self) -> None:
        self._rest = b""
        self._rows: int | None = 0
        self._names: dict[str, None] = {}

    def take(self, data: bytes) -> None:
        if self._rows is None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_LIMIT:
            self._rows = None
            return
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        if self._rows is None or not line.strip():
            return
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = None
        if not isinstance(record, dict):
            self._rows = None
            return
        self._rows += 1
        self._names.update(dict.fromkeys(map(str, record)))

    def result(self) -> _Result:
        self._line(self._rest)
        return (self._rows, list(self._names)) if self._rows else (None, [])


class _Cells:
    """CSV with a header: line ends outside of quotes; the header's cells."""

    def __init__(self) -> None:
        self._head = b""
        self._rows = 0
        self._quotes = 0
        self._last = b"\n"

    def take(self, data: bytes) -> None:
        if len(self._head) < 1 << 16:
            self._head += data[: 1 << 16]
        pieces = data.split(b"\n")
        for piece in pieces[:-1]:
            self._quotes += piece.count(b'"')
            self._rows += self._quotes % 2 == 0
        self._quotes += pieces[-1].count(b'"')
        self._last = data[-1:]

    def result(self) -> _Result:
        rows = self._rows + (self._last != b"\n") - 1
        try:
            names = next(csv.reader(io.StringIO(self._head.decode("utf-8-sig", "replace"))), [])
        except csv.Error:
            names = []
        if rows < 0 or self._quotes % 2 or not names or "\ufffd" in "".join(names):
            return None, []
        return rows, names


_COUNTERS: Final[dict[str, type[_Lines | _Cells]]] = {"jsonl": _Lines, "csv": _Cells}


def _parquet(tree: FileTree, file: FoundFile) -> _Result:
    """From the footer alone. One that is encrypted or damaged is no table that can be described."""
    try:
        found: Any = pq.ParquetFile(pa.PythonFile(_Ranges(tree, file), mode="r"), pre_buffer=False)
        return int(found.metadata.num_rows), [str(name) for name in found.schema_arrow.names]
    except SafeholdError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        return None, []


class _Ranges(io.RawIOBase):
    """A file of a tree, as pyarrow reads one."""

    def __init__(self, tree: FileTree, file: FoundFile) -> None:
        self._tree, self._file, self._at = tree, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._file.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._file.size - self._at)
        data = b"".join(self._pieces(left if size < 0 else min(size, left)))
        self._at += len(data)
        return data

    def _pieces(self, length: int) -> Iterator[bytes]:
        return self._tree.read(self._file, self._at, length)
