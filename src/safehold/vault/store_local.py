"""A folder as a store: durable files, created by link and replaced under a lock.

``create`` writes a file without a name and links it: the link fails where a name is there, in the kernel, so exactly
one of many wins. ``replace`` holds a lock on the store while it compares the tag and renames. Every file and the
folders above it are synced before a call returns; a killed process leaves at most an unnamed file, or a ``.tmp-`` one
that ``list`` does not show and the next ``replace`` of the store removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from safehold.model.errors import Conflict, NotFound, SafeholdError
from safehold.vault.disk import new_file, storage_failed, sync_folder
from safehold.vault.store import Location, StoredObject, check_name

__all__ = ["FolderStore"]

_LOCK: Final = ".store.lock"
_TEMPORARY: Final = ".tmp-"
_CHUNK: Final = 1 << 20


class FolderStore:
    """Objects as files below one folder, which is made when something is first written."""

    endpoint: str | None = None

    def __init__(self, location: Location) -> None:
        self.location = location
        self._folder = Path(location.path)

    def create(self, name: str, data: bytes) -> str:
        """See ``Store``."""
        path = self._path(name)
        self._make_folder(path.parent)
        try:
            with new_file(path) as file:
                file.write(data)
        except Conflict as error:
            raise _exists(name, self.location) from error
        return _tag(data)

    def replace(self, name: str, data: bytes, tag: str) -> str:
        """See ``Store``."""
        path = self._path(name)
        with self._locked(path):
            if _tag(self._whole(name, path)) != tag:
                raise Conflict(
                    "vault.store_changed",
                    f"{name} in {self.location.url} was changed by someone else",
                    "look at it again, then decide",
                )
            self._put(path, data)
        return _tag(data)

    def upload(self, name: str, path: Path) -> None:
        """See ``Store``."""
        target = self._path(name)
        self._make_folder(target.parent)
        temporary = target.with_name(f"{_TEMPORARY}{os.urandom(6).hex()}")
        try:
            with path.open("rb") as source, new_file(temporary) as file:
                while data := source.read(_CHUNK):
                    file.write(data)
            os.rename(temporary, target)
            sync_folder(target.parent)
        except OSError as error:
            raise storage_failed(error, str(target)) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def read(self, name: str, limit: int) -> tuple[bytes, str]:
        """See ``Store``. The tag is that of the whole object, so one beyond ``limit`` has none that would match."""
        data = self.read_range(name, 0, limit)
        return data, _tag(data)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See ``Store``."""
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _missing(name, self.location)
                return _pread(file.fileno(), start, length)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(name, self.location) from error
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def find(self, name: str) -> StoredObject | None:
        """See ``Store``."""
        path = self._path(name)
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_failed(error, str(path)) from error
        return StoredObject(name, found.st_size, found.st_mtime_ns // 1000) if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ``Store``."""
        top = self._path(prefix) if prefix else self._folder
        for folder, _, files in os.walk(top, onerror=self._walk_failed):
            for file in files:
                if file == _LOCK or file.startswith(_TEMPORARY):
                    continue
                found = self.find((Path(folder) / file).relative_to(self._folder).as_posix())
                if found is not None:
                    yield found

    def delete(self, name: str) -> None:
        """See ``Store``. A file of that name which is not ours to remove is an error."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def _path(self, name: str) -> Path:
        return self._folder / check_name(name)

    def _make_folder(self, folder: Path) -> None:
        try:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for one in missing:  # a power cut must not take the folder from around a durable file
                sync_folder(one.parent)
        except OSError as error:
            raise storage_failed(error, str(folder)) from error

    def _whole(self, name: str, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise _missing(name, self.location) from error

    def _put(self, path: Path, data: bytes) -> None:
        for stale in path.parent.glob(f"{_TEMPORARY}replace-*"):
            stale.unlink(missing_ok=True)  # the lock is ours: its maker is dead
        temporary = path.with_name(f"{_TEMPORARY}replace-{os.urandom(6).hex()}")
        try:
            with new_file(temporary) as file:
                file.write(data)
            os.rename(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        self._make_folder(self._folder)
        try:
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # dies with its holder
                yield
            finally:
                os.close(descriptor)
        except SafeholdError:
            raise
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def _walk_failed(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise storage_failed(error, str(self._folder)) from error


def _pread(descriptor: int, start: int, length: int) -> bytes:
    found = bytearray()
    while len(found) < length and (
        data := os.pread(descriptor, min(length - len(found), 64 << 20), start + len(found))
    ):
        found += data
    return bytes(found)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _exists(name: str, location: Location) -> Conflict:
    return Conflict("vault.store_exists", f"{name} is in {location.url} already", "nothing was written")


def _missing(name: str, location: Location) -> NotFound:
    return NotFound("vault.store_missing", f"there is no {name} in {location.url}", "check the location")
