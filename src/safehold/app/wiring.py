"""Wiring: one home folder, all rooms over it. The embedded home: SQLite and files, one machine, nothing around it.

::

    home/
      home.json           form, origin, verifier line of the ledger
      ledger.db           entries, tiles, checkpoints, payloads, projections
      lock.db             the newest checkpoint, against rollback
      keys.db  kek.json   wrapped part keys; the key-encryption key under the passphrase
      keys/               ledger and grant key; keys of parties and hosts that this home made
      people.json         names of members, erasable
      releases/PARTY/DATASET/VERSION/   sealed releases
      restored.json       there while a home that came out of a backup is read-only

A home is made under a temporary name and renamed: it is there entirely or not at all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from safehold.app.backup import BackupSource, back_up, report_of, verify_backup
from safehold.app.restore import Answer, accept_restored, read_mark, restore
from safehold.broker.grants import GrantKey
from safehold.broker.policy import BrokerPolicy
from safehold.broker.release import Broker
from safehold.cli.backup_port import BackupReport, BackupWish, Progress, RestoreWish
from safehold.containment import Containment
from safehold.inventory.intake import Intake
from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import check_origin
from safehold.ledger.restored import read_only_restored
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed
from safehold.model.ids import DatasetId, HostId, PartyId
from safehold.model.statements import LedgerOpened
from safehold.registry import People, Registry
from safehold.state.projection import StateProjector
from safehold.vault.kek import PassphraseKek
from safehold.vault.keystore import KeyStore
from safehold.vault.wrapped import WrappedKeys

__all__ = ["Home", "HomeFactory", "system_clock"]

_FORM: Final = "safehold-home-v1"
_HOME_FILE: Final = "home.json"


class _HomeFile(msgspec.Struct, frozen=True, kw_only=True):
    form: str
    origin: str
    verifier: str


def system_clock() -> int:
    """µs since 1970, UTC."""
    return time.time_ns() // 1000


class Home:
    """An open home. Close it when done; what it acknowledged is durable already."""

    def __init__(self, path: Path, clock: Callable[[], int] = system_clock, policy: BrokerPolicy | None = None) -> None:
        self.path = path
        self.clock = clock
        self._policy = policy
        file = _read_home_file(path)
        mark = read_mark(path)
        signer = SigningKey.load(path / "keys" / "ledger")
        self.log = Log(
            SqliteStore(path / "ledger.db"), CheckpointLock(path / "lock.db"), signer, file.origin, StateProjector()
        )
        self._by = signer.key_id
        if mark is not None:
            self.log.refuse(read_only_restored(mark.size))
        self.registry = Registry(self.log, clock, self._by)
        self.containment = Containment(self.log, clock, self._by)
        self.intake = Intake(self.log, clock, self._by)
        self.people = People(path / "people.json", _read_secret(path / "keys" / "people"))
        self._key_store: KeyStore | None = None

    def grant_key(self) -> GrantKey:
        """The key that signs grants."""
        return GrantKey(_read_secret(self.path / "keys" / "grants"))

    def part_keys(self, passphrase: Callable[[], str]) -> WrappedKeys:
        """The store of wrapped part keys, unlocked. Raises ``vault.passphrase_wrong`` for another passphrase."""
        kek = PassphraseKek.load(self.path / "kek.json", passphrase())
        if self._key_store is None:
            self._key_store = KeyStore(self.path / "keys.db")
        return WrappedKeys(self._key_store, kek)

    def broker(self, passphrase: Callable[[], str]) -> Broker:
        """The broker, able to unwrap."""
        root = self.grant_key().public_bytes
        return Broker(self.log, self.part_keys(passphrase), root, self.clock, self._by, self._policy)

    def party_key(self, party: PartyId) -> SigningKey:
        """The signing key of a party that this home made."""
        return _load_made_key(self._party_key_path(party), party)

    def host_key(self, host: HostId) -> SigningKey:
        """The SSH key of a host that this home made."""
        return _load_made_key(self._host_key_path(host), host)

    def new_party_key(self, party: PartyId) -> SigningKey:
        """Make and keep a signing key for a party; one that is there already is used again."""
        return _make_key(self._party_key_path(party))

    def new_host_key(self, host: HostId) -> SigningKey:
        """Make and keep an SSH key for a host; one that is there already is used again."""
        return _make_key(self._host_key_path(host))

    def host_key_path(self, host: HostId) -> Path:
        """The file of a host's private key that this home made."""
        return self._host_key_path(host)

    def _party_key_path(self, party: PartyId) -> Path:
        return self.path / "keys" / "parties" / party

    def _host_key_path(self, host: HostId) -> Path:
        return self.path / "keys" / "hosts" / host

    def release_folder(self, dataset: DatasetId, version: int) -> Path:
        """Where a release is, or will be."""
        return self.path / "releases" / dataset / str(version)

    def back_up(self, wish: BackupWish) -> BackupReport:
        """Make or renew a backup of this home; others may go on appending."""
        signer = SigningKey.load(self.path / "keys" / "ledger")
        return back_up(BackupSource(self.path, self.log.verifier, signer, self.clock), wish)

    def accept_restored(self, reason: str, note: bytes | None) -> Entry:
        """Let a restored home append again: by the operator's ``reason``, or by a checkpoint ``note`` kept elsewhere."""
        return accept_restored(self.path, self.log, Answer(t=self.clock(), by=self._by, reason=reason, note=note))

    def close(self) -> None:
        """Release all files."""
        self.log.close()
        if self._key_store is not None:
            self._key_store.close()
            self._key_store = None


class HomeFactory:
    """Makes and opens homes with the system's clock."""

    def create(self, path: Path, origin: str, passphrase: str, clock: Callable[[], int] | None = None) -> Home:
        """Make a home at ``path``, which must not exist or be empty. Raises ``Conflict`` (``app.home_exists``).

        ``clock`` gives µs UTC; a replayed one is for rehearsals.
        """
        check_origin(origin)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise Conflict("app.home_exists", f"{path} is there already and is not empty", "choose another --home")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        except OSError as error:
            raise StorageFailed(
                "app.home_write", f"{path} cannot be made: {error.strerror}", "choose another --home"
            ) from error
        try:
            _fill(staging, origin, passphrase)
            os.replace(staging, path)
            sync_folder(path.parent)
        except OSError as error:
            raise StorageFailed(
                "app.home_write", f"{path} cannot be made: {error.strerror}", "free some space"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        home = Home(path, clock or system_clock)
        home.log.append(_opening(home))
        return home

    def verify_backup(self, folder: Path, verifier: str | None, progress: Progress) -> BackupReport:
        """Check a backup whole; ``verifier`` is the ledger's line as someone else kept it."""
        return report_of(folder, verify_backup(folder, verifier, progress), 0)

    def restore(self, wish: RestoreWish) -> BackupReport:
        """Restore a backup to a new home, which starts read-only."""
        return restore(wish)

    def open(self, path: Path) -> Home:
        """Open the home at ``path``. Raises ``NotFound`` (``app.no_home``)."""
        home = Home(path)
        if home.log.read_only is None:
            with home.log.view() as view:
                size = view.size()
            if size == 0:  # the process died between making the home and its first entry
                home.log.append(_opening(home))
        return home


def _opening(home: Home) -> Callable[[View], Draft]:
    def propose(view: View) -> Draft:
        if view.size():
            return Draft(())
        verifier = home.log.verifier
        by = home.registry.by
        return Draft((LedgerOpened(t=home.clock(), by=by, origin=verifier.name, verifier=verifier.text),))

    return propose


def _fill(folder: Path, origin: str, passphrase: str) -> None:
    keys = folder / "keys"
    for made in (keys, keys / "parties", keys / "hosts", folder / "releases"):
        made.mkdir(mode=0o700)
    signer = SigningKey.generate()
    signer.save(keys / "ledger")
    for name in ("grants", "people"):
        _write_secret(keys / name, secrets.token_bytes(32))
    PassphraseKek.create(folder / "kek.json", passphrase)
    log = Log(SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), signer, origin, StateProjector())
    verifier = log.verifier.text
    log.close()
    write_file(folder / _HOME_FILE, msgspec.json.encode(_HomeFile(form=_FORM, origin=origin, verifier=verifier)))
    for made in (keys, folder):
        sync_folder(made)


def _read_home_file(path: Path) -> _HomeFile:
    try:
        file = msgspec.json.decode((path / _HOME_FILE).read_bytes(), type=_HomeFile)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            "app.no_home",
            f"there is no Safehold home at {path}",
            "make one with `safehold init`, or name another with --home",
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise StorageFailed(
            "app.home_file", f"{path / _HOME_FILE} cannot be read", "restore it from a backup"
        ) from error
    if file.form != _FORM:
        raise InputInvalid(
            "app.home_form", f"{path} is a home of another form, {file.form[:40]}", "use the Safehold that made it"
        )
    return file


def _write_secret(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read_secret(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise StorageFailed("app.secret", f"the key {path} cannot be read", "restore it from a backup") from error


def _make_key(path: Path) -> SigningKey:
    if path.exists():
        return SigningKey.load(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            "app.home_write", f"{path} cannot be made: {error.strerror}", "check the home's owner"
        ) from error
    key = SigningKey.generate()
    key.save(path)
    return key


def _load_made_key(path: Path, whose: str) -> SigningKey:
    if not path.exists():
        raise NotFound("app.no_key", f"this home has no private key of {whose}", "give its key file with --key FILE")
    return SigningKey.load(path)
