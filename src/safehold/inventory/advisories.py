"""Advisories as claims, whatever their format: each version kept by the digest of its exact bytes.

A file says itself what it is: OSV (``id``), GitHub's API (``ghsa_id``), CSAF (``document.csaf_version``), a STIX bundle
(``type``), or a plain indicator file. Each format has a module of its own (``read_*``) and becomes the same values
(``documents``). What could not be understood stands in ``notes``.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from safehold.inventory.aliases import AliasGroup, merge_aliases
from safehold.inventory.documents import (
    AdvisoryDocument,
    Claim,
    Event,
    EventKind,
    FileClaim,
    PackageClaim,
    PathClaim,
    VersionRange,
    Window,
)
from safehold.inventory.read_csaf import read_csaf
from safehold.inventory.read_ghsa import read_ghsa
from safehold.inventory.read_indicators import INDICATOR_MEMBERS, read_indicators
from safehold.inventory.read_osv import read_osv
from safehold.inventory.read_stix import read_stix
from safehold.inventory.versions import pep440
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, StorageFailed

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

_Reader = Callable[[dict[str, Any], bytes, str], AdvisoryDocument]


class AdvisoryReading(msgspec.Struct, frozen=True):
    """What a file or folder held: the documents, and (path, why) for each file that is none."""

    documents: tuple[AdvisoryDocument, ...]
    failures: tuple[tuple[str, SafeholdError], ...]


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
            "give OSV, GitHub, CSAF or STIX files, or indicator files, *.json",
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
    """Return the document in ``body``. A file without an id of its own is called ``stem``.

    Raises ``InputInvalid``: ``inventory.advisory_size``, ``inventory.advisory_json`` (no JSON object, or a member
    twice), ``inventory.advisory_form`` (no known format, or a wrong type), ``inventory.advisory_time``,
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
    reader = _reader(plain)
    if reader is None:
        raise InputInvalid(
            "inventory.advisory_form",
            f"{stem} is no advisory of a known form",
            "OSV has an id, GitHub's a ghsa_id, CSAF document.csaf_version, STIX the type bundle; an indicator file has"
            " files, domains, addresses, paths or windows",
        )
    try:
        return reader(plain, body, stem)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputInvalid("inventory.advisory_form", f"{stem}: {error}", "correct it at its source") from error


def _reader(plain: dict[str, Any]) -> _Reader | None:
    document = plain.get("document")
    if plain.get("type") == "bundle" and "objects" in plain:
        return read_stix
    if isinstance(document, dict) and "csaf_version" in document:
        return read_csaf
    if "ghsa_id" in plain:
        return read_ghsa
    if "id" in plain:
        return read_osv
    return read_indicators if INDICATOR_MEMBERS & plain.keys() else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two members of one name are read differently by different readers: then an advisory says two things.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice in one object")
    return members


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
