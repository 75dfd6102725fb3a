"""Decoded records on a disk, encrypted: a cache for training that is worth nothing to whoever finds it.

A block of records is one Arrow IPC stream (https://arrow.apache.org/docs/format/Columnar.html) under AES-256-GCM. The key
is drawn when the cache is made and lives in this process and those forked from it; it is never written and never
pickled. So when the process is gone, what it left is noise, and a power cut or a thief of disks gets nothing.

A block is bound to its name: one file put in another's place does not decrypt. Nonces are 96 random bits; a key
encrypts at most one file a block and process, far from where random nonces meet (NIST SP 800-38D, 8.3: 2^32).

The folder belongs to the cache alone while it is open. A file of another run is removed at the next start: nobody can
read it any more. A cache is no place of record: whatever is wrong with a file, the records are read from the release.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.model.errors import Conflict, InputInvalid
from safehold.vault.disk import FolderLock, storage_failed

__all__ = ["BlockCache"]

_SUFFIX: Final = ".block"
_NONCE: Final = 12
_TAG: Final = 16
_HEAD: Final = b"safehold block v1\n"


class BlockCache:
    """Blocks of record batches in ``folder``, by name. ``limit`` bounds its bytes; beyond it nothing more is kept.

    Raises ``Conflict`` (``vault.busy``, ``vault.cache_folder``) or ``StorageFailed``.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FolderLock(folder.with_name(f".{folder.name}.lock"), str(folder))
            for found in folder.iterdir():
                if not found.name.endswith((_SUFFIX, _SUFFIX + ".new")):
                    self._lock.release()
                    raise Conflict(
                        "vault.cache_folder",
                        f"{folder} holds {found.name!r}, which is no block of a cache",
                        "give the cache a folder of its own",
                    )
                found.unlink()
        except OSError as error:
            raise storage_failed(error, str(folder)) from error
        self.folder = folder
        self._limit = limit
        self._cipher = AESGCM(secrets.token_bytes(32))
        self._owner = os.getpid()
        self._local = threading.local()
        self._full = False

    def __reduce__(self) -> NoReturn:
        """Refuses: its key goes into no pickle."""
        raise InputInvalid(
            "vault.cache_pickled",
            "a cache cannot be sent to another process: its key stays where it was made",
            "let workers be forked (multiprocessing's fork), or read without a cache",
        )

    def put(self, name: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Keep a block. A disk that is full, or a limit that is reached, ends keeping and nothing else."""
        if self._full or not batches:
            return
        sink = pa.MockOutputStream()
        _write(sink, batches)
        size = sink.size()
        if self._limit is not None and self._used() + size > self._limit:
            self._full = True
            return
        plain = self._scratch("plain", size)
        _write(pa.FixedSizeBufferWriter(pa.py_buffer(plain)), batches)
        sealed = self._scratch("sealed", size + _TAG)
        nonce = os.urandom(_NONCE)
        self._cipher.encrypt_into(nonce, plain, _bound(name), sealed)
        path = self.folder / (name + _SUFFIX)
        temporary = path.with_name(path.name + ".new")
        try:
            with temporary.open("wb", buffering=0) as file:
                os.fchmod(file.fileno(), 0o600)
                for data in (_HEAD + nonce, sealed):
                    _write_all(file.fileno(), data)
            os.replace(temporary, path)  # whole or not at all; no fsync, since nobody needs it after a power cut
        except OSError:
            self._full = True
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def get(self, name: str) -> list[pa.RecordBatch] | None:
        """The block, or None if it is not kept or not as it was written."""
        try:
            descriptor = os.open(self.folder / (name + _SUFFIX), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            size = os.fstat(descriptor).st_size - len(_HEAD) - _NONCE
            head = os.read(descriptor, len(_HEAD) + _NONCE)
            if size < _TAG or not head.startswith(_HEAD):
                return None
            sealed = self._scratch("sealed", size)
            if os.readv(descriptor, [sealed]) != size:
                return None
        except OSError:
            return None
        finally:
            os.close(descriptor)
        # A buffer of its own: the records handed out point into it. Arrow's pool takes it back and gives it out again.
        plain = pa.allocate_buffer(size - _TAG)
        try:
            self._cipher.decrypt_into(head[len(_HEAD) :], sealed, _bound(name), memoryview(plain).cast("B"))
            return list(pa.ipc.open_stream(plain))
        except (InvalidTag, pa.ArrowException):
            return None

    def _scratch(self, what: str, size: int) -> memoryview:
        """A buffer that this thread uses again and again: fresh memory costs more than the cipher."""
        buffer: Any = getattr(self._local, what, None)
        if buffer is None or len(buffer) < size:
            buffer = bytearray(size + size // 8)
            setattr(self._local, what, buffer)
        return memoryview(buffer)[:size]

    def _used(self) -> int:
        try:
            return sum(found.stat().st_size for found in os.scandir(self.folder))
        except OSError:
            return 0

    def close(self) -> None:
        """Remove the blocks; in a process that was forked from the owner it does nothing."""
        if os.getpid() != self._owner:
            return
        with suppress(OSError):
            for found in self.folder.iterdir():
                if found.name.endswith((_SUFFIX, _SUFFIX + ".new")):
                    found.unlink(missing_ok=True)
        self._lock.release()


def _bound(name: str) -> bytes:
    return _HEAD + name.encode()


def _write(sink: Any, batches: Sequence[pa.RecordBatch]) -> None:
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
