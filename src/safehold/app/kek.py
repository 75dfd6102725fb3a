"""Which key-encryption key a home uses: the passphrase's file, or what ``kek.toml`` names; and moving from one to another.

``kek.toml`` of a home, if it is there, names the key that wraps new part keys::

    kind = "transit"                       kind = "pkcs11"
    url = "https://bao.example:8200"       module = "/usr/lib/softhsm/libsofthsm2.so"
    key = "safehold"                       token = "safehold"
    mount = "transit"                      key = "part keys"
    token_file = "/run/secrets/token"      pin_file = "/run/secrets/pin"

    kind = "aws"
    key = "arn:aws:kms:eu-central-1:111122223333:key/…"

**Moving** (``rekey``) needs no standstill: the new key is named first, and from then on wraps what is new; then the keys of one
release after another are unwrapped by the old one and wrapped by the new one, each release in one transaction of the key store
and with an entry. Whoever reads meanwhile asks each key for its own wrapping key. After a crash the same command goes on
where it stopped.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.log import Log
from safehold.model.encoding import resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import KeyId
from safehold.model.statements_access import KeysRewrapped
from safehold.vault.kek import Kek, PassphraseKek
from safehold.vault.kek_aws import AwsAddress, open_aws_kek
from safehold.vault.kek_pkcs11 import Pkcs11Address, Pkcs11Kek
from safehold.vault.kek_transit import TransitAddress, TransitKek
from safehold.vault.keystore import KeyStore
from safehold.vault.wrapped import WrappedKeys

__all__ = ["HomeKeks", "Mover", "RekeyReport", "rekey"]

_NOW: Final = "kek.toml"
_BEFORE: Final = "kek-before.toml"
_FIRST: Final = "kek.json"
_MAX_BYTES: Final = 64 * 1024


class _Transit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["transit"]
    url: str
    key: str
    token_file: str
    mount: str = "transit"
    ca_file: str | None = None


class _Pkcs11(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["pkcs11"]
    module: str
    token: str
    key: str
    pin_file: str


class _Aws(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["aws"]
    key: str
    region: str | None = None
    endpoint: str | None = None


_FORMS: Final[dict[str, Any]] = {"transit": _Transit, "pkcs11": _Pkcs11, "aws": _Aws}


class HomeKeks:
    """The key-encryption keys of one home, opened when they are needed. ``passphrase`` is asked for at most when it is."""

    def __init__(self, home: Path, passphrase: Callable[[], str]) -> None:
        self._home = home
        self._passphrase = passphrase

    def current(self) -> Kek:
        """The key that wraps what is new."""
        path = self._home / _NOW
        return _open(path) if path.exists() else self._by_passphrase()

    def find(self, kek: str) -> Kek | None:
        """The key with this id among those that the home knows now; None if it is none of them."""
        for path in (self._home / _NOW, self._home / _BEFORE):
            if path.exists():
                found = _open(path)
                if found.id == kek:
                    return found
        if (self._home / _FIRST).exists():
            by_passphrase = self._by_passphrase()
            if by_passphrase.id == kek:
                return by_passphrase
        return None

    def _by_passphrase(self) -> Kek:
        return PassphraseKek.load(self._home / _FIRST, self._passphrase())


def _open(path: Path) -> Kek:
    """The key that a settings file names. Raises ``InputInvalid`` (``app.kek_file``), ``NotFound``, or as its kind does."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
        plain = tomllib.loads(data.decode())
        form = _FORMS.get(str(plain.get("kind")), _Transit)
        settings: _Transit | _Pkcs11 | _Aws = msgspec.convert(plain, type=resolved(form))
    except OSError as error:
        raise NotFound("app.kek_file", f"{path} cannot be read: {error.strerror}", "name another file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputInvalid(
            "app.kek_form", f"{path} does not name a key: {str(error)[:200]}", "see docs/guide/operator.md for its form"
        ) from error
    if isinstance(settings, _Transit):
        address = TransitAddress(url=settings.url, key=settings.key, mount=settings.mount, ca_file=settings.ca_file)
        return TransitKek(address, lambda: _secret(settings.token_file))
    if isinstance(settings, _Aws):
        return open_aws_kek(AwsAddress(key=settings.key, region=settings.region, endpoint=settings.endpoint))
    place = Pkcs11Address(module=settings.module, token=settings.token, key=settings.key)
    return Pkcs11Kek(place, lambda: _secret(settings.pin_file))


def _secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound("app.kek_secret", f"the secret {path} cannot be read", "check the file and its owner") from error


class RekeyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a move did: keys wrapped anew, releases they are of, keys that were by the new key already, entries written."""

    kek: str
    keys: int
    releases: int
    entries: tuple[int, ...]
    left: int


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """What a move works on."""

    home: Path
    log: Log
    store: KeyStore
    clock: Callable[[], int]
    by: KeyId


def rekey(
    mover: Mover, source: Path, keks: HomeKeks, progress: Callable[[int, int], None], *, dry_run: bool
) -> RekeyReport:
    """Move all part keys of a home to the key that ``source`` names; see this module.

    Raises ``VerificationFailed`` (``app.rekey_proof``) if the new key does not give back what it wrapped, ``Conflict``
    (``app.rekey_unfinished``) while an earlier move is unfinished, and as the keys and the store do.
    """
    fresh = _open(source)
    _prove(fresh)
    total = mover.store.wrapped_otherwise(fresh.id)
    if dry_run:
        return RekeyReport(kek=fresh.id, keys=0, releases=0, entries=(), left=total)
    _install(mover.home, source, fresh, mover.store)
    keys = WrappedKeys(mover.store, fresh, keks.find)
    done, releases, entries = 0, 0, list[int]()
    for release in mover.store.releases():
        moved = keys.rewrap(release)
        if moved or not _told(mover.log, release, fresh.id):
            count = moved or keys.held(release)
            told = KeysRewrapped(t=mover.clock(), by=mover.by, release=release, kek=fresh.id, keys=count, of="kek")
            entries.append(mover.log.append_statements(told)[0].index)
        done, releases = done + moved, releases + bool(moved)
        progress(done, total)
    left = mover.store.wrapped_otherwise(fresh.id)
    if not left:
        (mover.home / _BEFORE).unlink(missing_ok=True)
    return RekeyReport(kek=fresh.id, keys=done, releases=releases, entries=tuple(entries), left=left)


def _prove(kek: Kek) -> None:
    probe = secrets.token_bytes(32)
    if kek.unwrap(kek.wrap(probe)) != probe:
        raise VerificationFailed(
            "app.rekey_proof", f"{kek.id} does not give back what it wrapped", "nothing was changed; choose another key"
        )


def _told(log: Log, release: str, kek: str) -> bool:
    with log.view() as view:
        return bool(view.rows("SELECT 1 FROM rewrap WHERE release = ? AND kek = ?", release, kek))


def _install(home: Path, source: Path, fresh: Kek, store: KeyStore) -> None:
    """Name the new key in the home, keeping what named the one before until nothing is wrapped by it."""
    now, before = home / _NOW, home / _BEFORE
    if now.exists():
        current = _open(now)
        if current.id == fresh.id:
            return
        if before.exists() and store.wrapped_otherwise(current.id):
            raise Conflict(
                "app.rekey_unfinished",
                "an earlier move to another key is unfinished",
                f"finish it first: safehold rekey {now}",
            )
        _replace(now.read_bytes(), before)
    _replace(source.read_bytes(), now)


def _replace(data: bytes, path: Path) -> None:
    """The file at ``path``, whole or as it was."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(
            "app.home_write", f"{path} cannot be written: {error.strerror}", "free some space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
