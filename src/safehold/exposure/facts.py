"""What one exposure is judged on: the rows of the ledger that matter, as frozen values.

A ``Case`` is everything that the judgement may look at. It is made by ``exposure.case`` from one consistent view,
or by hand in a test; all that follows from it is pure. Times are µs UTC. ``idx`` is a place in the ledger, and so
the evidence that a reader can look up.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from safehold.exposure.facts_outside import (
    Adopted,
    Check,
    Clock,
    CredentialNote,
    EvidenceLine,
    EvidenceSource,
    Hook,
    Indicators,
    Notice,
    Promise,
)
from safehold.model.statements import AffectedClaim, SubjectCount, WindowClaim

__all__ = [
    "WEAK_MATCHES",
    "AdvisoryVersion",
    "Case",
    "Contents",
    "Dataset",
    "Decision",
    "Dependency",
    "Finding",
    "Grant",
    "Hold",
    "Host",
    "KeyRelease",
    "Model",
    "Observation",
    "Opening",
    "Refusal",
    "Release",
    "Retirement",
    "Run",
    "Skipped",
    "Span",
    "Touch",
    "Window",
]

WEAK_MATCHES: Final = frozenset({"path"})
"""Matches that alone are only a remark: anyone may have a file at such a path."""


class Span(msgspec.Struct, frozen=True, order=True):
    """Time from ``start`` to ``end``, both ends included (µs UTC)."""

    start: int
    end: int


class Window(msgspec.Struct, frozen=True):
    """A claim of when the thing could be had. ``current``: made by the newest version of an advisory that stands."""

    source: str
    start: int
    end: int
    advisory: str
    idx: int
    current: bool


class AdvisoryVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one advisory as it was recorded."""

    idx: int
    advisory: str
    document: str
    source: str = ""
    aliases: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    affected: tuple[AffectedClaim, ...] = ()
    windows: tuple[WindowClaim, ...] = ()
    summary: str = ""
    first_seen: int = 0
    published: int | None = None
    modified: int | None = None
    withdrawn: bool = False


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An item of an inventory that one version of an advisory names."""

    idx: int
    advisory: str
    document: str
    inventory: str
    match: str = "version"
    name: str = ""
    version: str = ""
    path: str = ""

    @property
    def what(self) -> str:
        """The item in words: ``litellm 1.82.8`` or its path."""
        return f"{self.name} {self.version}" if self.version else self.path or self.name


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host: ``expected_every`` seconds between its sweeps, registered at ``t`` (``idx`` None: never registered).

    ``promises``: every registration of it with what it promised, where there was more than one.
    """

    host: str
    party: str
    expected_every: int
    idx: int | None
    t: int
    promises: tuple[Promise, ...] = ()


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One environment of a host held ``inventory`` from ``since`` to ``until``, seen every ``largest_gap`` µs or oftener.

    ``readable`` False: the contents are not here, so nothing can be said about what they did not hold. ``received``:
    when the report reached the ledger (None: not known); it cannot have seen anything later.
    """

    idx: int
    host: str
    environment: str
    inventory: str
    since: int
    until: int
    largest_gap: int = 0
    readable: bool = True
    received: int | None = None


class Retirement(msgspec.Struct, frozen=True):
    """The operator's word at ``t`` that a host has an environment no more."""

    host: str
    environment: str
    idx: int
    t: int


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed release. ``idx`` None: keys of it were released, but its seal is not in this ledger.

    ``before``: the release whose records it holds under new keys, as entry ``rekeyed`` says.
    """

    release: str
    dataset: str
    version: int
    party: str
    host: str | None
    parent: str | None = None
    rows: int = 0
    size: int = 0
    parts: int = 0
    groups: tuple[str, ...] = ()
    classification: str = ""
    purposes: tuple[str, ...] = ()
    people: tuple[SubjectCount, ...] = ()
    before: str | None = None
    rekeyed: int | None = None
    idx: int | None
    t: int

    @property
    def name(self) -> str:
        """``PARTY/DATASET@VERSION``, or the digest where the seal is not known."""
        return f"{self.dataset}@{self.version}" if self.idx is not None else f"{self.dataset}@? {self.release[:15]}…"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Who may open a dataset; ``host`` None: every host of ``party``. ``revoked``: the entry that ended it at ``until``."""

    grant: str
    party: str
    host: str | None
    dataset: str
    groups: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    not_before: int
    until: int
    idx: int
    t: int
    revoked: int | None = None


class KeyRelease(msgspec.Struct, frozen=True, kw_only=True):
    """Keys given to a host at ``t``, to be used until ``until``."""

    idx: int
    t: int
    release: str
    dataset: str
    groups: tuple[str, ...] = ()
    parts: int = 0
    party: str
    host: str
    member: str | None = None
    grant: str
    purpose: str = ""
    until: int


class Opening(msgspec.Struct, frozen=True):
    """A key release by its place, its time and the end of its lease."""

    idx: int
    t: int
    until: int


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """The key releases of one release to one host that met its times, summed.

    ``held``: they met times in which the host held the thing; else times in which it may have. ``kind``: ``opened`` in
    them, or a ``lease`` that ran into them. ``told`` are the first of them in order of time, ``last`` is the last.
    """

    host: str
    release: str
    held: bool
    kind: Literal["opened", "lease"]
    count: int
    told: tuple[Opening, ...]
    last: Opening


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A request for keys that was denied, with what it claimed."""

    idx: int
    t: int
    host: str | None
    release: str | None
    grant: str | None
    step: int
    code: str
    reason: str


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A stop from ``placed_t`` to ``lifted_t`` (None: in force)."""

    hold: str
    subject_kind: str
    subject_id: str
    reason: str = ""
    placed_idx: int
    placed_t: int
    lifted_idx: int | None = None
    lifted_t: int | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A ruling; ``advisories`` are the documents that were known when it was made."""

    decision: str
    ruling: str
    subject_kind: str
    subject_id: str
    reason: str
    advisories: tuple[str, ...]
    idx: int
    t: int


class Dataset(msgspec.Struct, frozen=True):
    """A named dataset, its maker and its customer."""

    dataset: str
    party: str
    customer: str
    title: str


class Run(msgspec.Struct, frozen=True):
    """A training run and the releases that went into it."""

    run: str
    party: str
    host: str | None
    releases: tuple[str, ...]
    idx: int
    t: int


class Model(msgspec.Struct, frozen=True):
    """A model and the runs that made it."""

    model: str
    party: str
    runs: tuple[str, ...]
    idx: int
    t: int


class Dependency(msgspec.Struct, frozen=True):
    """A distribution of an inventory and what it asks for. ``requested``: a person or a file asked for it by name."""

    name: str
    version: str
    installer: str
    requested: bool
    requires: tuple[str, ...]


class Contents(msgspec.Struct, frozen=True):
    """The distributions of one inventory; None where the payload is missing or cannot be read."""

    inventory: str
    distributions: tuple[Dependency, ...] | None


class Skipped(msgspec.Struct, frozen=True):
    """A check that the agent could not make in one inventory."""

    inventory: str
    what: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one incident is judged on.

    ``now`` is the time of the question; ``size`` and ``root`` (base64) are the checkpoint that the answer stands
    on. ``incident`` are the advisory ids of one connected group. ``window`` is the span in force and
    ``window_source`` says whose it is; None: no source claims a window.

    ``touches`` None: ``key_releases`` are all that there are. Else there are too many: ``touches`` has the sums of those
    that met the times in question, ``key_releases`` only some of them, ``first_opened`` when the first one left to a host, and
    ``opened_pairs`` which releases each host in question ever opened.
    """

    now: int
    size: int = 0
    root: str = ""
    asked: str | None = None
    incident: tuple[str, ...] = ()
    advisories: tuple[AdvisoryVersion, ...] = ()
    windows: tuple[Window, ...] = ()
    window: Span | None = None
    window_source: str = ""
    findings: tuple[Finding, ...] = ()
    hosts: tuple[Host, ...] = ()
    observations: tuple[Observation, ...] = ()
    releases: tuple[Release, ...] = ()
    grants: tuple[Grant, ...] = ()
    key_releases: tuple[KeyRelease, ...] = ()
    touches: tuple[Touch, ...] | None = None
    first_opened: tuple[tuple[str, int], ...] = ()
    opened_pairs: tuple[tuple[str, str], ...] = ()
    retirements: tuple[Retirement, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    holds: tuple[Hold, ...] = ()
    decisions: tuple[Decision, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    runs: tuple[Run, ...] = ()
    models: tuple[Model, ...] = ()
    contents: tuple[Contents, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    indicators: Indicators = Indicators()
    evidence: tuple[EvidenceSource, ...] = ()
    evidence_lines: tuple[EvidenceLine, ...] = ()
    credential_notes: tuple[CredentialNote, ...] = ()
    clocks: tuple[Clock, ...] = ()
    notices: tuple[Notice, ...] = ()
    checks: tuple[Check, ...] = ()
    hooks: tuple[Hook, ...] = ()
    adopted: tuple[Adopted, ...] = ()
