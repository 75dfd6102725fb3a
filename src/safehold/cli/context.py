"""What every verb gets: the session with its options, and through it an open home.

The CLI does not know how a home is made: ``app`` hands it a factory. The protocols here name what verbs use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import DatasetId, HostId, PartyId

if TYPE_CHECKING:
    from safehold.broker.grants import GrantKey
    from safehold.broker.release import Broker
    from safehold.cli.backup_port import BackupReport, BackupWish, Progress, RestoreWish
    from safehold.cli.output import Output
    from safehold.cli.serve_port import Served, ServeWish
    from safehold.containment import Containment, Responses
    from safehold.inventory.intake import Intake
    from safehold.ledger.keys import SigningKey
    from safehold.ledger.log import Log
    from safehold.ledger.note import NoteVerifier
    from safehold.ledger.segments.seal import Segments
    from safehold.ledger.storage import Entry
    from safehold.ledger.witnessed import WitnessedSizes
    from safehold.registry import People, Registry
    from safehold.vault.keystore import KeyStore
    from safehold.vault.store import Store
    from safehold.vault.wrapped import WrappedKeys

__all__ = ["Home", "HomeFactory", "Rekeyed", "Session", "session_of"]

_MAX_PASSPHRASE_BYTES = 4096


class Rekeyed(Protocol):
    """What a move to another key-encryption key did."""

    @property
    def kek(self) -> str:
        """The new key."""
        ...

    @property
    def keys(self) -> int:
        """Keys wrapped anew."""
        ...

    @property
    def releases(self) -> int:
        """Releases that they are of."""
        ...

    @property
    def entries(self) -> tuple[int, ...]:
        """The entries that say so."""
        ...

    @property
    def left(self) -> int:
        """Keys that another key still wraps."""
        ...


class Home(Protocol):
    """An open home: the rooms wired together over one folder."""

    path: Path
    clock: Callable[[], int]
    log: Log
    registry: Registry
    containment: Containment
    responses: Responses
    intake: Intake
    people: People
    segments: Segments
    witnessed: WitnessedSizes

    def grant_key(self) -> GrantKey:
        """The key that signs grants."""
        ...

    def part_keys(self, passphrase: Callable[[], str]) -> WrappedKeys:
        """The store of wrapped part keys, unlocked."""
        ...

    def broker(self, passphrase: Callable[[], str]) -> Broker:
        """The broker, able to unwrap."""
        ...

    def party_key(self, party: PartyId) -> SigningKey:
        """The signing key of a party that this home made, or ``NotFound``."""
        ...

    def host_key(self, host: HostId) -> SigningKey:
        """The SSH key of a host that this home made, or ``NotFound``."""
        ...

    def new_party_key(self, party: PartyId) -> SigningKey:
        """Make and keep a signing key for a party."""
        ...

    def new_host_key(self, host: HostId) -> SigningKey:
        """Make and keep an SSH key for a host."""
        ...

    def key_store(self) -> KeyStore:
        """The store of wrapped part keys, as it is: to count and to erase needs no passphrase."""
        ...

    def cut_key(self, dataset: DatasetId) -> bytes:
        """The dataset's secret for cutting releases into parts."""
        ...

    def release_folder(self, dataset: DatasetId, version: int) -> Path:
        """Where a release is, or will be."""
        ...

    def rekey(
        self, source: Path, passphrase: Callable[[], str], progress: Callable[[int, int], None], *, dry_run: bool
    ) -> Rekeyed:
        """Move all part keys to the key-encryption key that ``source`` names."""
        ...

    def back_up(self, wish: BackupWish) -> BackupReport:
        """Make or renew a backup of this home."""
        ...

    def accept_restored(self, reason: str, note: bytes | None) -> Entry:
        """Let a restored home append again."""
        ...

    def close(self) -> None:
        """Release all files."""
        ...


class HomeFactory(Protocol):
    """Makes and opens homes."""

    def create(
        self,
        path: Path,
        origin: str,
        passphrase: str,
        clock: Callable[[], int] | None = None,
        store: str | None = None,
    ) -> Home:
        """A new home, by the system's clock or the one given, its ledger in ``store``; ``Conflict`` if there is one."""
        ...

    def open(self, path: Path, clock: Callable[[], int] | None = None) -> Home:
        """An existing home, by the system's clock or the one given; ``NotFound`` if there is none."""
        ...

    def follow(self, path: Path, verifier: NoteVerifier) -> Home:
        """A follower's home, made if there is none; ``Conflict`` if it is another's."""
        ...

    def serve(self, path: Path, wish: ServeWish, passphrase: Callable[[], str], told: Callable[[Served], None]) -> None:
        """Serve an existing home until a signal ends it."""
        ...

    def verify_backup(self, folder: Path, verifier: str | None, progress: Progress) -> BackupReport:
        """Check a backup whole."""
        ...

    def restore(self, wish: RestoreWish) -> BackupReport:
        """Restore a backup to a new home, which starts read-only."""
        ...


def _no_stores(location: str) -> Store:
    raise InputInvalid("cli.stores", f"this session opens no stores: {location[:200]}")


@dataclass
class Session:
    """One run of the command line."""

    home: Path
    passphrase: str | None
    passphrase_file: Path | None
    factory: Callable[[], HomeFactory]
    clock: Callable[[], int]
    open_store: Callable[[str], Store] = _no_stores
    ssh_agent: Path | None = None
    json: bool = False
    debug: bool = False
    output: Output | None = field(default=None, repr=False)

    @contextmanager
    def open_home(self) -> Iterator[Home]:
        """The home, closed again at the end of the block."""
        home = self.factory().open(self.home)
        try:
            yield home
        finally:
            home.close()

    @property
    def out(self) -> Output:
        """Where results go."""
        if self.output is None:
            raise InputInvalid("cli.output", "the session has no output yet")
        return self.output

    def read_passphrase(self, *, confirm: bool = False) -> str:
        """The passphrase, from the file, the environment or the terminal, in this order.

        Raises ``NotFound`` (``cli.passphrase_file``) or ``InputInvalid`` (``cli.passphrase``).
        """
        if self.passphrase_file is not None:
            try:
                with self.passphrase_file.open("rb") as file:
                    found = file.readline(_MAX_PASSPHRASE_BYTES).decode(errors="surrogateescape").rstrip("\r\n")
            except OSError as error:
                raise NotFound(
                    "cli.passphrase_file",
                    f"the passphrase file {self.passphrase_file} cannot be read: {error.strerror}",
                    "name another with --passphrase-file",
                ) from error
        elif self.passphrase is not None:
            found = self.passphrase
        elif sys.stdin.isatty():
            found = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
        else:
            raise InputInvalid(
                "cli.passphrase",
                "a passphrase is needed, and there is no terminal to ask for it",
                "put it into a file and name it: --passphrase-file FILE (or SAFEHOLD_PASSPHRASE_FILE)",
            )
        if not found:
            raise InputInvalid("cli.passphrase", "the passphrase is empty", "the first line of the file is taken")
        return found


def session_of(context: click.Context) -> Session:
    """The session of a click context."""
    session: Session = context.find_root().obj
    return session
