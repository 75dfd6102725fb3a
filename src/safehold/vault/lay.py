"""Lay out a release: which parts it has, which of them it keeps from its parent, in which order its records stand.

Chunks come from ``cut``. Each is sealed as a new part, or kept from the parent as a whole, in some groups, or in runs
(``reuse``); the new records of runs gather in a delta part. With several workers as many parts are in memory as there are
workers, and two more. The outcome does not depend on who was done first.

A part counts once its files are durable and its journal says so: after a kill, ``journal`` gives back what was sealed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from safehold.vault.cut import Chunk, cut
from safehold.vault.disk import storage_failed
from safehold.vault.journal import Journal
from safehold.vault.manifest import ColumnGroup, PartFile, Run
from safehold.vault.parts import PartPlan, SealedPart, WrittenPart, write_part
from safehold.vault.reuse import Kept, Mixed, Parent, Reuse
from safehold.vault.row_digests import row_entries
from safehold.vault.row_form import rows_of

__all__ = ["Laid", "Layout"]

_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES})


class Laid(msgspec.Struct, frozen=True):
    """All parts of a release, the order of its records, the key of each file by its name.

    ``fresh``: bytes that were sealed now; the rest was kept.
    """

    files: tuple[PartFile, ...]
    runs: tuple[Run, ...]
    keys: Mapping[str, bytes]
    rows: int
    fresh: int


class _Delta:
    """New records between runs, gathered into one part."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tables: list[pa.Table] = []
        self.rows = 0
        self.size = 0

    def add(self, table: pa.Table) -> Run:
        run = Run(self.number, self.rows, table.num_rows)
        self.tables.append(table)
        self.rows += table.num_rows
        self.size += int(table.nbytes)
        return run

    def chunk(self) -> Chunk:
        whole = pa.concat_tables(self.tables).combine_chunks()
        return Chunk(tuple(whole.to_batches()), self.rows, "")


class Layout:
    """Lays out one release in ``folder``."""

    def __init__(
        self, folder: Path, plan: PartPlan, reuse: Reuse | None = None, parent: Parent | None = None,
        journal: Journal | None = None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._plan = plan
        self._reuse = reuse
        self._parent = parent
        self._journal = journal
        self._next = reuse.next_part if reuse is not None else max(plan.numbers, default=-1) + 1
        self._given = deque(plan.numbers)
        self._runs: list[Run] = []
        self._kept: dict[str, PartFile] = {}
        self._delta: _Delta | None = None
        self._writing: deque[Future[WrittenPart]] = deque()
        self._settling: deque[Future[SealedPart]] = deque()
        self._done: list[SealedPart] = []
        self._workers = ThreadPoolExecutor(plan.workers, "seal") if plan.workers > 1 else None
        self._settler = ThreadPoolExecutor(1, "settle")

    def write(self, batches: Iterable[pa.RecordBatch]) -> Laid:
        """Take all records; every file is durable on return.

        Raises what the source and the parent raise, or ``StorageFailed``; then nothing is left open.
        """
        try:
            for chunk in cut(batches, self._plan.cut):
                self._place(chunk)
            self._end_delta()
            while self._writing:
                self._settle(self._writing.popleft().result())
            while self._settling:
                self._done.append(self._settling.popleft().result())
            self._link_kept()
        finally:
            self._close()
        return self._laid()

    def _close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)
        for writing in self._writing:
            if writing.done() and not writing.cancelled() and writing.exception() is None:
                writing.result().drop()
        self._settler.shutdown()

    def _place(self, chunk: Chunk) -> None:
        found = self._reuse.find(chunk) if self._reuse is not None else None
        if isinstance(found, Kept):
            self._keep(found.files)
            if found.anew:
                self._seal(found.part, chunk, found.anew)
            self._run(Run(found.part, 0, chunk.rows))
        elif isinstance(found, Mixed):
            self._place_mixed(found)
        else:
            number = self._number()
            self._seal(number, chunk, self._plan.groups)
            self._run(Run(number, 0, chunk.rows))

    def _place_mixed(self, mixed: Mixed) -> None:
        for piece, runs in mixed.pieces:
            if piece.old is None:
                if self._delta is None:
                    self._delta = _Delta(self._number())
                self._run(self._delta.add(mixed.table.slice(piece.first, piece.rows)))
            for run in runs:
                if self._reuse is not None:
                    self._keep(self._reuse.files(run.part))
                self._run(run)
        if self._delta is not None and (
            self._delta.rows >= self._plan.cut.rows or self._delta.size >= self._plan.cut.size // 2
        ):
            self._end_delta()

    def _end_delta(self) -> None:
        if self._delta is not None:
            delta, self._delta = self._delta, None
            self._seal(delta.number, delta.chunk(), self._plan.groups)

    def _number(self) -> int:
        if self._given:
            return self._given.popleft()
        self._next += 1
        return self._next - 1

    def _keep(self, files: Iterable[PartFile]) -> None:
        for file in files:
            self._kept[file.file] = file

    def _run(self, run: Run) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last.part == run.part and last.first + last.rows == run.first:
            self._runs[-1] = Run(last.part, last.first, last.rows + run.rows)
        else:
            self._runs.append(run)

    def _seal(self, number: int, chunk: Chunk, groups: Sequence[ColumnGroup]) -> None:
        known = self._journal.find(number, chunk, groups) if self._journal is not None else None
        if known is not None:
            self._done.append(known)
            return
        if self._workers is None:
            self._settle(write_part(self._folder, self._plan, number, chunk, groups))
            return
        # Bounded: with every worker busy, the next part waits here and not in memory.
        while len(self._writing) > self._plan.workers:
            self._settle(self._writing.popleft().result())
        self._writing.append(self._workers.submit(write_part, self._folder, self._plan, number, chunk, groups))

    def _settle(self, written: WrittenPart) -> None:
        """Make a part durable in the background: the disk works while the next part is compressed."""
        self._settling.append(self._settler.submit(partial(_settled, written, self._journal)))
        while len(self._settling) > 2:
            self._done.append(self._settling.popleft().result())

    def _link_kept(self) -> None:
        if self._parent is None:
            return
        for name in sorted(self._kept):
            _link(self._parent.opened.folder / name, self._folder / name)
            self._kept[name] = self._with_root(self._kept[name], self._parent)

    def _with_root(self, file: PartFile, parent: Parent) -> PartFile:
        """A kept file that was sealed without digests of its records gets them where they are asked for now."""
        if self._plan.row_tree is None or file.rows_root is not None:
            return file
        columns = next(group.columns for group in self._plan.groups if group.name == file.group)
        batches = parent.opened.run_batches(Run(file.part, 0, file.rows), columns)
        root = self._plan.row_tree(row_entries(rows_of(batches, columns), parent.keys[file.file], file.aad))
        return msgspec.structs.replace(file, rows_root=root)

    def _laid(self) -> Laid:
        fresh = [file for part in self._done for file in part.files]
        order = {group.name: place for place, group in enumerate(self._plan.groups)}
        files = sorted([*self._kept.values(), *fresh], key=lambda file: (file.part, order[file.group]))
        keys = {name: key for part in self._done for name, key in part.keys.items()}
        if self._parent is not None:
            keys |= {name: self._parent.keys[name] for name in self._kept}
        rows = {file.part: file.rows for file in files}
        whole = self._runs == [Run(number, 0, count) for number, count in rows.items()]
        return Laid(
            tuple(files),
            () if whole else tuple(self._runs),
            keys,
            sum(run.rows for run in self._runs),
            sum(file.size for file in fresh),
        )


def _settled(written: WrittenPart, journal: Journal | None) -> SealedPart:
    sealed = written.settle()
    if journal is not None:
        journal.add(sealed)
    return sealed


def _link(source: Path, target: Path) -> None:
    """One file under two names; a copy where the file system has no such thing. Its bytes were checked when it was read."""
    try:
        try:
            if not target.exists():  # a run that was killed may have linked it
                os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            _copy(source, target)
    except OSError as error:
        raise storage_failed(error, str(target)) from error


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    file: Any
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as origin:
        shutil.copyfileobj(origin, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
