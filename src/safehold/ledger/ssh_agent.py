"""Signing by a running ssh-agent: the private key stays in it, or in the hardware behind it.

The protocol is draft-ietf-sshm-ssh-agent: two requests are used, *list identities* and *sign*. Signatures are plain
Ed25519 over the bytes given, so they verify like those of a key file. Answers are bounded and checked: a signature that
the named key did not make is refused here, before it is sent to anyone.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from safehold.ledger.keys import PublicKey
from safehold.model.errors import InputInvalid, NotFound, Refused, StorageFailed
from safehold.model.ids import KeyId

__all__ = ["AgentKey", "list_agent_keys"]

_REQUEST_IDENTITIES: Final = 11
_IDENTITIES_ANSWER: Final = 12
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_MAX_ANSWER: Final = 256 * 1024
_KIND: Final = b"ssh-ed25519"
_SECONDS: Final = 60.0
"""An agent may ask its person before it signs."""


class AgentKey:
    """A key that ssh-agent holds, at the agent's ``path`` (what ``SSH_AUTH_SOCK`` says)."""

    def __init__(self, path: Path, public: PublicKey) -> None:
        """Raises ``NotFound`` (``ledger.agent_key``) if the agent does not hold the key, ``StorageFailed`` (``ledger.agent``)."""
        if public not in list_agent_keys(path):
            raise NotFound("ledger.agent_key", f"ssh-agent does not hold {public.key_id}", "add it: ssh-add KEY")
        self._path = path
        self.public = public

    @property
    def key_id(self) -> KeyId:
        """The fingerprint of the public half."""
        return self.public.key_id

    def sign(self, data: bytes) -> bytes:
        """The 64-byte RFC 8032 signature of ``data``, verified.

        Raises ``Refused`` (``ledger.agent_refused``) if the agent does not sign, ``StorageFailed`` (``ledger.agent``).
        """
        question = bytes([_SIGN_REQUEST]) + _string(self.public.wire) + _string(data) + bytes(4)
        answer = _Answer(_ask(self._path, question))
        if answer.byte() != _SIGN_RESPONSE:
            raise Refused(
                "ledger.agent_refused",
                f"ssh-agent does not sign with {self.key_id}",
                "unlock it (ssh-add -X), or confirm when it asks",
            )
        inner = _Answer(answer.string())
        kind, signature = inner.string(), inner.string()
        if kind != _KIND or len(signature) != 64:
            raise _not_understood()
        self.public.verify(signature, data, "what ssh-agent signed")
        return signature

    def __repr__(self) -> str:
        return f"AgentKey({self.key_id})"


def list_agent_keys(path: Path) -> tuple[PublicKey, ...]:
    """The Ed25519 keys that the agent offers. Raises ``StorageFailed`` (``ledger.agent``)."""
    answer = _Answer(_ask(path, bytes([_REQUEST_IDENTITIES])))
    if answer.byte() != _IDENTITIES_ANSWER:
        raise _not_understood()
    found = []
    for _ in range(answer.number()):
        wire = _Answer(answer.string())
        answer.string()  # its comment
        if wire.string() != _KIND:
            continue
        try:
            found.append(PublicKey(wire.string()))
        except InputInvalid as error:
            raise _not_understood() from error
    return tuple(found)


def _ask(path: Path, question: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(str(path))
            connection.sendall(_string(question))
            length = int.from_bytes(_receive(connection, 4), "big")
            if not 1 <= length <= _MAX_ANSWER:
                raise _not_understood()
            return _receive(connection, length)
    except OSError as error:
        raise StorageFailed(
            "ledger.agent",
            f"ssh-agent at {path} does not answer: {error}",
            "start one: eval $(ssh-agent), then ssh-add",
        ) from error


def _receive(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise _not_understood()
        data += chunk
    return bytes(data)


class _Answer:
    """A reader of SSH wire fields that never reads past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _not_understood()
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        return self._take(self.number())


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _not_understood() -> StorageFailed:
    return StorageFailed("ledger.agent", "ssh-agent answers something that is not its protocol", "is it an ssh-agent?")
