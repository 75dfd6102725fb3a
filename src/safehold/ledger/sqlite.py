"""The embedded store: one SQLite file through ``apsw`` in WAL mode with ``synchronous=FULL``.

``apsw`` and not Python's own ``sqlite3``: the latter links whatever SQLite the interpreter was built with, often
a version with the WAL-reset corruption bug (3.7.0 - 3.51.2). FULL and not NORMAL: with NORMAL a power cut loses
acknowledged commits. A crash at any point leaves the last durable commit, by SQLite's own recovery.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NoReturn

import apsw

from safehold.ledger.storage import View
from safehold.model.errors import NotAppended, StorageFailed, Uncertain
from safehold.model.ids import Digest

__all__ = ["SqliteStore", "stored_view"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entry(idx INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tile(level INTEGER NOT NULL, idx INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY(level, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint(size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS payload(digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
_BUSY_MS: Final = 30_000
_LOOK_EVERY: Final = 0.001
_WAL_PAGES: Final = 4000
"""When the log of changes goes into the file: 16 MB. Rarely enough that few commits wait for it, and soon enough that the
file beside is written over again, which a disk syncs faster than one that grows."""


class _Connection:
    """Both ``View`` and ``Transaction`` over one apsw connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except apsw.Error as error:
            _storage_failed(error, "the ledger cannot be read")

    def execute(self, sql: str, *arguments: Any) -> None:
        self._connection.execute(sql, arguments)

    def _value(self, sql: str, *arguments: Any) -> Any:
        rows = self.rows(sql, *arguments)
        return rows[0][0] if rows else None

    def size(self) -> int:
        last = self._value("SELECT max(idx) FROM entry")
        return 0 if last is None else int(last) + 1

    def body(self, index: int) -> bytes | None:
        value: bytes | None = self._value("SELECT body FROM entry WHERE idx = ?", index)
        return value

    def bodies(self, begin: int, end: int) -> list[bytes]:
        rows = self.rows("SELECT body FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", begin, end)
        return [row[0] for row in rows]

    def tile(self, level: int, index: int) -> bytes | None:
        value: bytes | None = self._value("SELECT hashes FROM tile WHERE level = ? AND idx = ?", level, index)
        return value

    def checkpoint(self) -> bytes | None:
        value: bytes | None = self._value("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")
        return value

    def payload(self, digest: Digest) -> bytes | None:
        value: bytes | None = self._value("SELECT body FROM payload WHERE digest = ?", digest)
        return value

    def execute_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._connection.executemany(sql, rows)

    def add_entries(self, begin: int, bodies: Sequence[bytes]) -> None:
        self._connection.executemany("INSERT INTO entry(idx, body) VALUES(?, ?)", zip(count(begin), bodies))

    def add_entry(self, index: int, body: bytes) -> None:
        self.execute("INSERT INTO entry(idx, body) VALUES(?, ?)", index, body)

    def put_tile(self, level: int, index: int, hashes: bytes) -> None:
        self.execute("INSERT OR REPLACE INTO tile(level, idx, hashes) VALUES(?, ?, ?)", level, index, hashes)

    def put_checkpoint(self, size: int, note: bytes) -> None:
        self.execute("INSERT OR REPLACE INTO checkpoint(size, note) VALUES(?, ?)", size, note)

    def put_payload(self, digest: Digest, body: bytes) -> None:
        self.execute("INSERT OR IGNORE INTO payload(digest, body) VALUES(?, ?)", digest, body)

    def settle(self) -> None:
        self.execute("PRAGMA user_version = 1")  # dirties the first page even if it says so already


class SqliteStore:
    """A ``Store`` in one file. Several processes may hold it; SQLite's lock makes them take turns in writing."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._path = path
        self._vfs = vfs
        self._lock = threading.RLock()
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self._read_lock = threading.RLock()
        self._watcher: apsw.Connection | None = None
        self._watch_lock = threading.Lock()
        self.reopen()

    def reopen(self) -> None:
        """Close what is open and open again; SQLite recovers from its WAL here."""
        with self._lock:
            self.close()
            try:
                writer = self._connect()
                if writer.pragma("journal_mode") != "wal":
                    writer.pragma("journal_mode", "wal")
                writer.pragma("synchronous", 2)
                writer.pragma("wal_autocheckpoint", _WAL_PAGES)
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    writer.execute(statement)
                self._writer, self._reader = writer, self._connect()
            except apsw.Error as error:
                self.close()
                _storage_failed(error, f"the ledger {self._path} cannot be opened")

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), vfs=self._vfs)
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("foreign_keys", False)
        return connection

    def close(self) -> None:
        """Release both connections. Closing twice is harmless."""
        with self._lock:
            for connection in (self._reader, self._writer, self._watcher):
                if connection is not None:
                    with suppress(apsw.Error):  # it is closed all the same, and what was committed is durable already
                        connection.close(True)
            self._reader = self._writer = self._watcher = None

    @contextmanager
    def write(self) -> Iterator[_Connection]:
        """The write transaction: see ``Store``."""
        with self._lock:
            connection = self._open(self._writer)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except apsw.Error as error:
                raise _not_appended(error) from error
            try:
                yield _Connection(connection)
            except apsw.Error as error:
                self._roll_back(connection)
                raise _not_appended(error) from error
            except BaseException:
                self._roll_back(connection)
                raise
            try:
                connection.execute("COMMIT")
            except apsw.Error as error:
                # The commit record may or may not be on the disk. Nothing may be written through this
                # connection again: its idea of the WAL is no longer to be trusted.
                self.close()
                if isinstance(error, apsw.FullError):
                    # A commit's mark is on its last frame, and frames are written in order: the write that found no
                    # room came before the mark or was it. What cannot be seen now, no recovery will bring back.
                    raise Uncertain(
                        "ledger.uncertain_full",
                        "the disk is full: the append has not happened unless the ledger shows it",
                        "free some space, then open the ledger again to learn",
                    ) from error
                raise Uncertain(
                    "ledger.uncertain",
                    f"the append may or may not have happened: {error}",
                    "open the ledger again to learn; nothing that was acknowledged is lost",
                ) from error

    def _roll_back(self, connection: apsw.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            # SQLite rolls back by itself when the connection goes; a half-open transaction must not stay.
            self.close()

    def lead(self) -> bool:
        """True: processes take turns in writing, and none leads."""
        return True

    @property
    def leads(self) -> bool:
        """True: see ``lead``."""
        return True

    @property
    def tenure(self) -> int:
        """Always the same: who comes after another process sees it by the size."""
        return 0

    def release_lead(self) -> None:
        """Nothing: each write is a turn of its own."""

    def wait_until_asked(self, timeout: float) -> bool:
        """Nobody asks: see ``lead``. Waits all the same."""
        threading.Event().wait(timeout)
        return False

    @contextmanager
    def read(self) -> Iterator[_Connection]:
        """One snapshot: see ``Store``. A block inside another one of the same thread sees the same snapshot."""
        with self._read_lock:
            connection = self._open(self._reader)
            if not connection.get_autocommit():
                yield _Connection(connection)
                return
            try:
                connection.execute("BEGIN")
                connection.execute(
                    "SELECT 1 FROM entry LIMIT 1"
                ).fetchall()  # the snapshot is of now, not of the first use
                try:
                    yield _Connection(connection)
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except apsw.Error as error:
                _storage_failed(error, "the ledger cannot be read")

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """The number of entries: as soon as it is not ``seen``, at the latest after ``timeout`` seconds.

        SQLite tells nobody of a commit: its ``data_version`` is looked at each millisecond, by a connection for this alone.
        """
        deadline = time.monotonic() + timeout
        with self._watch_lock:
            if self._watcher is None:
                self._watcher = self._connect()
            view, version = _Connection(self._watcher), None
            while True:
                try:
                    found = self._watcher.pragma("data_version")
                except apsw.Error as error:
                    _storage_failed(error, "the ledger cannot be read")
                if found != version:
                    version, size = found, view.size()
                    if size != seen:
                        return size
                if time.monotonic() >= deadline:
                    return seen
                time.sleep(_LOOK_EVERY)

    def _open(self, connection: apsw.Connection | None) -> apsw.Connection:
        if connection is None:
            raise StorageFailed("ledger.closed", "the ledger is closed", "open it again")
        return connection


def stored_view(connection: apsw.Connection) -> View:
    """A ``View`` over a connection that someone else opened and closes."""
    return _Connection(connection)


def _not_appended(error: apsw.Error) -> NotAppended:
    if isinstance(error, apsw.FullError):
        return NotAppended(
            "ledger.disk_full",
            "the disk is full: nothing was appended",
            "free some space and run the same command again",
        )
    if isinstance(error, apsw.BusyError):
        return NotAppended(
            "ledger.busy", "another process has been writing to the ledger for 30 s", "wait for it and run again"
        )
    return NotAppended("ledger.not_appended", f"nothing was appended: {error}", "check the disk, then run again")


def _storage_failed(error: apsw.Error, what: str) -> NoReturn:
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        raise StorageFailed(
            "ledger.damaged", f"{what}: the file is damaged", "restore a backup; an export still verifies by itself"
        ) from error
    if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        # Even to read, SQLite makes a file of 32 KiB beside the ledger; without room it says "disk I/O error" alone.
        raise StorageFailed(
            "ledger.no_room", f"{what}: the disk is full", "free some space and run the same command again"
        ) from error
    raise StorageFailed("ledger.storage", f"{what}: {error}", "check the path, its owner and the disk") from error
