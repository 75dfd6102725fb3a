"""Contents of an inventory: what was found in one environment, as values. The format is ``docs/spec/inventory.md``.

Lives in ``model`` since three rooms read it: ``inventory`` checks and matches it, ``state`` keeps its items, and
``exposure`` asks it why a distribution was there. Reading is lenient in one way alone: fields that a newer agent adds
are ignored. The digest of an inventory is of the bytes, so nothing is lost by that.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import InputInvalid
from safehold.model.ids import sha256_digest

__all__ = [
    "MAX_CONTENTS_BYTES",
    "Contents",
    "Credential",
    "Distribution",
    "FoundEnvironment",
    "FoundFile",
    "Item",
    "ItemKind",
    "Locked",
    "Package",
    "SkippedPath",
    "contents_items",
    "parse_contents",
]

MAX_CONTENTS_BYTES: Final = 16 * 1024 * 1024

ItemKind = Literal[
    "distribution", "file", "hook", "unowned", "altered", "missing", "pyc", "skipped",
    "package", "cached", "locked", "credential", "startup", "trace", "environment", "looked",
]  # fmt: skip


class Item(msgspec.Struct, frozen=True):
    """One thing that was found. ``sha256`` is hex without a prefix, empty where no hash was taken.

    ``family`` is the ecosystem of what has a version (``npm``; empty: PyPI), or the sort of what has none (a credential's
    ``aws-profile``, a unit's ``systemd-unit``, a trace's ``file``). Of a credential, ``sha256`` is its id.
    """

    kind: ItemKind
    name: str
    version: str
    path: str
    sha256: str
    family: str = ""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """An installed distribution. ``files`` are (path, sha256) of its RECORD; ``requires`` the names it asks for."""

    name: str
    version: str
    folder: str = ""
    installer: str = ""
    requested: bool = False
    requires: tuple[str, ...] = ()
    origin: str = ""
    origin_hash: str = ""
    record: str = ""
    files: tuple[tuple[str, str], ...] = ()


class FoundFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file with something to say about it; ``owner`` is the distribution whose RECORD names it."""

    path: str
    sha256: str = ""
    owner: str = ""
    kind: str = ""
    problem: str = ""
    expected: str = ""
    runs: bool = False


class SkippedPath(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was not looked at, and why: unknown, never clean."""

    path: str
    reason: str


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """Something with a version that is no Python distribution here, or lies in a cache."""

    ecosystem: str
    name: str
    version: str
    path: str = ""
    sha256: str = ""


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """What a lockfile asks for; ``hashes`` are the SHA-256 that it accepts."""

    ecosystem: str
    name: str
    version: str
    path: str = ""
    hashes: tuple[str, ...] = ()


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential in reach, by its id; never its value."""

    id: str
    kind: str
    name: str = ""
    path: str = ""


class FoundEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that the agent found on the host, by the name under which it reports it."""

    name: str
    kind: str = ""
    path: str = ""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """All of an environment, or of what a host holds beside its environments, as one sweep found it.

    ``looked`` are the indicator paths that were looked for: of no other is absence known.
    """

    distributions: tuple[Distribution, ...] = ()
    hooks: tuple[FoundFile, ...] = ()
    unowned: tuple[FoundFile, ...] = ()
    altered: tuple[FoundFile, ...] = ()
    missing: tuple[FoundFile, ...] = ()
    pyc: tuple[FoundFile, ...] = ()
    skipped: tuple[SkippedPath, ...] = ()
    packages: tuple[Package, ...] = ()
    cached: tuple[Package, ...] = ()
    locked: tuple[Locked, ...] = ()
    credentials: tuple[Credential, ...] = ()
    environments: tuple[FoundEnvironment, ...] = ()
    startup: tuple[FoundFile, ...] = ()
    traces: tuple[FoundFile, ...] = ()
    looked: tuple[str, ...] = ()


def parse_contents(data: bytes) -> Contents:
    """Return the contents in a payload, or raise ``InputInvalid`` (``model.contents``)."""
    if len(data) > MAX_CONTENTS_BYTES:
        raise InputInvalid("model.contents", f"contents of {len(data):,} bytes exceed {MAX_CONTENTS_BYTES:,}")
    try:
        return msgspec.json.decode(data, type=resolved(Contents))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid("model.contents", "these bytes are not the contents of an inventory") from error


def contents_items(data: bytes, *, files: bool = False) -> tuple[Item, ...]:
    """The items of a payload in a fixed order; with ``files`` also every file of every distribution."""
    contents = parse_contents(data)
    items = [Item("distribution", one.name, one.version, one.folder, one.origin_hash) for one in contents.distributions]
    if files:
        items += [
            Item("file", one.name, one.version, path, sha256)
            for one in contents.distributions
            for path, sha256 in one.files
        ]
    groups: tuple[tuple[ItemKind, tuple[FoundFile, ...]], ...] = (
        ("hook", contents.hooks),
        ("unowned", contents.unowned),
        ("altered", contents.altered),
        ("missing", contents.missing),
        ("pyc", contents.pyc),
    )
    for kind, found in groups:
        items += [Item(kind, one.owner, "", one.path, one.sha256) for one in found]
    items += [Item("skipped", one.reason, "", one.path, "") for one in contents.skipped]
    return (*items, *_host_items(contents))


def _host_items(contents: Contents) -> list[Item]:
    """What stands beside the Python environments. A locked version is one item, and one more for each accepted hash."""
    items = [Item("package", *_named(one), one.path, one.sha256, _family(one.ecosystem)) for one in contents.packages]
    items += [Item("cached", *_named(one), one.path, one.sha256, _family(one.ecosystem)) for one in contents.cached]
    items += [
        Item("locked", one.name, one.version, one.path, sha256, _family(one.ecosystem))
        for one in contents.locked
        for sha256 in ("", *one.hashes)
    ]
    items += [Item("credential", one.name, "", one.path, one.id, one.kind) for one in contents.credentials]
    items += [Item("startup", "", "", one.path, one.sha256, one.kind) for one in contents.startup]
    items += [Item("trace", "", "", one.path, one.sha256, one.kind) for one in contents.traces]
    items += [Item("environment", one.name, "", one.path, "", one.kind) for one in contents.environments]
    # How many paths were looked for, and which, by digest: without it a host without anything to tell would look unread.
    looked = sha256_digest(canonical_bytes(contents.looked)).removeprefix("sha256:")
    return items + ([Item("looked", str(len(contents.looked)), "", "", looked)] if contents.looked else [])


def _named(one: Package) -> tuple[str, str]:
    return one.name, one.version


def _family(ecosystem: str) -> str:
    return "" if ecosystem == "PyPI" else ecosystem
