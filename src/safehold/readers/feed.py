"""Blocks of a release in memory: read in one pass where one can, from the cache where one may, shuffled, and let go.

A feed belongs to one process and one pass over the data. It holds at most ``lanes + 1`` shuffled blocks and as many open
streams, so its memory is about lanes × window records of the chosen columns, whatever the size of the release.

Keys are asked of the ring before each block, cached ones too: a stop ends the feed at the next block, and no part is
opened after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from safehold.readers.order import Block, EpochOrder, OrderRule, Share, block_rows, shares
from safehold.vault.block_cache import BlockCache

__all__ = ["BlockSource", "Feed", "StretchSource", "one_batch", "shuffled"]


class StretchSource(Protocol):
    """Where records come from: the open release."""

    def stretch(self, part: int, first: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The records of a part from ``first`` to its end."""
        ...

    def allow(self) -> None:
        """Raise ``ReadingStopped`` if there is no further reading."""
        ...


class _Stream:
    """One pass over a part, block after block."""

    def __init__(self, batches: Iterator[pa.RecordBatch], first: int) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None
        self.at = first

    def take(self, rows: int) -> list[pa.RecordBatch]:
        """The next ``rows`` records."""
        taken: list[pa.RecordBatch] = []
        self.at += rows
        while rows:
            batch = self._left if self._left is not None else next(self._batches)
            head = batch.slice(0, rows)
            rows -= head.num_rows
            self._left = batch.slice(head.num_rows) if batch.num_rows > head.num_rows else None
            taken.append(head)
        return taken


class BlockSource:
    """Blocks in the order in which they were sealed; ``streams`` bounds how many parts are open at once."""

    def __init__(
        self,
        source: StretchSource,
        columns: Sequence[str] | None = None,
        cache: BlockCache | None = None,
        streams: int = 17,
    ) -> None:
        self._source = source
        self._columns = columns
        self._cache = cache
        self._limit = streams
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._suffix = "" if columns is None else "-" + "-".join(column.encode().hex() for column in columns)

    def read(self, block: Block) -> list[pa.RecordBatch]:
        """The records of a block. Raises ``ReadingStopped``, and what opening and reading a part raise."""
        self._source.allow()
        name = block.name + self._suffix
        if self._cache is not None:
            found = self._cache.get(name)
            if found is not None:
                return found
        batches = self._read(block)
        if self._cache is not None:
            self._cache.put(name, batches)
        return batches

    def _read(self, block: Block) -> list[pa.RecordBatch]:
        first, last = block.spans[0][0], sum(block.spans[-1])
        stream = self._streams.pop(block.unit, None)
        if stream is None or stream.at != first:
            stream = _Stream(self._source.stretch(block.part, first, self._columns), first)
        batches = stream.take(last - first)
        self._streams[block.unit] = stream
        if len(self._streams) > self._limit:
            self._streams.popitem(last=False)
        if len(block.spans) == 1:
            return batches
        whole = pa.Table.from_batches(batches)
        return [
            batch
            for start, rows in block.spans
            for batch in whole.slice(start - first, rows).to_batches()
            if len(batch)
        ]


class Feed:
    """The batches of one share of one epoch."""

    def __init__(self, blocks: BlockSource, order: EpochOrder) -> None:
        self._blocks = blocks
        self._order = order
        self._held: OrderedDict[str, pa.RecordBatch] = OrderedDict()
        self._limit = len(order.lanes) + 1

    def batches(self, share: Share, position: int = 0) -> Iterator[list[pa.RecordBatch]]:
        """Each batch as the slices that it is made of; see ``order.shares``."""
        for stretches in shares(self._order.rows, share, position):
            yield [
                self._block(piece.block).slice(piece.start, piece.stop - piece.start)
                for start, stop in stretches
                for piece in self._order.pieces(start, stop)
            ]

    def _block(self, block: Block) -> pa.RecordBatch:
        held = self._held.pop(block.name, None)
        if held is None:
            held = shuffled(self._blocks.read(block), block, self._order.rule, self._order.epoch)
        self._held[block.name] = held
        if len(self._held) > self._limit:
            self._held.popitem(last=False)
        return held


def shuffled(batches: Iterable[pa.RecordBatch], block: Block, rule: OrderRule, epoch: int) -> pa.RecordBatch:
    """A block's records in their seeded order, as one batch."""
    words = block_rows(block, rule, epoch)
    whole = one_batch(list(batches))
    if words is None:
        return whole
    # array_sort_indices is stable: equal words keep the order of the block, as the contract says.
    return whole.take(pc.array_sort_indices(pa.array(words, pa.uint64())))


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One record batch of several."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
