"""A follower's log: it takes over entries that another home appended, byte for byte, and appends none of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Log
from safehold.ledger.note import Checkpoint, open_checkpoint
from safehold.ledger.staging import stage_tiles
from safehold.ledger.storage import Entry
from safehold.ledger.tree import leaf_hash
from safehold.model.errors import NotAppended, Refused, VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.model.statements import decode

__all__ = ["Replica"]


class Replica(Log):
    """A ``Log`` made with the public key of the ledger that it follows."""

    def adopt(self, checkpoint: Checkpoint, begin: int, taken: Iterable[tuple[bytes, Sequence[bytes]]]) -> int:
        """Take over entries ``begin`` … ``checkpoint.size`` - 1 that another home appended, each with payloads; a follower's.

        The bytes stay as they are. All is durable when this returns, or nothing happened: entries that do not hash to the
        checkpoint's root raise ``VerificationFailed`` (``ledger.adopted_root``) and leave no trace. Returns how many.
        """
        if (
            not isinstance(self._signer, PublicKey)
            or self._read_only is None
            or self._read_only.code != "ledger.follower"
        ):
            raise self._read_only or Refused("ledger.not_follower", "this home appends entries of its own")
        open_checkpoint(checkpoint.note, self.verifier)
        with self._store.write() as transaction:
            self._load(transaction)
            if self._frontier.size != begin:
                raise _moved(begin, self._frontier.size)
            frontier, tiles = self._frontier.copy(), dict[tuple[int, int], bytes]()
            for body, payloads in taken:
                for payload in payloads:
                    transaction.put_payload(sha256_digest(payload), payload)
                transaction.add_entry(frontier.size, body)
                self._projector.apply(transaction, [Entry(frontier.size, body, decode(body))])
                frontier.append(leaf_hash(body), tiles)
            if frontier.size != checkpoint.size or frontier.root() != checkpoint.root:
                raise VerificationFailed(
                    "ledger.adopted_root",
                    f"the entries offered do not hash to the root that was signed for {checkpoint.size}",
                    "the copy was altered: ask for a fresh export and keep this one as evidence",
                )
            stage_tiles(transaction, frontier, tiles)
            transaction.put_checkpoint(checkpoint.size, checkpoint.note)
        self._frontier = frontier
        self._advance_lock(checkpoint)
        return frontier.size - begin


def _moved(begin: int, size: int) -> NotAppended:
    return NotAppended(
        "ledger.moved",
        f"the copy has {size} entries and not {begin}: another process followed meanwhile",
        "run it again",
    )
