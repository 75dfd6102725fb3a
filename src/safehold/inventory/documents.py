"""An advisory as values: what it claims, and what of it could not be understood. No format is known here.

A document is one version of one advisory, kept by the digest of its exact bytes. What could not be understood is never
dropped in silence: it stands in ``notes``, the whole file in ``body``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec
from packaging.utils import canonicalize_name

from safehold.inventory.agent import microseconds
from safehold.inventory.versions import order_of
from safehold.model.errors import InputInvalid
from safehold.model.ids import AdvisoryId, Digest, parse_advisory_id

__all__ = [
    "EVENT_KINDS",
    "AdvisoryDocument",
    "AdvisoryFormat",
    "Claim",
    "Event",
    "EventKind",
    "FileClaim",
    "PackageClaim",
    "PathClaim",
    "VersionRange",
    "Window",
    "advisory_aliases",
    "advisory_time",
    "bounded",
    "comparisons",
    "ecosystem_of",
    "package_name",
    "package_notes",
]

_MAX_ALIASES: Final = 256
_MAX_TIME: Final = 2**53 - 1
_MAX_SUMMARY: Final = 500
_COMPARISON: Final = re.compile(r"\s*(<=|>=|=|<|>)\s*([^\s,|<>=]+)\s*")

AdvisoryFormat = Literal["osv", "indicators", "ghsa", "csaf", "stix"]
EventKind = Literal["introduced", "fixed", "last_affected", "limit"]
EVENT_KINDS: Final = frozenset(get_args(EventKind))


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
    format: AdvisoryFormat
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


def advisory_time(text: str | None, what: str) -> int | None:
    """An RFC 3339 time as µs UTC. Raises ``InputInvalid`` (``inventory.advisory_time``)."""
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


def advisory_aliases(texts: Iterable[str], notes: list[str]) -> tuple[AdvisoryId, ...]:
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


def bounded(text: str | None) -> str:
    """A summary, cut to what an entry takes."""
    return (text or "")[:_MAX_SUMMARY]


def ecosystem_of(name: str) -> str:
    """An ecosystem as OSV writes it: GitHub says ``pip``, a package URL ``pypi``."""
    return {"pypi": "PyPI", "pip": "PyPI", "npm": "npm"}.get(name.lower(), name)


def package_name(ecosystem: str, name: str) -> str:
    """A package's name as inventories write it."""
    return canonicalize_name(name) if ecosystem == "PyPI" else name


def package_notes(claim: PackageClaim) -> list[str]:
    """What of a claim cannot be matched."""
    order, name = order_of(claim.ecosystem), claim.name
    if order is None:
        return [f"{claim.ecosystem} {name}: kept, not matched with inventories of Python or npm"]
    found = []
    kinds = {"ECOSYSTEM"} if claim.ecosystem == "PyPI" else {"ECOSYSTEM", "SEMVER"}
    for one in claim.ranges:
        if one.type not in kinds:
            found.append(f"{name}: a range of type {one.type} is kept, not matched")
            continue
        found += [f"{name}: a range has the bound {event.version!r}, which is no version: kept, not matched"
                  for event in one.events
                  if (event.kind, event.version) not in {("introduced", "0"), ("limit", "*")}
                  and order(event.version) is None]  # fmt: skip
    what = "PEP 440" if claim.ecosystem == "PyPI" else "semantic"
    found += [f"{name}: {version!r} is no {what} version: matched as exact text alone"
              for version in claim.versions if order(version) is None]  # fmt: skip
    if not claim.ranges and not claim.versions:
        found.append(f"{name}: no version is named: kept, not matched")
    return found


def comparisons(text: str, separator: str, notes: list[str]) -> tuple[tuple[str, ...], tuple[Event, ...]] | None:
    """``>= 1.2, < 1.4`` as (listed versions, events of one range); None, and noted, where it cannot be read.

    OSV has no bound that excludes its lower end: ``> 1.2`` is taken as from 1.2 on, since the doubt is "affected".
    """
    versions: list[str] = []
    events: list[Event] = []
    kinds: dict[str, EventKind] = {">=": "introduced", ">": "introduced", "<": "fixed", "<=": "last_affected"}
    for part in text.split(separator):
        found = _COMPARISON.fullmatch(part)
        if found is None:
            notes.append(f"the range {text[:80]!r} cannot be read: kept, not matched")
            return None
        sign, version = found.groups()
        if sign == "=":
            versions.append(version)
        else:
            events.append(Event(kinds[sign], version))
        if sign == ">":
            notes.append(f"the range {text[:80]!r} is taken with its lower end")
    if events and all(event.kind != "introduced" for event in events):
        events.insert(0, Event("introduced", "0"))
    return tuple(versions), tuple(events)
