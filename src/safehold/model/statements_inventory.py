"""Statements about what hosts hold, what advisories say, and where the two meet: installed, or near by."""

from __future__ import annotations

from typing import Literal

import msgspec

from safehold.model.ids import AdvisoryId, Digest, HostId, KeyId
from safehold.model.statement import Statement

__all__ = [
    "AdvisoriesSynced",
    "AdvisoryRecorded",
    "AffectedClaim",
    "FindingRecorded",
    "IndicatorsRecorded",
    "InventoryConfirmed",
    "InventoryRecorded",
    "LatentRecorded",
    "SourceTrusted",
    "WindowClaim",
]


class InventoryRecorded(Statement, frozen=True, kw_only=True, tag="inventory.recorded"):
    """What a host held at ``observed`` (µs UTC, the host's clock): a signed report, kept as payload ``report``.

    ``inventory`` is the digest of the contents alone (without time and host), so that the same contents have
    the same digest wherever they are seen. Counts are for reading; the payload is the fact.
    """

    host: HostId
    environment: str
    inventory: Digest
    report: Digest
    observed: int
    distributions: int
    oddities: int


class InventoryConfirmed(Statement, frozen=True, kw_only=True, tag="inventory.confirmed"):
    """The host swept ``sweeps`` times from ``since`` to ``until`` and each time held ``inventory``.

    ``largest_gap`` is the longest time between two sweeps in µs: what happened inside it was not seen.
    ``report`` is the digest of the signed report.
    """

    host: HostId
    environment: str
    inventory: Digest
    report: Digest
    since: int
    until: int
    sweeps: int
    largest_gap: int


class WindowClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something malicious could be had, from ``start`` to ``end`` (µs UTC), as claimed by ``source``."""

    source: str
    start: int
    end: int


class AffectedClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an advisory names: a package and, in words for people, which versions."""

    ecosystem: str
    name: str
    versions: str


class AdvisoryRecorded(Statement, frozen=True, kw_only=True, tag="advisory.recorded"):
    """One version of one advisory, by digest of the exact document. ``first_seen`` is ours (µs UTC), not theirs.

    ``published`` and ``modified`` are the source's claims (µs UTC) or None. ``aliases`` are the document's own;
    ``joined`` are advisories already known that name the same package and version, found when this one arrived.
    """

    advisory: AdvisoryId
    document: Digest
    format: Literal["osv", "indicators", "ghsa", "csaf", "stix"]
    source: str
    aliases: tuple[AdvisoryId, ...]
    joined: tuple[AdvisoryId, ...]
    affected: tuple[AffectedClaim, ...]
    windows: tuple[WindowClaim, ...]
    summary: str
    first_seen: int
    published: int | None
    modified: int | None
    withdrawn: bool


class FindingRecorded(Statement, frozen=True, kw_only=True, tag="finding.recorded"):
    """An item of an inventory that one version of an advisory names.

    ``match`` says by what: ``version`` (name and version), ``hash`` (file digest) or ``path`` (path alone; the
    weakest). ``name``/``version`` are empty for file matches of unknown origin, ``path`` for version matches.
    """

    advisory: AdvisoryId
    document: Digest
    inventory: Digest
    match: Literal["version", "hash", "path"]
    name: str
    version: str
    path: str


class LatentRecorded(Statement, frozen=True, kw_only=True, tag="latent.recorded"):
    """Something that an advisory names lies in a cache (``cached``) or is asked for by a lockfile (``locked``).

    It is not installed and does not run, so it is no finding: no key is refused for it. It says from where the thing can
    come again, and that a host could have had it. ``match``: by ``version`` or by ``hash``, as in ``finding.recorded``.
    """

    advisory: AdvisoryId
    document: Digest
    inventory: Digest
    item: Literal["cached", "locked"]
    match: Literal["version", "hash"]
    name: str
    version: str
    path: str


class IndicatorsRecorded(Statement, frozen=True, kw_only=True, tag="indicators.recorded"):
    """What one version of an advisory names beside packages: domains and addresses it spoke to, paths it left."""

    advisory: AdvisoryId
    document: Digest
    domains: tuple[str, ...]
    addresses: tuple[str, ...]
    paths: tuple[str, ...]


class SourceTrusted(Statement, frozen=True, kw_only=True, tag="source.trusted"):
    """From here on bundles of advisories of ``source`` are taken if this OpenSSH public key signed them, and no other."""

    source: str
    key: str


class AdvisoriesSynced(Statement, frozen=True, kw_only=True, tag="advisories.synced"):
    """A signed bundle of ``source`` was taken in whole: its digest, its ``number``, when it was ``made`` (µs UTC).

    ``files`` advisories were in it, ``unread`` of them could not be used. The number only grows: an older bundle, or
    another one with the same number, is refused.
    """

    source: str
    bundle: Digest
    number: int
    made: int
    key: KeyId
    files: int
    unread: int
