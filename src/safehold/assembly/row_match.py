"""Which records of a found file belong to a release: for whoever holds a leak and the keys.

Records are compared by the columns that both have, value by value as they were before sealing: 1 is not 1.0, an absent
member is not null. A release needs no digests of its records for this. Of the found file a digest and the place of each
record are held in memory; of the release, one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from safehold.assembly.row_proof import exact_form
from safehold.model.errors import InputInvalid
from safehold.vault.fields import records
from safehold.vault.manifest import Manifest
from safehold.vault.open import OpenedRelease
from safehold.vault.sources import Source

__all__ = ["FoundFile", "Match", "compared_columns", "match_records"]


class Match(msgspec.Struct, frozen=True):
    """A record of the release that the found file holds: its place, its part and the place in it, and where in the file.

    ``lines`` are the records of the file that equal it, from 0.
    """

    place: int
    part: int
    record: int
    lines: tuple[int, ...]


class FoundFile:
    """The records of a found file, by their values in ``columns``."""

    def __init__(self, source: Source, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.records = 0
        self._lines: dict[bytes, list[int]] = {}
        for batch in source.batches():
            for record in records(batch, source.columns):
                self._lines.setdefault(self._form(record), []).append(self.records)
                self.records += 1

    def lines(self, record: Mapping[str, Any]) -> tuple[int, ...]:
        """Where the file holds this record."""
        return tuple(self._lines.get(self._form(record), ()))

    def _form(self, record: Mapping[str, Any]) -> bytes:
        chosen = {name: record[name] for name in self.columns if name in record}
        return hashlib.sha256(exact_form(chosen).encode(errors="surrogatepass")).digest()


def compared_columns(source: Source, manifest: Manifest, groups: Sequence[str]) -> tuple[str, ...]:
    """The columns of ``groups`` that the found file has too; nothing is read.

    Raises ``InputInvalid`` (``assembly.nothing_common``) if there is none.
    """
    theirs = {column.name for column in source.columns}
    ours = [name for group in manifest.groups if group.name in groups for name in group.columns]
    common = tuple(name for name in ours if name in theirs)
    if not common:
        raise InputInvalid(
            "assembly.nothing_common",
            f"the file has none of the columns of {manifest.dataset}@{manifest.version}: {', '.join(ours[:12])}",
            "name its columns as the release does",
        )
    return common


def match_records(
    found: FoundFile, opened: OpenedRelease, progress: Callable[[int], None] | None = None
) -> Iterator[Match]:
    """The records of the release that ``found`` holds, in their order. Raises what reading raises."""
    fields = [column for column in opened.columns if column.name in found.columns]
    names = [column.name for column in fields]
    done = 0
    for run in opened.manifest.sequence():
        at = run.first
        for batch in opened.run_batches(run, names):
            for offset, record in enumerate(records(batch, fields)):
                lines = found.lines(record)
                if lines:
                    yield Match(done + offset, run.part, at + offset, lines)
            at += batch.num_rows
            done += batch.num_rows
            if progress is not None:
                progress(done)
