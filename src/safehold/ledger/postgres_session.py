"""One session with PostgreSQL: its settings and types, the views and transactions over it, its errors in our words.

``PostgresStore`` decides when a session leads, begins and commits; what is said in between is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from psycopg.raw_cursor import RawCursor
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from safehold.ledger.postgres_batch import Array, batch_rows, table_of
from safehold.ledger.postgres_sql import escape, translate, unescape
from safehold.model.errors import InputInvalid, NotAppended, StorageFailed
from safehold.model.ids import Digest

__all__ = [
    "LOCK_TIMEOUT",
    "Connection",
    "SessionTransaction",
    "SessionView",
    "check_address",
    "check_server",
    "close_session",
    "connect",
    "not_appended",
    "storage_failed",
    "words_of",
]

LOCK_TIMEOUT: Final = "30s"  # for table locks, which a rebuild takes: readers must end
_SETTINGS: Final = (
    f"SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '{LOCK_TIMEOUT}', false),"
    " set_config('idle_in_transaction_session_timeout', '0', false), set_config('idle_session_timeout', '0', false),"
    " set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
    " set_config('tcp_keepalives_count', '3', false), set_config('synchronous_commit', CASE WHEN"
    " current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
_ADD_ENTRY: Final = "INSERT INTO entry(idx, body) VALUES($1, $2)"
_PUT_TILE: Final = "INSERT INTO tile(level, idx, hashes) VALUES($1, $2, $3) ON CONFLICT(level, idx) DO UPDATE SET hashes = excluded.hashes"
_PUT_CHECKPOINT: Final = (
    "INSERT INTO checkpoint(size, note) VALUES($1, $2) ON CONFLICT(size) DO UPDATE SET note = excluded.note"
)
_PUT_PAYLOAD: Final = "INSERT INTO payload(digest, body) VALUES($1, $2) ON CONFLICT(digest) DO NOTHING"

Connection = psycopg.Connection[tuple[Any, ...]]


def check_address(url: str) -> str:
    """``url`` if it is one of PostgreSQL that holds no password.

    Raises ``InputInvalid`` (``ledger.store_url``, ``ledger.store_password``). A password belongs where libpq looks for it.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise InputInvalid("ledger.store_url", "this is no PostgreSQL URL", "write it like postgresql://host/database")
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


def connect(url: str) -> Connection:
    """A session with the settings that durability needs, and the port's types. Raises ``psycopg.Error``."""
    connection = psycopg.connect(url, autocommit=True, cursor_factory=RawCursor, fallback_application_name="safehold")
    adapters = connection.adapters
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, _TextDumper)
    adapters.register_dumper(Array, _ArrayDumper)
    adapters.register_loader("text", _TextLoader)
    connection.prepare_threshold = 2
    try:
        connection.execute(_SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def check_server(connection: Connection) -> None:
    """Raises ``StorageFailed`` (``ledger.not_durable``, ``ledger.store_encoding``) for a server that could lose commits."""
    settings = (
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')"
    )
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


def close_session(connection: Connection | None) -> None:
    """Close a connection, whatever state it is in."""
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()


class _TextLoader(Loader):
    """Gives texts back as they were before ``escape``."""

    format = Format.BINARY

    def load(self, data: Any) -> str:
        return unescape(bytes(data).decode())


class _TextDumper(StrBinaryDumper):
    """Hands texts over as PostgreSQL can hold them: see ``escape``."""

    def dump(self, obj: str) -> Any:
        return super().dump(escape(obj))


class _ArrayDumper(Dumper):
    """Hands an array over as it is; the cast in its statement says of what."""

    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


class SessionView:
    """A ``View`` over one connection inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._cursor = connection.cursor(binary=True)

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """See ``View``; raises ``StorageFailed`` (``ledger.storage``)."""
        try:
            return self._cursor.execute(translate(sql), arguments).fetchall()
        except psycopg.Error as error:
            storage_failed(error, "the ledger cannot be read")

    def _value(self, sql: str, *arguments: Any) -> Any:
        rows = self.rows(sql, *arguments)
        return rows[0][0] if rows else None

    def size(self) -> int:
        """See ``View``."""
        last = self._value("SELECT max(idx) FROM entry")
        return 0 if last is None else int(last) + 1

    def body(self, index: int) -> bytes | None:
        """See ``View``."""
        value: bytes | None = self._value("SELECT body FROM entry WHERE idx = ?", index)
        return value

    def bodies(self, begin: int, end: int) -> list[bytes]:
        """See ``View``."""
        rows = self.rows("SELECT body FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", begin, end)
        return [row[0] for row in rows]

    def tile(self, level: int, index: int) -> bytes | None:
        """See ``View``."""
        value: bytes | None = self._value("SELECT hashes FROM tile WHERE level = ? AND idx = ?", level, index)
        return value

    def checkpoint(self) -> bytes | None:
        """See ``View``."""
        value: bytes | None = self._value("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")
        return value

    def payload(self, digest: Digest) -> bytes | None:
        """See ``View``."""
        value: bytes | None = self._value("SELECT body FROM payload WHERE digest = ?", digest)
        return value


class SessionTransaction(SessionView):
    """A ``Transaction`` that gathers what it is to write and sends it before anything is read."""

    def __init__(self, connection: Connection, size: int) -> None:
        super().__init__(connection)
        self._size = size
        self._runs: list[tuple[str, list[tuple[Any, ...]]]] = []
        self._last: dict[str, tuple[str, list[tuple[Any, ...]]]] = {}
        self._payloads: dict[str, bytes] = {}
        self.dirty = False

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """See ``View``: sends what was gathered first."""
        if self._runs:
            try:
                with self.connection.pipeline():
                    self.send()
            except psycopg.Error as error:
                storage_failed(error, "what was staged cannot be written")
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
            elif len(many) == 1:
                self._cursor.execute(sql, many[0])
            else:
                self._cursor.executemany(sql, many)

    def execute(self, sql: str, *arguments: Any) -> None:
        """See ``Transaction``."""
        self._add(translate(sql), [arguments])

    def execute_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """See ``Transaction``."""
        self._add(translate(sql), rows)

    def _add(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Gather one statement for some rows: with its likes, if nothing else was done to its table since."""
        table = table_of(sql)
        last = None if table is None else self._last.get(table)
        if last is not None and last[0] == sql:
            last[1].extend(rows)
            return
        run = (sql, [*rows])
        self._runs.append(run)
        if table is None:
            self._last.clear()
        else:
            self._last[table] = run

    def size(self) -> int:
        """See ``View``."""
        return self._size

    def payload(self, digest: Digest) -> bytes | None:
        """See ``View``."""
        staged = self._payloads.get(digest)
        return super().payload(digest) if staged is None else staged

    def add_entry(self, index: int, body: bytes) -> None:
        """See ``Transaction``."""
        self._add(_ADD_ENTRY, [(index, body)])
        self._size = max(self._size, index + 1)

    def add_entries(self, begin: int, bodies: Sequence[bytes]) -> None:
        """See ``Transaction``."""
        self._add(_ADD_ENTRY, enumerate(bodies, begin))
        self._size = max(self._size, begin + len(bodies))

    def put_tile(self, level: int, index: int, hashes: bytes) -> None:
        """See ``Transaction``."""
        self._add(_PUT_TILE, [(level, index, hashes)])

    def put_checkpoint(self, size: int, note: bytes) -> None:
        """See ``Transaction``."""
        self._add(_PUT_CHECKPOINT, [(size, note)])

    def put_payload(self, digest: Digest, body: bytes) -> None:
        """See ``Transaction``."""
        self._add(_PUT_PAYLOAD, [(digest, body)])
        self._payloads[digest] = body

    def settle(self) -> None:
        """See ``Transaction``."""
        self.dirty = True  # the commit then moves the head, if only to where it is


def words_of(error: psycopg.Error) -> str:
    """The server's words on one line."""
    return " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())


def not_appended(error: psycopg.Error) -> NotAppended:
    """What a failure before the commit point is to whoever appends."""
    if isinstance(error, psycopg.errors.DiskFull):
        return NotAppended(
            "ledger.disk_full",
            "the disk is full: nothing was appended",
            "free some space and run the same command again",
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return NotAppended("ledger.busy", "others have been reading for 30 s what must change", "run the command again")
    return NotAppended(
        "ledger.not_appended", f"nothing was appended: {words_of(error)}", "check the database, then run again"
    )


def storage_failed(error: psycopg.Error, what: str) -> NoReturn:
    """Raise ``StorageFailed`` (``ledger.storage``) with the server's words."""
    raise StorageFailed(
        "ledger.storage", f"{what}: {words_of(error)}", "check the PostgreSQL server, its address and your rights there"
    ) from error
