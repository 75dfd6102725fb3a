"""Reading a release where it lies in a store: its parts come one by one, ahead of their use, and go again.

A part is read in ranges into a folder of its own, mode 0700, as the ciphertext that it is; only with the manifest's size and
SHA-256 does it get a name there. Of a part that is wanted in some columns, the pieces come that hold them (``pieces``), each
checked; the file has holes for the rest. Two come at a time. What was not used for longest goes first once ``limit`` bytes are there;
a file that is being read stays readable. So a release of any size needs ``limit`` bytes and those of the parts in use, and no
plaintext touches the disk.

A range that breaks off or a server that fails is tried again by the store; what still fails names the part.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from safehold.model.errors import StorageFailed, VerificationFailed
from safehold.vault.disk import storage_failed
from safehold.vault.manifest import PartFile
from safehold.vault.pieces import Asked, PartColumns, whole_part
from safehold.vault.stored_release import StoredRelease, fetch_columns, fetch_part

__all__ = ["Spool", "check_stored_sizes"]

_AT_ONCE: Final = 2
_LEAST: Final = 16
"""Files that stay whatever their size: those that were asked for last, and may be about to be opened."""


class Spool:
    """The parts of ``release`` that are at hand: ``verify.PartPlaces`` for a store. Close it."""

    def __init__(self, release: StoredRelease, below: Path | None = None, limit: int = 2 << 30) -> None:
        """Make the folder, in ``below`` or where temporary files go. Raises ``StorageFailed``."""
        try:
            self.folder = Path(mkdtemp(prefix="safehold-read-", dir=below))
        except OSError as error:
            raise storage_failed(error, str(below)) from error
        # By the process that made it alone: a forked one that ends must not take it from its parent.
        self._remove = weakref.finalize(self, _remove, self.folder, os.getpid())
        self._release = release
        self._limit = limit
        self._lock = threading.Lock()
        self._coming: OrderedDict[tuple[str, tuple[str, ...] | None], tuple[PartFile, Future[Path]]] = OrderedDict()
        self._pool = ThreadPoolExecutor(_AT_ONCE, "fetch")

    def start(self, parts: Iterable[Asked]) -> None:
        """See ``PartPlaces``."""
        for part in parts:
            self._begin(part)

    def wait(self, parts: Sequence[Asked]) -> None:
        """See ``PartPlaces``. Raises ``VerificationFailed`` (``vault.part_missing``, ``vault.part_truncated``,
        ``vault.part_altered``) or ``StorageFailed`` (``vault.part_unread``, ``vault.disk_full`` …), naming the part.
        """
        for coming in [self._begin(part) for part in parts]:
            coming.result()

    def place(self, part: Asked) -> Path:
        """Where the checked file lies; raises as ``wait``. A part that failed before, ahead of its use or in it, is tried anew."""
        return self._begin(part).result()

    def close(self) -> None:
        """Fetch no more, and remove what is here."""
        self._pool.shutdown(cancel_futures=True)
        self._remove()

    def _begin(self, asked: Asked) -> Future[Path]:
        part = whole_part(asked)
        with self._lock:
            name = (part.file, asked.names if isinstance(asked, PartColumns) else None)
            if (part.file, None) in self._coming:  # whole: it holds every column
                name = (part.file, None)
            known = self._coming.get(name)
            if known is None or (known[1].done() and known[1].exception() is not None):
                known = part, self._pool.submit(self._fetch, part if name[1] is None else asked)
                self._coming[name] = known
                self._make_room()
            self._coming.move_to_end(name)
            return known[1]

    def _make_room(self) -> None:
        held = sum(_held(coming, part) for part, coming in self._coming.values())
        for name, (part, coming) in list(self._coming.items()):
            if held <= self._limit or len(self._coming) <= _LEAST:
                return
            if coming.done():
                held -= _held(coming, part)
                if coming.exception() is None:
                    coming.result().unlink(missing_ok=True)
                del self._coming[name]

    def _fetch(self, asked: Asked) -> Path:
        part = whole_part(asked)
        try:
            if isinstance(asked, PartColumns):
                return fetch_columns(self._release, asked, self.folder)
            return fetch_part(self._release, part, self.folder)
        except StorageFailed as error:
            if not error.code.startswith("vault.store_"):
                raise
            raise StorageFailed(
                "vault.part_unread", f"the part {part.file} could not be read: {error.message}", error.hint
            ) from error


def _held(coming: Future[Path], part: PartFile) -> int:
    """Bytes on the disk; of what is still coming, as if it were whole."""
    try:
        if coming.done() and coming.exception() is None:
            return coming.result().stat().st_blocks * 512
    except OSError:
        return 0
    return part.size


def _remove(folder: Path, maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)


def check_stored_sizes(release: StoredRelease, parts: Sequence[PartFile]) -> StoredRelease:
    """Return ``release`` if these parts lie in its store with their sizes, by one listing.

    Raises ``VerificationFailed`` (``vault.part_missing``, ``vault.part_truncated``, ``vault.part_altered``), and what
    the store raises.
    """
    sizes = {one.name: one.size for one in release.store.list("parts")}
    for part in parts:
        found = sizes.get("parts/" + part.sha256.removeprefix("sha256:"))
        if found is None:
            raise VerificationFailed(
                "vault.part_missing",
                f"the part {part.file} is missing in {release.location}",
                "ask who keeps the store",
            )
        if found < part.size:
            raise VerificationFailed(
                "vault.part_truncated",
                f"the part {part.file} has {found:,} of {part.size:,} bytes in {release.location}",
                "ask who keeps the store: it was published whole",
            )
        if found > part.size:
            raise VerificationFailed(
                "vault.part_altered",
                f"the part {part.file} is not the one that was sealed: it has {found - part.size:,} bytes too many",
                "ask who keeps the store",
            )
    return release
