"""Statements about what happened outside of Safehold: evidence taken in, credentials, clocks, notices, checks of files.

Each says what somebody found or did; that it stands in the ledger makes it dated, not true.
"""

from __future__ import annotations

from typing import Literal

from safehold.model.evidence import EvidenceTopic
from safehold.model.ids import AdvisoryId, Digest, HostId, Subject
from safehold.model.statement import Statement

__all__ = [
    "ClockNoted",
    "CredentialAct",
    "CredentialNoted",
    "CredentialRank",
    "EvidenceRecorded",
    "NoticeSent",
    "ReleaseChecked",
]

CredentialAct = Literal["issued", "reach", "opens", "used", "revoked", "dead"]
CredentialRank = Literal["publishing", "cloud", "model", "database", "ssh", "staging", "other"]
"""The order in which credentials are to be rotated; ``other`` comes last."""


class EvidenceRecorded(Statement, frozen=True, kw_only=True, tag="evidence.recorded"):
    """Records of another system, taken in as they came: ``rows`` is what was read from ``original``.

    Both are digests of payloads. ``count`` rows were read from ``since`` to ``until`` (µs UTC; None: no rows) and ``unread``
    lines could not be. ``covers_from`` and ``covers_until`` are the time for which the importer says that the source
    is complete, of ``subjects`` (hosts, or beginnings of stored files' names; none: of all); None: not complete.
    """

    topic: EvidenceTopic
    source: str
    format: Literal["cloudtrail", "s3-log", "csv"]
    original: Digest
    rows: Digest
    count: int
    unread: int
    since: int | None
    until: int | None
    covers_from: int | None
    covers_until: int | None
    subjects: tuple[str, ...]


class CredentialNoted(Statement, frozen=True, kw_only=True, tag="credential.noted"):
    """Something in the life of a credential, by its id and never its value, at ``at`` (µs UTC).

    ``issued``; in ``reach`` of ``host`` from then on; ``opens`` the ``subject``; ``used``; ``revoked``; shown to be ``dead``.
    ``action`` names the one act that revoked several at once; ``proof`` is the digest of what shows it.
    """

    credential: str
    act: CredentialAct
    at: int
    rank: CredentialRank
    host: HostId | None
    subject: Subject | None
    action: str
    proof: Digest | None
    words: str


class ClockNoted(Statement, frozen=True, kw_only=True, tag="clock.noted"):
    """When a clock began, at ``at`` (µs UTC): the first ``alert``, or ``awareness`` that data of people is concerned."""

    clock: Literal["alert", "awareness"]
    advisory: AdvisoryId
    at: int
    words: str


class NoticeSent(Statement, frozen=True, kw_only=True, tag="notice.sent"):
    """A notice that was sent at ``at`` (µs UTC) to ``to``, by the digest of its text; ``duty`` says by which rule."""

    advisory: AdvisoryId
    to: str
    duty: str
    document: Digest
    at: int


class ReleaseChecked(Statement, frozen=True, kw_only=True, tag="release.checked"):
    """Somebody held the files of a release against its manifest at ``at`` (µs UTC), and this came of it."""

    release: Digest
    outcome: Literal["intact", "altered"]
    parts: int
    at: int
    words: str
