"""Statements about the served broker."""

from __future__ import annotations

from safehold.model.statement import Statement

__all__ = ["RefusalsCounted"]


class RefusalsCounted(Statement, frozen=True, kw_only=True, tag="refusals.counted"):
    """Requests that proved nothing were refused, ``count`` of them with ``code``, between ``since`` and ``until`` (µs UTC).

    Whoever has no key can ask as often as he likes; the first refusals of a window stand as entries of their own, the
    rest are counted here, one entry a code, so that asking does not fill the ledger.
    """

    code: str
    count: int
    since: int
    until: int
