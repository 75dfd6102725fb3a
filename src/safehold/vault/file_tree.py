"""Files as they lie in a folder or a bucket: found once, read in pieces, and the same throughout or refused.

A tree is what is sealed byte for byte (``seal_files``) or adopted (``assembly.adoption``). Ordinary files alone: a link, a
socket or a device is refused by name, since leaving it out would lose it quietly. Empty folders are not kept.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from safehold.model.errors import InputInvalid, NotFound
from safehold.vault.disk import storage_failed, sync_folder
from safehold.vault.store import Location, Store

__all__ = ["FileTree", "FolderTree", "FoundFile", "StoreTree"]

_WINDOW: Final = 8 << 20
_MAX_PATH: Final = 4096


class FoundFile(msgspec.Struct, frozen=True):
    """A file: its path below the tree (with ``/``), its size, and what tells whether it has changed."""

    path: str
    size: int
    state: str


class FileTree(Protocol):
    """Files below one place."""

    @property
    def location(self) -> Location:
        """Where they lie, without secrets."""

    @property
    def endpoint(self) -> str | None:
        """As ``Store.endpoint``."""

    def files(self) -> tuple[FoundFile, ...]:
        """All files, by path. Raises ``InputInvalid`` (``vault.files_none``, ``vault.files_special`` …)."""

    def read(self, file: FoundFile, start: int, length: int) -> Iterator[bytes]:
        """Bytes of a file. Raises ``InputInvalid`` (``vault.source_changed``) if it is not as it was found."""

    def remove(self, file: FoundFile) -> None:
        """Remove a file that is as it was found; one that is gone is fine. Raises as ``read``."""


class FolderTree:
    """The files below a folder, without those below ``skip`` (a path in it)."""

    endpoint: str | None = None

    def __init__(self, folder: Path, skip: str | None = None) -> None:
        self.location = Location(None, str(folder.absolute()))
        self._folder = folder
        self._skip = skip

    def files(self) -> tuple[FoundFile, ...]:
        """See ``FileTree``."""
        if not self._folder.is_dir():
            raise NotFound("vault.files_missing", f"there is no folder {self._folder}", "check the path")
        found = [
            self._found(Path(folder) / name) for folder, folders, names in self._walk() for name in (*names, *folders)
        ]
        return _listed([one for one in found if one is not None], str(self._folder))

    def read(self, file: FoundFile, start: int, length: int) -> Iterator[bytes]:
        """See ``FileTree``."""
        path = self._folder / file.path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                _same(file, _state(os.fstat(descriptor)), str(path))
                end = start + length
                while start < end:
                    data = os.pread(descriptor, min(_WINDOW, end - start), start)
                    if not data:
                        raise _changed(str(path))
                    start += len(data)
                    yield data
                _same(file, _state(os.fstat(descriptor)), str(path))
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise _changed(str(path)) from error
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def remove(self, file: FoundFile) -> None:
        """See ``FileTree``. Folders that this empties stay."""
        path = self._folder / file.path
        try:
            _same(file, _state(path.lstat()), str(path))
            path.unlink()
            sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_failed(error, str(path)) from error

    def _walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        def failed(error: OSError) -> None:
            raise storage_failed(error, str(self._folder)) from error

        skip = os.path.join(self._folder, self._skip) if self._skip else None
        for folder, folders, names in os.walk(self._folder, onerror=failed):
            folders[:] = sorted(one for one in folders if os.path.join(folder, one) != skip)
            yield folder, [one for one in folders if os.path.islink(os.path.join(folder, one))], names

    def _found(self, path: Path) -> FoundFile | None:
        try:
            state = path.lstat()
        except OSError as error:
            raise storage_failed(error, str(path)) from error
        if not stat.S_ISREG(state.st_mode):
            raise InputInvalid(
                "vault.files_special",
                f"{path} is no ordinary file",
                "put a copy of what it points to in its place, or move it away: nothing is left out quietly",
            )
        return FoundFile(path.relative_to(self._folder).as_posix(), state.st_size, _state(state))


class StoreTree:
    """The objects below a place in a store, without those below ``skip``."""

    def __init__(self, store: Store, skip: str | None = None) -> None:
        self.location = store.location
        self.endpoint = store.endpoint
        self._store = store
        self._skip = f"{skip}/" if skip else None

    def files(self) -> tuple[FoundFile, ...]:
        """See ``FileTree``."""
        found = [
            FoundFile(one.name, one.size, str(one.modified))
            for one in self._store.list()
            if self._skip is None or not one.name.startswith(self._skip)
        ]
        return _listed(found, self.location.url)

    def read(self, file: FoundFile, start: int, length: int) -> Iterator[bytes]:
        """See ``FileTree``."""
        self._look(file)
        end = start + length
        while start < end:
            data = self._store.read_range(file.path, start, min(_WINDOW, end - start))
            if not data:
                raise _changed(file.path)
            start += len(data)
            yield data
        self._look(file)

    def remove(self, file: FoundFile) -> None:
        """See ``FileTree``."""
        if self._store.find(file.path) is not None:
            self._look(file)
            self._store.delete(file.path)

    def _look(self, file: FoundFile) -> None:
        found = self._store.find(file.path)
        if found is None or (found.size, str(found.modified)) != (file.size, file.state):
            raise _changed(f"{file.path} in {self.location.url}")


def _listed(found: list[FoundFile], where: str) -> tuple[FoundFile, ...]:
    if not found:
        raise InputInvalid("vault.files_none", f"there are no files in {where}", "check the path")
    for file in found:
        try:
            file.path.encode()
        except UnicodeEncodeError as error:
            raise InputInvalid(
                "vault.files_name", f"a name in {where} is no UTF-8: {file.path!r}", "give it another name"
            ) from error
        if len(file.path.encode()) > _MAX_PATH:
            raise InputInvalid("vault.files_name", f"a path in {where} is too long: {file.path[:80]}…", "shorten it")
    return tuple(sorted(found, key=lambda one: one.path))


def _state(found: os.stat_result) -> str:
    return f"{found.st_dev}.{found.st_ino}.{found.st_mtime_ns}.{found.st_size}"


def _same(file: FoundFile, state: str, where: str) -> None:
    if state != file.state:
        raise _changed(where)


def _changed(where: str) -> InputInvalid:
    return InputInvalid(
        "vault.source_changed",
        f"{where} changed while it was being read",
        "wait until it is complete, then run it again",
    )
