"""What a witness must never forget: the newest checkpoint that it cosigned for each log, and all before it.

One small SQLite file, WAL with ``synchronous=FULL``. A state is durable before its cosignature leaves: a crash in between
costs an answer that the log can ask for again, never a second history. Whoever puts back an older copy of this file makes
the witness forget; so it belongs on a disk of its own, and is not restored from backups.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw
import msgspec

from safehold.ledger.tree import EMPTY_ROOT
from safehold.model.errors import StorageFailed

__all__ = ["Seen", "WitnessState", "WitnessTurn"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS latest(origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
    note BLOB NOT NULL, t INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS seen(origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL,
    PRIMARY KEY(origin, size)) STRICT;
CREATE TABLE IF NOT EXISTS log(verifier TEXT PRIMARY KEY) STRICT;
"""


class Seen(msgspec.Struct, frozen=True):
    """A checkpoint that was cosigned: ``size``, ``root``, the log's ``note``, and the time ``t`` (µs) of the last cosignature."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: bytes = b""
    t: int = 0


class WitnessTurn:
    """The one write transaction there is, in this process and in all others."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def latest(self, origin: str) -> Seen:
        """The newest checkpoint cosigned for a log; size 0 without a note if there is none."""
        row = self._connection.execute("SELECT size, root, note, t FROM latest WHERE origin = ?", (origin,)).fetchone()
        return Seen() if row is None else Seen(*row)

    def at(self, origin: str, size: int) -> Seen | None:
        """The checkpoint of exactly this size that was cosigned."""
        row = self._connection.execute(
            "SELECT size, root, note FROM seen WHERE origin = ? AND size = ?", (origin, size)
        ).fetchone()
        return None if row is None else Seen(*row)

    def record(self, origin: str, seen: Seen) -> None:
        """Make ``seen`` the newest."""
        self._connection.execute(
            "INSERT OR REPLACE INTO latest(origin, size, root, note, t) VALUES(?, ?, ?, ?, ?)",
            (origin, seen.size, seen.root, seen.note, seen.t),
        )
        self._connection.execute(
            "INSERT OR IGNORE INTO seen(origin, size, root, note) VALUES(?, ?, ?, ?)",
            (origin, seen.size, seen.root, seen.note),
        )


class WitnessState:
    """The file. Safe from many threads; several processes take turns."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._path = path
        self._vfs = vfs
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._open()

    def _open(self) -> apsw.Connection:
        if self._connection is not None:
            return self._connection
        try:
            connection = apsw.Connection(str(self._path), vfs=self._vfs)
            connection.set_busy_timeout(30_000)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 2)
            connection.execute(_SCHEMA)
        except apsw.Error as error:
            raise _failed("opened", error) from error
        self._connection = connection
        return connection

    @contextmanager
    def turn(self) -> Iterator[WitnessTurn]:
        """Read and record at one moment; what was recorded is durable when the block is left without an exception.

        Raises ``StorageFailed`` (``ledger.witness_state``). After a failed commit the file is opened anew: what is seen
        then is what recovery kept, and so what any crash would leave.
        """
        with self._lock:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield WitnessTurn(connection)
                connection.execute("COMMIT")
            except apsw.Error as error:
                self._drop()
                raise _failed("written", error) from error
            except BaseException:
                self._roll_back(connection)
                raise

    def logs(self) -> list[str]:
        """Verifier lines of the logs that this witness knows."""
        with self._lock:
            try:
                rows = self._open().execute("SELECT verifier FROM log ORDER BY verifier").fetchall()
            except apsw.Error as error:
                raise _failed("read", error) from error
        return [str(row[0]) for row in rows]

    def add_log(self, verifier: str) -> None:
        """Know one more log, durably. Knowing it already changes nothing."""
        with self._lock:
            try:
                self._open().execute("INSERT OR IGNORE INTO log(verifier) VALUES(?)", (verifier,))
            except apsw.Error as error:
                self._drop()
                raise _failed("written", error) from error

    def _roll_back(self, connection: apsw.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            self._drop()  # SQLite rolls back by itself when the connection goes

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(apsw.Error):  # it is closed all the same, and what was committed is durable already
                self._connection.close(True)
            self._connection = None

    def close(self) -> None:
        """Release the file. Closing twice is harmless; using it again opens it."""
        with self._lock:
            self._drop()


def _failed(what: str, error: apsw.Error) -> StorageFailed:
    return StorageFailed(
        "ledger.witness_state", f"the witness's state cannot be {what}: {error}", "check the disk and the file's owner"
    )
