"""Which items of an inventory an advisory names. Pure: values in, findings out, the same for the same values.

A match is by **version** (name and version of a distribution), by **hash** (of any file that was hashed) or by
**path** (the weakest). The order of caution is the same everywhere: a doubt makes a finding, never a silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from safehold.inventory.documents import (
    AdvisoryDocument,
    Event,
    FileClaim,
    PackageClaim,
    PathClaim,
    VersionRange,
)
from safehold.inventory.versions import Order, order_of
from safehold.model.contents import Item
from safehold.model.ids import AdvisoryId, Digest

__all__ = ["LATENT", "Finding", "Latent", "MatchKind", "claims_version", "match_inventory", "match_latent"]

MatchKind = Literal["version", "hash", "path"]

LATENT: Final = frozenset({"cached", "locked"})
"""Items that lie near a host and are not installed there."""
_WITHOUT_HASH: Final = frozenset({"credential", "environment", "looked"})
"""Items whose digest is not that of a file."""
_WITH_PATH: Final = frozenset({"hook", "unowned", "altered", "missing", "skipped", "trace"})
_FOLDER: Final = re.compile(r"([^-]*)-(.*?)(?:\.dist-info|(?:-py[0-9][^-]*)?\.egg-info)", re.DOTALL)
# At one version: a fix before a new introduction (so that the doubt is "affected"), an introduction before the end
# of the very same version (so that a range of one version holds that version).
_ORDER: Final = {"fixed": 0, "introduced": 1, "last_affected": 2}


class Finding(msgspec.Struct, frozen=True, order=True):
    """One item that one version of an advisory names; the fields of the statement ``finding.recorded``."""

    advisory: AdvisoryId
    document: Digest
    match: MatchKind
    name: str
    version: str
    path: str


class Latent(msgspec.Struct, frozen=True, order=True):
    """One thing near a host that one version of an advisory names; the fields of the statement ``latent.recorded``."""

    advisory: AdvisoryId
    document: Digest
    item: Literal["cached", "locked"]
    match: Literal["version", "hash"]
    name: str
    version: str
    path: str


def match_inventory(items: Iterable[Item], documents: Iterable[AdvisoryDocument]) -> tuple[Finding, ...]:
    """Every finding, sorted, each once. Withdrawn documents match nothing.

    A hash matches whatever hashed item has it. A path matches an item that could not be hashed, or that is a
    start-up hook, unowned or altered; a file that its distribution vouches for and whose hash differs is not meant:
    clean versions have the same paths.
    """
    index = _Index(document for document in documents if document.withdrawn is None)
    found: set[Finding] = set()
    for item in items:
        if item.kind in LATENT:
            continue
        if item.kind in {"distribution", "package"}:
            for name, version in _names(item):
                for document, claim in index.packages.get((item.family, name), ()):
                    if claims_version(claim, version):
                        found.add(Finding(document.advisory, document.digest, "version", name, version, item.path))
        if item.sha256 and item.kind not in _WITHOUT_HASH:
            found.update(_finding(document, "hash", item) for document in index.hashes.get(item.sha256, ()))
        if item.kind in _WITH_PATH or (item.kind == "file" and not item.sha256):
            found.update(_finding(document, "path", item) for document in index.paths.get(item.path, ()))
    # A file known by its hash needs no weaker word about the same path.
    strong = {(one.document, one.path) for one in found if one.match == "hash"}
    return tuple(sorted(one for one in found if one.match != "path" or (one.document, one.path) not in strong))


def match_latent(items: Iterable[Item], documents: Iterable[AdvisoryDocument]) -> tuple[Latent, ...]:
    """What caches could serve and lockfiles ask for, of what the documents name; sorted, each once.

    A lockfile's hash is the file that it would accept: one that an advisory names is a match as good as the version.
    """
    index = _Index(document for document in documents if document.withdrawn is None)
    found: set[Latent] = set()
    for item in items:
        kind: Any = item.kind
        if kind not in LATENT:
            continue
        named: tuple[Any, ...] = (item.name, item.version, item.path)
        for document, claim in index.packages.get((item.family, item.name), ()):
            if claims_version(claim, item.version):
                found.add(Latent(document.advisory, document.digest, kind, "version", *named))
        for document in index.hashes.get(item.sha256, ()) if item.sha256 else ():
            found.add(Latent(document.advisory, document.digest, kind, "hash", *named))
    return tuple(sorted(found))


def claims_version(claim: PackageClaim, version: str) -> bool:
    """Whether the claim means this version of its package.

    A listed version counts as equal text or as an equal version by its ecosystem's order (PyPI: PEP 440; npm: semantic
    versions); a range as OSV evaluates it. A local version (``1.2+cpu``) is also taken as its public one: a rebuild of a
    bad release is in doubt, so it is named. A version that is none of its ecosystem can match a listed text alone, and
    so can every version of an ecosystem whose order is not known here.
    """
    if version in claim.versions:
        return True
    order = order_of(claim.ecosystem)
    parsed = order(version) if order else None
    if order is None or parsed is None:
        return False
    candidates = {parsed, Version(parsed.public)} if isinstance(parsed, Version) else {parsed}
    if any(order(listed) in candidates for listed in claim.versions):
        return True
    kinds = {"ECOSYSTEM"} if claim.ecosystem == "PyPI" else {"ECOSYSTEM", "SEMVER"}
    ranges = [one for one in claim.ranges if one.type in kinds]
    return any(_in_range(one, candidate, order) for one in ranges for candidate in candidates)


def _in_range(found: VersionRange, version: Any, order: Order) -> bool:
    """OSV's evaluation of one range; events need not be sorted. A range with an unreadable bound matches nothing."""
    bounds: list[tuple[Any, int, Event]] = []
    limits: list[Event] = []
    for event in found.events:
        if event.kind == "limit":
            limits.append(event)
            continue
        bound = None if (event.kind, event.version) == ("introduced", "0") else order(event.version)
        if bound is None and event.version != "0":
            return False
        bounds.append((bound, _ORDER[event.kind], event))
    if limits and not any(_below(version, limit.version, order) for limit in limits):
        return False
    affected = False
    for bound, _, event in sorted(bounds, key=lambda one: (one[0] is not None, one[0] or version, one[1])):
        if event.kind == "introduced" and (bound is None or version >= bound):
            affected = True
        elif bound is not None and event.kind != "introduced":
            affected = affected and (version < bound or (version == bound and event.kind == "last_affected"))
    return affected


def _below(version: Any, limit: str, order: Order) -> bool:
    bound = order(limit)
    return limit == "*" or (bound is not None and version < bound)


class _Index:
    """The claims of all documents by what they look for."""

    def __init__(self, documents: Iterable[AdvisoryDocument]) -> None:
        self.packages: dict[tuple[str, str], list[tuple[AdvisoryDocument, PackageClaim]]] = {}
        self.hashes: dict[str, list[AdvisoryDocument]] = {}
        self.paths: dict[str, list[AdvisoryDocument]] = {}
        for document in documents:
            for claim in document.claims:
                self._add(document, claim)

    def _add(self, document: AdvisoryDocument, claim: PackageClaim | FileClaim | PathClaim) -> None:
        if isinstance(claim, PackageClaim):
            # By ecosystem: packages of two of them may share a name.
            family = "" if claim.ecosystem == "PyPI" else claim.ecosystem
            self.packages.setdefault((family, claim.name), []).append((document, claim))
        elif isinstance(claim, FileClaim):
            self.hashes.setdefault(claim.sha256, []).append(document)
            if claim.path:
                self.paths.setdefault(claim.path, []).append(document)
        else:
            self.paths.setdefault(claim.path, []).append(document)


def _names(item: Item) -> set[tuple[str, str]]:
    """What a distribution goes by: its METADATA and its folder can disagree, and either can be the lie."""
    folder = _FOLDER.fullmatch(item.path) if item.kind == "distribution" else None
    named = {(item.name, item.version)}
    return named | {(canonicalize_name(folder[1]), folder[2])} if folder else named


def _finding(document: AdvisoryDocument, match: MatchKind, item: Item) -> Finding:
    name = "" if item.kind == "skipped" else item.name  # an item that was skipped has its reason there
    return Finding(document.advisory, document.digest, match, name, item.version, item.path)
