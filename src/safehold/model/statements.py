"""The closed set of statements: every fact that Safehold can record, and nothing else.

A statement is a frozen struct with a ``kind`` (its tag), a version ``v``, the time ``t`` at which the writer
claims it (microseconds since 1970, UTC) and ``by``, the fingerprint of the key that stands behind it. Its
place in the ledger, not ``t``, is its order.

**Growing.** A new meaning is a new kind or a new ``v``; a decoder for an old one is never removed. ``decode``
keeps what it does not know as ``Unknown`` with its bytes untouched: it is skipped by the fold and still proven
by the tree, so an older Safehold can read, verify and export a newer ledger and loses nothing.

**Personal data** is never here: members appear as keyed digests.

Kinds of one topic stand in ``statements_TOPIC``, gathered here; their folds and tables do the same in ``state``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from safehold.model.encoding import (
    MAX_ENTRY_BYTES,
    canonical_bytes,
    decode_canonical,
    resolved,
    typed_bytes,
    typed_lines,
)
from safehold.model.errors import InputInvalid
from safehold.model.ids import (
    DatasetId,
    DecisionId,
    Digest,
    GrantId,
    GroupName,
    HoldId,
    HostId,
    MemberId,
    ModelId,
    PartyId,
    Purpose,
    RequestId,
    RunId,
    Subject,
)
from safehold.model.statement import Statement
from safehold.model.statements_access import AccessStatement
from safehold.model.statements_inventory import (
    AdvisoriesSynced,
    AdvisoryRecorded,
    AffectedClaim,
    FindingRecorded,
    IndicatorsRecorded,
    InventoryConfirmed,
    InventoryRecorded,
    LatentRecorded,
    SourceTrusted,
    WindowClaim,
)
from safehold.model.statements_ledger import LedgerOpened, LedgerRestored, SegmentSealed
from safehold.model.statements_outside import (
    ClockNoted,
    CredentialNoted,
    EvidenceRecorded,
    NoticeSent,
    ReleaseChecked,
)
from safehold.model.statements_releases import ReleaseErased, ReleaseRekeyed, ReleaseRetired
from safehold.model.statements_response import ResponsePlanned, ResponseProven
from safehold.model.statements_serve import RefusalsCounted
from safehold.model.statements_stores import AdoptionRemoved, AdoptionSealed, DatasetAdopted, ReleaseStored

__all__ = [
    "STATEMENT_TYPES",
    "AdoptionRemoved",
    "AdoptionSealed",
    "AdvisoriesSynced",
    "AdvisoryRecorded",
    "AffectedClaim",
    "AnyStatement",
    "ClockNoted",
    "CredentialNoted",
    "DatasetAdopted",
    "DatasetRegistered",
    "DecisionMade",
    "EvidenceRecorded",
    "FindingRecorded",
    "GrantIssued",
    "HoldLifted",
    "HoldPlaced",
    "HostRegistered",
    "IndicatorsRecorded",
    "InventoryConfirmed",
    "InventoryRecorded",
    "KeyRefused",
    "KeyReleased",
    "LatentRecorded",
    "LedgerOpened",
    "LedgerRestored",
    "MemberRegistered",
    "ModelDeclared",
    "NoticeSent",
    "PartyRegistered",
    "RefusalsCounted",
    "ReleaseChecked",
    "ReleaseErased",
    "ReleaseRekeyed",
    "ReleaseRetired",
    "ReleaseSealed",
    "ReleaseStored",
    "ResponsePlanned",
    "ResponseProven",
    "RunDeclared",
    "SegmentSealed",
    "SourceTrusted",
    "Statement",
    "SubjectCount",
    "Unknown",
    "WindowClaim",
    "decode",
    "decode_many",
    "encode",
    "encode_many",
]


class PartyRegistered(Statement, frozen=True, kw_only=True, tag="party.registered"):
    """An organisation with the OpenSSH public key that signs its manifests. ``role``: lab or supplier."""

    party: PartyId
    role: Literal["lab", "supplier"]
    title: str
    key: str


class MemberRegistered(Statement, frozen=True, kw_only=True, tag="member.registered"):
    """A person of a party, by keyed digest."""

    member: MemberId
    party: PartyId


class HostRegistered(Statement, frozen=True, kw_only=True, tag="host.registered"):
    """A machine of a party with its OpenSSH public key. ``expected_every``: seconds between its sweeps."""

    host: HostId
    party: PartyId
    key: str
    expected_every: int


class DatasetRegistered(Statement, frozen=True, kw_only=True, tag="dataset.registered"):
    """A named dataset, made by ``party`` for ``customer`` (the lab that ordered it)."""

    dataset: DatasetId
    party: PartyId
    customer: PartyId
    title: str


class SubjectCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many people of one category and jurisdiction a release speaks of."""

    category: str
    jurisdiction: str
    count: int


class ReleaseSealed(Statement, frozen=True, kw_only=True, tag="release.sealed"):
    """An immutable sealed version of a dataset. ``release`` is the digest of its manifest's payload.

    ``host`` is the machine that had the plaintext while sealing; ``size`` the sum of ciphertext bytes.
    """

    release: Digest
    dataset: DatasetId
    version: int
    party: PartyId
    host: HostId | None
    parent: Digest | None
    rows: int
    size: int
    parts: int
    groups: tuple[GroupName, ...]
    classification: str
    purposes: tuple[Purpose, ...]
    people: tuple[SubjectCount, ...]


class GrantIssued(Statement, frozen=True, kw_only=True, tag="grant.issued"):
    """Who may open which column groups of a dataset, for what, from when until when (µs UTC).

    ``host`` None: any registered host of ``party``. ``revocation`` is the Biscuit revocation id (hex) of the
    authority block, ``token`` the digest of the token as issued; narrowing adds blocks and leaves both true.
    """

    grant: GrantId
    party: PartyId
    host: HostId | None
    dataset: DatasetId
    groups: tuple[GroupName, ...]
    purposes: tuple[Purpose, ...]
    not_before: int
    until: int
    token: Digest
    revocation: str


class KeyReleased(Statement, frozen=True, kw_only=True, tag="key.released"):
    """Keys of ``parts`` × ``groups`` of a release given to one host: the unit of exposure.

    ``inventories`` are the digests that the decision rested on (one an environment). ``until`` (µs UTC) ends the
    lease: up to then the reader may hold the keys in memory. ``reader`` is the digest of its ephemeral key.
    """

    request: RequestId
    release: Digest
    dataset: DatasetId
    groups: tuple[GroupName, ...]
    parts: int
    party: PartyId
    host: HostId
    member: MemberId | None
    grant: GrantId
    purpose: Purpose
    inventories: tuple[Digest, ...]
    reader: Digest
    until: int


class KeyRefused(Statement, frozen=True, kw_only=True, tag="key.refused"):
    """A request for keys denied at ``step`` (1-11, design §6) with a reason for a person.

    Ids are what the request *claimed*, or None where it could not be read; before step 3 nothing of them is proven.
    """

    request: RequestId | None
    release: Digest | None
    host: HostId | None
    grant: GrantId | None
    step: int
    code: str
    reason: str
    hint: str


class DecisionMade(Statement, frozen=True, kw_only=True, tag="decision.made"):
    """A ruling with its reason. ``advisories`` are the documents known at that moment: what one decided on."""

    decision: DecisionId
    ruling: Literal["suspend", "lift"]
    subject: Subject
    reason: str
    member: MemberId | None
    advisories: tuple[Digest, ...]


class HoldPlaced(Statement, frozen=True, kw_only=True, tag="hold.placed"):
    """A stop: from this place on no key is released to or of ``subject``."""

    hold: HoldId
    subject: Subject
    reason: str
    decision: DecisionId


class HoldLifted(Statement, frozen=True, kw_only=True, tag="hold.lifted"):
    """The end of one hold. Other holds on the same subject stay."""

    hold: HoldId
    subject: Subject
    reason: str
    decision: DecisionId


class RunDeclared(Statement, frozen=True, kw_only=True, tag="run.declared"):
    """A training run and the releases that went into it."""

    run: RunId
    party: PartyId
    host: HostId | None
    releases: tuple[Digest, ...]


class ModelDeclared(Statement, frozen=True, kw_only=True, tag="model.declared"):
    """A model and the runs that made it."""

    model: ModelId
    party: PartyId
    runs: tuple[RunId, ...]


AnyStatement = (
    LedgerOpened
    | LedgerRestored
    | PartyRegistered
    | MemberRegistered
    | HostRegistered
    | DatasetRegistered
    | ReleaseSealed
    | GrantIssued
    | InventoryRecorded
    | InventoryConfirmed
    | AdvisoryRecorded
    | FindingRecorded
    | KeyReleased
    | KeyRefused
    | DecisionMade
    | HoldPlaced
    | HoldLifted
    | RunDeclared
    | ModelDeclared
    | SegmentSealed
    | AccessStatement
    | LatentRecorded
    | IndicatorsRecorded
    | SourceTrusted
    | AdvisoriesSynced
    | EvidenceRecorded
    | CredentialNoted
    | ClockNoted
    | NoticeSent
    | ReleaseChecked
    | ReleaseStored
    | DatasetAdopted
    | AdoptionSealed
    | AdoptionRemoved
    | ResponsePlanned
    | ResponseProven
    | RefusalsCounted
    | ReleaseRetired
    | ReleaseErased
    | ReleaseRekeyed
)


class Unknown(msgspec.Struct, frozen=True):
    """A statement of a kind or version that this Safehold does not know: kept, proven, skipped."""

    kind: str
    version: int
    body: bytes


STATEMENT_TYPES: Final[dict[str, type[Statement]]] = {
    str(struct.__struct_config__.tag): struct for struct in AnyStatement.__args__
}


@lru_cache(maxsize=1)
def _decoder() -> msgspec.json.Decoder[Any]:
    # Built once and late: resolving the union costs milliseconds that `--help` must not pay.
    return msgspec.json.Decoder(resolved(AnyStatement))


def encode(statement: Statement) -> bytes:
    """Canonical bytes of a statement.

    Raises ``InputInvalid``: ``model.entry_too_large`` above 65,535 bytes, ``model.statement`` for a field of a wrong
    type. Structs do not check what they are made of, and an entry that cannot be read back would stay for ever: it
    would stop every later rebuild and every audit. So nothing leaves here that ``decode`` would refuse.
    """
    fast = _encode_known(statement)
    body = canonical_bytes(statement) if fast is None else fast
    if len(body) > MAX_ENTRY_BYTES:
        raise InputInvalid(
            "model.entry_too_large",
            f"a {_KIND_OF.get(type(statement), 'statement')} of {len(body):,} bytes exceeds {MAX_ENTRY_BYTES:,}",
            "put the large part into a payload and name its digest",
        )
    if fast is None:
        _decode_known(_KIND_OF.get(type(statement), "statement"), body)
    return body


def encode_many(statements: Sequence[Statement]) -> list[bytes]:
    """``encode`` of each, for many at once. Raises what ``encode`` raises for the first that has no bytes."""
    lines = typed_lines(statements)
    if lines is not None:
        bodies = lines.split(b"\n")
        bodies.pop()  # what follows the last line end
        try:
            # A line end inside a statement is escaped: as many lines as statements, and each reads back as itself.
            if max(map(len, bodies), default=0) <= MAX_ENTRY_BYTES and _decoder().decode_lines(lines) == [*statements]:
                return bodies
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # the long way says what is wrong, and with which
    return [encode(statement) for statement in statements]


def _encode_known(statement: Statement) -> bytes | None:
    """The bytes of a statement that reads back as itself; None where the long way must say what is wrong."""
    try:
        body = typed_bytes(statement)
        return body if body is not None and _decoder().decode(body) == statement else None
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return None


def decode(body: bytes) -> Any:
    """Return the statement in ``body``, or ``Unknown`` for a kind or version from the future.

    Raises ``InputInvalid``: ``model.entry_too_large``, ``model.not_json``, ``model.not_canonical``,
    ``model.no_kind`` (no kind, or no version), or ``model.statement`` (a known kind whose fields do not fit).
    """
    if len(body) > MAX_ENTRY_BYTES:
        raise InputInvalid("model.entry_too_large", f"an entry of {len(body):,} bytes exceeds {MAX_ENTRY_BYTES:,}")
    try:
        known = _decoder().decode(body)
        if typed_bytes(known) == body:
            return known
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # of the future, or wrong: the long way says which
    plain = decode_canonical(body)
    kind = plain.get("kind") if isinstance(plain, dict) else None
    version = plain.get("v") if isinstance(plain, dict) else None
    if not isinstance(kind, str) or not isinstance(version, int) or isinstance(version, bool):
        raise InputInvalid("model.no_kind", "these bytes are no statement: kind or version is missing")
    if kind not in STATEMENT_TYPES or version != 1:
        return Unknown(kind, version, body)
    return _decode_known(kind, body)


def decode_many(bodies: Sequence[bytes]) -> list[Any]:
    """``decode`` of each, for many at once. Raises what ``decode`` raises for the first that does not hold."""
    lines = b"".join([body + b"\n" for body in bodies])
    try:
        known: list[Any] = _decoder().decode_lines(lines)
        # The canonical form of a statement has no line end inside. So if the lines are those of the statements, each body
        # is one line, and it is the canonical form of what was decoded from it.
        short = len(known) == len(bodies) and max(map(len, bodies), default=0) <= MAX_ENTRY_BYTES
        if short and typed_lines(known) == lines:
            return known
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # of the future, or wrong: the long way says which
    return [decode(body) for body in bodies]


def _decode_known(kind: str, body: bytes) -> Any:
    try:
        return _decoder().decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputInvalid("model.statement", f"a {kind} does not have the fields that it must have") from error


_KIND_OF: Final[dict[type[Statement], str]] = {struct: kind for kind, struct in STATEMENT_TYPES.items()}
