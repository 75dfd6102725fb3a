"""The lock database: the newest checkpoint, kept apart from the ledger, against rollback.

Someone who puts back an older copy of the ledger file rewrites nothing, but he makes the newest entries, a hold
for instance, disappear. So the newest checkpoint also lives here; at start the ledger must be at least as long
as the lock says and consistent with it, or it opens read-only. The lock is advisory evidence, not the truth: it is
written after the ledger's commit, and a lock that is *behind* the ledger (a crash in between) is normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from safehold.model.errors import StorageFailed

__all__ = ["CheckpointLock"]

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS latest(origin TEXT PRIMARY KEY, size INTEGER NOT NULL, note BLOB NOT NULL) STRICT"
)


class CheckpointLock:
    """The newest checkpoint of each origin, only ever growing."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(30_000)
            # WAL with NORMAL: no fsync a commit. A power cut may take the last few updates, which only makes
            # the lock older; it cannot corrupt it, and the ledger itself does not depend on it.
            self._connection.pragma("journal_mode", "wal")
            self._connection.pragma("synchronous", 1)
            self._connection.execute(_SCHEMA)
        except apsw.Error as error:
            raise _failed("opened", error) from error

    def latest(self, origin: str) -> bytes | None:
        """The newest signed checkpoint known for ``origin``. Raises ``StorageFailed`` (``ledger.lock``)."""
        try:
            row = self._connection.execute("SELECT note FROM latest WHERE origin = ?", (origin,)).fetchone()
        except apsw.Error as error:
            raise _failed("read", error) from error
        return None if row is None else row[0]

    def advance(self, origin: str, size: int, note: bytes) -> None:
        """Remember a checkpoint unless a larger one is known.

        Raises ``StorageFailed`` (``ledger.lock``). The entries are durable by then: whoever calls this after a commit
        reports the failure and does not let it look like a failed append.
        """
        try:
            self._connection.execute(
                "INSERT INTO latest(origin, size, note) VALUES(?1, ?2, ?3) ON CONFLICT(origin) DO UPDATE"
                " SET size = ?2, note = ?3 WHERE size < ?2",
                (origin, size, note),
            )
        except apsw.Error as error:
            raise _failed("written", error) from error

    def close(self) -> None:
        """Release the file."""
        self._connection.close(True)  # what could not be written only makes the lock older


def _failed(what: str, error: apsw.Error) -> StorageFailed:
    return StorageFailed(
        "ledger.lock",
        f"the lock database cannot be {what}: {error}",
        "check the disk, whether it is full, and the file's owner",
    )
