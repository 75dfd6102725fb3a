"""Sealing segments: a file, durable under its name, and only then the entry that holds its digest.

A crash between the two leaves a file without an entry. It is read by no one, and the next run writes it again under
the same name. There is never an entry without a file that was durable before it.

One process seals at a time (a lock on ``segments/.lock``); appending goes on meanwhile.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.log import Draft, Log
from safehold.ledger.segments.form import FORM, SEGMENT_TABLES, SegmentTable, arrow_rows, file_name, parquet_bytes
from safehold.ledger.segments.verified import check_ranges, sealed_end, segment_of, verify_file
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, StorageFailed, VerificationFailed
from safehold.model.ids import KeyId, sha256_digest
from safehold.model.statements import SegmentSealed, Unknown, decode

__all__ = ["DEFAULT_EVERY", "SealedEntries", "SegmentRule", "Segments", "read_entries"]

DEFAULT_EVERY: Final = 100_000
"""Entries in a segment, unless asked otherwise."""

_MAX_BODIES: Final = 256 * 1024 * 1024  # a segment ends before its bodies exceed this: what sealing holds in memory
_BATCH: Final = 2048

SealedEntries = Callable[[View], Sequence[Entry]]
"""The entries that seal segments, by table and begin; of two for the same place the later one. ``state`` keeps them."""


class SegmentRule(msgspec.Struct, frozen=True):
    """When a segment is due: as soon as ``every`` entries are in none, or when the oldest of them is of ``age`` µs ago.

    Entries that seal segments do not count for the age: else a ledger in which nothing happens grew by itself.
    """

    every: int = DEFAULT_EVERY
    age: int = 86_400_000_000


class Segments:
    """The segments of one ledger, in ``folder``. ``clock`` gives µs UTC, ``by`` is the key behind the statements."""

    def __init__(self, log: Log, folder: Path, sealed: SealedEntries, clock: Callable[[], int], by: KeyId) -> None:
        self.log = log
        self.folder = folder
        self.sealed = sealed
        self._clock = clock
        self._by = by

    def seal(self, every: int = DEFAULT_EVERY, *, rest: bool = False) -> tuple[Entry, ...]:
        """Seal all full ranges of ``every`` entries that are there now; with ``rest`` the shorter last one too.

        Returns the new entries. Raises ``InputInvalid`` (``ledger.segment_every``), ``StorageFailed``
        (``ledger.segment_write``), and what ``Log.append`` raises.
        """
        if every < 1:
            raise InputInvalid("ledger.segment_every", f"a segment of {every} entries is none", "give 1 or more")
        if self.log.read_only is not None:
            raise self.log.read_only
        made: list[Entry] = []
        with self._alone():
            with self.log.view() as view:
                size, begin = view.size(), sealed_end(check_ranges(self.sealed(view)))
            while begin < size and (rest or size - begin >= every):
                entries = self._read(begin, min(begin + every, size), _MAX_BODIES)
                made += self._seal_range(entries)
                begin = entries[-1].index + 1
        return tuple(made)

    def seal_due(self, rule: SegmentRule) -> tuple[Entry, ...]:
        """Seal what ``rule`` says is due; return the new entries. Raises as ``seal`` does."""
        made = self.seal(rule.every)
        if self._rest_is_due(rule):
            made += self.seal(rule.every, rest=True)
        return made

    def _rest_is_due(self, rule: SegmentRule) -> bool:
        now = self._clock()
        with self.log.view() as view:
            size, begin = view.size(), sealed_end(check_ranges(self.sealed(view)))
            while begin < size:
                for statement in map(decode, view.bodies(begin, min(begin + _BATCH, size))):
                    if not isinstance(statement, SegmentSealed | Unknown):
                        return bool(now - statement.t >= rule.age)
                    begin += 1
        return False

    def mend(self) -> tuple[str, ...]:
        """Write the files that are missing or do not match their entries again; return their names.

        Where another version of pyarrow makes other bytes of the same rows, a new entry takes the place of the old one.
        So a follower can have segments too, if its pyarrow writes what the leader's wrote.
        """
        written: list[str] = []
        with self._alone():
            with self.log.view() as view:
                segments = [segment_of(entry) for entry in check_ranges(self.sealed(view))]
            for segment in segments:
                try:
                    verify_file(self.folder, segment)
                except VerificationFailed:
                    entries = self._read(segment.begin, segment.end, None)
                    made = self._write(segment.table, entries)
                    self._sync()
                    if made.digest != segment.digest:
                        self.log.append_statements(made)
                    written.append(file_name(segment.table, segment.begin, segment.end))
        return tuple(written)

    def _read(self, begin: int, end: int, limit: int | None) -> list[Entry]:
        with self.log.view() as view:
            return read_entries(view, begin, end, limit)

    def _seal_range(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        begin = entries[0].index
        statements = tuple(self._write(table, entries) for table in SEGMENT_TABLES)
        self._sync()

        def propose(view: View) -> Draft:
            if sealed_end(self.sealed(view)) != begin:
                raise Conflict(
                    "ledger.segment_race",
                    f"another process sealed entry {begin} meanwhile",
                    "run the same command again",
                )
            return Draft(statements)

        return self.log.append(propose)

    def _write(self, table: SegmentTable, entries: Sequence[Entry]) -> SegmentSealed:
        begin, end = entries[0].index, entries[-1].index + 1
        rows = arrow_rows(table, entries)
        data = parquet_bytes(rows)
        times = [t for t in rows.column("t").to_pylist() if t is not None]
        try:
            write_file(self.folder / file_name(table, begin, end), data)
        except OSError as error:
            raise _not_written(error) from error
        return SegmentSealed(
            t=self._clock(), by=self._by, table=table, form=FORM, begin=begin, end=end, rows=rows.num_rows,
            since=times[0] if times else None, until=times[-1] if times else None,
            size=len(data), digest=sha256_digest(data),
        )  # fmt: skip

    def _sync(self) -> None:
        try:
            sync_folder(self.folder)
        except OSError as error:
            raise _not_written(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_written(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_entries(view: View, begin: int, end: int, limit: int | None = None) -> list[Entry]:
    """Entries ``begin`` … ``end`` - 1; fewer, but at least one, where their bodies together exceed ``limit`` bytes.

    Raises ``VerificationFailed`` (``ledger.segment_entries``) where entries are missing.
    """
    found: list[Entry] = []
    length = 0
    while begin < end:
        bodies = view.bodies(begin, min(begin + _BATCH, end))
        if not bodies:
            raise VerificationFailed("ledger.segment_entries", f"entry {begin} is missing", "run `safehold fsck`")
        for body in bodies:
            length += len(body)
            if limit is not None and found and length > limit:
                return found
            found.append(Entry(begin, body, decode(body)))
            begin += 1
    return found


def _not_written(error: OSError) -> StorageFailed:
    return StorageFailed(
        "ledger.segment_write",
        f"a segment cannot be written: {error.strerror}",
        "free some space, then run the same command again: it goes on where it stopped",
    )
