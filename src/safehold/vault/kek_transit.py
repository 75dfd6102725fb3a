"""A ``Kek`` in the transit engine of OpenBao or HashiCorp Vault: the key-encryption key never leaves that server.

Its API (``POST /v1/MOUNT/encrypt/KEY`` and ``…/decrypt/KEY``, OpenBao documentation "Transit secrets engine (API)") takes
many values in one call, so the keys of a read cost one round trip. What it returns (``vault:v1:…``) is kept as wrapped key;
rotating the key there leaves older wrapped keys readable.

The server keeps its own log of each use: a second witness of what the broker unwrapped, outside of the broker's hands. Its
token is read from a file at each new connection, so that another program may renew it. Plain HTTP is for loopback alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import re
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from safehold.model.errors import InputInvalid, StorageFailed, VerificationFailed

__all__ = ["TransitAddress", "TransitKek"]

_KEY_BYTES: Final = 32
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_MAX_ANSWER: Final = 16 * 1024 * 1024
_MOST: Final = 1000
_CIPHERTEXT: Final = re.compile(r"vault:v[1-9][0-9]*:[A-Za-z0-9+/]+={0,2}")
"""One text for one ciphertext: the server also takes others, such as version 0 for the first."""
_SECONDS: Final = 10.0


class TransitAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the key is: the server's URL, the engine's mount, the key's name; a file with certificates to trust."""

    url: str
    key: str
    mount: str = "transit"
    ca_file: str | None = None


class TransitKek:
    """See ``Kek``. ``token`` gives the server's token when a connection is made. Safe from many threads."""

    def __init__(self, address: TransitAddress, token: Callable[[], str]) -> None:
        """Raises ``InputInvalid`` (``vault.kek_address``) for an address that cannot be used."""
        self._connection: http.client.HTTPConnection | None = None
        parts = urlsplit(address.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise InputInvalid("vault.kek_address", f"{address.url} is no server's address", "write https://HOST:PORT")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise InputInvalid(
                "vault.kek_address", f"{address.url} would send keys in the clear", "use https, or a server on loopback"
            )
        self._address = address
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or 8200
        self._token = token
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        named = f"{address.url}\n{address.mount}\n{address.key}".encode()
        self.id = "transit-" + hashlib.sha256(named).hexdigest()[:16]

    def wrap(self, key: bytes) -> bytes:
        """See ``Kek``; raises ``InputInvalid`` (``vault.key_length``) or ``StorageFailed`` (``vault.kek_*``)."""
        if len(key) != _KEY_BYTES:
            raise InputInvalid("vault.key_length", f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        answer = self._post("encrypt", {"plaintext": base64.b64encode(key).decode()})
        return str(answer["data"]["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``Kek``."""
        return self.unwrap_many([wrapped])[0]

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """All of them in few round trips. Raises like ``unwrap``: all or nothing."""
        keys: list[bytes] = []
        for begin in range(0, len(wrapped), _MOST):
            some = wrapped[begin : begin + _MOST]
            try:
                texts = [one.decode("ascii") for one in some]
            except UnicodeDecodeError as error:
                raise _not_ours(self.id) from error
            if not all(map(_CIPHERTEXT.fullmatch, texts)):
                raise _not_ours(self.id)
            answer = self._post("decrypt", {"batch_input": [{"ciphertext": text} for text in texts]})
            results = answer.get("data", {}).get("batch_results") or []
            if len(results) != len(some):
                raise _not_ours(self.id)
            keys += [self._key_of(result) for result in results]
        return keys

    def _key_of(self, result: dict[str, Any]) -> bytes:
        try:
            key = base64.b64decode(result.get("plaintext") or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _not_ours(self.id) from error
        if result.get("error") or len(key) != _KEY_BYTES:
            raise _not_ours(self.id)
        return key

    def _post(self, act: str, body: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/{quote(self._address.mount)}/{act}/{quote(self._address.key, safe='')}"
        data = msgspec.json.encode(body)
        with self._lock:
            # A connection that is kept may have been closed there, or its token renewed: then once more on a new one.
            for fresh in (True,) if self._connection is None else (False, True):
                try:
                    status, answer = self._send(path, data, fresh=fresh)
                    if fresh or status != http.client.FORBIDDEN:
                        break
                except (OSError, http.client.HTTPException) as error:
                    self._drop()
                    if fresh or isinstance(error, TimeoutError):  # who hangs once is not waited for twice
                        raise StorageFailed(
                            "vault.kek_unreachable",
                            f"the key server {self._host} cannot be reached: {error}",
                            "is it running and unsealed? then ask again",
                        ) from error
            else:  # pragma: no cover - the loop breaks or raises
                raise _not_ours(self.id)
        if status == http.client.FORBIDDEN:
            raise StorageFailed(
                "vault.kek_denied", f"the key server {self._host} does not accept the token", "renew the token's file"
            )
        if status == http.client.BAD_REQUEST and act == "decrypt":
            raise _not_ours(self.id)
        if status != http.client.OK:
            raise StorageFailed(
                "vault.kek_failed", f"the key server {self._host} answered {status}", "see its log; is it unsealed?"
            )
        return answer

    def _send(self, path: str, data: bytes, *, fresh: bool) -> tuple[int, dict[str, Any]]:
        if fresh:
            self._drop()
        if self._connection is None:
            self._headers = {"X-Vault-Token": self._token(), "Content-Type": "application/json"}
            self._connection = self._connect()
        self._connection.request("POST", path, data, self._headers)
        response = self._connection.getresponse()
        body = response.read(_MAX_ANSWER + 1)
        try:
            answer = msgspec.json.decode(body) if len(body) <= _MAX_ANSWER else None
        except msgspec.DecodeError:
            answer = None
        if not isinstance(answer, dict):
            if response.status == http.client.OK:
                raise http.client.HTTPException("the answer is no JSON object")
            answer = {}
        return response.status, answer

    def _connect(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)
        context = ssl.create_default_context(cafile=self._address.ca_file)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_SECONDS, context=context)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the connection; the next use makes a new one."""
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        """A key that nobody holds any more leaves no connection open."""
        self._drop()

    def __repr__(self) -> str:
        return f"TransitKek({self.id})"


def _not_ours(kek: str) -> VerificationFailed:
    return VerificationFailed("vault.unwrap", f"a stored key does not open with {kek}", "was the key replaced there?")
