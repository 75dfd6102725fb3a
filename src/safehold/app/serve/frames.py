"""What front and vault process say to each other: calls and outcomes in frames over a Unix socket.

A frame is a length of four bytes, big-endian, and so many bytes of MessagePack: a list of calls one way, a list of
outcomes of the same length the other way. One frame is on its way a connection; many calls go in one, so that one commit
serves them all. Lengths are bounded before anything is read. Neither side trusts the other's bytes to be well formed:
what does not fit ends the connection. What is answered always fits: see ``encode_outcomes``.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Literal

import msgspec

from safehold.model.errors import InputInvalid, StorageFailed

__all__ = [
    "MAX_CALLS",
    "MAX_FRAME_BYTES",
    "Call",
    "CallKind",
    "Outcome",
    "decode_calls",
    "decode_outcomes",
    "encode_frame",
    "encode_outcomes",
    "frame_length",
    "read_frame",
    "receive_frame",
]

MAX_FRAME_BYTES: Final = 96 * 1024 * 1024
"""Room for one inventory of the largest size, or for many requests for keys."""
MAX_CALLS: Final = 256
_HEAD: Final = 4
_AROUND_BODY: Final = 64 * 1024
"""More than an outcome takes beside its body: codes and texts are ours, and bounded."""

CallKind = Literal["keys", "lease", "leased", "inventory", "holds", "read", "state", "metrics"]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One request. ``proof`` is what its headers claim: created, nonce, key id, signature, and the member's signature if
    there is one; or the MAC alone, by a lease.

    ``name`` is the resource of a ``read``. What is claimed here is proven by the vault process and by nobody before it.
    """

    kind: CallKind
    body: bytes = b""
    name: str = ""
    created: int = 0
    nonce: str = ""
    key: str = ""
    signature: bytes = b""
    member: bytes = b""


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """``status`` 200 with the body to send, or an error: its status, code, message, hint and entry.

    ``proven``: the asker has shown a registered host's key, so its failures are its own and stand in the ledger.
    """

    status: int
    body: bytes = b""
    code: str = ""
    detail: str = ""
    hint: str = ""
    entry: int | None = None
    proven: bool = False


_calls: Final = msgspec.msgpack.Decoder(list[Call])
_outcomes: Final = msgspec.msgpack.Decoder(list[Outcome])
_encoder: Final = msgspec.msgpack.Encoder()
# MemoryError: a frame of the largest size can hold millions of calls, a byte or two each.
_NO_FORM: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, MemoryError)
_NO_ROOM: Final = Outcome(
    503, code="serve.busy", detail="the broker has more to do than it can take", hint="ask again in a moment"
)


def encode_frame(said: list[Call] | list[Outcome]) -> bytes:
    """The bytes to send. Raises ``InputInvalid`` (``serve.frame``) for more than fits."""
    body = _encoder.encode(said)
    if len(body) > MAX_FRAME_BYTES or len(said) > MAX_CALLS:
        raise _bad_frame("it is larger than a frame may be")
    return len(body).to_bytes(_HEAD, "big") + body


def encode_outcomes(outcomes: list[Outcome]) -> bytes:
    """The frame of an answer. An outcome for which it has no room is told to ask again (``serve.busy``): what was
    recorded stands in the ledger, and the same request gets the same answer when it comes again.
    """
    said, room = list[Outcome](), MAX_FRAME_BYTES
    for outcome in outcomes:
        taken = len(outcome.body) + _AROUND_BODY
        fits = taken <= room
        said.append(outcome if fits else _NO_ROOM)
        room -= taken if fits else _AROUND_BODY
    return encode_frame(said)


def frame_length(head: bytes) -> int:
    """The length that a frame's head claims, in bounds; ``InputInvalid`` (``serve.frame``)."""
    length = int.from_bytes(head, "big")
    if not 1 <= length <= MAX_FRAME_BYTES:
        raise _bad_frame(f"it claims {length:,} bytes")
    return length


def decode_calls(body: bytes) -> list[Call]:
    """The calls of a frame; ``InputInvalid`` (``serve.frame``)."""
    try:
        calls = _calls.decode(body)
    except _NO_FORM as error:
        raise _bad_frame("it holds no calls") from error
    if not 1 <= len(calls) <= MAX_CALLS:
        raise _bad_frame(f"it holds {len(calls)} calls")
    return calls


def decode_outcomes(body: bytes, count: int) -> list[Outcome]:
    """The outcomes of a frame of ``count`` calls; ``InputInvalid`` (``serve.frame``)."""
    try:
        outcomes = _outcomes.decode(body)
    except _NO_FORM as error:
        raise _bad_frame("it holds no outcomes") from error
    if len(outcomes) != count:
        raise _bad_frame(f"it holds {len(outcomes)} outcomes of {count} calls")
    return outcomes


def receive_frame(connection: socket.socket) -> bytes | None:
    """The next frame's bytes; None at the end of the connection between two frames.

    Raises ``InputInvalid`` (``serve.frame``) for a frame that is cut short or too long.
    """
    head = _receive(connection, _HEAD)
    if not head:
        return None
    if len(head) < _HEAD:
        raise _bad_frame("it is cut short")
    length = frame_length(bytes(head))
    body = _receive(connection, length)
    if len(body) < length:
        raise _bad_frame("it is cut short")
    return bytes(body)


def _receive(connection: socket.socket, count: int) -> bytearray:
    # Grown as bytes come: a claimed length alone reserves no memory.
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(min(count - len(data), 1 << 18))
        if not chunk:
            break
        data += chunk
    return data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame's bytes. Raises ``InputInvalid`` (``serve.frame``) or ``StorageFailed`` (``serve.vault_gone``)."""
    try:
        return await reader.readexactly(frame_length(await reader.readexactly(_HEAD)))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise StorageFailed(
            "serve.vault_gone", "the vault process ended the connection", "ask again in a moment"
        ) from error


def _bad_frame(why: str) -> InputInvalid:
    return InputInvalid("serve.frame", f"this is no frame of calls or outcomes: {why}")
