"""GitHub's own form of an advisory, as its API gives it (``GET /advisories``): ``ghsa_id`` and ``vulnerabilities``.

Its ranges are comparisons in words of GitHub (``>= 1.2, < 1.4``): https://docs.github.com/rest/security-advisories.
"""

from __future__ import annotations

from typing import Any

import msgspec

from safehold.inventory.documents import (
    AdvisoryDocument,
    PackageClaim,
    VersionRange,
    advisory_aliases,
    advisory_time,
    bounded,
    comparisons,
    ecosystem_of,
    package_name,
    package_notes,
)
from safehold.model.encoding import resolved
from safehold.model.ids import parse_advisory_id, sha256_digest

__all__ = ["read_ghsa"]


class _Package(msgspec.Struct):
    ecosystem: str
    name: str | None = None


class _Vulnerability(msgspec.Struct):
    package: _Package | None = None
    vulnerable_version_range: str | None = None


class _Identifier(msgspec.Struct):
    value: str


class _Ghsa(msgspec.Struct):
    ghsa_id: str
    cve_id: str | None = None
    summary: str | None = None
    description: str | None = None
    identifiers: list[_Identifier] | None = None
    published_at: str | None = None
    updated_at: str | None = None
    withdrawn_at: str | None = None
    vulnerabilities: list[_Vulnerability] | None = None


def read_ghsa(plain: dict[str, Any], body: bytes, stem: str) -> AdvisoryDocument:
    """The document in an advisory of GitHub's API. Raises ``InputInvalid`` and ``msgspec.ValidationError``."""
    found, notes = msgspec.convert(plain, resolved(_Ghsa)), list[str]()
    claims = [claim for one in found.vulnerabilities or [] if (claim := _claim(one, notes)) is not None]
    if not claims:
        notes.append("it names no package")
    names = {one.value for one in found.identifiers or []} | ({found.cve_id} if found.cve_id else set())
    return AdvisoryDocument(
        advisory=parse_advisory_id(found.ghsa_id),
        format="ghsa",
        aliases=advisory_aliases(sorted(names - {found.ghsa_id}), notes),
        summary=bounded(found.summary),
        details=found.description or "",
        published=advisory_time(found.published_at, "published_at"),
        modified=advisory_time(found.updated_at, "updated_at"),
        withdrawn=advisory_time(found.withdrawn_at, "withdrawn_at"),
        digest=sha256_digest(body),
        body=body,
        claims=tuple(claims),
        windows=(),
        domains=(),
        addresses=(),
        notes=tuple(notes),
    )


def _claim(one: _Vulnerability, notes: list[str]) -> PackageClaim | None:
    if one.package is None or not one.package.name:
        notes.append("a vulnerability names no package: kept, not matched")
        return None
    ecosystem = ecosystem_of(one.package.ecosystem)
    read = comparisons(one.vulnerable_version_range, ",", notes) if one.vulnerable_version_range else None
    versions, events = read or ((), ())
    ranges = (VersionRange("ECOSYSTEM", events),) if events else ()
    claim = PackageClaim(ecosystem, package_name(ecosystem, one.package.name), versions, ranges)
    notes += package_notes(claim)
    return claim
