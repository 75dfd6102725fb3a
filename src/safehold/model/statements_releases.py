"""Statements about what becomes of a release: its records under new keys, no longer given out, readable by nobody."""

from __future__ import annotations

from safehold.model.ids import Digest
from safehold.model.statement import Statement

__all__ = ["ReleaseErased", "ReleaseRekeyed", "ReleaseRetired"]


class ReleaseRetired(Statement, frozen=True, kw_only=True, tag="release.retired"):
    """From this place on no key of ``release`` is given out; the keys are kept until they are erased."""

    release: Digest
    reason: str


class ReleaseErased(Statement, frozen=True, kw_only=True, tag="release.erased"):
    """The wrapped keys of ``release`` were destroyed: ``keys`` of them, for good.

    ``kept`` of its files belong to ``shared`` too, releases that are not erased: these files can still be opened with
    the keys of those, and with nothing else. What is proven about the release stays proven.
    """

    release: Digest
    keys: int
    kept: int
    shared: tuple[Digest, ...]
    reason: str


class ReleaseRekeyed(Statement, frozen=True, kw_only=True, tag="release.rekeyed"):
    """``release`` holds the records of ``before``, all of them in their order, under ``keys`` new keys; both were compared.

    It stands beside the ``release.sealed`` of ``release``, in one append. Whoever has keys of ``before`` keeps what they open.
    """

    release: Digest
    before: Digest
    keys: int
    reason: str
