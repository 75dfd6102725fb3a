"""Identifiers, parsed once: past these functions an id is known to be well formed.

Each id is a ``str`` subtype for the type checker (``NewType``), so that a host can never be passed for a
dataset. The forms are narrow on purpose: they go into Biscuit facts, AAD prefixes, file names and terminal
lines, and none of those needs an escape for them.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, NewType, get_args

import msgspec

from safehold.model.errors import InputInvalid

__all__ = [
    "SUBJECT_KINDS",
    "AdvisoryId",
    "DatasetId",
    "DecisionId",
    "Digest",
    "GrantId",
    "GroupName",
    "HoldId",
    "HostId",
    "KeyId",
    "LeaseId",
    "MemberId",
    "ModelId",
    "PartyId",
    "Purpose",
    "ReleaseName",
    "RequestId",
    "ResponseId",
    "RunId",
    "Subject",
    "SubjectKind",
    "parse_advisory_id",
    "parse_dataset_id",
    "parse_digest",
    "parse_grant_id",
    "parse_group_name",
    "parse_hold_id",
    "parse_host_id",
    "parse_lease_id",
    "parse_member_id",
    "parse_model_id",
    "parse_party_id",
    "parse_purpose",
    "parse_release_name",
    "parse_request_id",
    "parse_response_id",
    "parse_run_id",
    "parse_subject",
    "party_of",
    "sha256_digest",
]

PartyId = NewType("PartyId", str)
"""An organisation: ``north-lab``."""
HostId = NewType("HostId", str)
"""A machine of a party: ``quill-works/ci-1``."""
MemberId = NewType("MemberId", str)
"""A person of a party as a keyed digest: ``quill-works/m-0123456789abcdef0123``. Never a name."""
DatasetId = NewType("DatasetId", str)
"""A named dataset of the party that makes it: ``quill-works/word-problems``."""
RunId = NewType("RunId", str)
"""A training run of a party: ``north-lab/run-7``."""
ModelId = NewType("ModelId", str)
"""A model of a party: ``north-lab/tutor-1``."""
Digest = NewType("Digest", str)
"""SHA-256 of bytes: ``sha256:`` and 64 lower-case hex digits. A release's identity is its manifest's digest."""
ReleaseName = NewType("ReleaseName", str)
"""A release as people write it: ``quill-works/word-problems@3``."""
GrantId = NewType("GrantId", str)
HoldId = NewType("HoldId", str)
DecisionId = NewType("DecisionId", str)
RequestId = NewType("RequestId", str)
LeaseId = NewType("LeaseId", str)
ResponseId = NewType("ResponseId", str)
AdvisoryId = NewType("AdvisoryId", str)
GroupName = NewType("GroupName", str)
"""A column group of a dataset: ``question``."""
Purpose = NewType("Purpose", str)
"""What a grant allows its holder to do: ``training``, ``review``."""
KeyId = NewType("KeyId", str)
"""OpenSSH fingerprint of a public key: ``SHA256:`` and 43 characters of base64."""

SubjectKind = Literal["party", "host", "member", "dataset", "release", "grant"]
SUBJECT_KINDS: Final[tuple[str, ...]] = get_args(SubjectKind)

_SLUG: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
_SLUG_RE: Final = re.compile(_SLUG)
_NAME_RE: Final = re.compile(_NAME)
_TWO_PART_RE: Final = re.compile(f"{_SLUG}/{_NAME}")
_MEMBER_RE: Final = re.compile(rf"{_SLUG}/m-[0-9a-f]{{20}}")
_RELEASE_RE: Final = re.compile(rf"{_SLUG}/{_NAME}@[1-9][0-9]{{0,8}}")
_DIGEST_RE: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ADVISORY_RE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,127}")
_LEASE_RE: Final = re.compile(r"l-[0-9a-f]{16}")
_REQUEST_RE: Final = re.compile(r"q-[0-9a-f]{32}")
_NAME_FORM: Final = "lower-case letters, digits and - . _ , at most 64 characters"


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a hold or a decision is about: a kind and an id, written ``party:quill-works``."""

    kind: SubjectKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def _parse(pattern: re.Pattern[str], text: str, code: str, what: str, form: str) -> str:
    if not pattern.fullmatch(text):
        shown = text if len(text) <= 80 else "(not shown: too long)"
        raise InputInvalid(code, f"{shown!r} is not {what}", f"write it as {form}")
    return text


def parse_party_id(text: str) -> PartyId:
    """Return ``text`` as a party id, or raise ``InputInvalid`` (``id.party``)."""
    return PartyId(_parse(_SLUG_RE, text, "id.party", "a party", "lower-case letters, digits and -: north-lab"))


def parse_host_id(text: str) -> HostId:
    """Return ``text`` as a host id, or raise ``InputInvalid`` (``id.host``)."""
    return HostId(_parse(_TWO_PART_RE, text, "id.host", "a host", "PARTY/NAME: quill-works/ci-1"))


def parse_member_id(text: str) -> MemberId:
    """Return ``text`` as a member id, or raise ``InputInvalid`` (``id.member``)."""
    return MemberId(
        _parse(_MEMBER_RE, text, "id.member", "a member", "PARTY/m- and 20 hex digits, as `member add` prints it")
    )


def parse_dataset_id(text: str) -> DatasetId:
    """Return ``text`` as a dataset id, or raise ``InputInvalid`` (``id.dataset``)."""
    return DatasetId(_parse(_TWO_PART_RE, text, "id.dataset", "a dataset", "PARTY/NAME: quill-works/word-problems"))


def parse_run_id(text: str) -> RunId:
    """Return ``text`` as a training-run id, or raise ``InputInvalid`` (``id.run``)."""
    return RunId(_parse(_TWO_PART_RE, text, "id.run", "a training run", "PARTY/NAME: north-lab/run-7"))


def parse_model_id(text: str) -> ModelId:
    """Return ``text`` as a model id, or raise ``InputInvalid`` (``id.model``)."""
    return ModelId(_parse(_TWO_PART_RE, text, "id.model", "a model", "PARTY/NAME: north-lab/tutor-1"))


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a SHA-256 digest, or raise ``InputInvalid`` (``id.digest``)."""
    return Digest(_parse(_DIGEST_RE, text, "id.digest", "a digest", "sha256: and 64 lower-case hex digits"))


def parse_release_name(text: str) -> tuple[DatasetId, int]:
    """Split ``PARTY/DATASET@VERSION`` into dataset and version (≥ 1), or raise ``InputInvalid`` (``id.release``)."""
    _parse(_RELEASE_RE, text, "id.release", "a release", "PARTY/DATASET@VERSION: quill-works/word-problems@1")
    dataset, _, version = text.partition("@")
    return DatasetId(dataset), int(version)


def parse_grant_id(text: str) -> GrantId:
    """Return ``text`` as a grant id, or raise ``InputInvalid`` (``id.grant``)."""
    return GrantId(_parse(re.compile(r"g-[0-9a-f]{16}"), text, "id.grant", "a grant", "g- and 16 hex digits"))


def parse_hold_id(text: str) -> HoldId:
    """Return ``text`` as a hold id, or raise ``InputInvalid`` (``id.hold``)."""
    return HoldId(_parse(re.compile(r"h-[0-9a-f]{16}"), text, "id.hold", "a hold", "h- and 16 hex digits"))


def parse_request_id(text: str) -> RequestId:
    """Return ``text`` as a request id, or raise ``InputInvalid`` (``id.request``)."""
    return RequestId(_parse(_REQUEST_RE, text, "id.request", "a request id", "q- and 32 hex digits"))


def parse_lease_id(text: str) -> LeaseId:
    """Return ``text`` as a lease id, or raise ``InputInvalid`` (``id.lease``)."""
    return LeaseId(_parse(_LEASE_RE, text, "id.lease", "a lease", "l- and 16 hex digits"))


def parse_response_id(text: str) -> ResponseId:
    """Return ``text`` as a response id, or raise ``InputInvalid`` (``id.response``)."""
    return ResponseId(_parse(re.compile(r"r-[0-9a-f]{16}"), text, "id.response", "a response", "r- and 16 hex digits"))


def parse_advisory_id(text: str) -> AdvisoryId:
    """Return ``text`` as an advisory id, or raise ``InputInvalid`` (``id.advisory``)."""
    return AdvisoryId(_parse(_ADVISORY_RE, text, "id.advisory", "an advisory id", "its source writes it: PYSEC-2026-2"))


def parse_group_name(text: str) -> GroupName:
    """Return ``text`` as a column-group name, or raise ``InputInvalid`` (``id.group``)."""
    return GroupName(_parse(_NAME_RE, text, "id.group", "a column group", _NAME_FORM))


def parse_purpose(text: str) -> Purpose:
    """Return ``text`` as a purpose, or raise ``InputInvalid`` (``id.purpose``)."""
    return Purpose(_parse(_SLUG_RE, text, "id.purpose", "a purpose", "lower-case letters, digits and -: training"))


def parse_subject(text: str) -> Subject:
    """Parse ``KIND:ID`` into a subject, its id checked by kind, or raise ``InputInvalid``."""
    kind, separator, name = text.partition(":")
    match kind if separator else "":
        case "party":
            return Subject("party", parse_party_id(name))
        case "host":
            return Subject("host", parse_host_id(name))
        case "member":
            return Subject("member", parse_member_id(name))
        case "dataset":
            return Subject("dataset", parse_dataset_id(name))
        case "release":
            return Subject("release", parse_digest(name))
        case "grant":
            return Subject("grant", parse_grant_id(name))
    raise InputInvalid(
        "id.subject",
        f"{text[:80]!r} does not name what to act on",
        f"write KIND:ID, with KIND one of {', '.join(SUBJECT_KINDS)}: party:quill-works",
    )


def party_of(owned: HostId | MemberId | DatasetId | RunId | ModelId) -> PartyId:
    """The party that a two-part id belongs to: the part before the slash."""
    return PartyId(owned.partition("/")[0])


def sha256_digest(data: bytes) -> Digest:
    """SHA-256 of ``data`` in the form that all of Safehold uses."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())
