"""Plain indicator files: hashes, paths, domains, addresses and windows, as ``docs/spec/inventory.md`` describes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from safehold.inventory.documents import (
    AdvisoryDocument,
    Claim,
    FileClaim,
    PackageClaim,
    PathClaim,
    Window,
    advisory_aliases,
    advisory_time,
    bounded,
)
from safehold.model.encoding import resolved
from safehold.model.errors import InputInvalid
from safehold.model.ids import parse_advisory_id, sha256_digest

__all__ = ["INDICATOR_MEMBERS", "packages_of", "read_indicators"]


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


INDICATOR_MEMBERS: Final = frozenset({"files", "domains", "addresses", "paths", "windows"})
"""One of these makes a JSON object an indicator file."""
_KNOWN: Final = frozenset(_Indicators.__struct_fields__)


def read_indicators(plain: dict[str, Any], body: bytes, stem: str) -> AdvisoryDocument:
    """The document in an indicator file, called ``stem``. Raises ``InputInvalid`` and ``msgspec.ValidationError``."""
    found = msgspec.convert(plain, resolved(_Indicators))
    claims: list[Claim] = list(packages_of(file.name for file in found.files))
    claims += [FileClaim(file.name, file.path, file.sha256.lower(), file.version) for file in found.files]
    claims += [PathClaim(path) for path in found.paths]
    notes = [f"{name}: kept, not matched with inventories" for name in ("domains", "addresses") if getattr(found, name)]
    notes += [f"{name}: kept, not understood" for name in sorted(plain.keys() - _KNOWN)]
    return AdvisoryDocument(
        advisory=parse_advisory_id(stem),
        format="indicators",
        aliases=advisory_aliases(found.aliases, notes),
        summary=bounded(found.note),
        details=found.note,
        published=None,
        modified=None,
        withdrawn=None,
        digest=sha256_digest(body),
        body=body,
        claims=tuple(claims),
        windows=tuple(_window(one, stem) for one in found.windows),
        domains=tuple(found.domains),
        addresses=tuple(found.addresses),
        notes=tuple(notes),
    )


def _window(one: _Window, stem: str) -> Window:
    start, end = advisory_time(one.start, "from"), advisory_time(one.end, "to")
    if start is None or end is None or end < start:
        raise InputInvalid("inventory.advisory_window", f"{stem}: the window of {one.source!r} ends before it starts")
    return Window(one.source, start, end)


def packages_of(names: Iterable[str]) -> list[PackageClaim]:
    """The packages that wheel and sdist names spell: a list of files has no other place for them."""
    versions: dict[str, set[str]] = {}
    for named in names:
        try:
            if named.endswith(".whl"):
                name, version = parse_wheel_filename(named)[:2]
            elif named.endswith((".tar.gz", ".zip")):
                name, version = parse_sdist_filename(named)
            else:
                continue
        except ValueError:
            continue  # some other file: its hash is a claim of its own
        versions.setdefault(name, set()).add(str(version))
    return [PackageClaim("PyPI", name, tuple(sorted(found)), ()) for name, found in sorted(versions.items())]
