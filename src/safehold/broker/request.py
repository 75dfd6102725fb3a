"""A request for keys, and its answer: bytes in bounds, parsed once. Pure.

The body is canonical JSON, so that the digest that the proof covers is of exactly what was understood. Every field
is bounded and every id parsed; past ``parse_request`` nothing of it is text of unknown form, and nothing of it is
*proven* before step 3.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

import msgspec

from safehold.model.encoding import canonical_bytes
from safehold.model.errors import InputInvalid
from safehold.model.ids import (
    Digest,
    GroupName,
    HostId,
    KeyId,
    MemberId,
    Purpose,
    RequestId,
    parse_digest,
    parse_group_name,
    parse_host_id,
    parse_member_id,
    parse_purpose,
    parse_request_id,
)

__all__ = ["MAX_BODY_BYTES", "READER_KEY_BYTES", "KeyRequest", "SealedKeys", "format_request", "parse_request"]

MAX_BODY_BYTES: Final = 64 * 1024
READER_KEY_BYTES: Final = 1184 + 32
"""An ML-KEM-768 encapsulation key (FIPS 203) followed by an X25519 public key."""
_FORMAT: Final = "safehold-key-request-v1"
_MAX_GROUPS: Final = 256
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


_decoder: Final = msgspec.json.Decoder(_Body)
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


def format_request(request: KeyRequest) -> bytes:
    """The body to sign and send."""
    return canonical_bytes(
        _Body(
            format=_FORMAT,
            request=request.request,
            release=request.release,
            groups=request.groups,
            purpose=request.purpose,
            member=request.member,
            host=request.host,
            key=request.host_key,
            grant=request.grant,
            reader=base64.b64encode(request.reader).decode(),
        )
    )


def parse_request(body: bytes) -> KeyRequest:
    """Parse and bound a body, or raise ``InputInvalid`` (``broker.request_*`` or the id's own code)."""
    if len(body) > MAX_BODY_BYTES:
        raise InputInvalid("broker.request_size", f"a request has at most {MAX_BODY_BYTES:,} bytes")
    try:
        fields = _decoder.decode(body)
        # One form a body: a type of texts alone has one canonical form, which is what the typed encoder writes.
        canonical = _encoder.encode(fields) == body
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputInvalid("broker.request_form", "this is not a request for keys in canonical form") from error
    if not canonical:
        raise InputInvalid("broker.request_form", "this is not a request for keys in canonical form")
    if fields.format != _FORMAT:
        raise InputInvalid(
            "broker.request_form", "this request is of a format that is not known here", f"send {_FORMAT}"
        )
    if not _KEY_ID.fullmatch(fields.key):
        raise InputInvalid("broker.request_form", "the request names no key", "name it as `ssh-keygen -l` prints it")
    if not 1 <= len(fields.groups) <= _MAX_GROUPS or len(set(fields.groups)) != len(fields.groups):
        raise InputInvalid("broker.request_groups", f"a request names 1 to {_MAX_GROUPS} different column groups")
    try:
        reader = base64.b64decode(fields.reader, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputInvalid("broker.request_reader", "the reader's key is not base64") from error
    if len(reader) != READER_KEY_BYTES or base64.b64encode(reader).decode() != fields.reader:
        raise InputInvalid("broker.request_reader", f"the reader's key must have {READER_KEY_BYTES} bytes in base64")
    return KeyRequest(
        request=parse_request_id(fields.request),
        release=parse_digest(fields.release),
        groups=tuple(parse_group_name(group) for group in fields.groups),
        purpose=parse_purpose(fields.purpose),
        member=None if fields.member is None else parse_member_id(fields.member),
        host=parse_host_id(fields.host),
        host_key=KeyId(fields.key),
        grant=fields.grant,
        reader=reader,
    )
