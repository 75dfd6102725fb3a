"""Wrapped part keys, durable and erasable: one small SQLite file.

A key is stored wrapped, under the digest of its release and the name of its file. Keys of a release come in
all at once or not at all, before the release is published. Erasing them erases the release: its ciphertext may
lie anywhere, nobody can read it again, and every proof about it still verifies.

**What erasing means here.** ``secure_delete`` overwrites the rows in the database, and the write-ahead log is
emptied before ``erase`` returns. Copies that others made (backups, snapshots, a disk's spare blocks) are beyond
it; there the wrapped keys are worth as much as the key-encryption key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw

from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed
from safehold.model.ids import Digest
from safehold.vault.disk import storage_failed, sync_folder

__all__ = ["KeyStore"]

_APPLICATION_ID: Final = 0x5AFE0002
_VERSION: Final = 1
_BUSY_MS: Final = 10_000
_MAX_REMEMBERED: Final = 1024
_TABLES: Final = """
CREATE TABLE part_key (
    release TEXT NOT NULL, file TEXT NOT NULL, kek TEXT NOT NULL, wrapped BLOB NOT NULL,
    PRIMARY KEY (release, file)
) STRICT, WITHOUT ROWID;
CREATE TABLE erased (release TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
"""


class KeyStore:
    """The store at one path; made on first use (mode 0600). Several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open the store.

        Raises ``StorageFailed`` (``vault.keystore_damaged``, ``vault.keystore`` …) or ``InputInvalid``
        (``vault.keystore_version``).
        """
        self._path = path
        self._sampled: tuple[tuple[int, int], dict[str, list[bytes]]] = ((-1, -1), {})
        self._changes = 0  # transactions of this connection that have ended
        self._memory: tuple[tuple[int, int], dict[Digest, dict[str, tuple[str, bytes]]]] = ((0, 0), {})
        try:
            # SQLite gives its log files the mode of the database, so the first open decides for all.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_folder(path.parent)
        except OSError as error:
            raise storage_failed(error, str(path)) from error
        with self._translated():
            self._db = apsw.Connection(str(path))
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.set_busy_timeout(_BUSY_MS)
        found = self._pragma("application_id")
        if found == 0 and self._pragma("page_count") <= 1 and not self._pragma("schema_version"):
            self._db.execute("PRAGMA journal_mode=WAL")
            with self._transaction():
                if not self._pragma("schema_version"):
                    self._db.execute(_TABLES)
                    self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_VERSION}")
            found = self._pragma("application_id")
        if found != _APPLICATION_ID:
            raise StorageFailed("vault.keystore_damaged", f"{self._path} is no key store", "check the path")
        if self._pragma("user_version") != _VERSION:
            raise InputInvalid("vault.keystore_version", f"{self._path} is of a newer kind", "use a newer Safehold")
        if self._db.execute("PRAGMA journal_mode").fetchone() == ("delete",):  # a copy: see copy_to
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA foreign_keys=ON")

    def _pragma(self, name: str) -> int:
        row = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(row[0]) if row else 0

    def put_all(self, release: Digest, kek: str, wrapped: Mapping[str, bytes]) -> None:
        """Store the wrapped keys of a release's files; all are durable on return, or none is stored.

        ``kek`` is the id of the key that wrapped them. Storing the same again is fine. Raises ``Conflict``
        (``vault.keys_exist``, ``vault.release_erased``), ``InputInvalid`` (``vault.no_keys``) or ``StorageFailed``.
        """
        if not wrapped:
            raise InputInvalid("vault.no_keys", f"no keys were given for {release}")
        with self._transaction():
            self._refuse_erased(release)
            held = {file: (by, data) for file, by, data in self._rows(release)}
            if held and held != {file: (kek, data) for file, data in wrapped.items()}:
                raise Conflict("vault.keys_exist", f"there are other keys for {release}", "a release never changes")
            if not held:
                self._db.executemany(
                    "INSERT INTO part_key VALUES (?, ?, ?, ?)",
                    [(release, file, kek, data) for file, data in sorted(wrapped.items())],
                )

    def get(self, release: Digest, files: Iterable[str]) -> dict[str, bytes]:
        """The wrapped keys of ``files``; raises like ``get_with_kek``."""
        return {file: data for file, (_, data) in self.get_with_kek(release, files).items()}

    def get_with_kek(self, release: Digest, files: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """The wrapped keys of ``files``, each with the id of the key that wrapped it.

        Raises ``NotFound`` (``vault.keys_erased``, ``vault.keys_missing``) or ``StorageFailed``.
        """
        with self._translated():
            held = self._remembered(release)
            if not held and self._is_erased(release):
                raise NotFound("vault.keys_erased", f"the keys of {release} were erased: nobody can open it again", "")
        missing = sorted(set(files) - set(held))
        if missing:
            raise NotFound(
                "vault.keys_missing",
                f"there is no key for {missing[0]} of {release}",
                "keys are where the release was sealed: was it sealed in another home?",
            )
        return {file: held[file] for file in files}

    def _remembered(self, release: Digest) -> dict[str, tuple[str, bytes]]:
        """The wrapped keys of a release, read once for as long as nobody has changed the store.

        Other connections' commits show in SQLite's ``data_version``; this one's own forget all before they return. So a
        key that was erased is not found here once ``erase`` has returned.
        """
        changes = (self._pragma("data_version"), self._changes)
        seen, known = self._memory
        if changes != seen or len(known) >= _MAX_REMEMBERED:
            known = {}
            self._memory = (changes, known)  # swapped whole: whoever still fills the old one fills what nobody reads
        held = known.get(release)
        if held is None:
            held = {file: (kek, data) for file, kek, data in self._rows(release)}
            if held and changes == (self._pragma("data_version"), self._changes):
                known[release] = held
        return held

    def wrapped_by(self, release: Digest) -> str:
        """The id of the key that wrapped the keys of ``release``; raises ``NotFound`` (``vault.keys_missing``)."""
        with self._translated():
            for _, kek, _ in self._rows(release):
                return kek
        raise NotFound("vault.keys_missing", f"there are no keys for {release}", "was it sealed in another home?")

    def files(self, release: Digest) -> list[str]:
        """The part files of ``release`` that have a key here."""
        with self._translated():
            return [file for file, _, _ in self._rows(release)]

    def replace(self, release: Digest, kek: str, old: Mapping[str, bytes], fresh: Mapping[str, bytes]) -> None:
        """Put ``fresh`` wrapped keys, by the key ``kek``, in the place of ``old`` ones: all of them, durably, or none.

        Raises ``Conflict`` (``vault.keys_changed``) if what is stored is not ``old`` any more, or ``StorageFailed``.
        """
        with self._transaction():
            self._refuse_erased(release)
            held = {file: data for file, _, data in self._rows(release)}
            if any(held.get(file) != data for file, data in old.items()) or old.keys() != fresh.keys():
                raise Conflict(
                    "vault.keys_changed", f"the keys of {release} were changed meanwhile", "run the command again"
                )
            self._db.executemany(
                "UPDATE part_key SET kek = ?, wrapped = ? WHERE release = ? AND file = ?",
                [(kek, data, release, file) for file, data in sorted(fresh.items())],
            )

    def wrapped_otherwise(self, kek: str) -> int:
        """How many keys are here that another key than ``kek`` wrapped."""
        with self._translated():
            row = self._db.execute("SELECT count(*) FROM part_key WHERE kek <> ?", (kek,)).fetchone()
            return int(row[0]) if row else 0

    def erase(self, release: Digest) -> int:
        """Destroy the keys of ``release`` for good; returns how many there were. Running it again is fine.

        Raises ``NotFound`` (``vault.keys_missing``) for a release that never had keys here, ``Conflict``
        (``vault.keystore_busy``) if a reader keeps the old pages alive: run it again; or ``StorageFailed``.
        """
        with self._transaction():
            count = len(list(self._rows(release)))
            if not count and not self._is_erased(release):
                raise NotFound("vault.keys_missing", f"there are no keys for {release}", "check the digest")
            self._db.execute("DELETE FROM part_key WHERE release = ?", (release,))
            self._db.execute("INSERT OR IGNORE INTO erased VALUES (?)", (release,))
        with self._translated():
            # The deleted rows stand in the write-ahead log until it is emptied into the database.
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy is None or busy[0]:
            raise Conflict(
                "vault.keystore_busy",
                "another process still reads the key store: remnants may remain",
                "erase it again",
            )
        return count

    def samples(self, most: int) -> Mapping[str, Sequence[bytes]]:
        """Up to ``most`` wrapped keys of each key that wrapped any here, by its id; looked for once after each change."""
        with self._translated():
            changes = (self._pragma("data_version"), self._changes)
            if self._sampled[0] != changes:
                by = [str(row[0]) for row in self._db.execute("SELECT DISTINCT kek FROM part_key ORDER BY kek")]
                query = "SELECT wrapped FROM part_key WHERE kek = ? LIMIT ?"
                found = {kek: [bytes(row[0]) for row in self._db.execute(query, (kek, most))] for kek in by}
                self._sampled = (changes, found)
            return self._sampled[1]

    def releases(self) -> tuple[Digest, ...]:
        """All releases with keys here; one that the ledger does not know was never published."""
        with self._translated():
            return tuple(Digest(str(row[0])) for row in self._db.execute("SELECT DISTINCT release FROM part_key"))

    def count(self, release: Digest) -> int:
        """How many keys ``release`` has here."""
        with self._translated():
            return len(list(self._rows(release)))

    def copy_to(self, target: Path) -> None:
        """Copy the store as it is at this moment to a new file, one file without a log beside it.

        The keys in it are as wrapped as here; erasing here does not erase there. Raises ``StorageFailed``.
        """
        with self._translated():
            copy = apsw.Connection(str(target))
            try:
                copy.pragma("locking_mode", "exclusive")  # nobody else opens it
                with copy.backup("main", self._db, "main") as backup:
                    while not backup.done:
                        backup.step(-1)
                copy.pragma("journal_mode", "delete")
            finally:
                copy.close(True)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, release: Digest) -> Iterator[tuple[str, str, bytes]]:
        query = "SELECT file, kek, wrapped FROM part_key WHERE release = ? ORDER BY file"
        for file, kek, wrapped in self._db.execute(query, (release,)):
            yield str(file), str(kek), bytes(wrapped)

    def _is_erased(self, release: Digest) -> str | None:
        row = self._db.execute("SELECT release FROM erased WHERE release = ?", (release,)).fetchone()
        return str(row[0]) if row else None

    def _refuse_erased(self, release: Digest) -> None:
        if self._is_erased(release):
            raise Conflict(
                "vault.release_erased", f"the keys of {release} were erased for good", "seal the next version"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._changes += 1

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except apsw.FullError as error:
            raise StorageFailed("vault.disk_full", "the disk is full: no key was stored", "free some space") from error
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise StorageFailed(
                "vault.keystore_damaged", f"{self._path} is damaged: {error}", "put a copy of it back in place"
            ) from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise Conflict("vault.keystore_busy", "another process holds the key store", "try again") from error
        except apsw.Error as error:
            raise StorageFailed(
                "vault.keystore",
                f"the key store {self._path} failed: {error}",
                "check the disk, whether it is full, and the file's owner; then run the same command again",
            ) from error
