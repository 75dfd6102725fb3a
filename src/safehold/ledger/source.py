"""Where another ledger's static tree is read from: a folder, or a web server (C2SP tlog-tiles).

Nothing that comes from here is trusted: it is bounded in size and time, and whoever reads it verifies. A resource that
is not there is ``None``; one that cannot be fetched raises, since a failing network must not look like an erased payload.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

from safehold.ledger.export import CHECKPOINT_FILE
from safehold.ledger.tree import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, TileReader, checked_tile, tile_path
from safehold.model.errors import InputInvalid, NotFound, StorageFailed, VerificationFailed

__all__ = [
    "MAX_BUNDLE_BYTES",
    "MAX_NOTE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "FolderSource",
    "HttpSource",
    "Source",
    "connect",
    "open_source",
    "read_checkpoint",
    "read_response",
    "source_bundle",
    "source_tiles",
    "split_url",
]

MAX_NOTE_BYTES: Final = 1 << 20
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + 65_535)
MAX_PAYLOAD_BYTES: Final = 1 << 28
_CHUNK: Final = 1 << 16


class Source(Protocol):
    """Reads named resources of a static tree."""

    @property
    def name(self) -> str:
        """What people call it: a path or a URL."""
        ...

    def read(self, path: str, limit: int) -> bytes | None:
        """The resource at a relative path, None if there is none.

        Raises ``StorageFailed`` (``ledger.source``) if it cannot be read, ``VerificationFailed`` (``ledger.source_size``) if
        it is larger than ``limit`` bytes.
        """
        ...

    def close(self) -> None:
        """Release what is held. Closing twice is harmless."""
        ...


class FolderSource:
    """An export in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)

    def read(self, path: str, limit: int) -> bytes | None:
        """See ``Source``."""
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(self.name, f"{path}: {error.strerror}") from error
        return _bounded(data, path, limit)

    def close(self) -> None:
        """Nothing is held between reads."""


class HttpSource:
    """A static tree behind ``http://`` or ``https://``; one connection, kept alive, opened again when it was closed."""

    def __init__(self, url: str, timeout: float = 20.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``timeout`` in seconds bounds each step on the wire, and ten times as much each whole answer."""
        self._parts = split_url(url)
        self.name = url.rstrip("/")
        self._timeout = timeout
        self._monotonic = monotonic
        self._connection: http.client.HTTPConnection | None = None

    def read(self, path: str, limit: int) -> bytes | None:
        """See ``Source``. Redirects are not followed."""
        target = f"{self._parts.path.rstrip('/')}/{path}"
        for last in (False, True):
            fresh = self._connection is None
            connection = self._connection or connect(self._parts, self._timeout)
            self._connection = connection
            try:
                connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "safehold"})
                response = connection.getresponse()
                data = read_response(response, limit, self._monotonic() + 10 * self._timeout, self._monotonic)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or last:  # a kept connection may have been closed by the server: once more, on a new one
                    raise _unreadable(self.name, f"{path}: {type(error).__name__}: {error}") from error
                continue
            if len(data) > limit:
                self.close()
            if response.status == 200:
                return _bounded(data, path, limit)
            if response.status in (404, 410):
                return None
            self.close()
            raise _unreadable(self.name, f"{path}: HTTP status {response.status}")
        return None  # not reached: the second round returns or raises

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_source(where: str) -> Source:
    """A source by its URL or its path. Raises ``InputInvalid`` (``ledger.url``)."""
    return HttpSource(where) if "://" in where else FolderSource(Path(where))


def split_url(url: str) -> SplitResult:
    """The parts of an ``http`` or ``https`` URL without user, query or fragment; ``InputInvalid`` (``ledger.url``)."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise _bad_url(url) from error
    if not usable or parts.query or parts.fragment or "@" in parts.netloc or not url.isascii() or not url.isprintable():
        raise _bad_url(url)
    if " " in url:
        raise _bad_url(url)
    return parts


def connect(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    """An unopened connection to the host of a URL; TLS is verified against the system's roots."""
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def read_response(
    response: http.client.HTTPResponse, limit: int, deadline: float, monotonic: Callable[[], float]
) -> bytes:
    """At most ``limit`` + 1 bytes of an answer; ``TimeoutError`` when it trickles past ``deadline``.

    More than ``limit`` bytes mean that a rest was left unread: the connection must not be used again.
    """
    data = bytearray()
    try:
        while len(data) <= limit:
            if monotonic() > deadline:
                raise TimeoutError("the answer takes too long")
            chunk = response.read1(min(_CHUNK, limit + 1 - len(data)))
            if not chunk:
                break
            data += chunk
    finally:
        response.close()
    return bytes(data)


def read_checkpoint(source: Source) -> bytes:
    """The newest checkpoint that the source offers. ``NotFound`` (``ledger.source_empty``) if it has none."""
    note = source.read(CHECKPOINT_FILE, MAX_NOTE_BYTES)
    if note is None:
        raise NotFound(
            "ledger.source_empty",
            f"there is no checkpoint at {source.name}",
            "name a folder or URL of an exported ledger",
        )
    return note


def source_tiles(source: Source, size: int) -> TileReader:
    """The tiles of a tree of ``size`` entries, each read once. Raises ``VerificationFailed`` (``ledger.tile_short``).

    A partial tile may have been replaced by the full one (tlog-tiles, Partial Tiles): then that is used.
    """
    kept: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int, width: int) -> bytes:
        if (level, index) not in kept:
            there = min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH)
            data = source.read(tile_path(level, index, there), TILE_WIDTH * HASH_BYTES)
            if data is None and there < TILE_WIDTH:
                data = source.read(tile_path(level, index, TILE_WIDTH), TILE_WIDTH * HASH_BYTES)
            kept[level, index] = checked_tile(level, index, there, data)
        return checked_tile(level, index, width, kept[level, index])

    return read


def source_bundle(source: Source, index: int, width: int) -> tuple[bytes, int]:
    """Entry bundle ``index`` and the number of entries that it should hold: ``width``, or 256 where only the full one is
    left. Raises ``VerificationFailed`` (``ledger.bundle_missing``).
    """
    for there in (width, TILE_WIDTH):
        data = source.read(tile_path("entries", index, there), MAX_BUNDLE_BYTES)
        if data is not None:
            return data, there
    raise VerificationFailed(
        "ledger.bundle_missing",
        f"{source.name} has no {tile_path('entries', index, width)}",
        "the copy is incomplete: ask for a fresh export",
    )


def _bounded(data: bytes, path: str, limit: int) -> bytes:
    if len(data) > limit:
        raise VerificationFailed("ledger.source_size", f"{path} is larger than it can be")
    return data


def _unreadable(name: str, why: str) -> StorageFailed:
    return StorageFailed("ledger.source", f"{name} cannot be read: {why}", "check the address, then run again")


def _bad_url(url: str) -> InputInvalid:
    return InputInvalid(
        "ledger.url", f"{url[:120]!r} is no usable address", "use http:// or https://, a host and a path, nothing else"
    )
