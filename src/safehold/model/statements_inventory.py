"""Statements about what is near a host and not installed there: what could bring a bad version back, and indicators."""

from __future__ import annotations

from typing import Literal

from safehold.model.ids import AdvisoryId, Digest
from safehold.model.statement import Statement

__all__ = ["IndicatorsRecorded", "LatentRecorded"]


class LatentRecorded(Statement, frozen=True, kw_only=True, tag="latent.recorded"):
    """Something that an advisory names lies in a cache (``cached``) or is asked for by a lockfile (``locked``).

    It is not installed and does not run, so it is no finding: no key is refused for it. It says from where the thing can
    come again, and that a host could have had it. ``match``: by ``version`` or by ``hash``, as in ``finding.recorded``.
    """

    advisory: AdvisoryId
    document: Digest
    inventory: Digest
    item: Literal["cached", "locked"]
    match: Literal["version", "hash"]
    name: str
    version: str
    path: str


class IndicatorsRecorded(Statement, frozen=True, kw_only=True, tag="indicators.recorded"):
    """What one version of an advisory names beside packages: domains and addresses it spoke to, paths it left."""

    advisory: AdvisoryId
    document: Digest
    domains: tuple[str, ...]
    addresses: tuple[str, ...]
    paths: tuple[str, ...]
