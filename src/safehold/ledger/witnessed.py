"""What witnesses are known to have cosigned: kept in the home, beside the ledger and apart from it.

A witness that knows more entries than the ledger has is the sign that entries were taken back. So the largest size of
each witness is remembered, and a home that falls short of it opens read-only. Beside that, the newest checkpoint that
fulfilled the home's policy: complete receipts are made against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from safehold.model.errors import StorageFailed

__all__ = ["KnownSize", "WitnessedSizes"]

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS known(witness TEXT PRIMARY KEY, size INTEGER NOT NULL, note BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS complete(origin TEXT PRIMARY KEY, size INTEGER NOT NULL, note BLOB NOT NULL) STRICT",
)


class KnownSize(msgspec.Struct, frozen=True):
    """The largest size that a witness knows; ``note`` is the checkpoint it cosigned, or empty where it only told the size."""

    witness: str
    size: int
    note: bytes


class WitnessedSizes:
    """The file; sizes only ever grow. ``synchronous=EXTRA``: what is known here must survive what the ledger survives.

    It is made when there is something to remember, and no write-ahead log stands beside it: a home without witnesses, or on
    a full disk, opens for reading without writing here.
    """

    def __init__(self, path: Path) -> None:
        """Raises ``StorageFailed`` (``ledger.witnessed``), as all methods do."""
        self._path = path
        self._connection: apsw.Connection | None = None
        if path.exists():
            self._open()

    def _open(self) -> apsw.Connection:
        if self._connection is not None:
            return self._connection
        try:
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(30_000)
            connection.pragma("synchronous", 3)  # without a write-ahead log the folder must be synced, too
            for statement in _SCHEMA:
                connection.execute(statement)
        except apsw.Error as error:
            raise _failed("opened", error) from error
        self._connection = connection
        return connection

    def _rows(self, sql: str, *arguments: str) -> list[Any]:
        if self._connection is None and not self._path.exists():
            return []
        try:
            return self._open().execute(sql, arguments).fetchall()
        except apsw.Error as error:
            raise _failed("read", error) from error

    def known(self) -> list[KnownSize]:
        """All witnesses, by name."""
        rows = self._rows("SELECT witness, size, note FROM known ORDER BY witness")
        return [KnownSize(*row) for row in rows]

    def advance(self, known: KnownSize) -> None:
        """Remember it unless a larger size is known."""
        self._write(
            "INSERT INTO known(witness, size, note) VALUES(?1, ?2, ?3) ON CONFLICT(witness) DO UPDATE"
            " SET size = ?2, note = ?3 WHERE size < ?2 OR (size = ?2 AND length(note) = 0)",
            (known.witness, known.size, known.note),
        )

    def forget(self, witness: str) -> None:
        """Forget what a witness knew: the operator's word that it was wrong. Unknown names change nothing."""
        self._write("DELETE FROM known WHERE witness = ?", (witness,))

    def complete(self, origin: str) -> bytes | None:
        """The newest checkpoint that fulfilled the policy."""
        rows = self._rows("SELECT note FROM complete WHERE origin = ?", origin)
        return rows[0][0] if rows else None

    def set_complete(self, origin: str, size: int, note: bytes) -> None:
        """Remember a checkpoint that fulfils the policy; of equal sizes the later note, which has more signatures."""
        self._write(
            "INSERT INTO complete(origin, size, note) VALUES(?1, ?2, ?3) ON CONFLICT(origin) DO UPDATE"
            " SET size = ?2, note = ?3 WHERE size <= ?2",
            (origin, size, note),
        )

    def _write(self, sql: str, arguments: tuple[str | int | bytes, ...]) -> None:
        try:
            self._open().execute(sql, arguments)
        except apsw.Error as error:
            raise _failed("written", error) from error

    def close(self) -> None:
        """Release the file. Closing twice is harmless."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = None


def _failed(what: str, error: apsw.Error) -> StorageFailed:
    return StorageFailed(
        "ledger.witnessed", f"what witnesses know cannot be {what}: {error}", "check the disk and the file's owner"
    )
