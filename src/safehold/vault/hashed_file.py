"""A new part file that is hashed while it is written, and durable when it is finished."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from safehold.model.ids import Digest

__all__ = ["HashedFile"]


class HashedFile:
    """A new file that hashes what is written to it; what pyarrow asks of a Python file, and no more.

    Raises ``OSError`` as the system does: whoever writes a part says what it means.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        """Whether it was finished or dropped."""
        return self._file.closed

    @property
    def sha256(self) -> Digest:
        """Of all bytes so far."""
        return Digest("sha256:" + self._hasher.hexdigest())

    def write(self, data: bytes | memoryview) -> int:
        """Take all of ``data``."""
        self._hasher.update(data)
        self.size += len(data)
        return self._file.write(data)

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
        with suppress(OSError):
            self._file.close()
