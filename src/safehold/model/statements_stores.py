"""Statements about where data lies: releases in object stores, and data that nobody had sealed yet.

A location never holds a secret: it is a path or a URL without user, password or query.
"""

from __future__ import annotations

from safehold.model.ids import DatasetId, Digest, HostId
from safehold.model.statement import Statement

__all__ = ["AdoptionRemoved", "AdoptionSealed", "DatasetAdopted", "ReleaseStored"]


class ReleaseStored(Statement, frozen=True, kw_only=True, tag="release.stored"):
    """A whole copy of a release lies at ``location``; ``endpoint`` is the server of an object store, or null.

    ``location`` is the URL of the release in its store. What it costs to read there is the key, as everywhere.
    """

    release: Digest
    location: str
    endpoint: str | None


class DatasetAdopted(Statement, frozen=True, kw_only=True, tag="dataset.adopted"):
    """Unsealed files of a dataset were found at ``location`` on ``host`` (null: not said).

    ``listing`` is the digest of the payload that names each file with its size, SHA-256, format, records and columns;
    it is the identity of the adoption. ``rows`` is null where a file is no table. Who could read the files before they
    were sealed is not known from this: no key guards them.
    """

    listing: Digest
    dataset: DatasetId
    location: str
    endpoint: str | None
    host: HostId | None
    files: int
    size: int
    rows: int | None


class AdoptionSealed(Statement, frozen=True, kw_only=True, tag="adoption.sealed"):
    """All files of an adopted listing are in ``release``, byte for byte; the originals still lie where they were."""

    listing: Digest
    release: Digest


class AdoptionRemoved(Statement, frozen=True, kw_only=True, tag="adoption.removed"):
    """The originals of an adopted listing were removed from its location, after the release had been verified.

    ``files`` of them; copies that others made are not gone by this.
    """

    listing: Digest
    files: int
