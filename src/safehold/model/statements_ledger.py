"""Statements about the ledger itself: its beginning, that it goes on from a backup, and its segments for queries."""

from __future__ import annotations

from typing import Literal

from safehold.model.ids import Digest
from safehold.model.statement import Statement

__all__ = ["LedgerOpened", "LedgerRestored", "SegmentSealed"]


class LedgerOpened(Statement, frozen=True, kw_only=True, tag="ledger.opened"):
    """The first entry: the log's origin line and its verifier key (signed-note form)."""

    origin: str
    verifier: str


class LedgerRestored(Statement, frozen=True, kw_only=True, tag="ledger.restored"):
    """The operator's word that the ledger goes on from a backup: what was signed after ``size`` elsewhere is lost.

    ``root`` (hex) is that of the first ``size`` entries, ``taken`` (µs UTC) when the backup was made. ``witnessed`` is
    the size of a checkpoint known elsewhere that the restored head was compared with, or None: nobody was asked.
    """

    size: int
    root: str
    taken: int
    witnessed: int | None
    reason: str


class SegmentSealed(Statement, frozen=True, kw_only=True, tag="segment.sealed"):
    """A file for queries: the rows of one table from entries ``begin`` … ``end`` - 1, sorted by time.

    ``form`` is the version of the file's format (docs/spec/segments.md), ``digest`` and ``size`` are of its bytes.
    ``since`` and ``until`` are the least and the greatest ``t`` of its rows, None where no row has one.
    """

    table: Literal["entry", "key_release"]
    form: int
    begin: int
    end: int
    rows: int
    since: int | None
    until: int | None
    size: int
    digest: Digest
