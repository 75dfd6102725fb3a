"""STIX 2.1 bundles: the patterns of their indicators, as far as they are lists of equalities.

Understood is an observation ``[path = 'value' OR …]`` or ``[… AND …]``, and several joined by OR, over file hashes and
names, domains, addresses, URLs, folders and software. Whatever else a pattern says (NOT, LIKE, FOLLOWEDBY, a second
observation that must also hold) cannot be asked of an inventory: the pattern is noted, not matched. An indicator's
``valid_from`` is when to look for it, not when the thing could be had: no window is made of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from safehold.inventory.documents import (
    AdvisoryDocument,
    Claim,
    FileClaim,
    PackageClaim,
    PathClaim,
    advisory_aliases,
    advisory_time,
    bounded,
    package_name,
)
from safehold.inventory.read_indicators import packages_of
from safehold.model.encoding import resolved
from safehold.model.ids import parse_advisory_id, sha256_digest

__all__ = ["pattern_terms", "read_stix"]

_TERM: Final = re.compile(r"\s*([a-z0-9-]+:[A-Za-z0-9_.'\[\]*-]+?)\s*=\s*'((?:[^'\\]|\\.)*)'\s*")
_JOIN: Final = re.compile(r"(AND|OR)\b")
_MAX_PATTERN: Final = 64 << 10
_SHA256: Final = re.compile("[0-9A-Fa-f]{64}")

_SOFTWARE: Final = frozenset({"software:name", "software:version", "software:vendor"})  # words: STIX calls it so

_Term = tuple[str, str]


class _Reference(msgspec.Struct):
    external_id: str | None = None


class _Object(msgspec.Struct):
    type: str
    id: str = ""
    name: str | None = None
    description: str | None = None
    pattern: str | None = None
    pattern_type: str | None = None
    revoked: bool = False
    created: str | None = None
    modified: str | None = None
    external_references: list[_Reference] = []


class _Bundle(msgspec.Struct):
    objects: list[_Object] = []


class _Found:
    """What the patterns name so far."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.domains: list[str] = []
        self.addresses: list[str] = []
        self.notes: list[str] = []


def read_stix(plain: dict[str, Any], body: bytes, stem: str) -> AdvisoryDocument:
    """The document in a bundle, called after its one report, or else ``stem``: a bundle's own id changes each time.

    Raises ``InputInvalid`` and ``msgspec.ValidationError``.
    """
    bundle, found = msgspec.convert(plain, resolved(_Bundle)), _Found()
    reports = [one for one in bundle.objects if one.type == "report"]
    indicators = [one for one in bundle.objects if one.type == "indicator"]
    for one in indicators:
        _take(one, found)
    if not found.claims:
        found.notes.append("it names no package, no file and no path")
    told = reports[0] if len(reports) == 1 else None
    spoken = [one for one in bundle.objects if one.type in ("report", "vulnerability", "malware", "campaign")]
    names = {ref.external_id for one in spoken for ref in one.external_references if ref.external_id}
    names |= {one.name for one in spoken if one.type == "vulnerability" and one.name}
    times = [advisory_time(one.modified, "modified") or 0 for one in (*reports, *indicators)]
    modified = max(times, default=0) or None
    gone = bool(indicators) and all(one.revoked for one in (*reports, *indicators))
    files = [claim.name for claim in found.claims if isinstance(claim, FileClaim)]
    return AdvisoryDocument(
        advisory=parse_advisory_id(told.id if told and told.id else stem),
        format="stix",
        aliases=advisory_aliases(sorted(names), found.notes),
        summary=bounded(told.name if told else next((one.name for one in indicators if one.name), "")),
        details=(told.description if told else None) or "",
        published=advisory_time(told.created, "created") if told else None,
        modified=modified,
        withdrawn=(modified or 0) if gone else None,
        digest=sha256_digest(body),
        body=body,
        claims=tuple(dict.fromkeys([*packages_of(files), *found.claims])),
        windows=(),
        domains=tuple(dict.fromkeys(found.domains)),
        addresses=tuple(dict.fromkeys(found.addresses)),
        notes=tuple(dict.fromkeys(found.notes)),
    )


def _take(one: _Object, found: _Found) -> None:
    label = (one.name or one.id)[:80]
    if one.revoked:
        found.notes.append(f"indicator {label!r} is revoked: kept, not matched")
        return
    observations = pattern_terms(one.pattern or "") if one.pattern_type in (None, "stix") else None
    if observations is None:
        found.notes.append(f"indicator {label!r} has a pattern that cannot be asked of an inventory: kept, not matched")
        return
    for joined, terms in observations:
        groups = [terms] if joined == "AND" else [[term] for term in terms]
        for group in groups:
            if not _claim(dict(group), len(group), found):
                found.notes.append(f"indicator {label!r}: {group[0][0]} is kept, not matched")


def pattern_terms(pattern: str) -> list[tuple[str, list[_Term]]] | None:
    """The observations of a pattern, each as (AND or OR, its equalities); None where it says more than that."""
    if len(pattern) > _MAX_PATTERN:
        return None
    observations, at = [], 0
    text = pattern.strip()
    while True:
        if text[at : at + 1] != "[":
            return None
        joins, terms, at = set[str](), list[_Term](), at + 1
        while True:
            term = _TERM.match(text, at)
            if term is None:
                return None
            terms.append((term[1].replace("'", ""), re.sub(r"\\(.)", r"\1", term[2], flags=re.DOTALL)))
            at = term.end()
            if text[at : at + 1] == "]":
                break
            join = _JOIN.match(text, at)
            if join is None:
                return None
            joins.add(join[1])
            at = join.end()
        if len(joins) > 1:
            return None
        observations.append((joins.pop() if joins else "OR", terms))
        at += 1
        rest = text[at:].lstrip()
        if not rest:
            return observations
        if not rest.startswith("OR"):
            return None  # AND, FOLLOWEDBY, WITHIN …: more than one thing must hold
        at = len(text) - len(rest[2:].lstrip())


def _claim(terms: dict[str, str], count: int, found: _Found) -> bool:
    """Take what one set of equalities names; False where it is nothing that we look for."""
    if len(terms) != count:
        return False  # the same property twice: it can never hold
    names = set(terms)
    sha256 = terms.get("file:hashes.SHA-256", "")
    if sha256 and names <= {"file:hashes.SHA-256", "file:name", "file:size"}:
        if not _SHA256.fullmatch(sha256):
            return False
        found.claims.append(FileClaim(terms.get("file:name", ""), "", sha256.lower(), ""))
    elif names == {"file:name", "file:parent_directory_ref.path"}:
        found.claims.append(PathClaim(terms["file:parent_directory_ref.path"].rstrip("/") + "/" + terms["file:name"]))
    elif names == {"directory:path"}:
        found.claims.append(PathClaim(terms["directory:path"]))
    elif {"software:name", "software:version"} <= names <= _SOFTWARE:
        name = package_name("PyPI", terms["software:name"])
        found.claims.append(PackageClaim("PyPI", name, (terms["software:version"],), ()))
        found.notes.append(f"software {name[:80]!r} is taken as a Python distribution")
    elif names <= {"domain-name:value"} or names <= {"url:value"}:
        found.domains += terms.values()
    elif names <= {"ipv4-addr:value"} or names <= {"ipv6-addr:value"}:
        found.addresses += terms.values()
    else:
        return False
    return True
