"""A request for keys, and its answer: bytes in bounds, parsed once. Pure.

The body is canonical JSON, so that the digest that the proof covers is of exactly what was understood. Every field
is bounded and every id parsed; past ``parse_request`` nothing of it is text of unknown form, and nothing of it is
*proven* before step 3.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from safehold.model.encoding import canonical_bytes
from safehold.model.errors import InputInvalid
from safehold.model.ids import (
    Digest,
    GroupName,
    HostId,
    KeyId,
    LeaseId,
    MemberId,
    Purpose,
    RequestId,
    parse_digest,
    parse_group_name,
    parse_host_id,
    parse_lease_id,
    parse_member_id,
    parse_purpose,
    parse_request_id,
)

__all__ = [
    "MAX_BODY_BYTES",
    "READER_KEY_BYTES",
    "KeyRequest",
    "LeaseWish",
    "LeasedKeys",
    "LeasedRequest",
    "SealedKeys",
    "SealedLease",
    "format_lease_request",
    "format_leased_request",
    "format_request",
    "parse_lease_request",
    "parse_leased_request",
    "parse_request",
    "wants_lease",
]

MAX_BODY_BYTES: Final = 64 * 1024
READER_KEY_BYTES: Final = 1184 + 32
"""An ML-KEM-768 encapsulation key (FIPS 203) followed by an X25519 public key."""
_FORMAT: Final = "safehold-key-request-v1"
_LEASE_FORMAT: Final = "safehold-lease-request-v1"
_LEASE_START: Final = f'{{"format":"{_LEASE_FORMAT}"'.encode()
_LEASED_FORMAT: Final = "safehold-leased-request-v1"
_MAX_GROUPS: Final = 256
_MAX_NUMBER: Final = 2**53 - 1
_KEY_ID: Final = re.compile("SHA256:[A-Za-z0-9+/]{43}")


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    request: str
    release: str
    groups: tuple[str, ...]
    purpose: str
    member: str | None
    host: str
    key: str
    grant: str
    reader: str


class _LeaseBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: int
    keys: int


class _LeasedBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    lease: str
    counter: int
    release: str
    groups: tuple[str, ...]


_decoder: Final = msgspec.json.Decoder(_Body)
_lease_decoder: Final = msgspec.json.Decoder(_LeaseBody)
_leased_decoder: Final = msgspec.json.Decoder(_LeasedBody)
_encoder: Final = msgspec.json.Encoder(order="sorted")


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what: keys of ``groups`` of ``release`` for ``purpose``, to be sealed to ``reader`` (raw HPKE key)."""

    request: RequestId
    release: Digest
    groups: tuple[GroupName, ...]
    purpose: Purpose
    member: MemberId | None
    host: HostId
    host_key: KeyId
    grant: str
    reader: bytes


class SealedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: ``sealed`` opens with the reader's key alone. ``until`` (µs UTC) ends the lease; ``entry`` is the
    place of the key release in the ledger, ``receipt`` its proof.
    """

    request: RequestId
    release: Digest
    entry: int
    until: int
    sealed: bytes
    receipt: bytes


class LeaseWish(msgspec.Struct, frozen=True):
    """What a lease is asked to be: its length in ``seconds`` and its budget of part ``keys``."""

    seconds: int
    keys: int


class LeasedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request by a lease: the ``counter`` rises with each, so that none is answered twice."""

    lease: LeaseId
    counter: int
    release: Digest
    groups: tuple[GroupName, ...]


class SealedLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that was opened: ``sealed`` holds its session key for the reader alone; the rest as in ``SealedKeys``."""

    request: RequestId
    release: Digest
    lease: LeaseId
    entry: int
    until: int
    keys: int
    sealed: bytes
    receipt: bytes


class LeasedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys by a lease: ``sealed`` opens with the lease's session key alone. The receipt is had by ``entry`` later."""

    lease: LeaseId
    counter: int
    release: Digest
    entry: int
    until: int
    sealed: bytes


def format_request(request: KeyRequest) -> bytes:
    """The body to sign and send."""
    return canonical_bytes(_Body(format=_FORMAT, **_fields(request)))


def format_lease_request(request: KeyRequest, wish: LeaseWish) -> bytes:
    """The body to sign and send for a lease: release and groups say what must be allowed for it to be opened."""
    fields = _fields(request)
    return canonical_bytes(_LeaseBody(format=_LEASE_FORMAT, seconds=wish.seconds, keys=wish.keys, **fields))


def format_leased_request(request: LeasedRequest) -> bytes:
    """The body to authenticate and send by a lease."""
    return canonical_bytes(
        _LeasedBody(
            format=_LEASED_FORMAT,
            lease=request.lease,
            counter=request.counter,
            release=request.release,
            groups=request.groups,
        )
    )


def _fields(request: KeyRequest) -> dict[str, Any]:
    return {
        "request": request.request,
        "release": request.release,
        "groups": request.groups,
        "purpose": request.purpose,
        "member": request.member,
        "host": request.host,
        "key": request.host_key,
        "grant": request.grant,
        "reader": base64.b64encode(request.reader).decode(),
    }


def parse_request(body: bytes) -> KeyRequest:
    """Parse and bound a body that asks for keys, or raise ``InputInvalid`` (``broker.request_*`` or the id's own code)."""
    fields: _Body = _decoded(body, _decoder)
    if fields.format != _FORMAT:
        raise InputInvalid(
            "broker.request_form", "this request is of a format that is not known here", f"send {_FORMAT}"
        )
    return _request(fields)


def wants_lease(body: bytes) -> bool:
    """Whether a body says of itself that it asks for a lease: in canonical form its format comes first."""
    return body.startswith(_LEASE_START)


def parse_lease_request(body: bytes) -> tuple[KeyRequest, LeaseWish]:
    """Parse and bound a body that asks for a lease, or raise ``InputInvalid`` like ``parse_request``."""
    fields: _LeaseBody = _decoded(body, _lease_decoder)
    if fields.format != _LEASE_FORMAT or not (1 <= fields.seconds <= _MAX_NUMBER and 1 <= fields.keys <= _MAX_NUMBER):
        raise InputInvalid("broker.request_form", "a lease lasts at least one second and for at least one key")
    return _request(fields), LeaseWish(fields.seconds, fields.keys)


def parse_leased_request(body: bytes) -> LeasedRequest:
    """Parse and bound a body that asks by a lease, or raise ``InputInvalid`` (``broker.request_*``)."""
    fields: _LeasedBody = _decoded(body, _leased_decoder)
    if fields.format != _LEASED_FORMAT or not 1 <= fields.counter <= _MAX_NUMBER:
        raise InputInvalid("broker.request_form", "this is not a request by a lease", f"send {_LEASED_FORMAT}")
    return LeasedRequest(
        lease=parse_lease_id(fields.lease),
        counter=fields.counter,
        release=parse_digest(fields.release),
        groups=_groups(fields.groups),
    )


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    if len(body) > MAX_BODY_BYTES:
        raise InputInvalid("broker.request_size", f"a request has at most {MAX_BODY_BYTES:,} bytes")
    try:
        fields = decoder.decode(body)
        # One form a body: a type of texts and whole numbers has one canonical form, which the typed encoder writes.
        canonical = _encoder.encode(fields) == body
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputInvalid("broker.request_form", "this is not a request for keys in canonical form") from error
    if not canonical:
        raise InputInvalid("broker.request_form", "this is not a request for keys in canonical form")
    return fields


def _groups(groups: tuple[str, ...]) -> tuple[GroupName, ...]:
    if not 1 <= len(groups) <= _MAX_GROUPS or len(set(groups)) != len(groups):
        raise InputInvalid("broker.request_groups", f"a request names 1 to {_MAX_GROUPS} different column groups")
    return tuple(parse_group_name(group) for group in groups)


def _request(fields: _Body) -> KeyRequest:
    if not _KEY_ID.fullmatch(fields.key):
        raise InputInvalid("broker.request_form", "the request names no key", "name it as `ssh-keygen -l` prints it")
    groups = _groups(fields.groups)
    try:
        reader = base64.b64decode(fields.reader, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputInvalid("broker.request_reader", "the reader's key is not base64") from error
    if len(reader) != READER_KEY_BYTES or base64.b64encode(reader).decode() != fields.reader:
        raise InputInvalid("broker.request_reader", f"the reader's key must have {READER_KEY_BYTES} bytes in base64")
    return KeyRequest(
        request=parse_request_id(fields.request),
        release=parse_digest(fields.release),
        groups=groups,
        purpose=parse_purpose(fields.purpose),
        member=None if fields.member is None else parse_member_id(fields.member),
        host=parse_host_id(fields.host),
        host_key=KeyId(fields.key),
        grant=fields.grant,
        reader=reader,
    )
