"""A new part file that is hashed while it is written, and durable when it is finished."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Final

from safehold.model.ids import Digest
from safehold.vault.manifest import MAX_TAIL_BYTES, Tail
from safehold.vault.pieces import PieceHasher

__all__ = ["HashedFile"]

_AHEAD: Final = 16
"""Writes that wait to be hashed; Arrow writes a page or a column chunk at a time."""
_SMALL: Final = 1 << 16
"""A file whose writes are all smaller is hashed where it is written."""


class HashedFile:
    """A new file that hashes what is written to it; what pyarrow asks of a Python file, and no more.

    The hash runs in a thread of its own: hashlib gives up the interpreter's lock, so it costs no time beside compression.
    With ``pieces`` it can have a tail (``begin_tail``), and is hashed twice: whole, and in pieces.
    Raises ``OSError`` as the system does: whoever writes a part says what it means.
    """

    def __init__(self, path: Path, *, pieces: bool = False) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._hasher = hashlib.sha256()
        self._pieces = PieceHasher() if pieces else None
        self._tail_hasher = hashlib.sha256()
        self._tail_at: int | None = None
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = Semaphore(_AHEAD)  # bounded: what waits is held in memory
        self._thread: Thread | None = None
        self.size = 0

    @property
    def closed(self) -> bool:
        """Whether it was finished or dropped."""
        return self._file.closed

    @property
    def sha256(self) -> Digest:
        """Of all bytes so far."""
        self._end_hash()
        return Digest("sha256:" + self._hasher.hexdigest())

    @property
    def tail(self) -> Tail | None:
        """Of what was written from ``begin_tail`` on; None: there is none, or it is longer than a reader takes."""
        self._end_hash()
        if self._tail_at is None or self.size - self._tail_at > MAX_TAIL_BYTES:
            return None
        return Tail(size=self.size - self._tail_at, sha256=Digest("sha256:" + self._tail_hasher.hexdigest()))

    def begin_tail(self) -> None:
        """Write the digests of the pieces so far: they and all that follows are the tail."""
        self._end_hash()
        if self._pieces is not None and self._tail_at is None:
            digests = self._pieces.digests()
            self._tail_at = self.size
            self.write(digests)

    def write(self, data: bytes | memoryview) -> int:
        """Take all of ``data``."""
        held = bytes(data)  # who writes may use its buffer again once this returns
        if len(held) < _SMALL and self._thread is None:
            self._add(held)
        else:
            if self._thread is None:
                self._thread = Thread(target=self._hash, daemon=True, name="part-hash")
                self._thread.start()
            self._room.acquire()
            self._waiting.put(held)
        self.size += len(held)
        return self._file.write(held)

    def _add(self, data: bytes) -> None:
        self._hasher.update(data)
        if self._tail_at is not None:
            self._tail_hasher.update(data)
        elif self._pieces is not None:
            self._pieces.update(data)

    def _hash(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._add(data)
            self._room.release()

    def _end_hash(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Hand it to the system."""
        self._file.flush()

    def close(self) -> None:
        """Called by Arrow too early; ``finish`` closes."""

    def finish(self) -> None:
        """Make it durable and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """Close it as it is."""
        self._end_hash()
        with suppress(OSError):
            self._file.close()
