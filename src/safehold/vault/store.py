"""The store port: where sealed bytes lie, whether in a folder or in a bucket.

A store holds objects by name and promises four things, the same for each kind (one contract suite runs over all):

* an object is there whole or not at all; ``create`` never replaces, and of many at once exactly one wins;
* ``replace`` changes an object only if it is still the one that was read (its tag);
* what ``create``, ``replace`` and ``upload`` returned for is durable as far as the store can promise;
* whatever fails is one of our errors with a hint. It never shows a credential.

A store sees ciphertext and signed manifests alone. It can lose or hold back what it was given; it cannot change it
unseen, since every reader checks digests (``stored_release``).

**Locations** are a folder (``/data/store``, ``file:///data/store``) or ``s3://BUCKET/PREFIX``. They go into the ledger,
so a location with a user, a password or a query is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from safehold.model.errors import InputInvalid

__all__ = ["Location", "Store", "StoredObject", "check_name", "parse_location"]

_BUCKET_RE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NAME_RE: Final = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f]+(/[^/\\\x00-\x1f\x7f-\x9f]+)*")


class StoredObject(msgspec.Struct, frozen=True):
    """An object: its name in the store, size in bytes, and when it was written (µs UTC, the store's clock)."""

    name: str
    size: int
    modified: int


class Store(Protocol):
    """Objects by name. All methods raise ``StorageFailed`` (``vault.store_*``, ``vault.disk_full`` …)."""

    @property
    def location(self) -> Location:
        """Where it is, without secrets."""

    @property
    def endpoint(self) -> str | None:
        """The server of an object store, if it is not the usual one of its kind."""

    def create(self, name: str, data: bytes) -> str:
        """Write a new object and return its tag. Raises ``Conflict`` (``vault.store_exists``)."""

    def replace(self, name: str, data: bytes, tag: str) -> str:
        """Replace the object that still has ``tag``; returns the new tag.

        Raises ``Conflict`` (``vault.store_changed``) or ``NotFound`` (``vault.store_missing``).
        """

    def upload(self, name: str, path: Path) -> None:
        """Copy a file to ``name``, in pieces where it is large. An object that is there is replaced by a whole one."""

    def read(self, name: str, limit: int) -> tuple[bytes, str]:
        """At most ``limit`` bytes from the start of an object, and its tag. Raises ``NotFound`` (``vault.store_missing``)."""

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Bytes from ``start``; fewer only where the object ends. Raises ``NotFound`` (``vault.store_missing``)."""

    def find(self, name: str) -> StoredObject | None:
        """The object, or None."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects below the folder ``prefix`` (all for an empty one), in no order."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is fine."""


class Location(msgspec.Struct, frozen=True):
    """A parsed location: ``bucket`` None is a folder at ``path``; else ``path`` is the prefix, without slashes around."""

    bucket: str | None
    path: str

    @property
    def url(self) -> str:
        """The location as text, as the ledger holds it."""
        return self.path if self.bucket is None else f"s3://{self.bucket}/{self.path}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Location:
        """One step up. Raises ``InputInvalid`` (``vault.store_location``) at the top."""
        if not self.path.strip("/"):
            raise _no_location(self.url, "there is nothing above it")
        return Location(self.bucket, self.path.rpartition("/")[0] or ("" if self.bucket else "/"))

    def below(self, name: str) -> Location:
        """A place below this one."""
        return Location(self.bucket, f"{self.path.rstrip('/')}/{name}" if self.path else name)


def parse_location(text: str) -> Location:
    """Parse a folder or an ``s3://`` URL. Raises ``InputInvalid`` (``vault.store_location``, ``vault.store_secret``)."""
    if "://" not in text:
        if not text or "\x00" in text:
            raise _no_location(text, "it is empty or no path")
        return Location(None, str(Path(text).absolute()))
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise _no_location("this URL", "it cannot be read") from error
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise InputInvalid(
            "vault.store_secret",
            "a store's location has neither user, password nor query",
            "give s3://BUCKET/PREFIX, and the credentials in the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        )
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path.startswith("/"):
        return Location(None, str(Path(unquote(url.path))))
    if url.scheme != "s3":
        raise _no_location(text, f"{url.scheme[:20]}:// is no kind of store")
    if not _BUCKET_RE.fullmatch(url.netloc):
        raise _no_location(text, "it names no bucket")
    path = url.path.strip("/")
    if path:
        check_name(path)
    return Location(url.netloc, path)


def _no_location(text: str, reason: str) -> InputInvalid:
    return InputInvalid(
        "vault.store_location", f"{text[:200]!r} is no store: {reason}", "name a folder, or s3://BUCKET/PREFIX"
    )


def check_name(name: str) -> str:
    """Return ``name`` if it is plain and stays below its store, else raise ``InputInvalid`` (``vault.store_name``)."""
    if len(name) > 900 or not _NAME_RE.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise InputInvalid(
            "vault.store_name",
            f"{name[:100]!r} is no name of an object",
            "plain names between single slashes, none of them . or ..",
        )
    return name
