"""Contents of an inventory: what was found in one environment, as values. The format is ``docs/spec/inventory.md``.

Lives in ``model`` since three rooms read it: ``inventory`` checks and matches it, ``state`` keeps its items, and
``exposure`` asks it why a distribution was there. Reading is lenient in one way alone: fields that a newer agent adds
are ignored. The digest of an inventory is of the bytes, so nothing is lost by that.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from safehold.model.errors import InputInvalid

__all__ = [
    "MAX_CONTENTS_BYTES",
    "Contents",
    "Distribution",
    "FoundFile",
    "Item",
    "ItemKind",
    "SkippedPath",
    "contents_items",
    "parse_contents",
]

MAX_CONTENTS_BYTES: Final = 16 * 1024 * 1024

ItemKind = Literal["distribution", "file", "hook", "unowned", "altered", "missing", "pyc", "skipped"]


class Item(msgspec.Struct, frozen=True):
    """One thing that was found. ``sha256`` is hex without a prefix, empty where no hash was taken."""

    kind: ItemKind
    name: str
    version: str
    path: str
    sha256: str


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


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """All of an environment, as one sweep found it."""

    distributions: tuple[Distribution, ...] = ()
    hooks: tuple[FoundFile, ...] = ()
    unowned: tuple[FoundFile, ...] = ()
    altered: tuple[FoundFile, ...] = ()
    missing: tuple[FoundFile, ...] = ()
    pyc: tuple[FoundFile, ...] = ()
    skipped: tuple[SkippedPath, ...] = ()


def parse_contents(data: bytes) -> Contents:
    """Return the contents in a payload, or raise ``InputInvalid`` (``model.contents``)."""
    if len(data) > MAX_CONTENTS_BYTES:
        raise InputInvalid("model.contents", f"contents of {len(data):,} bytes exceed {MAX_CONTENTS_BYTES:,}")
    try:
        return msgspec.json.decode(data, type=Contents)
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
    return tuple(items)
