"""Which documents speak of one event: joined by id and alias, to any distance, in either direction. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from safehold.inventory.documents import AdvisoryDocument, PackageClaim
from safehold.inventory.versions import pep440
from safehold.model.ids import AdvisoryId

__all__ = ["AliasGroup", "merge_aliases"]

_WITHOUT_ID: Final = frozenset({"indicators", "stix"})
"""Formats that carry no id which others could name as an alias."""


class AliasGroup(msgspec.Struct, frozen=True):
    """Documents that speak of one event: all ids and aliases, sorted, and every document in the order given."""

    ids: tuple[AdvisoryId, ...]
    documents: tuple[AdvisoryDocument, ...]


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
    for indicator in (one for one in given if one.format in _WITHOUT_ID):
        for record in (one for one in given if one.format not in _WITHOUT_ID and _same_event(indicator, one)):
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
