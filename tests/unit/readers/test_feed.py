"""Blocks whose records are not neighbours, as in a release that left some records of a part out."""

from __future__ import annotations

import pyarrow as pa

from safehold.readers.feed import BlockSource, Feed
from safehold.readers.order import EpochOrder, OrderRule, Share, unit_blocks
from safehold.vault.manifest import Run

PART = pa.table({"id": list(range(100))})
RUNS = [Run(0, 3, 10), Run(1, 0, 40), Run(0, 13, 2), Run(0, 20, 1), Run(0, 60, 30), Run(1, 90, 5)]
IDS = [1000 * run.part + at for run in RUNS for at in range(run.first, run.first + run.rows)]


class Parts:
    """Two parts of 100 records; counts how often one is opened."""

    def __init__(self):
        self.opened = []

    def allow(self):
        pass

    def stretch(self, part, first, columns):
        self.opened.append((part, first))
        column = pa.array([1000 * part + at for at in range(first, 100)], pa.int64())
        yield from pa.table({"id": column}).to_batches(max_chunksize=7)


def ids(batches):
    return [one for batch in batches for one in batch.column("id").to_pylist()]


def test_only_the_records_of_the_release_are_read_in_their_order():
    rule = OrderRule(shuffle=False, window=8)
    parts = Parts()
    source = BlockSource(parts)
    found = [one for unit in unit_blocks(RUNS, rule) for block in unit for one in ids(source.read(block))]
    assert found == IDS


def test_shuffled_each_comes_once_and_a_part_is_read_in_one_pass():
    rule = OrderRule(seed=5, lanes=1, window=16, chunk=4)
    parts = Parts()
    feed = Feed(BlockSource(parts), EpochOrder(RUNS, rule, 0))
    found = [one for pieces in feed.batches(Share(batch=7)) for one in ids(pieces)]
    assert sorted(found) == sorted(IDS)
    assert found != IDS
    assert sorted(parts.opened) == [(0, 3), (1, 0)]


def test_streams_are_bounded():
    rule = OrderRule(seed=5, lanes=8, window=4, chunk=2)
    source = BlockSource(Parts(), streams=2)
    feed = Feed(source, EpochOrder(RUNS, rule, 0))
    assert sorted(one for pieces in feed.batches(Share(batch=3)) for one in ids(pieces)) == sorted(IDS)
    assert len(source._streams) <= 2
