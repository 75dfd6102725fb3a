"""What a release can keep of its parent: sealed files, with their keys, for the records that did not change.

Encryption hides from a store that two files hold the same records, so what is the same is found here, above it. The
sealer holds the parent's keys, opens what may be the same and compares the values themselves:

1. A part whose tag and records are those of a part of the parent **keeps its files**, every column group by itself: where
   labels changed and texts did not, the texts' file stays.
2. A part that was edited here and there becomes **runs**: stretches of the parent's parts, with the new records between
   them in a *delta part*. What a run leaves out stays in its file, encrypted, and belongs to the release no more.
3. Everything else is sealed anew.

A file is kept only after its SHA-256 and every value in it were checked. Records of the parent are taken in their order and
once each; a part of which more than half no longer belongs is not taken again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.vault.compare import Piece, align, row_numbers, same_bits
from safehold.vault.cut import Chunk
from safehold.vault.fields import same_types
from safehold.vault.manifest import ColumnGroup, Field, PartFile, Run
from safehold.vault.open import OpenedRelease

__all__ = ["Kept", "Mixed", "Parent", "Reuse"]

_FEW: Final = 8
"""Pieces of a part that are always worth keeping."""
_SPARE: Final = 1_024


class Parent(msgspec.Struct, frozen=True):
    """The release before: opened with the keys of all groups. ``deltas``: edited parts may become runs."""

    opened: OpenedRelease
    keys: Mapping[str, bytes]
    deltas: bool = True


class Kept(msgspec.Struct, frozen=True):
    """A part that stays: the files that it keeps, and the groups that must be sealed anew (none, as a rule)."""

    part: int
    files: tuple[PartFile, ...]
    anew: tuple[ColumnGroup, ...]


class Mixed(msgspec.Struct, frozen=True):
    """A part made of runs of the parent's parts and, where ``old`` is None, of records of ``table``."""

    table: pa.Table
    pieces: tuple[tuple[Piece, tuple[Run, ...]], ...]


class Reuse:
    """Finds for each part of a new release, in order, what the parent has of it."""

    def __init__(self, parent: Parent, columns: Sequence[Field], groups: Sequence[ColumnGroup]) -> None:
        self._opened = parent.opened
        manifest = parent.opened.manifest
        self._groups = tuple(groups)
        self._runs = manifest.sequence()
        self._starts = [0, *accumulate(run.rows for run in self._runs)]
        self._next = 0
        self._files: dict[int, dict[str, PartFile]] = {}
        for file in manifest.parts:
            self._files.setdefault(file.part, {})[file.group] = file
        self._same_groups = _same_groups(manifest.columns, manifest.groups, columns, groups)
        self._same_columns = _same_rules(manifest.columns, columns) and tuple(groups) == manifest.groups
        self._deltas = parent.deltas and self._same_columns
        self._by_tag: dict[str, list[int]] = {}
        for place, run in enumerate(self._runs):
            file = next(iter(self._files[run.part].values()))
            if file.tag and (run.first, run.rows) == (0, file.rows):
                self._by_tag.setdefault(file.tag, []).append(place)
        live: dict[int, int] = {}
        for run in self._runs:
            live[run.part] = live.get(run.part, 0) + run.rows
        self._waste = {part for part, rows in live.items() if 2 * rows < next(iter(self._files[part].values())).rows}

    @property
    def next_part(self) -> int:
        """The first number that no part of the parent has."""
        return max(self._files) + 1

    def files(self, part: int) -> tuple[PartFile, ...]:
        """The parent's files of ``part``, in the order of its groups."""
        return tuple(self._files[part].values())

    def find(self, chunk: Chunk) -> Kept | Mixed | None:
        """What the parent has of ``chunk``; None: nothing that is worth keeping. Raises what reading the parent raises."""
        table = pa.Table.from_batches(chunk.batches)
        kept: Kept | None = None
        for place in self._by_tag.get(chunk.tag, ()):
            run = self._runs[place]
            if self._starts[place] >= self._next and run.rows == chunk.rows:
                kept = self._compare(table, run)
                if kept is not None and not kept.anew:
                    self._next = self._starts[place + 1]
                    return kept
                # These are the same records, edited: look for them here and not where the last part ended.
                self._next = self._starts[place]
                break
        mixed = self._mixed(table) if self._deltas else None
        if mixed is not None:
            return mixed
        if kept is not None and kept.files:
            self._next += chunk.rows
            return kept
        return None

    def _compare(self, table: pa.Table, run: Run) -> Kept | None:
        names = [column for group in self._same_groups for column in group.columns]
        if not names:
            return None
        old = pa.Table.from_batches(self._opened.run_batches(run, names))
        same = [group for group in self._same_groups if _equal(table, old, group.columns)]
        files = tuple(self._files[run.part][group.name] for group in same)
        return Kept(run.part, files, tuple(group for group in self._groups if group not in same))

    def _mixed(self, table: pa.Table) -> Mixed | None:
        """``table`` in pieces, if few of its records are new."""
        start = self._next
        count = min(self._starts[-1] - start, table.num_rows * 3 // 2 + _SPARE)
        if count <= 0:
            return None
        old = self._read(start, count)
        before, now = row_numbers([old, table.select(old.column_names)])
        pieces = align(before, now)
        fresh = sum(piece.rows for piece in pieces if piece.old is None)
        few = len(pieces) <= _FEW or (4 * fresh <= table.num_rows and 8 * len(pieces) <= table.num_rows)
        if not few or fresh == table.num_rows:
            return None
        if not all(_same_piece(old, table, piece) for piece in pieces):
            return None
        placed = tuple((piece, self._located(start, piece)) for piece in pieces)
        if any(run.part in self._waste for _, runs in placed for run in runs):
            return None
        last = max(piece.old + piece.rows for piece in pieces if piece.old is not None)
        self._next = start + last
        return Mixed(table, placed)

    def _located(self, start: int, piece: Piece) -> tuple[Run, ...]:
        return () if piece.old is None else tuple(self._stretch(start + piece.old, piece.rows))

    def _stretch(self, start: int, count: int) -> list[Run]:
        """Records ``start`` … of the parent's sequence as runs of its parts."""
        runs: list[Run] = []
        place = bisect_right(self._starts, start) - 1
        while count:
            run = self._runs[place]
            skip = start - self._starts[place]
            rows = min(count, run.rows - skip)
            runs.append(Run(run.part, run.first + skip, rows))
            start, count, place = start + rows, count - rows, place + 1
        return runs

    def _read(self, start: int, count: int) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        for run in self._stretch(start, count):
            batches += self._opened.run_batches(run)
        return pa.Table.from_batches(batches)


def _equal(left: pa.Table, right: pa.Table, columns: Sequence[str]) -> bool:
    return all(_same_chunks(left.column(name), right.column(name)) for name in columns)


def _same_chunks(left: Any, right: Any) -> bool:
    return same_bits(_one(left), _one(right))


def _one(column: Any) -> Any:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _same_piece(old: pa.Table, new: pa.Table, piece: Piece) -> bool:
    """Whether a piece is what it is taken for, by its bits; the numbers of nested values come from a text of them."""
    if piece.old is None:
        return True
    return _equal(new.slice(piece.first, piece.rows), old.slice(piece.old, piece.rows), old.column_names)


def _same_rules(left: Sequence[Field], right: Sequence[Field]) -> bool:
    """Whether values of two descriptions mean the same, absent members and all."""
    return tuple(left) == tuple(right)


def _same_groups(
    old_columns: Sequence[Field],
    old_groups: Sequence[ColumnGroup],
    columns: Sequence[Field],
    groups: Sequence[ColumnGroup],
) -> tuple[ColumnGroup, ...]:
    """The groups whose columns are what they were."""
    old, new = ({column.name: column for column in listed} for listed in (old_columns, columns))
    found = []
    for group in groups:
        before = [old[name] for name in group.columns if name in old]
        now = [new[name] for name in group.columns]
        if group in old_groups and same_types(before, now) and _same_rules(before, now):
            found.append(group)
    return tuple(found)
