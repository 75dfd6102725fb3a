"""As of a time: the projections as they were then, folded again from the entries that were there.

A projection keeps the newest word on a host or a dataset, so leaving out rows would not do: the entries up to the cut are
folded anew into a database of its own, by the same fold. The answer is then given by the same code.

The ledger's order decides what was known: the cut is after the last entry whose time is not later than the one asked for,
since whatever stands before that entry was there when it was written.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Transaction, View
from safehold.ledger.tree import checked_tile, tree_root
from safehold.model.encoding import resolved
from safehold.model.errors import NotFound
from safehold.model.ids import Digest
from safehold.state.projection import StateProjector

__all__ = ["CutView", "cut_size", "view_as_of"]

_BATCH: Final = 2048


class _Timed(msgspec.Struct):
    t: int


def cut_size(view: View, at: int) -> int:
    """How many entries were there at ``at`` (µs UTC). Raises ``NotFound`` (``exposure.before_ledger``) for none."""
    decoder = msgspec.json.Decoder(resolved(_Timed))
    end = view.size()
    while end > 0:
        begin = max(0, end - _BATCH)
        for offset, body in reversed(list(enumerate(view.bodies(begin, end)))):
            try:
                t = decoder.decode(body).t
            except msgspec.DecodeError:
                continue  # of a kind that is not known here, without a time
            if t <= at:
                return begin + offset + 1
        end = begin
    raise NotFound("exposure.before_ledger", "the ledger has no entry of that time or before", "give a later time")


class CutView:
    """The first entries of a ledger, with projections of their own: a ``View``, and a ``Transaction`` for the fold."""

    def __init__(self, kept: Transaction, view: View, size: int) -> None:
        self._kept = kept
        self._view = view
        self._size = size

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of the projections of the cut."""
        return self._kept.rows(sql, *arguments)

    def size(self) -> int:
        """The number of entries before the cut."""
        return self._size

    def body(self, index: int) -> bytes | None:
        """An entry before the cut."""
        return self._view.body(index) if index < self._size else None

    def bodies(self, begin: int, end: int) -> list[bytes]:
        """Entries before the cut."""
        return self._view.bodies(begin, min(end, self._size))

    def payload(self, digest: Digest) -> bytes | None:
        """A payload; that it may have come later changes nothing in what its digest says."""
        return self._view.payload(digest)

    def checkpoint(self) -> bytes | None:
        """The cut as the body of a checkpoint, unsigned: what an outsider's checkpoint of that size must say."""
        root = base64.b64encode(tree_root(self._size, self._read_tile)).decode()
        return f"as of\n{self._size}\n{root}\n".encode()

    def _read_tile(self, level: int, index: int, width: int) -> bytes:
        return checked_tile(level, index, width, self._view.tile(level, index))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)  # the rest of a transaction, for the fold


@contextmanager
def view_as_of(view: View, at: int) -> Iterator[View]:
    """The ledger as it was at ``at`` (µs UTC). Raises ``NotFound`` (``exposure.before_ledger``)."""
    size = cut_size(view, at)
    with tempfile.TemporaryDirectory(prefix="safehold-") as folder:
        store = SqliteStore(Path(folder) / "cut.db")
        try:
            with store.write() as kept:
                cut = CutView(kept, view, size)
                StateProjector().prepare(cast("Transaction", cut))
                yield cast("View", cut)
        finally:
            store.close()
