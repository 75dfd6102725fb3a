"""The tree over the digests of a part's records: the ledger's RFC 6962 tree, over entries in memory."""

from __future__ import annotations

from collections.abc import Sequence

from safehold.ledger.tree import HASH_BYTES, Frontier, inclusion_proof, leaf_hashes
from safehold.model.ids import Digest

__all__ = ["row_path", "row_root"]


def row_root(entries: Sequence[bytes]) -> Digest:
    """The root over ``entries``, as a manifest writes it."""
    frontier = Frontier()
    frontier.extend(leaf_hashes(entries), {})
    return Digest("sha256:" + frontier.root().hex())


def row_path(entries: Sequence[bytes], place: int) -> list[bytes]:
    """The inclusion path of the entry at ``place``. Raises ``InputInvalid`` (``ledger.index_range``)."""
    frontier, full = Frontier(), dict[tuple[int, int], bytes]()
    frontier.extend(leaf_hashes(entries), full)

    def read(level: int, index: int, width: int) -> bytes:
        tile = full[level, index] if (level, index) in full else bytes(frontier.open_tiles[level])
        return tile[: width * HASH_BYTES]

    return inclusion_proof(place, len(entries), read)
