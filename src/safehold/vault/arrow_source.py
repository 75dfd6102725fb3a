"""A folder that Hugging Face ``datasets`` wrote by ``save_to_disk``: Arrow files and a list of them.

``state.json`` names the files in their order; they are Arrow IPC streams (or files). Nothing of the library is needed to
read them. Key-value metadata, where the library keeps its features, is left out as it is for Parquet files: the types
themselves are Arrow's. A folder of several splits is refused by name: each split is a dataset of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from safehold.model.errors import InputInvalid, NotFound
from safehold.vault.arrow_types import check_columns
from safehold.vault.disk import storage_failed
from safehold.vault.input_file import BATCH_BYTES, BATCH_ROWS, InputFile, bounded
from safehold.vault.manifest import Field, SourceFile

__all__ = ["ArrowFolderSource"]

_STATE: Final = "state.json"
_SPLITS: Final = "dataset_dict.json"
_MAX_STATE_BYTES: Final = 64 << 20


class ArrowFolderSource:
    """The records of one saved dataset; its files are hashed and their schemas checked on construction."""

    def __init__(self, folder: Path) -> None:
        """Raises ``InputInvalid`` (``vault.dataset_folder``, ``vault.arrow_unreadable`` …) or ``NotFound``."""
        self._files = [InputFile(folder / name) for name in _names(folder)]
        self._rows_of: list[int] = []
        schemas: list[pa.Schema] = []
        for file in self._files:
            file.hash()
            rows = 0
            for batch in self._read(file):
                rows += batch.num_rows
                schemas = [*schemas, batch.schema] if batch.schema not in schemas else schemas
            self._rows_of.append(rows)
        if not any(self._rows_of):
            raise InputInvalid("vault.no_records", f"{folder.name} holds no records", "name another folder")
        if len(schemas) != 1:
            raise InputInvalid(
                "vault.dataset_folder", f"the files of {folder.name} differ in their columns", "save it once more"
            )
        self._schema = schemas[0]
        self._columns = check_columns(self._schema, folder.name)

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
        return sum(file.size for file in self._files)

    @property
    def rows(self) -> int | None:
        """See ``Source``."""
        return sum(self._rows_of)

    @property
    def identity(self) -> str | None:
        """See ``Source``."""
        return " ".join(file.sha256 for file in self._files)

    def files(self) -> tuple[SourceFile, ...]:
        """See ``Source``."""
        return tuple(
            SourceFile(name=file.name, format="arrow", sha256=file.sha256, size=file.size, rows=rows, style=None)
            for file, rows in zip(self._files, self._rows_of, strict=True)
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises ``InputInvalid`` (``vault.arrow_unreadable``, ``vault.source_changed``)."""
        for file, rows in zip(self._files, self._rows_of, strict=True):
            count = 0
            for batch in self._read(file):
                count += batch.num_rows
                yield from bounded(batch, BATCH_ROWS, BATCH_BYTES)
            if count != rows:
                raise file.changed()
            file.hash()  # Arrow read the file by itself: what was sealed is what the manifest names

    def _read(self, file: InputFile) -> Iterator[pa.RecordBatch]:
        file.check_state()
        try:
            with pa.OSFile(str(file.path), "rb") as source:
                for batch in _batches(source):
                    if batch.num_rows:
                        batch.validate(full=True)
                        yield batch.replace_schema_metadata(None)
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise storage_failed(error, str(file.path)) from error
            raise InputInvalid(
                "vault.arrow_unreadable",
                f"{file.name} cannot be read as Arrow data",
                "it may be truncated or damaged: save the dataset once more",
            ) from error


def _batches(source: Any) -> Iterator[pa.RecordBatch]:
    """A stream, which is what the library writes, or a file."""
    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(source)
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)
        return
    yield from pa.ipc.open_stream(source)


def _names(folder: Path) -> list[str]:
    """The data files that ``state.json`` lists: plain names of files in this folder."""
    if (folder / _SPLITS).is_file():
        splits = sorted(path.parent.name for path in folder.glob(f"*/{_STATE}"))
        raise InputInvalid(
            "vault.dataset_folder",
            f"{folder.name} holds several splits: {', '.join(splits[:8])}",
            "seal each of them by itself: name its folder",
        )
    try:
        with (folder / _STATE).open("rb") as file:
            state = json.loads(file.read(_MAX_STATE_BYTES))
        names = [entry["filename"] for entry in state["_data_files"]]
    except FileNotFoundError as error:
        raise NotFound(
            "vault.dataset_folder_missing",
            f"{folder} holds no {_STATE}, so it is no dataset that was saved by save_to_disk",
            "name a file, or a folder that save_to_disk wrote",
        ) from error
    except OSError as error:
        raise storage_failed(error, str(folder / _STATE)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _odd_state(folder) from error
    if not names or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        raise _odd_state(folder)
    if state.get("_indices_files"):
        raise _odd_state(folder)
    return names


def _odd_state(folder: Path) -> InputInvalid:
    return InputInvalid(
        "vault.dataset_folder", f"{folder / _STATE} is not as save_to_disk writes it", "save the dataset once more"
    )
