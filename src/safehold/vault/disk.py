"""The disk: durable files, one lock, and what an operating-system error means to a person.

Three promises. A new file appears whole or not at all, and never over an existing one. A folder is worked on
by one process at a time, and a killed process leaves no lock behind (``flock`` dies with its holder). An
``OSError`` leaves this room only as ``StorageFailed`` with a hint.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from safehold.model.errors import Conflict, StorageFailed

__all__ = ["FolderLock", "new_file", "storage_failed", "sync_folder", "write_new"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def storage_failed(error: OSError, what: str) -> StorageFailed:
    """Return the ``StorageFailed`` that says what ``error`` means; ``what`` names the thing that failed."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFailed(
            "vault.disk_full", f"the disk is full: {what} was not written", "free some space and run it again"
        )
    if error.errno in _FORBIDDEN:
        return StorageFailed("vault.not_permitted", f"{what}: {reason}", "check the owner and mode of the folder")
    if error.errno == errno.EFBIG:
        return StorageFailed("vault.file_limit", f"{what}: {reason}", "raise the file-size limit (ulimit -f)")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageFailed("vault.open_files", f"{what}: {reason}", "raise the limit of open files (ulimit -n)")
    return StorageFailed("vault.storage", f"{what}: {reason}")


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable: without it a power cut may undo a rename that already happened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is at ``path`` only once it is whole and durable; mode 0600.

    The bytes go to a file without a name (``O_TMPFILE``), so a killed process leaves nothing behind, not even
    plaintext. File systems without such files get a named one beside ``path``, removed on failure.

    Raises ``Conflict`` (``vault.output_exists``) if ``path`` exists, ``StorageFailed`` for disk errors.
    """
    if os.path.lexists(path):
        raise _exists(path)
    named: Path | None = None
    try:
        try:
            descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            named = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
            descriptor = os.open(named, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _give_name(descriptor, named, path)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise storage_failed(error, str(path)) from error
    finally:
        if named is not None:
            with suppress(OSError):
                named.unlink(missing_ok=True)


def _give_name(descriptor: int, named: Path | None, path: Path) -> None:
    """Link the written file to ``path``: atomic, and it fails rather than replaces."""
    if named is not None:
        os.link(named, path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Python calls linkat(2) with AT_SYMLINK_FOLLOW, which /proc/self/fd needs, only when given a folder.
        os.link(f"/proc/self/fd/{descriptor}", path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _exists(path: Path) -> Conflict:
    return Conflict("vault.output_exists", f"{path} exists already", "name another file, or move that one away")


def write_new(path: Path, data: bytes) -> None:
    """Write ``data`` to a new file, whole and durable; errors as ``new_file``."""
    with new_file(path) as file:
        file.write(data)


class FolderLock:
    """The right to work on one folder; taken at once or not at all.

    The lock is an ``flock`` on a file beside the folder. The kernel drops it when its holder dies, so whatever
    a killed process left in the staging folder is known to be stale as soon as the lock is ours.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock file at ``path``, or raise ``Conflict`` (``vault.busy``) if another process holds it."""
        self._path = path
        try:
            self._descriptor = _take(path)
        except BlockingIOError as error:
            raise Conflict("vault.busy", f"{what} is being worked on by another process", "wait for it") from error
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            # Unlinked while still held: whoever waits on the old file sees in _take that it has no name left.
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # the last holder removed it between our open and our lock: take a fresh one
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
