"""A ledger that came out of a backup: read-only until someone answers for what may be missing at its end.

A backup is older than the ledger that it was taken of. Nothing inside it can tell whether entries followed: only a
checkpoint that someone else kept can. So a restored ledger appends nothing until it was compared with such a
checkpoint, or until its operator puts his word into the ledger that he goes on without.
"""

from __future__ import annotations

from safehold.ledger.log import tile_reader
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.proof import verify_consistency
from safehold.ledger.storage import View
from safehold.ledger.tree import consistency_proof
from safehold.model.errors import StorageFailed, VerificationFailed

__all__ = ["compare_checkpoint", "read_only_restored"]


def read_only_restored(size: int) -> StorageFailed:
    """The refusal of a ledger that was restored with ``size`` entries and that nobody has answered for yet."""
    return StorageFailed(
        "ledger.restored",
        f"the ledger is read-only: it was restored from a backup of {size} entries",
        "compare it with a checkpoint kept elsewhere: safehold restore accept --checkpoint FILE;"
        " or answer for it: safehold restore accept --reason '…'",
    )


def compare_checkpoint(view: View, verifier: NoteVerifier, note: bytes) -> Checkpoint:
    """Return the checkpoint in ``note`` if the ledger in ``view`` holds everything that it covers.

    Raises ``VerificationFailed`` (``ledger.note_*``, ``ledger.signature``) if this ledger's key did not sign it, and
    ``StorageFailed`` (``ledger.rolled_back``) if it covers more entries than are here, or others.
    """
    known = open_checkpoint(note, verifier)
    head = open_checkpoint(view.checkpoint() or b"", verifier)
    if known.size > head.size:
        raise StorageFailed(
            "ledger.rolled_back",
            f"{known.size - head.size} entries are missing: {known.size} were signed, {head.size} are here",
            "restore a newer backup; an export of the ledger holds the missing entries too",
        )
    try:
        proof = consistency_proof(known.size, head.size, tile_reader(view))
        verify_consistency(known.size, known.root, head.size, head.root, proof)
    except VerificationFailed as error:
        raise StorageFailed(
            "ledger.rolled_back",
            f"the first {known.size} entries here are not the ones that were signed: {error.message}",
            "two histories were signed by one key: keep both as evidence, and restore the one that others know",
        ) from error
    return known
