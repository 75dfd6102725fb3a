"""The order of training records: a pure function of (seed, epoch, runs). No I/O, no state, no clock.

**The contract.** An epoch has one global order: each record of the release once, at a place from 0 on. It depends on
``OrderRule``, the epoch and the release's runs, and on nothing else: not on ranks, workers, batch size or on where the
last job stopped. So a number, the *position*, is all that a resumed job needs, on whatever number of ranks.

How it is made, so that each reader decodes little of what others decode:

1. A part's records are cut into **units** (the whole part; where there are fewer parts than lanes, pieces of it of whole
   windows) and these into **blocks** of ``window`` records, the last of a unit of fewer.
2. Units come in a seeded order and are dealt to **lanes**, each to the lane with the fewest records so far.
3. Within a block, records come in a seeded order (the shuffle buffer).
4. Lanes take turns by ``chunk`` records while they have a whole chunk left; what is left over in each lane comes last.

Ranks and workers share the order out by batch (``Share``). With batches of whole chunks, and lanes that are a multiple of
ranks × workers × chunks in a batch, each worker reads lanes of its own; otherwise some blocks are decoded by two.

Seeded orders are sorts by 64-bit words of SHAKE-256 (FIPS 202): the same on every machine and version.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from safehold.vault.manifest import Run

__all__ = [
    "Block",
    "EpochOrder",
    "OrderRule",
    "Piece",
    "Share",
    "block_rows",
    "seeded_order",
    "seeded_words",
    "shares",
    "unit_blocks",
]

_WORD: Final = 8


class OrderRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the order depends on besides the release and the epoch; see the module. Sizes are in records."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    shuffle: bool = True
    lanes: Annotated[int, Meta(ge=1, le=4096)] = 8
    chunk: Annotated[int, Meta(ge=1, le=65_536)] = 16
    window: Annotated[int, Meta(ge=1, le=1_048_576)] = 16_384


class Block(msgspec.Struct, frozen=True):
    """Records of one part that are held together: ``spans`` are (first record, records), rising;
    ``unit`` is the number of its unit.

    The same for every seed and epoch, so that a cache can hold it.
    """

    part: int
    spans: tuple[tuple[int, int], ...]
    unit: int

    @property
    def rows(self) -> int:
        """How many records."""
        return sum(rows for _, rows in self.spans)

    @property
    def name(self) -> str:
        """A name that no other block of the release has."""
        first, last = self.spans[0][0], self.spans[-1][0] + self.spans[-1][1]
        return f"{self.part}-{first}-{last}"


class Piece(msgspec.Struct, frozen=True):
    """The records from ``start`` to ``stop`` in the seeded order of one block."""

    block: Block
    start: int
    stop: int


def seeded_order(rows: int, *what: object) -> list[int]:
    """The numbers below ``rows``, ordered by the words of SHAKE-256 over ``what``, ties by number."""
    words = seeded_words(rows, *what)
    return sorted(range(rows), key=words.__getitem__)


def seeded_words(rows: int, *what: object) -> array[int]:
    """``rows`` 64-bit words that ``what`` decides, little-endian words of SHAKE-256."""
    text = "safehold order v1\n" + "\n".join(map(str, what))
    words = array("Q", hashlib.shake_256(text.encode()).digest(rows * _WORD))
    if _BIG_ENDIAN:
        words.byteswap()
    return words


_BIG_ENDIAN: Final = array("H", b"\x00\x01")[0] == 1


def block_rows(block: Block, rule: OrderRule, epoch: int) -> array[int] | None:
    """The words that order the records of a block (sort by them, stable), or None to keep them as they are."""
    return seeded_words(block.rows, rule.seed, epoch, "block", block.name) if rule.shuffle else None


def _units(runs: Sequence[Run], rule: OrderRule) -> list[tuple[int, list[tuple[int, int]]]]:
    """Stretches that belong together: a part's own (or, in order, a run); cut where there are fewer than lanes."""
    whole: list[tuple[int, list[tuple[int, int]]]] = []
    if rule.shuffle:
        parts: dict[int, list[tuple[int, int]]] = {}
        for run in runs:
            spans = parts.setdefault(run.part, [])
            if spans and sum(spans[-1]) == run.first:
                spans[-1] = (spans[-1][0], spans[-1][1] + run.rows)
            else:
                spans.append((run.first, run.rows))
        whole = list(parts.items())
        pieces = -(-rule.lanes // len(whole))
        if pieces > 1:
            # Whole windows: a cut elsewhere would make two readers decode the row group that it goes through.
            windows = [-(-sum(rows for _, rows in spans) // (pieces * rule.window)) for _, spans in whole]
            cut = zip(whole, windows, strict=True)
            return [(part, piece) for (part, spans), count in cut for piece in _cut(spans, count * rule.window)]
        return whole
    return [(run.part, [(run.first, run.rows)]) for run in runs]


def _cut(spans: Sequence[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Cut stretches into pieces of ``size`` records; the last may be shorter."""
    piece: list[tuple[int, int]] = []
    room = size
    for first, rows in spans:
        at, left = first, rows
        while left:
            taken = min(left, room)
            piece.append((at, taken))
            at, left, room = at + taken, left - taken, room - taken
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece


def unit_blocks(runs: Sequence[Run], rule: OrderRule) -> list[list[Block]]:
    """Step 1: the units and their blocks, the same for every seed and epoch."""
    return [
        [Block(part, tuple(block), number) for block in _cut(spans, rule.window)]
        for number, (part, spans) in enumerate(_units(runs, rule))
    ]


class EpochOrder:
    """The global order of one epoch; ``rows`` records. ``pieces(start, stop)`` tells what lies at these positions."""

    def __init__(self, runs: Sequence[Run], rule: OrderRule, epoch: int) -> None:
        self.rule = rule
        self.epoch = epoch
        units = unit_blocks(runs, rule)
        sizes = [sum(block.rows for block in unit) for unit in units]
        order = seeded_order(len(units), rule.seed, epoch, "units") if rule.shuffle else list(range(len(units)))
        count = min(rule.lanes, len(units)) if rule.shuffle else 1
        dealt: list[list[Block]] = [[] for _ in range(count)]
        filled = [0] * count
        for number in order:
            lane = min(range(count), key=filled.__getitem__)
            dealt[lane] += units[number]
            filled[lane] += sizes[number]
        self.lanes = dealt
        self.rows = sum(filled)
        self._starts = [[0, *accumulate(block.rows for block in lane)] for lane in dealt]
        self._phases = _phases([rows // rule.chunk for rows in filled])
        self._turns = sum(rows // rule.chunk for rows in filled)
        tails = [rows % rule.chunk for rows in filled]
        self._tails = list(accumulate(tails, initial=self._turns * rule.chunk))
        self._filled = filled

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The records at the positions from ``start`` to ``stop``, in order."""
        while start < stop:
            lane, offset, rows = self._locate(start)
            rows = min(rows, stop - start)
            start += rows
            starts = self._starts[lane]
            while rows:
                number = bisect_right(starts, offset) - 1
                inside = offset - starts[number]
                taken = min(rows, starts[number + 1] - offset)
                yield Piece(self.lanes[lane][number], inside, inside + taken)
                offset, rows = offset + taken, rows - taken

    def _locate(self, position: int) -> tuple[int, int, int]:
        """Lane, offset in it, and how many records follow there before another lane's turn."""
        chunk = self.rule.chunk
        turn, inside = divmod(position, chunk)
        if turn < self._turns:
            first, done, alive = self._phases[bisect_right(self._phases, turn, key=lambda phase: phase[0]) - 1]
            rounds, place = divmod(turn - first, len(alive))
            return alive[place], (done + rounds) * chunk + inside, chunk - inside
        lane = bisect_right(self._tails, position) - 1
        left = self._tails[lane + 1] - position
        return lane, self._filled[lane] - left, left


def _phases(turns: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Stretches of the order with the same lanes alive: (first turn, rounds done, lanes)."""
    found: list[tuple[int, int, list[int]]] = []
    first = done = 0
    for rounds in sorted(set(turns) - {0}):
        alive = [lane for lane, count in enumerate(turns) if count >= rounds]
        found.append((first, done, alive))
        first += (rounds - done) * len(alive)
        done = rounds
    return found


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Whose part of the order: worker ``worker`` of ``workers`` in rank ``rank`` of ``ranks``, in batches of ``batch``.

    ``tail`` says what happens to the records after the last step in which every rank has a whole batch: ``keep`` gives
    each once (ranks may differ by a batch), ``drop`` leaves them out, ``repeat`` fills up from the epoch's beginning.
    """

    batch: int = 1
    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1
    tail: Literal["keep", "drop", "repeat"] = "keep"


def shares(rows: int, share: Share, position: int = 0) -> Iterator[tuple[tuple[int, int], ...]]:
    """The batches of one worker as stretches of positions, from ``position`` on.

    Step *t* of all ranks covers ``batch * ranks`` positions, a batch for each rank in turn; worker *w* makes every
    step with ``t % workers == w``, which is the order in which a data loader asks its workers.
    """
    stride = share.batch * share.ranks
    step = share.worker
    while (base := position + step * stride) < rows:
        step += share.workers
        if base + stride > rows and share.tail == "drop":
            return
        start, stop = base + share.rank * share.batch, base + (share.rank + 1) * share.batch
        if share.tail == "repeat":
            yield tuple(_wrapped(start, stop, rows))
        elif start < rows:
            yield ((start, min(stop, rows)),)


def _wrapped(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        first = start % rows
        last = min(rows, first + stop - start)
        yield first, last
        start += last - first
