"""Requests and answers of the broker as HTTP carries them: headers, JSON, problems. Pure.

The proof travels as RFC 9421 writes it, in ``Signature-Input`` and ``Signature`` under the label ``safehold``, with
``Content-Digest`` (RFC 9530) beside it. The list of components is fixed, so the header has one form and no other is
taken; what is parsed here is *claimed*, and proven in step 3 alone. Errors are RFC 9457 problems with our own code.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from safehold.broker.proof import Proof
from safehold.model.errors import (
    Conflict,
    InputInvalid,
    NotFound,
    Refused,
    SafeholdError,
    StorageFailed,
    VerificationFailed,
)
from safehold.model.ids import KeyId, RequestId

__all__ = [
    "INVENTORY_PATH",
    "PROBLEM_TYPE",
    "HoldsAnswer",
    "HoldsQuestion",
    "InventoryAnswer",
    "InventoryMessage",
    "KeysAnswer",
    "KeysQuestion",
    "LeaseAnswer",
    "LeaseQuestion",
    "LeasedAnswer",
    "LeasedQuestion",
    "Problem",
    "ShownHold",
    "content_digest",
    "error_of",
    "parse_proof",
    "problem_of",
    "proof_headers",
    "status_of",
]

INVENTORY_PATH: Final = "/v1/inventory"
PROBLEM_TYPE: Final = "application/problem+json"
_INPUT: Final = re.compile(
    r'safehold=\("@method" "@path" "content-digest"\);created=([0-9]{1,15});nonce="([a-z0-9-]{1,64})"'
    r';keyid="(SHA256:[A-Za-z0-9+/]{43})";alg="ed25519"'
)
_MEMBER: Final = re.compile(r":([A-Za-z0-9+/]{86}==):")
_SIGNATURE: Final = re.compile(r"safehold=:([A-Za-z0-9+/]{86}==):")
_STATUS: Final[tuple[tuple[type[SafeholdError], int], ...]] = (
    (InputInvalid, 400),
    (VerificationFailed, 401),
    (Refused, 403),
    (NotFound, 404),
    (Conflict, 409),
    (StorageFailed, 503),
)
_STATUS_OF_CODE: Final = {
    "broker.request_size": 413,
    "serve.too_many": 429,
    "serve.too_large": 413,
    "serve.too_slow": 408,
    "serve.no_length": 411,
    "serve.media_type": 415,
    "serve.method": 405,
    "serve.headers": 431,
    "broker.internal": 503,
}


class KeysQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/keys``, in canonical JSON (sorted names, no spaces): the keys of ``groups`` of ``release``.

    ``reader`` is the reader's ephemeral public key: ML-KEM-768 and X25519, 1,216 bytes in base64.
    """

    format: Annotated[str, msgspec.Meta(examples=["safehold-key-request-v1"])]
    request: Annotated[str, msgspec.Meta(pattern="^q-[0-9a-f]{32}$")]
    release: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    groups: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
    purpose: str
    member: str | None
    host: str
    key: Annotated[str, msgspec.Meta(pattern="^SHA256:[A-Za-z0-9+/]{43}$")]
    grant: Annotated[str, msgspec.Meta(max_length=16_384)]
    reader: Annotated[str, msgspec.Meta(min_length=1624, max_length=1624)]


class LeaseQuestion(KeysQuestion, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/leases``: what must be allowed for it to be opened, its length and its budget of keys."""

    seconds: Annotated[int, msgspec.Meta(ge=1)]
    keys: Annotated[int, msgspec.Meta(ge=1)]


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A lease: ``sealed`` (base64) holds its session key for the reader alone; ``keys`` is its budget."""

    request: str
    release: str
    lease: str
    entry: int
    until: int
    keys: int
    sealed: bytes
    receipt: bytes


class LeasedQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/leased-keys``, in canonical JSON; ``counter`` rises with each request by the lease."""

    format: Annotated[str, msgspec.Meta(examples=["safehold-leased-request-v1"])]
    lease: Annotated[str, msgspec.Meta(pattern="^l-[0-9a-f]{16}$")]
    counter: Annotated[int, msgspec.Meta(ge=1)]
    release: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    groups: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]


class LeasedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Keys by a lease: ``sealed`` (base64) opens with its session key alone."""

    lease: str
    counter: int
    release: str
    entry: int
    until: int
    sealed: bytes


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Keys sealed to the reader (base64), the entry of their release and its receipt (base64); ``until`` in µs UTC."""

    request: str
    release: str
    entry: int
    until: int
    sealed: bytes
    receipt: bytes


class InventoryMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of a host's agent: its exact text, and the armoured SSH signature over it (``safehold-inventory``)."""

    host: Annotated[str, msgspec.Meta(max_length=200)]
    message: str
    signature: Annotated[str, msgspec.Meta(max_length=16_384)]


class InventoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The message is entry ``entry``; ``known``: it was there before. ``findings`` names what advisories name in it."""

    entry: int
    inventory: str
    known: bool
    findings: tuple[str, ...]


class HoldsQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/holds``: which host asks, and for what. Signed like a request for keys."""

    host: Annotated[str, msgspec.Meta(max_length=200)]
    release: Annotated[str, msgspec.Meta(max_length=71)] | None = None
    member: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class ShownHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold in force on ``subject`` since entry ``entry`` (``t`` in µs UTC)."""

    hold: str
    subject: str
    reason: str
    entry: int
    t: int


class HoldsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The holds that stop the asking host in this, and the size of the ledger that they were read at."""

    size: int
    holds: tuple[ShownHold, ...]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457: ``type`` names our code, ``hint`` the one thing to do next, ``entry`` the refusal's place or null."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str
    entry: int | None = None
    elsewhere: tuple[str, ...] = ()


def content_digest(body: bytes) -> str:
    """The value of ``Content-Digest`` (RFC 9530) for a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def proof_headers(proof: Proof, body: bytes) -> dict[str, str]:
    """The headers that carry a proof."""
    parameters = f'created={proof.created};nonce="{proof.nonce}";keyid="{proof.key}";alg="ed25519"'
    more = {}
    if proof.member_signature is not None:
        more["Safehold-Member"] = f":{base64.b64encode(proof.member_signature).decode()}:"
    return more | {
        "Content-Digest": content_digest(body),
        "Signature-Input": f'safehold=("@method" "@path" "content-digest");{parameters}',
        "Signature": f"safehold=:{base64.b64encode(proof.signature).decode()}:",
    }


def parse_proof(headers: Mapping[str, str], body: bytes) -> Proof:
    """The proof that headers (names in lower case) claim.

    Raises ``InputInvalid`` (``broker.proof_missing``, ``broker.proof_form``) or ``VerificationFailed``
    (``broker.content_digest``) where the digest is not of this body.
    """
    stated, signature = headers.get("signature-input"), headers.get("signature")
    if stated is None or signature is None:
        raise InputInvalid(
            "broker.proof_missing", "the request carries no proof of its host's key", "sign it: see docs/spec/serve.md"
        )
    claims, value = _INPUT.fullmatch(stated), _SIGNATURE.fullmatch(signature)
    if claims is None or value is None:
        raise InputInvalid(
            "broker.proof_form",
            "the signature's headers are not of the one form that is taken",
            "sign @method, @path and content-digest in this order, with Ed25519",
        )
    if headers.get("content-digest") != content_digest(body):
        raise VerificationFailed(
            "broker.content_digest", "the content digest is not that of this body", "send the body as it was signed"
        )
    created, nonce, key = claims.groups()
    try:
        raw = base64.b64decode(value.group(1), validate=True)
    except binascii.Error as error:
        raise InputInvalid("broker.proof_form", "the signature is not base64") from error
    by_member = _member_signature(headers.get("safehold-member"))
    return Proof(
        created=int(created), nonce=RequestId(nonce), key=KeyId(key), signature=raw, member_signature=by_member
    )


def _member_signature(stated: str | None) -> bytes | None:
    if stated is None:
        return None
    value = _MEMBER.fullmatch(stated)
    if value is None:
        raise InputInvalid("broker.proof_form", "the member's signature is not of its form", "sign as the host does")
    return base64.b64decode(value.group(1))


def status_of(error: SafeholdError) -> int:
    """The HTTP status that says whose turn it is."""
    known = _STATUS_OF_CODE.get(error.code)
    if known is not None:
        return known
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: SafeholdError) -> Problem:
    """An error as a problem; nothing of it but code, message, hint and entry leaves."""
    return Problem(
        type=f"urn:safehold:error:{error.code}",
        title=_title(error),
        status=status_of(error),
        code=error.code,
        detail=error.message,
        hint=error.hint,
        entry=getattr(error, "entry", None),
    )


def error_of(problem: Problem) -> SafeholdError:
    """The error that a problem tells of, as it was raised on the other side."""
    if problem.status == 403 or problem.entry is not None:
        return Refused(problem.code, problem.detail, problem.hint, entry=problem.entry)
    kinds = {400: InputInvalid, 401: VerificationFailed, 404: NotFound, 409: Conflict, 413: InputInvalid}
    kind = kinds.get(problem.status, StorageFailed if problem.status >= 500 else Refused)
    return kind(problem.code, problem.detail, problem.hint)


def _title(error: SafeholdError) -> str:
    return {400: "bad request", 401: "not proven", 403: "refused", 404: "not found", 409: "in conflict"}.get(
        status_of(error), "not served"
    )
