"""Input files as Arrow record batches, bit for bit or not at all.

A source reads its file twice: first to learn its columns and to refuse what cannot be given back exactly, then
to hand out batches of bounded size. Both passes hash the bytes; a file that changes in between is refused.

=========  ==========================================================================================
format     what comes through
=========  ==========================================================================================
JSONL      one object a line; types learned from all records (``shapes``). Each batch is turned back
           into records and compared with what was read *before* it is handed out.
CSV        RFC 4180 with a header; every cell is text, nothing is guessed
Parquet    any Arrow type that Parquet gives back unchanged; key-value metadata is left out
folder     what Hugging Face ``datasets`` wrote by ``save_to_disk``: Arrow files, as Parquet
=========  ==========================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from safehold.model.errors import InputInvalid
from safehold.vault.arrow_source import ArrowFolderSource
from safehold.vault.csv_source import CsvSource
from safehold.vault.input_file import InputFile, Source
from safehold.vault.jsonl_source import JsonlSource
from safehold.vault.lines import DEFAULT_LINE_LIMIT
from safehold.vault.parquet_source import ParquetSource

__all__ = ["Source", "SourceFormat", "open_source"]

SourceFormat = Literal["jsonl", "csv", "parquet"]
_SUFFIXES: Final[dict[str, SourceFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def open_source(path: Path, form: SourceFormat | None = None, *, line_limit: int = DEFAULT_LINE_LIMIT) -> Source:
    """Return the source for ``path``, its first pass done; ``form`` None goes by the file's suffix.

    ``line_limit``: the longest line of JSONL and CSV, in bytes. Raises ``InputInvalid`` (``vault.source_format``
    and whatever the format refuses), ``NotFound`` (``vault.source_missing``) or ``StorageFailed``.
    """
    if path.is_dir() and form is None:
        return ArrowFolderSource(path)
    chosen = form or _SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise InputInvalid(
            "vault.source_format",
            f"{path.name}: the format of this file is not clear from its name",
            f"name it one of {', '.join(sorted(_SUFFIXES))}, or say which: --format FORMAT",
        )
    file = InputFile(path)
    if chosen == "jsonl":
        return JsonlSource(file, line_limit)
    if chosen == "csv":
        return CsvSource(file, line_limit)
    return ParquetSource(file)
