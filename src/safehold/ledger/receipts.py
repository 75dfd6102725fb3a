"""Receipts of many entries against one checkpoint: what their proofs share is read and hashed once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from safehold.ledger.log import tile_reader
from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.receipt import format_receipt
from safehold.ledger.storage import Entry, View
from safehold.ledger.tree import InclusionProofs

__all__ = ["make_receipts"]


def make_receipts(view: View, verifier: NoteVerifier, entries: Sequence[Entry]) -> list[bytes]:
    """The receipt of each entry against the newest checkpoint that ``view`` shows.

    Raises ``VerificationFailed`` if that checkpoint is not signed by ``verifier``, ``InputInvalid``
    (``ledger.index_range``) for an entry that is not in it.
    """
    checkpoint = open_checkpoint(view.checkpoint() or b"", verifier)
    proofs = InclusionProofs(checkpoint.size, tile_reader(view))
    return [format_receipt(entry.body, entry.index, proofs.path(entry.index), checkpoint) for entry in entries]
