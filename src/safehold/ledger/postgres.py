"""The served store: PostgreSQL through psycopg 3, for several processes on several machines.

One process leads. It holds an advisory lock for as long as its session lives, and it has raised the *epoch* in the
head row when it took the lock. Every commit moves the head in the same transaction, and only if the head still has
this leader's epoch and the size that the transaction began with; the row stays locked until the commit is decided. So
a leader that lost its lock without knowing (session killed, network split, fail-over to a standby) can never
commit after another one did. All others read, wait for changes, and take over when the leader's session ends.

A commit is durable when it returns: ``synchronous_commit`` is at least ``on``, and a server with ``fsync`` off is
refused. A connection that breaks before ``COMMIT`` was sent has appended nothing (PostgreSQL rolls back); one that
breaks later leaves the caller ``Uncertain``: to learn, the store is opened again and leads again, which the server
allows only when the old session is over.

Writes are gathered and sent together, at the latest before the next read and before the commit: an error in one may
show there. The connection must be a session of its own: no pooler that shares sessions between transactions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format, TransactionStatus
from psycopg.raw_cursor import RawCursor
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from safehold.ledger.postgres_batch import Array, batch_rows, table_of
from safehold.ledger.postgres_sql import SCHEMA, channel_of, escape, leader_key, translate, unescape
from safehold.model.errors import Conflict, InputInvalid, NotAppended, StorageFailed, Uncertain
from safehold.model.ids import Digest

__all__ = ["PostgresStore", "check_address"]

_PATIENCE: Final = 30.0
_LISTEN_SLICE: Final = 1.0
_LOCK_TIMEOUT: Final = "30s"  # for table locks, which a rebuild takes: readers must end
_SETTINGS: Final = (
    f"SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '{_LOCK_TIMEOUT}', false),"
    " set_config('idle_in_transaction_session_timeout', '0', false), set_config('idle_session_timeout', '0', false),"
    " set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
    " set_config('tcp_keepalives_count', '3', false), set_config('synchronous_commit', CASE WHEN"
    " current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
_ADD_ENTRY: Final = "INSERT INTO entry(idx, body) VALUES($1, $2)"
_PUT_TILE: Final = (
    "INSERT INTO tile(level, idx, hashes) VALUES($1, $2, $3) ON CONFLICT(level, idx) DO UPDATE SET hashes = excluded.hashes"
)
_PUT_CHECKPOINT: Final = (
    "INSERT INTO checkpoint(size, note) VALUES($1, $2) ON CONFLICT(size) DO UPDATE SET note = excluded.note"
)
_PUT_PAYLOAD: Final = "INSERT INTO payload(digest, body) VALUES($1, $2) ON CONFLICT(digest) DO NOTHING"

_Connection = psycopg.Connection[tuple[Any, ...]]


def check_address(url: str) -> str:
    """``url`` if it is one of PostgreSQL that holds no password.

    Raises ``InputInvalid`` (``ledger.store_url``, ``ledger.store_password``). A password belongs where libpq looks for it.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise InputInvalid(
            "ledger.store_url", "this is no PostgreSQL URL", "write it like postgresql://host/database"
        )
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:  # libpq's words may repeat the URL, and in it a password
        raise InputInvalid(
            "ledger.store_url", "this PostgreSQL URL cannot be read", "write it like postgresql://host/database"
        ) from error
    if parts.get("password") is not None:
        raise InputInvalid(
            "ledger.store_password",
            "the PostgreSQL URL holds a password, which would stand in the home in clear",
            "put it into a password file (~/.pgpass, or passfile=FILE) or name a service (?service=NAME)",
        )
    return url


class _TextLoader(Loader):
    """Gives texts back as they were before ``escape``."""

    format = Format.BINARY

    def load(self, data: Any) -> str:
        return unescape(bytes(data).decode())


class _ArrayDumper(Dumper):
    """Hands an array over as it is; the cast in its statement says of what."""

    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


class _View:
    """A ``View`` over one connection inside a transaction."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor(binary=True)

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        try:
            return self._cursor.execute(translate(sql), _values(arguments)).fetchall()
        except psycopg.Error as error:
            _storage_failed(error, "the ledger cannot be read")

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


class _Transaction(_View):
    """A ``Transaction`` that gathers what it is to write and sends it before anything is read."""

    def __init__(self, connection: _Connection, size: int) -> None:
        super().__init__(connection)
        self._size = size
        self._runs: list[tuple[str, list[tuple[Any, ...]]]] = []
        self._last: dict[str, tuple[str, list[tuple[Any, ...]]]] = {}
        self._payloads: dict[str, bytes] = {}
        self.dirty = False

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        if self._runs:
            try:
                with self._connection.pipeline():
                    self.send()
            except psycopg.Error as error:
                _storage_failed(error, "what was staged cannot be written")
        return super().rows(sql, *arguments)

    def send(self) -> None:
        """Send what was gathered; to be called inside a pipeline, which tells how it went."""
        runs, self._runs, self._last = self._runs, [], {}
        self._payloads.clear()
        for sql, many in runs:
            self.dirty = True
            batch = batch_rows(sql, many) if len(many) > 1 else None
            if batch is not None:
                self._cursor.execute(batch.sql, batch.arrays)
            else:
                self._cursor.executemany(sql, many)

    def execute(self, sql: str, *arguments: Any) -> None:
        self._add(translate(sql), _values(arguments))

    def _add(self, sql: str, arguments: tuple[Any, ...]) -> None:
        """Gather one statement: with its likes, if nothing else was done to its table since."""
        table = table_of(sql)
        last = None if table is None else self._last.get(table)
        if last is not None and last[0] == sql:
            last[1].append(arguments)
            return
        run = (sql, [arguments])
        self._runs.append(run)
        if table is None:
            self._last.clear()
        else:
            self._last[table] = run

    def size(self) -> int:
        return self._size

    def payload(self, digest: Digest) -> bytes | None:
        staged = self._payloads.get(digest)
        return super().payload(digest) if staged is None else staged

    def add_entry(self, index: int, body: bytes) -> None:
        self._add(_ADD_ENTRY, (index, body))
        self._size = max(self._size, index + 1)

    def put_tile(self, level: int, index: int, hashes: bytes) -> None:
        self._add(_PUT_TILE, (level, index, hashes))

    def put_checkpoint(self, size: int, note: bytes) -> None:
        self._add(_PUT_CHECKPOINT, (size, note))

    def put_payload(self, digest: Digest, body: bytes) -> None:
        self._add(_PUT_PAYLOAD, (digest, body))
        self._payloads[digest] = body

    def settle(self) -> None:
        self.dirty = True  # the commit then moves the head, if only to where it is


class PostgresStore:
    """A ``Store`` in a PostgreSQL database: one ledger for each schema.

    ``url`` is a libpq connection URL or string; what it leaves out comes from libpq's own places. ``patience`` is for how
    many seconds a write waits for another leader to end before it raises ``NotAppended`` (``ledger.not_leader``).
    """

    def __init__(self, url: str, origin: str, *, patience: float = _PATIENCE) -> None:
        self._url = url
        self._origin = origin
        self._patience = patience
        self._key = leader_key(origin)
        self._channel = channel_of(origin)
        self._lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._listen_lock = threading.RLock()
        self._writer: _Connection | None = None
        self._reader: _Connection | None = None
        self._listener: _Connection | None = None
        self._epoch: int | None = None
        self._open = False
        self.reopen()

    # --- opening and closing

    def reopen(self) -> None:
        """Close what is open and open again; makes the tables if they are missing. See ``Store``.

        Raises ``StorageFailed`` (``ledger.storage``, ``ledger.not_durable``) and ``Conflict`` (``ledger.other_origin``).
        """
        with self._lock:  # and not the readers' locks: who reads may be waiting for this one, and reads anew by itself
            self._open = False
            self._drop_writer()
            try:
                self._writer = writer = self._connect()
                self._check_server(writer)
                self._make_tables(writer)
                self._open = True
            except psycopg.Error as error:
                _storage_failed(error, "the ledger's database cannot be opened")
            finally:
                if not self._open:
                    self._drop_writer()

    def _connect(self) -> _Connection:
        connection = psycopg.connect(
            self._url, autocommit=True, cursor_factory=RawCursor, fallback_application_name="safehold"
        )
        adapters = connection.adapters
        adapters.register_dumper(int, Int8BinaryDumper)
        adapters.register_dumper(str, StrBinaryDumper)
        adapters.register_dumper(Array, _ArrayDumper)
        adapters.register_loader("text", _TextLoader)
        connection.prepare_threshold = 2
        try:
            connection.execute(_SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _check_server(connection: _Connection) -> None:
        settings = "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')"
        fsync, pages, encoding = connection.execute(settings).fetchall()[0]
        if (fsync, pages) != ("on", "on"):
            raise StorageFailed(
                "ledger.not_durable",
                f"the server would lose what it acknowledged: fsync is {fsync}, full_page_writes is {pages}",
                "switch both on in postgresql.conf, or use another server",
            )
        if encoding != "UTF8":
            raise StorageFailed(
                "ledger.store_encoding", f"the database's encoding is {encoding}", "make one with ENCODING 'UTF8'"
            )

    def _make_tables(self, connection: _Connection) -> None:
        missing = "SELECT to_regclass('head') IS NULL"
        if connection.execute(missing).fetchall() == [(True,)]:
            # Not a lock of the transaction: only the beginning of the next one shows what another process has made.
            connection.execute("SELECT pg_advisory_lock($1)", (self._key ^ 1,))
            if connection.execute(missing).fetchall() == [(True,)]:
                with connection.transaction():
                    for statement in SCHEMA:
                        connection.execute(statement)
                    connection.execute("INSERT INTO head(origin, epoch, size) VALUES($1, 0, 0)", (self._origin,))
            connection.execute("SELECT pg_advisory_unlock($1)", (self._key ^ 1,))
        found = connection.execute("SELECT origin FROM head").fetchall()
        if found != [(self._origin,)]:
            raise Conflict(
                "ledger.other_origin",
                f"this schema holds the ledger {found[0][0] if found else 'of nobody'}, not {self._origin}",
                "give each ledger a schema of its own: ?options=-csearch_path%3DNAME",
            )

    def close(self) -> None:
        """Release all connections, and with them the lead. Closing twice is harmless."""
        self._open = False
        with self._lock:
            self._drop_writer()
        with self._read_lock:
            _close(self._reader)
            self._reader = None
        with self._listen_lock:
            _close(self._listener)
            self._listener = None

    def _drop_writer(self) -> None:
        self._epoch = None
        _close(self._writer)
        self._writer = None

    def _check_open(self) -> None:
        if not self._open:
            raise StorageFailed("ledger.closed", "the ledger is closed", "open it again")

    # --- leading

    def lead(self) -> bool:
        """Whether this store leads the ledger, or does so from now on since nobody else does."""
        with self._lock:
            self._check_open()
            try:
                return self._take_lead(0)
            except psycopg.Error as error:
                self._drop_writer()
                _storage_failed(error, "the ledger's database cannot be reached")

    def _take_lead(self, patience: float) -> bool:
        if self._epoch is not None and self._writer is not None and not self._writer.closed:
            return True
        self._epoch = None
        if self._writer is None or self._writer.closed:
            self._drop_writer()
            self._writer = self._connect()
        writer = self._writer
        if writer.execute("SELECT pg_try_advisory_lock($1)", (self._key,)).fetchall() != [(True,)]:
            if not patience:
                return False
            try:  # the server keeps a queue: whoever has waited longest is next
                writer.execute("SELECT set_config('lock_timeout', $1, false)", (f"{max(1, round(patience * 1000))}ms",))
                writer.execute("SELECT pg_advisory_lock($1)", (self._key,))
            except psycopg.errors.LockNotAvailable:
                return False
            finally:
                if not writer.closed:
                    writer.execute("SELECT set_config('lock_timeout', $1, false)", (_LOCK_TIMEOUT,))
        # From here on no other session can lead. What an older leader has in flight is over (the lock ends with its
        # session) or, on another server, will not find its epoch.
        ((self._epoch,),) = writer.execute("UPDATE head SET epoch = epoch + 1 RETURNING epoch").fetchall()
        return True

    # --- writing

    @contextmanager
    def write(self) -> Iterator[_Transaction]:
        """The write transaction: see ``Store``."""
        with self._lock:
            self._check_open()
            transaction, head = self._begin()
            writer = transaction._connection  # noqa: SLF001 - the same room's own
            try:
                yield transaction
                self._finish(transaction, writer, head)
            except psycopg.Error as error:
                self._roll_back(writer)
                raise _not_appended(error) from error
            except BaseException:
                self._roll_back(writer)
                raise
            self._commit(writer)

    def _begin(self) -> tuple[_Transaction, int]:
        """Lead, begin, and look at the head; a connection found dead is made anew: nothing was sent on it yet."""
        for again in (True, False):
            try:
                if not self._take_lead(self._patience):
                    raise _not_leader()
                writer = self._writer
                assert writer is not None
                if writer.info.transaction_status != TransactionStatus.IDLE:
                    raise NotAppended("ledger.not_appended", "a write transaction is open already in this thread")
                with writer.pipeline():
                    writer.execute("BEGIN")
                    cursor = writer.execute(
                        "SELECT epoch, size, (SELECT coalesce(max(idx), -1) + 1 FROM entry) FROM head", binary=True
                    )
                ((epoch, head, size),) = cursor.fetchall()
            except psycopg.Error as error:
                dead = self._writer is None or self._writer.closed
                self._drop_writer()
                if not (again and dead):
                    raise _not_appended(error) from error
                continue
            if epoch != self._epoch:
                self._drop_writer()
                raise _lost_lead()
            return _Transaction(writer, size), head
        raise AssertionError("the second attempt returned or raised")

    def _finish(self, transaction: _Transaction, writer: _Connection, head: int) -> None:
        """Send the rest, compare and move the head, and tell followers. Holds the head's row until all is decided."""
        with writer.pipeline():
            transaction.send()
            if not transaction.dirty:
                return
            moved = writer.execute(
                "UPDATE head SET size = $1 WHERE epoch = $2 AND size = $3", (transaction.size(), self._epoch, head)
            )
            writer.execute("SELECT pg_notify($1, $2)", (self._channel, str(transaction.size())))
        if moved.rowcount != 1:
            self._roll_back(writer)
            self._drop_writer()
            raise _lost_lead()

    def _commit(self, writer: _Connection) -> None:
        try:
            done = writer.execute("COMMIT")
        except psycopg.Error as error:
            if not writer.closed and writer.info.transaction_status == TransactionStatus.IDLE:
                raise _not_appended(error) from error  # the server itself says that it rolled back
            self._open = False
            self._drop_writer()
            raise Uncertain(
                "ledger.uncertain",
                f"the append may or may not have happened: {_words(error)}",
                "open the ledger again to learn; nothing that was acknowledged is lost",
            ) from error
        except BaseException:  # interrupted while waiting: the commit may go on; this session is of no more use
            self._drop_writer()
            raise
        if done.statusmessage != "COMMIT":
            raise NotAppended("ledger.not_appended", "nothing was appended: a statement before the commit had failed")

    def _roll_back(self, writer: _Connection) -> None:
        try:
            if not writer.closed and writer.info.transaction_status != TransactionStatus.IDLE:
                writer.execute("ROLLBACK")
        except psycopg.Error:
            self._drop_writer()  # the server rolls back when the session ends

    # --- reading

    @contextmanager
    def read(self) -> Iterator[_View]:
        """One snapshot: see ``Store``. A block inside another one of the same thread sees the same snapshot."""
        with self._read_lock:
            self._check_open()
            reader = self._reader
            if reader is not None and not reader.closed and reader.info.transaction_status != TransactionStatus.IDLE:
                yield _View(reader)
                return
            reader = self._snapshot()
            try:
                yield _View(reader)
            finally:
                with suppress(psycopg.Error):  # a reader that cannot roll back has died, and is made anew next time
                    if not reader.closed:
                        reader.execute("ROLLBACK")

    def _snapshot(self) -> _Connection:
        for again in (True, False):
            try:
                if self._reader is None or self._reader.closed:
                    self._reader = self._connect()
                with self._reader.pipeline():
                    self._reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    self._reader.execute("SELECT size FROM head")  # the snapshot is of now, not of the first use
                return self._reader
            except psycopg.Error as error:
                dead = self._reader is None or self._reader.closed
                _close(self._reader)
                self._reader = None
                if not (again and dead):
                    _storage_failed(error, "the ledger cannot be read")
        raise AssertionError("the second attempt returned or raised")

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """The number of entries: as soon as it is not ``seen``, at the latest after ``timeout`` seconds.

        A commit that was told while the connection was away is not missed: the head is read anew after each connect.
        Raises ``StorageFailed`` if the database cannot be reached until then.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self._listen_lock:
                    size = self._listen(seen, min(deadline, time.monotonic() + _LISTEN_SLICE))
            except psycopg.Error as error:
                if time.monotonic() >= deadline:
                    _storage_failed(error, "the ledger's database cannot be reached")
                threading.Event().wait(0.05)
            else:
                if size != seen or time.monotonic() >= deadline:
                    return size

    def _listen(self, seen: int, until: float) -> int:
        self._check_open()
        if self._listener is None or self._listener.closed:
            self._listener = self._connect()
            self._listener.execute(f"LISTEN {self._channel}")  # first listen, then look: nothing falls in between
        size = self._head_size(self._listener)
        if size == seen:
            for _ in self._listener.notifies(timeout=max(0.0, until - time.monotonic()), stop_after=1):
                break
            size = self._head_size(self._listener)
        return size

    @staticmethod
    def _head_size(connection: _Connection) -> int:
        return int(connection.execute("SELECT size FROM head").fetchall()[0][0])


def _close(connection: _Connection | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()


def _values(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([escape(value) if isinstance(value, str) else value for value in arguments])


def _words(error: psycopg.Error) -> str:
    """The server's words on one line."""
    return " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())


def _not_leader() -> NotAppended:
    return NotAppended(
        "ledger.not_leader",
        "another process leads this ledger: nothing was appended",
        "run the command again when that process has ended, or ask it",
    )


def _lost_lead() -> NotAppended:
    return NotAppended(
        "ledger.lost_lead",
        "another process has taken over this ledger: nothing was appended",
        "run the command again: it is answered by whoever leads now, or leads if nobody does",
    )


def _not_appended(error: psycopg.Error) -> NotAppended:
    if isinstance(error, psycopg.errors.DiskFull):
        return NotAppended(
            "ledger.disk_full",
            "the disk is full: nothing was appended",
            "free some space and run the same command again",
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return NotAppended("ledger.busy", "others have been reading for 30 s what must change", "run the command again")
    return NotAppended(
        "ledger.not_appended", f"nothing was appended: {_words(error)}", "check the database, then run again"
    )


def _storage_failed(error: psycopg.Error, what: str) -> NoReturn:
    raise StorageFailed(
        "ledger.storage", f"{what}: {_words(error)}", "check the PostgreSQL server, its address and your rights there"
    ) from error
