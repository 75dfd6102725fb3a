"""Wiring: one home folder, all rooms over it. The embedded home: SQLite and files, one machine, nothing around it.
A home whose ``home.json`` names a PostgreSQL database keeps its ledger there instead of in ``ledger.db``.

::

    home/
      home.json           form, origin, verifier line of the ledger, where the ledger is if not here
      ledger.db           entries, tiles, checkpoints, payloads, projections
      lock.db             the newest checkpoint, against rollback
      witnessed.db        what witnesses are known to have cosigned; witness.policy names them
      keys.db  kek.json   wrapped part keys; the key-encryption key under the passphrase
      keys/               ledger and grant key; keys of parties and hosts that this home made
      people.json         names of members, erasable
      segments/           Parquet copies of entries, for queries
      releases/PARTY/DATASET/VERSION/   sealed releases
      restored.json       there while a home that came out of a backup is read-only

A follower's home has another form: no signing key, no grants and no part keys; its ledger is another home's, followed.

A home is made under a temporary name and renamed: it is there entirely or not at all.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from safehold.app.backup import BackupSource, back_up, report_of, verify_backup
from safehold.app.kek import HomeKeks, Mover, RekeyReport, rekey
from safehold.app.restore import Answer, accept_restored, read_mark, restore
from safehold.broker.grants import GrantKey
from safehold.broker.policy import BrokerPolicy
from safehold.broker.release import Broker
from safehold.cli.backup_port import BackupReport, BackupWish, Progress, RestoreWish
from safehold.cli.serve_port import Served, ServeWish
from safehold.containment import Containment, Responses
from safehold.inventory.intake import Intake
from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import NoteVerifier, check_origin
from safehold.ledger.replica import Replica
from safehold.ledger.restored import read_only_restored
from safehold.ledger.segments.seal import Segments
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, Store, View
from safehold.ledger.witnessed import WitnessedSizes
from safehold.model.encoding import resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, StorageFailed
from safehold.model.ids import DatasetId, HostId, PartyId
from safehold.model.statements import LedgerOpened
from safehold.registry import People, Registry
from safehold.state.projection import StateProjector
from safehold.state.segments import sealed_segments
from safehold.vault.kek import PassphraseKek
from safehold.vault.keystore import KeyStore
from safehold.vault.wrapped import WrappedKeys

__all__ = ["Home", "HomeFactory", "system_clock"]

_FORM: Final = "safehold-home-v1"
_FOLLOWER_FORM: Final = "safehold-follower-v1"
_HOME_FILE: Final = "home.json"
_LEND_AGAIN: Final = 5.0


class _HomeFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    form: str
    origin: str
    verifier: str
    store: str | None = None


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
        self.follows = file.form == _FOLLOWER_FORM
        self.witnessed = WitnessedSizes(path / "witnessed.db")
        self.log = _open_log(path, file, self.witnessed)
        self._store = file.store
        self._by = self.log.verifier.key.key_id
        if mark is not None:
            self.log.refuse(read_only_restored(mark.size))
        self.registry = Registry(self.log, clock, self._by)
        self.containment = Containment(self.log, clock, self._by)
        self.responses = Responses(self.log, clock, self._by)
        self.intake = Intake(self.log, clock, self._by)
        self.people = People(path / "people.json", _read_secret(path / "keys" / "people"))
        self.segments = Segments(self.log, path / "segments", sealed_segments, clock, self._by)
        self._key_store: KeyStore | None = None
        self._ending = threading.Event()
        if file.store is not None and not self.follows:
            threading.Thread(target=self._lend, name="lend", daemon=True).start()

    def _lend(self) -> None:
        """Hand the ledger's lead over to another process that asks for it, between two commits (ADR 0011).

        Every process does so, a command too: one that waits for something else, such as the answer of a broker that waits
        for the lead, would else hold it all the time.
        """
        while not self._ending.is_set():
            try:
                self.log.keep_lead_for_others(self._ending)
            except SafeholdError:
                self._ending.wait(_LEND_AGAIN)

    def grant_key(self) -> GrantKey:
        """The key that signs grants."""
        return GrantKey(_read_secret(self.path / "keys" / "grants"))

    def part_keys(self, passphrase: Callable[[], str]) -> WrappedKeys:
        """The store of wrapped part keys, unlocked. Raises ``vault.passphrase_wrong`` for another passphrase."""
        keks = HomeKeks(self.path, passphrase)
        return WrappedKeys(self._keys_at(), keks.current(), keks.find)

    def _keys_at(self) -> KeyStore:
        if self._key_store is None:
            self._key_store = KeyStore(self.path / "keys.db")
        return self._key_store

    def rekey(
        self, source: Path, passphrase: Callable[[], str], progress: Callable[[int, int], None], *, dry_run: bool
    ) -> RekeyReport:
        """Move all part keys to the key-encryption key that ``source`` names: see ``app.kek``."""
        mover = Mover(home=self.path, log=self.log, store=self._keys_at(), clock=self.clock, by=self._by)
        return rekey(mover, source, HomeKeks(self.path, passphrase), progress, dry_run=dry_run)

    def broker(self, passphrase: Callable[[], str]) -> Broker:
        """The broker, able to unwrap."""
        return self.broker_over(self.part_keys(passphrase))

    def broker_over(self, keys: WrappedKeys) -> Broker:
        """The broker over part keys that are unlocked already."""
        return Broker(self.log, keys, self.grant_key().public_bytes, self.clock, self._by, self._policy)

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

    def key_store(self) -> KeyStore:
        """The store of wrapped part keys, as it is: to count and to erase needs no passphrase."""
        if self._key_store is None:
            self._key_store = KeyStore(self.path / "keys.db")
        return self._key_store

    def cut_key(self, dataset: DatasetId) -> bytes:
        """The dataset's secret for cutting (``vault.cut``). One that is lost costs a release that shares little."""
        path = self.path / "keys" / "cut"
        if not path.exists():  # a home that was made before there was one
            _write_secret(path, secrets.token_bytes(32))
        return hashlib.blake2b(dataset.encode(), key=_read_secret(path), person=b"safehold cut key").digest()

    def release_folder(self, dataset: DatasetId, version: int) -> Path:
        """Where a release is, or will be."""
        return self.path / "releases" / dataset / str(version)

    def back_up(self, wish: BackupWish) -> BackupReport:
        """Make or renew a backup of this home; others may go on appending.

        Raises ``Conflict`` (``app.backup_not_here``) where the ledger is no file of the home: another one's, followed,
        or in PostgreSQL; and what ``app.backup.back_up`` raises.
        """
        if self.follows or self._store is not None:
            raise Conflict(
                "app.backup_not_here",
                "the ledger of this home is followed from another"
                if self.follows
                else "the ledger of this home is in PostgreSQL",
                "back up where it is: the home that is followed, or the database with pg_dump",
            )
        signer = SigningKey.load(self.path / "keys" / "ledger")
        return back_up(BackupSource(self.path, self.log.verifier, signer, self.clock), wish)

    def accept_restored(self, reason: str, note: bytes | None) -> Entry:
        """Let a restored home append again: by the operator's ``reason``, or by a checkpoint ``note`` kept elsewhere."""
        return accept_restored(self.path, self.log, Answer(t=self.clock(), by=self._by, reason=reason, note=note))

    def close(self) -> None:
        """Release all files."""
        self._ending.set()
        self.log.close()
        self.witnessed.close()
        if self._key_store is not None:
            self._key_store.close()
            self._key_store = None


class HomeFactory:
    """Makes and opens homes with the system's clock."""

    def create(
        self,
        path: Path,
        origin: str,
        passphrase: str,
        clock: Callable[[], int] | None = None,
        store: str | None = None,
    ) -> Home:
        """Make a home at ``path``, which must not exist or be empty. Raises ``Conflict`` (``app.home_exists``).

        ``clock`` gives µs UTC; a replayed one is for rehearsals. ``store`` is the URL of a PostgreSQL database, without
        a password, for the ledger; None keeps it in the home.
        """
        check_origin(origin)
        if store is not None:
            _postgres().check_address(store)
        _make_home(path, lambda staging: _fill(staging, origin, passphrase, store))
        home = Home(path, clock or system_clock)
        home.log.append(_opening(home))
        return home

    def follow(self, path: Path, verifier: NoteVerifier) -> Home:
        """Make or open a follower's home of the ledger that ``verifier`` signs.

        Raises ``Conflict`` (``app.home_exists``) if another home, or another ledger's follower, is there.
        """
        if not (path / _HOME_FILE).exists():
            _make_home(path, lambda staging: _fill_follower(staging, verifier))
        home = Home(path)
        if not home.follows or home.log.verifier != verifier:
            home.close()
            raise Conflict("app.home_exists", f"{path} is another home already", "choose another folder")
        return home

    def serve(self, path: Path, wish: ServeWish, passphrase: Callable[[], str], told: Callable[[Served], None]) -> None:
        """Serve the home at ``path`` until a signal ends it. Raises ``NotFound`` (``app.no_home``) and what serving raises."""
        _read_home_file(path)
        from safehold.app.serve.home import (
            serve_home,
        )  # the vault process, which this module opens homes for, needs none of it

        serve_home(path, wish, passphrase, told)

    def verify_backup(self, folder: Path, verifier: str | None, progress: Progress) -> BackupReport:
        """Check a backup whole; ``verifier`` is the ledger's line as someone else kept it."""
        return report_of(folder, verify_backup(folder, verifier, progress), 0)

    def restore(self, wish: RestoreWish) -> BackupReport:
        """Restore a backup to a new home, which starts read-only."""
        return restore(wish)

    def open(self, path: Path, clock: Callable[[], int] | None = None) -> Home:
        """Open the home at ``path``, by another clock in a rehearsal. Raises ``NotFound`` (``app.no_home``)."""
        home = Home(path, clock or system_clock)
        if home.log.read_only is None:
            with home.log.view() as view:
                size = view.size()
            if size == 0:  # the process died between making the home and its first entry
                home.log.append(_opening(home))
        return home


def _make_home(path: Path, fill: Callable[[Path], None]) -> None:
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
        fill(staging)
        os.replace(staging, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed("app.home_write", f"{path} cannot be made: {error.strerror}", "free some space") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _opening(home: Home) -> Callable[[View], Draft]:
    def propose(view: View) -> Draft:
        if view.size():
            return Draft(())
        verifier = home.log.verifier
        by = home.registry.by
        return Draft((LedgerOpened(t=home.clock(), by=by, origin=verifier.name, verifier=verifier.text),))

    return propose


def _open_log(path: Path, file: _HomeFile, witnessed: WitnessedSizes | None) -> Log:
    signer = None if file.form == _FOLLOWER_FORM else SigningKey.load(path / "keys" / "ledger")
    store: Store
    if file.store is None:
        store = SqliteStore(path / "ledger.db")
    else:
        postgres = _postgres()
        store = postgres.PostgresStore(postgres.check_address(file.store), file.origin)
    try:
        lock = CheckpointLock(path / "lock.db")
        if signer is None:
            key = NoteVerifier.parse(file.verifier).key
            return Replica(store, lock, key, file.origin, StateProjector(), witnessed)
        return Log(store, lock, signer, file.origin, StateProjector(), witnessed)
    except BaseException:
        store.close()  # a session that stays would go on leading
        raise


def _postgres() -> ModuleType:
    """The module of the PostgreSQL store: late, since it needs a library that the core does not bring."""
    try:
        from safehold.ledger import postgres
    except ImportError as error:
        raise NotFound(
            "app.no_postgres",
            "the library for PostgreSQL is not installed here",
            "install Safehold with its extra: safehold[postgres]",
        ) from error
    return postgres


def _fill(folder: Path, origin: str, passphrase: str, store: str | None) -> None:
    keys = folder / "keys"
    for made in (keys, keys / "parties", keys / "hosts", folder / "releases"):
        made.mkdir(mode=0o700)
    signer = SigningKey.generate()
    signer.save(keys / "ledger")
    for name in ("grants", "people", "cut"):
        _write_secret(keys / name, secrets.token_bytes(32))
    PassphraseKek.create(folder / "kek.json", passphrase)
    file = _HomeFile(form=_FORM, origin=origin, verifier=NoteVerifier(origin, signer.public).text, store=store)
    _open_log(folder, file, None).close()
    write_file(folder / _HOME_FILE, msgspec.json.encode(file))
    for made in (keys, folder):
        sync_folder(made)


def _fill_follower(folder: Path, verifier: NoteVerifier) -> None:
    (folder / "keys").mkdir(mode=0o700)
    _write_secret(folder / "keys" / "people", secrets.token_bytes(32))
    file = _HomeFile(form=_FOLLOWER_FORM, origin=verifier.name, verifier=verifier.text)
    write_file(folder / _HOME_FILE, msgspec.json.encode(file))
    for made in (folder / "keys", folder):
        sync_folder(made)


def _read_home_file(path: Path) -> _HomeFile:
    try:
        file = msgspec.json.decode((path / _HOME_FILE).read_bytes(), type=resolved(_HomeFile))
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
    if file.form not in (_FORM, _FOLLOWER_FORM):
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
