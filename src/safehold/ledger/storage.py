"""The storage port of the ledger: what a store promises, and the two errors that a failed commit can be.

A store holds entries, tiles, checkpoints and payloads, and beside them the projections that the fold keeps in
the same transaction. Its contract, held by one test suite for every adapter:

* ``write()`` opens the only write transaction there is, in this process and in all others; it sees all earlier
  commits. Leaving the block normally commits **durably** before it returns; leaving it by an exception rolls back.
* A failure before the commit raises ``NotAppended``: nothing happened. A failure of the commit itself closes the
  store and raises ``Uncertain``, since bytes may be on the disk: only reopening tells.
* ``read()`` gives one consistent snapshot for the length of the block, and never blocks the writer.
* Rows come back in the order asked for; a store adds no order of its own.
* One SQL for all stores: placeholders ``?`` or ``?1``, types ``INTEGER`` (64 bits), ``TEXT`` (any Unicode, compared by
  its bytes) and ``BLOB``, names in double quotes where a database reserves them, ``ON CONFLICT`` with its columns named.
  The first use of a value shows its type: ``party = ?1 OR ?1 IS NULL``, not the other way round.
  A store may gather what ``execute`` is given and send it before the next read or the commit; errors show there.

Who alters a store can make it unreadable and can hide its newest entries until a witness or the lock database
is asked. He cannot change an entry that anybody holds a checkpoint for: ``fsck`` and every auditor would see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from safehold.model.ids import Digest
from safehold.model.statements import Statement, Unknown

__all__ = ["Entry", "Projector", "Store", "Transaction", "View"]


class Entry(msgspec.Struct, frozen=True):
    """A statement at its place: ``index`` from 0, the stored ``body``, and what it says."""

    index: int
    body: bytes
    statement: Statement | Unknown


class View(Protocol):
    """A consistent reading of the ledger and of its projections."""

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """All rows of a query with ``?`` placeholders."""
        ...

    def size(self) -> int:
        """Number of entries."""
        ...

    def body(self, index: int) -> bytes | None:
        """The stored bytes of one entry."""
        ...

    def bodies(self, begin: int, end: int) -> list[bytes]:
        """The stored bytes of entries ``begin`` … ``end`` - 1; shorter if some are missing."""
        ...

    def tile(self, level: int, index: int) -> bytes | None:
        """A tile as stored, full or partial."""
        ...

    def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint."""
        ...

    def payload(self, digest: Digest) -> bytes | None:
        """The bytes with this SHA-256, or None if they were never here or were erased."""
        ...


class Transaction(View, Protocol):
    """A ``View`` that writes."""

    def execute(self, sql: str, *arguments: Any) -> None:
        """Run one statement with ``?`` placeholders."""
        ...

    def execute_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run one statement for each of ``rows`` in turn."""
        ...

    def add_entry(self, index: int, body: bytes) -> None:
        """Store an entry; its index must be new."""
        ...

    def add_entries(self, begin: int, bodies: Sequence[bytes]) -> None:
        """Store entries at ``begin`` and the places after it; all must be new."""
        ...

    def put_tile(self, level: int, index: int, hashes: bytes) -> None:
        """Store a tile, replacing a narrower one."""
        ...

    def put_checkpoint(self, size: int, note: bytes) -> None:
        """Store the checkpoint of a size; older ones stay."""
        ...

    def put_payload(self, digest: Digest, body: bytes) -> None:
        """Store a payload; storing the same one again changes nothing."""
        ...

    def settle(self) -> None:
        """Write without changing anything: committing that overwrites what a failed commit may have left behind."""
        ...


class Store(Protocol):
    """Where a ledger lives."""

    def write(self) -> AbstractContextManager[Transaction]:
        """The write transaction; commits on leaving."""
        ...

    def read(self) -> AbstractContextManager[View]:
        """A snapshot."""
        ...

    def lead(self) -> bool:
        """Whether a write can begin now: False while another process leads this store, and then it is for reading."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this process leads, without trying to. Where processes take turns: True."""
        ...

    @property
    def tenure(self) -> int:
        """Another number each time that this process begins to lead; looked at inside a write."""
        ...

    def release_lead(self) -> None:
        """Let another process lead, if one leads at all."""
        ...

    def wait_until_asked(self, timeout: float) -> bool:
        """Wait for up to ``timeout`` seconds; True as soon as another process asks for the lead."""
        ...

    def reopen(self) -> None:
        """Open again after ``Uncertain``."""
        ...

    def close(self) -> None:
        """Release all handles. Closing twice is harmless."""
        ...


class Projector(Protocol):
    """Keeps projections: called with all entries, in order, inside the transaction that appends them."""

    def prepare(self, transaction: Transaction) -> None:
        """Create what is missing; called once when a ledger is opened for writing."""
        ...

    def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Fold entries that follow one another. Must depend on them, the payloads and the projections alone."""
        ...
