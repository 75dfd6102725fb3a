"""CSAF 2.0 (OASIS): products of the product tree that a vulnerability says are affected, by package URL or file hash.

Read are ``known_affected``, ``first_affected``, ``last_affected`` and, since a doubt is "affected", ``under_investigation``,
which is noted. A product without a package URL or SHA-256 cannot be matched, and is noted. Ranges are those of ``vers:``.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from safehold.inventory.documents import (
    AdvisoryDocument,
    Claim,
    Event,
    FileClaim,
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

__all__ = ["parse_purl", "read_csaf"]

_PURL: Final = re.compile(r"pkg:([A-Za-z][A-Za-z0-9.+-]*)/(?:([^@?#]*)/)?([^@?#/]+)(?:@([^?#]+))?(?:[?#].*)?")
_AFFECTED: Final = ("known_affected", "first_affected", "last_affected", "under_investigation")
_MAX_DEPTH: Final = 64


class _Hash(msgspec.Struct):
    algorithm: str
    value: str


class _FileHashes(msgspec.Struct):
    filename: str = ""
    file_hashes: list[_Hash] = []


class _Identification(msgspec.Struct):
    purl: str | None = None
    hashes: list[_FileHashes] = []


class _Product(msgspec.Struct):
    product_id: str
    name: str = ""
    product_identification_helper: _Identification | None = None


class _Branch(msgspec.Struct):
    category: str = ""
    name: str = ""
    branches: list[_Branch] = []
    product: _Product | None = None


class _Relationship(msgspec.Struct):
    full_product_name: _Product
    product_reference: str


class _Tree(msgspec.Struct):
    branches: list[_Branch] = []
    full_product_names: list[_Product] = []
    relationships: list[_Relationship] = []


class _Name(msgspec.Struct):
    text: str


class _Vulnerability(msgspec.Struct):
    cve: str | None = None
    ids: list[_Name] = []
    product_status: dict[str, list[str]] = {}


class _Tracking(msgspec.Struct):
    id: str
    initial_release_date: str | None = None
    current_release_date: str | None = None
    aliases: list[str] = []


class _Note(msgspec.Struct):
    text: str = ""


class _Document(msgspec.Struct):
    tracking: _Tracking
    title: str = ""
    category: str = ""
    notes: list[_Note] = []


class _Csaf(msgspec.Struct):
    document: _Document
    product_tree: _Tree = msgspec.field(default_factory=_Tree)
    vulnerabilities: list[_Vulnerability] = []


class _Known(msgspec.Struct, frozen=True):
    """A product and the version range of the branch that it hangs on."""

    product: _Product
    range: str


def read_csaf(plain: dict[str, Any], body: bytes, stem: str) -> AdvisoryDocument:
    """The document in a CSAF file. Raises ``InputInvalid`` and ``msgspec.ValidationError``."""
    found, notes = msgspec.convert(plain, resolved(_Csaf)), list[str]()
    tracking, known = found.document.tracking, _products(found.product_tree)
    meant = dict[str, None]()
    for one in found.vulnerabilities:
        for status in _AFFECTED:
            named = one.product_status.get(status, [])
            meant |= dict.fromkeys(named)
            if named and status == "under_investigation":
                notes.append("products under investigation are taken as affected")
    claims = [claim for name in meant for claim in _claims(name, known, notes)]
    if not claims:
        notes.append("it names no package and no file")
    names = [one.cve for one in found.vulnerabilities if one.cve]
    names += [name.text for one in found.vulnerabilities for name in one.ids] + tracking.aliases
    modified = advisory_time(tracking.current_release_date, "current_release_date")
    return AdvisoryDocument(
        advisory=parse_advisory_id(tracking.id.replace("/", "-")),
        format="csaf",
        aliases=advisory_aliases(sorted(set(names) - {tracking.id}), notes),
        summary=bounded(found.document.title),
        details="\n\n".join(one.text for one in found.document.notes),
        published=advisory_time(tracking.initial_release_date, "initial_release_date"),
        modified=modified,
        withdrawn=(modified or 0) if found.document.category == "csaf_withdrawn" else None,
        digest=sha256_digest(body),
        body=body,
        claims=tuple(dict.fromkeys(claims)),
        windows=(),
        domains=(),
        addresses=(),
        notes=tuple(dict.fromkeys(notes)),
    )


def _products(tree: _Tree) -> dict[str, _Known]:
    """Every product by its id; one that a relationship makes is what it refers to."""
    known = {one.product_id: _Known(one, "") for one in tree.full_product_names}
    stack = [(branch, 0) for branch in tree.branches]
    while stack:
        branch, depth = stack.pop()
        if branch.product is not None:
            text = branch.name if branch.category == "product_version_range" else ""
            known[branch.product.product_id] = _Known(branch.product, text)
        if depth < _MAX_DEPTH:
            stack += [(inner, depth + 1) for inner in branch.branches]
    for one in tree.relationships:
        if one.product_reference in known:
            known.setdefault(one.full_product_name.product_id, known[one.product_reference])
    return known


def _claims(name: str, known: dict[str, _Known], notes: list[str]) -> list[Claim]:
    if name not in known:
        notes.append(f"product {name[:80]!r} is not in the product tree: kept, not matched")
        return []
    one = known[name]
    identity = one.product.product_identification_helper or _Identification()
    claims: list[Claim] = [
        FileClaim(files.filename, "", value.value.lower(), "")
        for files in identity.hashes
        for value in files.file_hashes
        if value.algorithm.lower() == "sha256" and re.fullmatch("[0-9A-Fa-f]{64}", value.value)
    ]
    package = parse_purl(identity.purl or "")
    if package is not None:
        claim = _package(package, one.range, notes)
        notes += package_notes(claim)
        claims.append(claim)
    if not claims:
        notes.append(f"product {name[:80]!r} has no package URL and no SHA-256: kept, not matched")
    return claims


def parse_purl(text: str) -> tuple[str, str, str] | None:
    """Ecosystem, name and version (or empty) of a package URL; None for what is none."""
    found = _PURL.fullmatch(text) if len(text) <= 2000 else None
    if found is None:
        return None
    kind, space, name, version = (unquote(part or "") for part in found.groups())
    ecosystem = ecosystem_of(kind)
    return ecosystem, package_name(ecosystem, f"{space}/{name}" if space else name), version


def _package(package: tuple[str, str, str], text: str, notes: list[str]) -> PackageClaim:
    ecosystem, name, version = package
    versions: tuple[str, ...] = (version,) if version else ()
    events: tuple[Event, ...] = ()
    if text.startswith("vers:"):
        read = comparisons(_signed(text.partition("/")[2]), "|", notes)
        if read is not None:
            versions, events = (*versions, *read[0]), read[1]
    elif text:
        notes.append(f"the range {text[:80]!r} is no vers: range: kept, not matched")
    return PackageClaim(ecosystem, name, versions, (VersionRange("ECOSYSTEM", events),) if events else ())


def _signed(text: str) -> str:
    """``vers`` writes an equal version without a sign."""
    return "|".join(part if part[:1] in "<>=" else f"={part}" for part in unquote(text).split("|"))
