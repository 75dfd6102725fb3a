"""A copy of the ledger's file, taken while others append, and read again without changing it.

**What a copy holds.** Everything that was acknowledged before it began, and nothing half: one read transaction stands
open over the whole copy, so SQLite's backup copies one snapshot, however many pages at a time, and in WAL mode it
never blocks a writer. The copy leaves WAL mode at its end, so it is one file that needs none beside it.

``VACUUM INTO`` was the other way. It rebuilds every tree of the file, tells nothing of its progress, and leaves the
projections in another order of pages; what is copied here are the pages themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from safehold.ledger.sqlite import stored_view
from safehold.ledger.storage import View
from safehold.model.errors import StorageFailed, VerificationFailed

__all__ = ["copy_ledger", "open_copy"]

_PAGES: Final = 4096  # 16 MiB between two words about progress
_BUSY_MS: Final = 30_000


def copy_ledger(source: Path, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Copy the ledger's file ``source`` to the new file ``target``; ``progress(pages done, all)`` if given.

    The copy is durable under its name only after the caller synced its folder. Raises ``StorageFailed``
    (``ledger.copy``, ``ledger.copy_full``).
    """
    try:
        reading = apsw.Connection(
            str(source), flags=apsw.SQLITE_OPEN_READWRITE
        )  # a WAL is read by who may make its index
        writing = apsw.Connection(str(target))
        try:
            reading.set_busy_timeout(_BUSY_MS)
            reading.execute("BEGIN")
            reading.execute("SELECT 1 FROM entry LIMIT 1").fetchall()  # the snapshot is of now
            writing.pragma("locking_mode", "exclusive")  # nobody else opens it, so no index of a WAL needs room
            with writing.backup("main", reading, "main") as backup:
                while not backup.done:
                    backup.step(_PAGES)
                    if progress is not None:
                        progress(backup.page_count - backup.remaining, backup.page_count)
            writing.pragma("journal_mode", "delete")
        finally:
            writing.close(True)
            reading.close(True)
    except apsw.Error as error:
        no_room = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
        if no_room or isinstance(error, apsw.FullError):
            raise StorageFailed(
                "ledger.copy_full",
                "the disk is full: the ledger was not copied",
                "free some space and run the same command again",
            ) from error
        raise StorageFailed(
            "ledger.copy", f"the ledger was not copied: {error}", "check both disks, then run the same command again"
        ) from error


@contextmanager
def open_copy(path: Path) -> Iterator[View]:
    """A view of a copy that nobody writes to: no lock, no file beside it, not one byte changed.

    Raises ``VerificationFailed`` (``ledger.copy_damaged``) where it is no database or cannot be read as one.
    """
    try:
        connection = apsw.Connection(
            f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone() or ("nothing",)
            if found != "ok":
                raise VerificationFailed(
                    "ledger.copy_damaged", f"the copy {path} is damaged: {found}", "take another copy"
                )
            yield stored_view(connection)
        finally:
            connection.close(True)
    except apsw.Error as error:
        raise VerificationFailed(
            "ledger.copy_damaged", f"the copy {path} cannot be read as a ledger: {error}", "take another copy"
        ) from error
