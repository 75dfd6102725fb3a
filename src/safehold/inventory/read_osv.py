"""OSV records (https://ossf.github.io/osv-schema/), those of malicious packages (``MAL-``) among them.

Of a record only the *root* ``affected`` names packages: the revision history under ``database_specific`` speaks of
other versions. The domains and addresses of ``database_specific.iocs`` are taken: they name no version.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from safehold.inventory.documents import (
    EVENT_KINDS,
    AdvisoryDocument,
    Event,
    EventKind,
    PackageClaim,
    VersionRange,
    advisory_aliases,
    advisory_time,
    bounded,
    ecosystem_of,
    package_name,
    package_notes,
)
from safehold.model.encoding import resolved
from safehold.model.ids import parse_advisory_id, sha256_digest

__all__ = ["read_osv"]


class _Package(msgspec.Struct):
    ecosystem: str
    name: str


class _Range(msgspec.Struct):
    type: str
    events: list[dict[str, str]] = []


class _Affected(msgspec.Struct):
    package: _Package | None = None
    ranges: list[_Range] | None = None
    versions: list[str] | None = None


class _Osv(msgspec.Struct):
    id: str
    modified: str | None = None
    published: str | None = None
    withdrawn: str | None = None
    aliases: list[str] | None = None
    summary: str | None = None
    details: str | None = None
    affected: list[_Affected] | None = None
    database_specific: Any = None


def read_osv(plain: dict[str, Any], body: bytes, stem: str) -> AdvisoryDocument:
    """The document in an OSV record. Raises ``InputInvalid`` and ``msgspec.ValidationError``."""
    osv, notes = msgspec.convert(plain, resolved(_Osv)), list[str]()
    claims = [claim for affected in osv.affected or [] if (claim := _claim(affected, notes)) is not None]
    if not claims:
        notes.append("it names no package")
    domains, addresses = _iocs(osv.database_specific, notes)
    return AdvisoryDocument(
        advisory=parse_advisory_id(osv.id),
        format="osv",
        aliases=advisory_aliases(osv.aliases or [], notes),
        summary=bounded(osv.summary),
        details=osv.details or "",
        published=advisory_time(osv.published, "published"),
        modified=advisory_time(osv.modified, "modified"),
        withdrawn=advisory_time(osv.withdrawn, "withdrawn"),
        digest=sha256_digest(body),
        body=body,
        claims=tuple(claims),
        windows=(),
        domains=domains,
        addresses=addresses,
        notes=tuple(notes),
    )


def _claim(affected: _Affected, notes: list[str]) -> PackageClaim | None:
    if affected.package is None:
        notes.append("an entry of affected names no package: kept, not matched")
        return None
    ecosystem = ecosystem_of(affected.package.ecosystem)
    name = package_name(ecosystem, affected.package.name)
    ranges = []
    for found in affected.ranges or []:
        pairs = [pair for event in found.events for pair in event.items()]
        if not {kind for kind, _ in pairs} <= EVENT_KINDS:
            notes.append(f"{name}: a range has an event of an unknown kind: kept, not matched")
            continue
        ranges.append(VersionRange(found.type, tuple(Event(cast("EventKind", kind), text) for kind, text in pairs)))
    claim = PackageClaim(ecosystem, name, tuple(affected.versions or ()), tuple(ranges))
    notes += package_notes(claim)
    return claim


def _iocs(specific: Any, notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Domains (those of URLs too, as they are written) and addresses that a record of malice lists."""
    iocs = specific.get("iocs") if isinstance(specific, dict) else None
    if not isinstance(iocs, dict):
        return (), ()
    lists = {name: iocs.get(name) for name in ("domains", "urls", "ips")}
    texts = {
        name: tuple(one for one in found if isinstance(one, str) and 0 < len(one) <= 500)
        for name, found in lists.items()
        if isinstance(found, list)
    }
    if texts:
        notes.append("iocs: domains and addresses are kept, not matched with inventories")
    return tuple(dict.fromkeys(texts.get("domains", ()) + texts.get("urls", ()))), texts.get("ips", ())
