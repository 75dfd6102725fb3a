"""The order against a naive twin, and exact resume on any number of ranks and workers."""

from __future__ import annotations

import hashlib
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from safehold.readers.order import EpochOrder, OrderRule, Share, seeded_order, shares
from safehold.vault.manifest import Run

RULES = st.builds(
    OrderRule,
    seed=st.integers(0, 3),
    shuffle=st.booleans(),
    lanes=st.integers(1, 6),
    chunk=st.integers(1, 7),
    window=st.integers(1, 40),
)
RUNS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=8)


def make_runs(rough):
    """Runs that never turn back within a part, as a manifest has them."""
    at: dict[int, int] = {}
    runs = []
    for part, gap, rows in rough:
        first = at.get(part, 0) + gap
        runs.append(Run(part, first, rows))
        at[part] = first + rows
    return runs


def words(count, *what):
    data = hashlib.shake_256(("safehold order v1\n" + "\n".join(map(str, what))).encode()).digest(8 * count)
    return [int.from_bytes(data[8 * at : 8 * at + 8], "little") for at in range(count)]


def naive(runs, rule, epoch):
    """The same contract, written with lists of records: (part, record) in the epoch's order."""
    if rule.shuffle:
        parts = {}
        for run in runs:
            parts.setdefault(run.part, []).extend((run.part, run.first + one) for one in range(run.rows))
        pieces = -(-rule.lanes // len(parts))
        units = []
        for rows in parts.values():
            size = len(rows)
            if pieces > 1:
                size = rule.window
                while size * pieces < len(rows):
                    size += rule.window
            units += [rows[at : at + size] for at in range(0, len(rows), size)]
    else:
        units = [[(run.part, run.first + one) for one in range(run.rows)] for run in runs]
    blocks = [[unit[at : at + rule.window] for at in range(0, len(unit), rule.window)] for unit in units]
    if not rule.shuffle:
        return [record for unit in units for record in unit]
    keys = words(len(units), rule.seed, epoch, "units")
    lanes = [[] for _ in range(min(rule.lanes, len(units)))]
    for number in sorted(range(len(units)), key=lambda one: (keys[one], one)):
        lane = min(lanes, key=len)
        for block in blocks[number]:
            name = f"{block[0][0]}-{block[0][1]}-{block[-1][1] + 1}"
            order = words(len(block), rule.seed, epoch, "block", name)
            lane += [block[one] for one in sorted(range(len(block)), key=lambda one: (order[one], one))]
    found = []
    while any(len(lane) >= rule.chunk for lane in lanes):
        for lane in lanes:
            if len(lane) >= rule.chunk:
                found += lane[: rule.chunk]
                del lane[: rule.chunk]
    return found + [record for lane in lanes for record in lane]


def listed(order, start, stop):
    found = []
    for piece in order.pieces(start, stop):
        records = [(piece.block.part, first + one) for first, rows in piece.block.spans for one in range(rows)]
        if order.rule.shuffle:
            places = seeded_order(len(records), order.rule.seed, order.epoch, "block", piece.block.name)
            records = [records[place] for place in places]
        found += records[piece.start : piece.stop]
    return found


@given(RUNS, RULES, st.integers(0, 2))
def test_the_order_is_the_naive_twins(rough, rule, epoch):
    runs = make_runs(rough)
    order = EpochOrder(runs, rule, epoch)
    expected = naive(runs, rule, epoch)
    assert order.rows == len(expected) == len(set(expected)) == sum(run.rows for run in runs)
    assert listed(order, 0, order.rows) == expected


@given(RUNS, RULES, st.data())
def test_any_stretch_of_positions_is_that_stretch_of_the_order(rough, rule, data):
    order = EpochOrder(make_runs(rough), rule, 0)
    start = data.draw(st.integers(0, order.rows))
    stop = data.draw(st.integers(start, order.rows))
    assert listed(order, start, stop) == listed(order, 0, order.rows)[start:stop]


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9))


def taken(order, sizes, position, steps=None):
    """What ranks and workers of these sizes take from ``position`` on, and where they are after ``steps`` of it."""
    ranks, workers, batch = sizes
    each = []
    for rank in range(ranks):
        streams = [
            shares(order.rows, Share(batch=batch, rank=rank, ranks=ranks, worker=worker, workers=workers), position)
            for worker in range(workers)
        ]
        batches = []  # as a data loader asks: its workers in turn
        while streams:
            got = [next(stream, None) for stream in streams]
            batches += [one for one in got if one is not None]
            if None in got:
                break
        each.append(batches[:steps])
    records = [
        record for rank in each for batch in rank for start, stop in batch for record in listed(order, start, stop)
    ]
    end = order.rows if steps is None else min(order.rows, position + steps * ranks * batch)
    return records, end


@given(RUNS, RULES, SIZES, SIZES, SIZES, st.integers(0, 12), st.integers(0, 12))
def test_resume_in_mid_epoch_is_exact_on_other_ranks_and_workers(rough, rule, one, two, three, first, second):
    order = EpochOrder(make_runs(rough), rule, 1)
    whole = listed(order, 0, order.rows)
    before, at = taken(order, one, 0, first)
    then, further = taken(order, two, at, second)
    rest, end = taken(order, three, further)
    assert end == order.rows
    assert sorted(before) == sorted(whole[:at])
    assert sorted(then) == sorted(whole[at:further])
    assert sorted(before + then + rest) == sorted(whole)


@given(RUNS, RULES, SIZES, st.sampled_from(["drop", "repeat"]))
def test_drop_and_repeat_give_every_rank_as_many_batches(rough, rule, sizes, tail):
    ranks, _, batch = sizes
    rows = sum(run.rows for run in make_runs(rough))
    each = [list(shares(rows, Share(batch=batch, rank=rank, ranks=ranks, tail=tail))) for rank in range(ranks)]
    assert len({len(batches) for batches in each}) == 1
    assert all(sum(stop - start for start, stop in one) == batch for batches in each for one in batches)
    places = [place for batches in each for one in batches for start, stop in one for place in range(start, stop)]
    if tail == "drop":
        assert len(places) == len(set(places)) == rows // (ranks * batch) * ranks * batch
    else:
        assert set(places) == set(range(rows))


@given(RUNS, st.integers(0, 2**63 - 1))
def test_seeds_and_epochs_differ(rough, seed):
    runs = make_runs([*rough, (9, 0, 64)])
    orders = [
        listed(o, 0, o.rows) for e in (0, 1) for s in (seed, seed ^ 1) for o in [EpochOrder(runs, OrderRule(seed=s), e)]
    ]
    assert len({tuple(one) for one in orders}) == 4


def test_a_rule_is_small():
    rule = OrderRule(seed=2**63 - 1, lanes=4096, chunk=65_536, window=1_048_576)
    assert len(json.dumps(msgspec.to_builtins(rule))) < 200
