"""Advisories as claims: OSV records and indicator files, each version kept by the digest of its exact bytes.

Two rules are dear. Of an OSV record only the *root* ``affected`` names packages: the revision history under
``database_specific`` speaks of other versions. And what could not be understood is never dropped in silence: it
stands in ``notes``, the whole file in ``body``.

Formats: OSV 1.x (https://ossf.github.io/osv-schema/); indicator files as ``docs/spec/inventory.md`` describes them.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args

import msgspec
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from safehold.inventory.agent import microseconds
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, StorageFailed
from safehold.model.ids import AdvisoryId, Digest, parse_advisory_id, sha256_digest

__all__ = [
    "MAX_ADVISORY_BYTES",
    "AdvisoryDocument",
    "AdvisoryReading",
    "AliasGroup",
    "Claim",
    "Event",
    "EventKind",
    "FileClaim",
    "PackageClaim",
    "PathClaim",
    "VersionRange",
    "Window",
    "merge_aliases",
    "parse_advisory",
    "pep440",
    "read_advisories",
]

MAX_ADVISORY_BYTES: Final = 4 << 20
_PYPI: Final = "pypi"
_MAX_SUMMARY: Final = 500
_MAX_ALIASES: Final = 256
_MAX_VERSION: Final = 128
_MAX_TIME: Final = 2**53 - 1

EventKind = Literal["introduced", "fixed", "last_affected", "limit"]
_EVENT_KINDS: Final = frozenset(get_args(EventKind))


class Event(msgspec.Struct, frozen=True):
    """One bound of a range. ``version`` as written; ``0`` is before all versions, a limit of ``*`` after all."""

    kind: EventKind
    version: str


class VersionRange(msgspec.Struct, frozen=True):
    """The events of one OSV range, in the order of the record (which need not be sorted)."""

    type: str
    events: tuple[Event, ...]


class PackageClaim(msgspec.Struct, frozen=True, tag="package"):
    """These versions, listed or by range, of a package are meant. PyPI names are normalised (PEP 503)."""

    ecosystem: str
    name: str
    versions: tuple[str, ...]
    ranges: tuple[VersionRange, ...]


class FileClaim(msgspec.Struct, frozen=True, tag="file"):
    """A file with this SHA-256 is meant. ``name``: a file as downloaded; ``path``: relative to the site folder."""

    name: str
    path: str
    sha256: str
    version: str


class PathClaim(msgspec.Struct, frozen=True, tag="path"):
    """Something at this path of a host is meant, whatever its contents."""

    path: str


Claim = PackageClaim | FileClaim | PathClaim


class Window(msgspec.Struct, frozen=True):
    """From when until when (µs UTC), as ``source`` claims."""

    source: str
    start: int
    end: int


class AdvisoryDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one advisory. Times are µs UTC or None; ``digest`` is of ``body``, the file's exact bytes.

    ``notes`` say in words what of it cannot be matched with inventories.
    """

    advisory: AdvisoryId
    format: Literal["osv", "indicators"]
    aliases: tuple[AdvisoryId, ...]
    summary: str
    details: str
    published: int | None
    modified: int | None
    withdrawn: int | None
    digest: Digest
    body: bytes
    claims: tuple[Claim, ...]
    windows: tuple[Window, ...]
    domains: tuple[str, ...]
    addresses: tuple[str, ...]
    notes: tuple[str, ...]


class AdvisoryReading(msgspec.Struct, frozen=True):
    """What a file or folder held: the documents, and (path, why) for each file that is none."""

    documents: tuple[AdvisoryDocument, ...]
    failures: tuple[tuple[str, SafeholdError], ...]


class AliasGroup(msgspec.Struct, frozen=True):
    """Documents that speak of one event: all ids and aliases, sorted, and every document in the order given."""

    ids: tuple[AdvisoryId, ...]
    documents: tuple[AdvisoryDocument, ...]


# --- the files as written; other members are allowed and kept in the body ---------------------------


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


class _File(msgspec.Struct):
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Fa-f]{64}\Z")]
    name: str = ""
    path: str = ""
    version: str = ""


class _Window(msgspec.Struct, rename={"start": "from", "end": "to"}):
    source: str
    start: str
    end: str


class _Indicators(msgspec.Struct):
    note: str = ""
    aliases: list[str] = []
    files: list[_File] = []
    domains: list[str] = []
    addresses: list[str] = []
    paths: list[str] = []
    windows: list[_Window] = []


_INDICATOR_MEMBERS: Final = frozenset({"files", "domains", "addresses", "paths", "windows"})
_INDICATOR_KNOWN: Final = frozenset(_Indicators.__struct_fields__)


def read_advisories(path: Path) -> AdvisoryReading:
    """Read one file, or every ``*.json`` under a folder in the order of their names.

    A file that cannot be used is among ``failures`` and does not stop the others. Raises ``NotFound``
    (``inventory.advisory_path``), or ``InputInvalid`` (``inventory.no_advisories``) when not one could be used: zero
    read is never "no advisories".
    """
    if not path.exists():
        raise NotFound("inventory.advisory_path", f"there is no {path}", "name a file or folder of advisories")
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    documents: list[AdvisoryDocument] = []
    failures: list[tuple[str, SafeholdError]] = []
    for file in files:
        try:
            documents.append(parse_advisory(_read(file), file.stem))
        except SafeholdError as error:
            failures.append((str(file), error))
    if not documents:
        first = f"; the first: {failures[0][1].message}" if failures else ""
        raise InputInvalid(
            "inventory.no_advisories",
            f"none of {len(files)} files in {path} is an advisory{first}",
            "give OSV records or indicator files, *.json",
        )
    return AdvisoryReading(tuple(documents), tuple(failures))


def _read(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a FIFO would never end
            raise InputInvalid("inventory.advisory_file", f"{file} is not a regular file", "remove it from the folder")
        with file.open("rb") as stream:
            return stream.read(MAX_ADVISORY_BYTES + 1)
    except OSError as error:
        raise StorageFailed("inventory.advisory_read", f"{file} cannot be read: {error.strerror}") from error


def parse_advisory(body: bytes, stem: str) -> AdvisoryDocument:
    """Return the document in ``body``. An indicator file has no id of its own: it is called ``stem``.

    Raises ``InputInvalid``: ``inventory.advisory_size``, ``inventory.advisory_json`` (no JSON object, or a member
    twice), ``inventory.advisory_form`` (neither format, or a wrong type), ``inventory.advisory_time``,
    ``inventory.advisory_window`` (it ends before it starts), ``id.advisory``.
    """
    if len(body) > MAX_ADVISORY_BYTES:
        raise InputInvalid("inventory.advisory_size", f"{stem} exceeds {MAX_ADVISORY_BYTES:,} bytes")
    try:
        plain = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse)
        json.dumps(plain, ensure_ascii=False).encode()  # half a surrogate pair could never be written again
    except (ValueError, RecursionError) as error:
        raise InputInvalid("inventory.advisory_json", f"{stem} is not JSON: {error}", "fetch it again") from error
    if not isinstance(plain, dict):
        raise InputInvalid("inventory.advisory_json", f"{stem} is not a JSON object", "one advisory a file")
    try:
        if "id" in plain:
            return _osv(msgspec.convert(plain, _Osv), body)
        if _INDICATOR_MEMBERS & plain.keys():
            others = sorted(plain.keys() - _INDICATOR_KNOWN)
            return _indicators(msgspec.convert(plain, _Indicators), others, body, stem)
    except msgspec.ValidationError as error:
        raise InputInvalid("inventory.advisory_form", f"{stem}: {error}", "correct it at its source") from error
    raise InputInvalid(
        "inventory.advisory_form",
        f"{stem} is neither an OSV record nor an indicator file",
        "an OSV record has an id; an indicator file has files, domains, addresses, paths or windows",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two members of one name are read differently by different readers: then an advisory says two things.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice in one object")
    return members


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _time(text: str | None, what: str) -> int | None:
    if text is None:
        return None
    try:
        moment = microseconds(text)
        if abs(moment) > _MAX_TIME:
            raise ValueError("beyond the year 2255")
    except ValueError as error:
        raise InputInvalid(
            "inventory.advisory_time", f"{what} is no RFC 3339 time: {text[:40]!r}", "correct it at its source"
        ) from error
    return moment


def _aliases(texts: Iterable[str], notes: list[str]) -> tuple[AdvisoryId, ...]:
    """The aliases that are ids; the rest is noted: one bad alias must not hide a record."""
    good: set[AdvisoryId] = set()
    for text in texts:
        try:
            good.add(parse_advisory_id(text))
        except InputInvalid as error:
            notes.append(f"an alias is no id: {error.message}")
    if len(good) > _MAX_ALIASES:
        notes.append(f"{len(good)} aliases: the first {_MAX_ALIASES} are used")
    return tuple(sorted(good)[:_MAX_ALIASES])


def _osv(osv: _Osv, body: bytes) -> AdvisoryDocument:
    notes: list[str] = []
    claims = [claim for affected in osv.affected or [] if (claim := _package_claim(affected, notes)) is not None]
    if not claims:
        notes.append("it names no package")
    return AdvisoryDocument(
        advisory=parse_advisory_id(osv.id),
        format="osv",
        aliases=_aliases(osv.aliases or [], notes),
        summary=(osv.summary or "")[:_MAX_SUMMARY],
        details=osv.details or "",
        published=_time(osv.published, "published"),
        modified=_time(osv.modified, "modified"),
        withdrawn=_time(osv.withdrawn, "withdrawn"),
        digest=sha256_digest(body),
        body=body,
        claims=tuple(claims),
        windows=(),
        domains=(),
        addresses=(),
        notes=tuple(notes),
    )


def _package_claim(affected: _Affected, notes: list[str]) -> PackageClaim | None:
    if affected.package is None:
        notes.append("an entry of affected names no package: kept, not matched")
        return None
    ecosystem, name = affected.package.ecosystem, affected.package.name
    known = ecosystem.lower() == _PYPI
    if known:
        name = canonicalize_name(name)
    else:
        notes.append(f"{ecosystem} {name}: kept, not matched with Python environments")
    ranges = []
    for found in affected.ranges or []:
        pairs = [pair for event in found.events for pair in event.items()]
        if not {kind for kind, _ in pairs} <= _EVENT_KINDS:
            notes.append(f"{name}: a range has an event of an unknown kind: kept, not matched")
            continue
        events = tuple(Event(cast("EventKind", kind), version) for kind, version in pairs)
        ranges.append(VersionRange(found.type, events))
        if known and found.type != "ECOSYSTEM":
            notes.append(f"{name}: a range of type {found.type} is kept, not matched")
        elif known:
            notes += [f"{name}: a range has the bound {event.version!r}, which is no version: kept, not matched"
                      for event in events if not _is_bound(event)]  # fmt: skip
    versions = tuple(affected.versions or ())
    if known:
        notes += [f"{name}: {version!r} is no PEP 440 version: matched as exact text alone"
                  for version in versions if pep440(version) is None]  # fmt: skip
    if not ranges and not versions:
        notes.append(f"{name}: no version is named: kept, not matched")
    return PackageClaim("PyPI" if known else ecosystem, name, versions, tuple(ranges))


@lru_cache(maxsize=65_536)
def pep440(text: str) -> Version | None:
    """The PEP 440 version in ``text``, or None. Longer ones than 128 characters are none: no release has such."""
    try:
        return Version(text) if len(text) <= _MAX_VERSION else None
    except ValueError:  # InvalidVersion
        return None


def _is_bound(event: Event) -> bool:
    return (event.kind, event.version) in {("introduced", "0"), ("limit", "*")} or pep440(event.version) is not None


def _indicators(found: _Indicators, others: list[str], body: bytes, stem: str) -> AdvisoryDocument:
    claims: list[Claim] = list(_packages_of(found.files))
    claims += [FileClaim(file.name, file.path, file.sha256.lower(), file.version) for file in found.files]
    claims += [PathClaim(path) for path in found.paths]
    windows = []
    for one in found.windows:
        start, end = _time(one.start, "from"), _time(one.end, "to")
        if start is None or end is None or end < start:
            raise InputInvalid(
                "inventory.advisory_window", f"{stem}: the window of {one.source!r} ends before it starts"
            )
        windows.append(Window(one.source, start, end))
    notes = [f"{name}: kept, not matched with inventories" for name in ("domains", "addresses") if getattr(found, name)]
    notes += [f"{name}: kept, not understood" for name in others]
    return AdvisoryDocument(
        advisory=parse_advisory_id(stem),
        format="indicators",
        aliases=_aliases(found.aliases, notes),
        summary=found.note[:_MAX_SUMMARY],
        details=found.note,
        published=None,
        modified=None,
        withdrawn=None,
        digest=sha256_digest(body),
        body=body,
        claims=tuple(claims),
        windows=tuple(windows),
        domains=tuple(found.domains),
        addresses=tuple(found.addresses),
        notes=tuple(notes),
    )


def _packages_of(files: Iterable[_File]) -> list[PackageClaim]:
    """The packages that wheel and sdist names spell: an indicator file has no other place for them."""
    versions: dict[str, set[str]] = {}
    for file in files:
        try:
            if file.name.endswith(".whl"):
                name, version = parse_wheel_filename(file.name)[:2]
            elif file.name.endswith((".tar.gz", ".zip")):
                name, version = parse_sdist_filename(file.name)
            else:
                continue
        except ValueError:
            continue  # some other file: its hash is a claim of its own
        versions.setdefault(name, set()).add(str(version))
    return [PackageClaim("PyPI", name, tuple(sorted(found)), ()) for name, found in sorted(versions.items())]


# --- aliases ----------------------------------------------------------------------------------------


def merge_aliases(documents: Iterable[AdvisoryDocument]) -> tuple[AliasGroup, ...]:
    """Group the documents of one event: joined by id and alias, to any distance, in either direction.

    An indicator file joins a record of a package and version that it names, if that record names no *other* version
    or is itself about malice (``MAL-``). Without this condition any old weakness that happens to cover the version
    would become part of the event.
    """
    given = tuple(documents)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for document in given:
        for other in (document.advisory, *document.aliases):
            parent[root(other)] = root(document.advisory)
    for indicator in (one for one in given if one.format == "indicators"):
        for record in (one for one in given if one.format == "osv" and _same_event(indicator, one)):
            parent[root(record.advisory)] = root(indicator.advisory)
    groups: dict[str, list[AdvisoryDocument]] = {}
    for document in given:
        groups.setdefault(root(document.advisory), []).append(document)
    ids: dict[str, list[AdvisoryId]] = {}
    for name in sorted(parent):
        ids.setdefault(root(name), []).append(AdvisoryId(name))
    merged = (AliasGroup(tuple(ids[name]), tuple(members)) for name, members in groups.items())
    return tuple(sorted(merged, key=lambda group: group.ids))


def _same_event(indicator: AdvisoryDocument, record: AdvisoryDocument) -> bool:
    named, claimed = _listed(indicator), _listed(record)
    return bool(named & claimed) and (claimed <= named or record.advisory.startswith("MAL-"))


def _listed(document: AdvisoryDocument) -> set[tuple[str, str, str]]:
    packages = [claim for claim in document.claims if isinstance(claim, PackageClaim)]
    return {(one.ecosystem, one.name, str(pep440(version) or version)) for one in packages for version in one.versions}
