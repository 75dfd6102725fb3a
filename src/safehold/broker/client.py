"""The reader's side of the broker: makes a request, proves possession, opens the answer. Keys stay in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from safehold.broker.proof import Proof, RequestSigner, Signers, host_key_id, sign_request
from safehold.broker.request import KeyRequest, SealedKeys, format_request
from safehold.broker.sealing import ReaderKey
from safehold.model.errors import VerificationFailed
from safehold.model.ids import Digest, GroupName, HostId, MemberId, Purpose, parse_request_id

__all__ = ["BrokerDoor", "KeyOrder", "OpenedKeys", "request_keys"]


class BrokerDoor(Protocol):
    """Where requests go: the broker itself in one process, or a connection to it."""

    def release_keys(self, body: bytes, proof: Proof) -> SealedKeys:
        """Answer, or raise ``Refused``."""
        ...


class KeyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader wants to open, as whom, under which grant (its token)."""

    release: Digest
    groups: Sequence[GroupName]
    purpose: Purpose
    host: HostId
    member: MemberId | None
    grant: str


class OpenedKeys(msgspec.Struct, frozen=True):
    """Part keys by file name, until when they may be used (µs UTC), and the entry and receipt of their release."""

    keys: Mapping[str, bytes]
    until: int
    entry: int
    receipt: bytes


def request_keys(
    door: BrokerDoor, order: KeyOrder, signer: RequestSigner | Signers, clock: Callable[[], int]
) -> OpenedKeys:
    """Ask for all keys of a read in one request. Raises ``Refused``, or ``VerificationFailed`` for a wrong answer."""
    reader = ReaderKey()
    request = KeyRequest(
        request=parse_request_id("q-" + secrets.token_hex(16)),
        release=order.release,
        groups=tuple(order.groups),
        purpose=order.purpose,
        member=order.member,
        host=order.host,
        host_key=host_key_id(signer),
        grant=order.grant,
        reader=reader.public,
    )
    body = format_request(request)
    answer = door.release_keys(body, sign_request(body, request.request, clock() // 1_000_000, signer))
    if answer.request != request.request or answer.release != request.release:
        raise VerificationFailed("broker.answer", "this is the answer to another request", "ask again")
    keys = reader.open(answer.sealed, request.request, request.release)
    return OpenedKeys(keys, answer.until, answer.entry, answer.receipt)
