"""Which entries seal the segments that count: the projection names their places, the entries themselves speak."""

from __future__ import annotations

from safehold.ledger.storage import Entry, View
from safehold.model.errors import VerificationFailed
from safehold.model.statements import decode

__all__ = ["sealed_segments"]


def sealed_segments(view: View) -> tuple[Entry, ...]:
    """The entries that seal segments, by table and begin; of two for the same place the later one.

    Raises ``VerificationFailed`` (``state.segment_place``) if the projection names a place where no entry is.
    """
    found = []
    for (index,) in view.rows('SELECT idx FROM "segment" ORDER BY "table", "begin"'):
        body = view.body(index)
        if body is None:
            raise VerificationFailed("state.segment_place", f"there is no entry {index}", "run `safehold rebuild`")
        found.append(Entry(index, body, decode(body)))
    return tuple(found)
