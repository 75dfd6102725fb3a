"""Facts from outside of the guarded data, as frozen values: evidence, credentials, clocks, notices, checks, hooks."""

from __future__ import annotations

import msgspec

from safehold.model.evidence import EvidenceTopic
from safehold.model.statements_outside import CredentialAct, CredentialRank

__all__ = [
    "Adopted",
    "Check",
    "Clock",
    "CredentialNote",
    "EvidenceLine",
    "EvidenceSource",
    "Hook",
    "Indicators",
    "Notice",
    "Promise",
]


class Adopted(msgspec.Struct, frozen=True):
    """Unsealed files of a dataset at ``location`` on ``host``; ``removed_t``: when the originals were removed, or None."""

    idx: int
    dataset: str
    location: str
    host: str | None
    files: int
    removed_t: int | None


class Promise(msgspec.Struct, frozen=True, order=True):
    """From ``t`` on a host promised a sweep every ``every`` seconds."""

    t: int
    every: int


class EvidenceSource(msgspec.Struct, frozen=True, kw_only=True):
    """One file of outside evidence. ``covers_from`` … ``covers_until``: for when it is said to be complete, of ``subjects``."""

    idx: int
    topic: EvidenceTopic
    source: str
    count: int = 0
    unread: int = 0
    covers_from: int | None = None
    covers_until: int | None = None
    subjects: tuple[str, ...] = ()


class EvidenceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One row of outside evidence; ``idx`` is the entry of its file."""

    idx: int
    topic: EvidenceTopic
    t: int
    host: str | None = None
    actor: str = ""
    act: str = ""
    object: str = ""
    detail: str = ""
    things: tuple[str, ...] = ()


class CredentialNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the life of a credential at ``at``."""

    idx: int
    credential: str
    act: CredentialAct
    at: int
    rank: CredentialRank = "other"
    host: str | None = None
    subject_kind: str | None = None
    subject_id: str | None = None
    action: str = ""
    proof: str | None = None
    words: str = ""


class Clock(msgspec.Struct, frozen=True):
    """When the first alert was, or when somebody became aware."""

    idx: int
    clock: str
    advisory: str
    at: int
    words: str


class Notice(msgspec.Struct, frozen=True):
    """A notice that was sent, by the digest of its text."""

    idx: int
    advisory: str
    to: str
    duty: str
    document: str
    at: int


class Check(msgspec.Struct, frozen=True):
    """The files of a release were held against its manifest."""

    idx: int
    release: str
    outcome: str
    parts: int
    at: int
    words: str


class Hook(msgspec.Struct, frozen=True):
    """A start-up hook in an inventory."""

    inventory: str
    path: str
    owner: str
    sha256: str


class Indicators(msgspec.Struct, frozen=True):
    """Places that the newest versions of the incident's documents name: domains, addresses, beginnings of pods' names."""

    places: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    entries: tuple[int, ...] = ()
