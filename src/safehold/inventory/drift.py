"""Drift: what is different between two inventories of one environment, in words for people. Pure.

RECORD alone is not enough: a hook that its distribution declares verifies against it. So what is *new* since a baseline
is said, whether or not somebody vouches for it: hooks, distributions and versions, which way a version went, changed
files, altered compiled code, credentials, units, traces. And a metadata folder that names another version than its
METADATA is said even without a baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from safehold.inventory.versions import pep440
from safehold.model.contents import Contents, Distribution

__all__ = ["Difference", "DriftKind", "drift_of"]

DriftKind = Literal[
    "hook", "distribution", "version", "files", "folder", "unowned", "altered", "missing", "pyc", "credential", "startup",
    "trace", "cached", "locked", "unseen",
]  # fmt: skip
_FOLDER: Final = re.compile(r"[^-]*-(.*?)(?:\.dist-info|(?:-py[0-9][^-]*)?\.egg-info)", re.DOTALL)
_MAX_NAMES: Final = 5


class Difference(msgspec.Struct, frozen=True, order=True):
    """One difference: of what kind, of what, and how it changed."""

    kind: DriftKind
    what: str
    how: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: {self.how}"


def drift_of(before: Contents, after: Contents) -> tuple[Difference, ...]:
    """Every difference, sorted. Folders that disagree with their METADATA are among them if they did not before."""
    found: list[Difference] = [*_distributions(before, after)]
    found += _keyed("hook", _hooks(before), _hooks(after))
    for kind, name in (("unowned", "unowned"), ("altered", "altered"), ("startup", "startup"), ("trace", "traces")):
        old, new = ({one.path: one.sha256 or one.kind for one in getattr(side, name)} for side in (before, after))
        found += _keyed(kind, old, new)
    found += _keyed("missing", {one.path: "" for one in before.missing}, {one.path: "" for one in after.missing})
    found += _keyed("pyc", {one.path: one.problem for one in before.pyc}, {one.path: one.problem for one in after.pyc})
    found += _keyed("credential", _credentials(before), _credentials(after))
    for kind, name in (("cached", "cached"), ("locked", "locked")):
        old, new = (
            {f"{one.name} {one.version} in {one.path}": "" for one in getattr(side, name)} for side in (before, after)
        )
        found += _keyed(kind, old, new)
    old, new = ({f"{one.path} ({one.reason})": "" for one in side.skipped} for side in (before, after))
    found += _keyed("unseen", old, new)
    return tuple(sorted(found))


def _keyed(kind: Any, before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[Difference]:
    for what in sorted(before.keys() | after.keys()):
        if what not in before:
            yield Difference(kind, what, "new")
        elif what not in after:
            yield Difference(kind, what, "gone")
        elif before[what] != after[what]:
            yield Difference(kind, what, "changed")


def _hooks(contents: Contents) -> dict[str, str]:
    return {one.path: f"{one.sha256} {one.owner}" for one in contents.hooks}


def _credentials(contents: Contents) -> dict[str, str]:
    return {f"{one.kind} {one.name} in {one.path}": one.id for one in contents.credentials}


def _distributions(before: Contents, after: Contents) -> Iterable[Difference]:
    old, new = _by_name(before), _by_name(after)
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, ()), new.get(name, ())
        versions = [", ".join(sorted(one.version for one in side)) for side in (was, now)]
        if not was or not now:
            yield Difference("distribution", name, f"new: {versions[1]}" if now else f"gone: {versions[0]}")
        elif versions[0] != versions[1]:
            yield Difference("version", name, f"{_way(was, now)} from {versions[0]} to {versions[1]}")
        else:
            changed = sorted(dict(_files(now).items() ^ _files(was).items()))
            if changed:
                more = f" and {len(changed) - _MAX_NAMES} more" if len(changed) > _MAX_NAMES else ""
                yield Difference("files", name, f"of one version, changed: {', '.join(changed[:_MAX_NAMES])}{more}")
    lied = {one.folder for one in before.distributions if _disagrees(one)}
    for one in after.distributions:
        if _disagrees(one) and one.folder not in lied:
            yield Difference("folder", one.folder, f"METADATA says {one.name} {one.version}")


def _by_name(contents: Contents) -> dict[str, tuple[Distribution, ...]]:
    found: dict[str, tuple[Distribution, ...]] = {}
    for one in contents.distributions:
        found[one.name] = (*found.get(one.name, ()), one)
    return found


def _files(distributions: Iterable[Distribution]) -> dict[str, str]:
    """Files by hash, without the metadata that every install writes anew."""
    return {path: sha256 for one in distributions for path, sha256 in one.files if ".dist-info/" not in path}


def _way(was: tuple[Distribution, ...], now: tuple[Distribution, ...]) -> str:
    if len(was) == len(now) == 1:
        old, new = pep440(was[0].version), pep440(now[0].version)
        if old is not None and new is not None:
            return "down" if new < old else "up"
    return "changed"


def _disagrees(one: Distribution) -> bool:
    named = _FOLDER.fullmatch(one.folder)
    if named is None:
        return False
    told, meant = pep440(named[1].replace("_", "-")) or named[1], pep440(one.version) or one.version
    return told != meant
