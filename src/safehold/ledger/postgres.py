"""The served store: PostgreSQL through psycopg 3, for several processes on several machines.

One process leads. It holds an advisory lock for as long as its session lives, and it has raised the *epoch* in the
head row when it took the lock. Every commit moves the head in the same transaction, and only if the head still has
this leader's epoch and the size that the transaction began with; the row stays locked until the commit is decided. So
a leader that lost its lock without knowing (session killed, network split, fail-over to a standby) can never
commit after another one did. All others read, wait for changes, and take over when the leader's session ends, or when it
hands over: who wants to write asks for the lead (``NOTIFY``), and a leader that is told of it ends its lead between two commits.

A commit is durable when it returns: ``synchronous_commit`` is at least ``on``, and a server with ``fsync`` off is
refused. A connection that breaks before ``COMMIT`` was sent has appended nothing (PostgreSQL rolls back); one that
breaks later leaves the caller ``Uncertain``: to learn, the store is opened again and leads again, which the server
allows only when the old session is over.

Writes are gathered and sent together, at the latest before the next read and before the commit: an error in one may
show there. The connection must be a session of its own: no pooler that shares sessions between transactions.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from safehold.ledger.postgres_session import (
    LOCK_TIMEOUT,
    Connection,
    SessionTransaction,
    SessionView,
    check_address,
    check_server,
    close_session,
    connect,
    not_appended,
    storage_failed,
    words_of,
)
from safehold.ledger.postgres_sql import SCHEMA, channel_of, leader_key
from safehold.model.errors import Conflict, NotAppended, StorageFailed, Uncertain

__all__ = ["PostgresStore", "check_address"]

_PATIENCE: Final = 30.0
_LISTEN_SLICE: Final = 1.0
_ASK_AGAIN: Final = 1.0
_REST: Final = 0.5  # seconds for which a store that handed over leaves the lead to others


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
        self._asking = f"{self._channel}_lead"
        self._lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._listen_lock = threading.RLock()
        self._asked_lock = threading.RLock()
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._listener: Connection | None = None
        self._asked: Connection | None = None
        self._rests_until = 0.0
        self._name = secrets.token_hex(8)  # tells this store's own wishes from those of others
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
                self._writer = writer = connect(self._url)
                check_server(writer)
                self._make_tables(writer)
                self._open = True
            except psycopg.Error as error:
                storage_failed(error, "the ledger's database cannot be opened")
            finally:
                if not self._open:
                    self._drop_writer()

    def _make_tables(self, connection: Connection) -> None:
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
            close_session(self._reader)
            self._reader = None
        with self._listen_lock:
            close_session(self._listener)
            self._listener = None
        with self._asked_lock:
            close_session(self._asked)
            self._asked = None

    def _drop_writer(self) -> None:
        self._epoch = None
        close_session(self._writer)
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
                return self._take_lead(0) is not None
            except psycopg.Error as error:
                self._drop_writer()
                storage_failed(error, "the ledger's database cannot be reached")

    @property
    def leads(self) -> bool:
        """Whether this store leads, as far as it knows; asks nobody."""
        return self._epoch is not None

    @property
    def tenure(self) -> int:
        """See ``Store``: the epoch."""
        return -1 if self._epoch is None else self._epoch

    def release_lead(self) -> None:
        """End this store's lead between two commits; whoever waits for it leads now. It does not take it back at once.

        Raises ``StorageFailed``. What was committed stays, and nothing was under way.
        """
        with self._lock:
            if self._epoch is None or self._writer is None:
                return
            self._epoch = None
            self._rests_until = time.monotonic() + _REST
            try:
                self._writer.execute("SELECT pg_advisory_unlock($1)", (self._key,))
            except psycopg.Error:
                self._drop_writer()  # the server frees the lock when the session ends

    def wait_until_asked(self, timeout: float) -> bool:
        """Whether another process asks for the lead: as soon as one does, at the latest after ``timeout`` seconds.

        What was asked while nobody listened is lost, and asked again: who waits for the lead asks once a second. Raises
        ``StorageFailed``.
        """
        with self._asked_lock:
            self._check_open()
            try:
                if self._asked is None or self._asked.closed:
                    self._asked = connect(self._url)
                    self._asked.execute(f"LISTEN {self._asking}")
                # What this store asked for itself, before it led, comes here too, and is nobody's wish by now.
                return any(note.payload != self._name for note in self._asked.notifies(timeout=timeout, stop_after=1))
            except psycopg.Error as error:
                close_session(self._asked)
                self._asked = None
                storage_failed(error, "the ledger's database cannot be reached")

    def _take_lead(self, patience: float) -> Connection | None:
        """The session that leads, within ``patience`` seconds, or None. Raises ``psycopg.Error``."""
        if self._epoch is not None and self._writer is not None and not self._writer.closed:
            return self._writer
        self._epoch = None
        if self._writer is None or self._writer.closed:
            self._drop_writer()
            self._writer = connect(self._url)
        writer = self._writer
        if time.monotonic() < self._rests_until:
            if not patience:
                return None
            threading.Event().wait(
                self._rests_until - time.monotonic()
            )  # it was handed over: whoever asked comes first
        if not self._try_lead(writer) and not self._wait_for_lead(writer, patience):
            return None
        # From here on no other session can lead. What an older leader has in flight is over (the lock ends with its
        # session) or, on another server, will not find its epoch.
        ((self._epoch,),) = writer.execute("UPDATE head SET epoch = epoch + 1 RETURNING epoch").fetchall()
        return writer

    def _try_lead(self, writer: Connection) -> bool:
        return writer.execute("SELECT pg_try_advisory_lock($1)", (self._key,)).fetchall() == [(True,)]

    def _wait_for_lead(self, writer: Connection, patience: float) -> bool:
        """Ask for the lead and wait in the server's queue, where whoever has waited longest is next.

        It stays in the queue all the time: whoever leaves it to ask again loses his place, and with two who append all the
        time a third would wait for ever. So another session asks, once a second.
        """
        got = threading.Event()
        asker = threading.Thread(target=self._ask_until, args=(got,), name="ask-lead", daemon=True)
        asker.start()
        try:
            wait = f"{max(1, round(patience * 1000))}ms"
            writer.execute("SELECT set_config('lock_timeout', $1, false)", (wait,))
            writer.execute("SELECT pg_advisory_lock($1)", (self._key,))
        except psycopg.errors.LockNotAvailable:
            return False
        else:
            return True
        finally:
            got.set()
            asker.join()
            if not writer.closed:
                writer.execute("SELECT set_config('lock_timeout', $1, false)", (LOCK_TIMEOUT,))

    def _ask_until(self, got: threading.Event) -> None:
        session: Connection | None = None
        try:
            while not got.is_set():
                session = session or connect(self._url)
                session.execute("SELECT pg_notify($1, $2)", (self._asking, self._name))
                got.wait(_ASK_AGAIN)
        except psycopg.Error:
            pass  # who waits is told by his own session, or by his patience
        finally:
            close_session(session)

    # --- writing

    @contextmanager
    def write(self) -> Iterator[SessionTransaction]:
        """The write transaction: see ``Store``."""
        with self._lock:
            self._check_open()
            transaction, head = self._begin()
            writer = transaction.connection
            try:
                yield transaction
                self._finish(transaction, writer, head)
            except psycopg.Error as error:
                self._roll_back(writer)
                raise not_appended(error) from error
            except BaseException:
                self._roll_back(writer)
                raise
            self._commit(writer)

    def _begin(self) -> tuple[SessionTransaction, int]:
        """Lead, begin, and look at the head; a connection found dead is made anew: nothing was sent on it yet."""
        for again in (True, False):
            try:
                writer = self._take_lead(self._patience)
                if writer is None:
                    raise _not_leader()
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
                    raise not_appended(error) from error
                continue
            if epoch != self._epoch:
                self._drop_writer()
                raise _lost_lead()
            return SessionTransaction(writer, size), head
        raise AssertionError("the second attempt returned or raised")

    def _finish(self, transaction: SessionTransaction, writer: Connection, head: int) -> None:
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

    def _commit(self, writer: Connection) -> None:
        try:
            done = writer.execute("COMMIT")
        except psycopg.Error as error:
            if not writer.closed and writer.info.transaction_status == TransactionStatus.IDLE:
                raise not_appended(error) from error  # the server itself says that it rolled back
            self._open = False
            self._drop_writer()
            raise Uncertain(
                "ledger.uncertain",
                f"the append may or may not have happened: {words_of(error)}",
                "open the ledger again to learn; nothing that was acknowledged is lost",
            ) from error
        except BaseException:  # interrupted while waiting: the commit may go on; this session is of no more use
            self._drop_writer()
            raise
        if done.statusmessage != "COMMIT":
            raise NotAppended("ledger.not_appended", "nothing was appended: a statement before the commit had failed")

    def _roll_back(self, writer: Connection) -> None:
        try:
            if not writer.closed and writer.info.transaction_status != TransactionStatus.IDLE:
                writer.execute("ROLLBACK")
        except psycopg.Error:
            self._drop_writer()  # the server rolls back when the session ends

    # --- reading

    @contextmanager
    def read(self) -> Iterator[SessionView]:
        """One snapshot: see ``Store``. A block inside another one of the same thread sees the same snapshot."""
        with self._read_lock:
            self._check_open()
            reader = self._reader
            if reader is not None and not reader.closed and reader.info.transaction_status != TransactionStatus.IDLE:
                yield SessionView(reader)
                return
            reader = self._snapshot()
            try:
                yield SessionView(reader)
            finally:
                with suppress(psycopg.Error):  # a reader that cannot roll back has died, and is made anew next time
                    if not reader.closed:
                        reader.execute("ROLLBACK")

    def _snapshot(self) -> Connection:
        for again in (True, False):
            try:
                if self._reader is None or self._reader.closed:
                    self._reader = connect(self._url)
                with self._reader.pipeline():
                    self._reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    self._reader.execute("SELECT size FROM head")  # the snapshot is of now, not of the first use
                return self._reader
            except psycopg.Error as error:
                dead = self._reader is None or self._reader.closed
                close_session(self._reader)
                self._reader = None
                if not (again and dead):
                    storage_failed(error, "the ledger cannot be read")
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
                    storage_failed(error, "the ledger's database cannot be reached")
                threading.Event().wait(0.05)
            else:
                if size != seen or time.monotonic() >= deadline:
                    return size

    def _listen(self, seen: int, until: float) -> int:
        self._check_open()
        if self._listener is None or self._listener.closed:
            self._listener = connect(self._url)
            self._listener.execute(f"LISTEN {self._channel}")  # first listen, then look: nothing falls in between
        size = self._head_size(self._listener)
        if size == seen:
            for _ in self._listener.notifies(timeout=max(0.0, until - time.monotonic()), stop_after=1):
                break
            size = self._head_size(self._listener)
        return size

    @staticmethod
    def _head_size(connection: Connection) -> int:
        return int(connection.execute("SELECT size FROM head").fetchall()[0][0])


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
