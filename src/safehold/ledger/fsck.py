"""``fsck`` of the stored ledger: recompute everything, trust nothing that is stored beside the entries.

Each finding has a code of its own, so that a person can look it up and a machine can count it. Findings are
collected, not raised: whoever runs ``fsck`` wants the whole list. The order invariants and the comparison of
projections with a fresh fold live in ``state``, which knows what statements mean.
"""

from __future__ import annotations

from typing import Final

import msgspec

from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.storage import View
from safehold.ledger.tree import Frontier, leaf_hash, tile_path, tiles_of_size
from safehold.model.errors import SafeholdError
from safehold.model.ids import sha256_digest
from safehold.model.statements import decode

__all__ = ["Problem", "check_ledger"]

_BATCH: Final = 4096


class Problem(msgspec.Struct, frozen=True):
    """Something that does not hold: a ``code``, where, and what it means for a person."""

    code: str
    where: str
    message: str


def check_ledger(view: View, verifier: NoteVerifier) -> list[Problem]:
    """All problems of entries, tree, tiles, checkpoints and payloads; empty means that everything holds.

    Codes: ``fsck.entry_missing``, ``fsck.entry_form``, ``fsck.tile``, ``fsck.checkpoint``, ``fsck.root``, ``fsck.payload``.
    """
    problems: list[Problem] = []
    size = view.size()
    roots = _checkpoint_roots(view, verifier, problems)
    frontier, tiles = Frontier(), dict[tuple[int, int], bytes]()
    for begin in range(0, size, _BATCH):
        end = min(begin + _BATCH, size)
        bodies = view.bodies(begin, end)
        if len(bodies) != end - begin:
            problems.append(
                Problem("fsck.entry_missing", f"entries {begin}-{end - 1}", "an entry in this range is gone")
            )
            return problems
        for offset, body in enumerate(bodies):
            frontier.append(leaf_hash(body), tiles)
            _check_entry(begin + offset, body, problems)
            expected = roots.pop(frontier.size, None)
            if expected is not None and expected != frontier.root():
                problems.append(
                    Problem("fsck.root", f"checkpoint {frontier.size}", "the entries do not hash to this signed root")
                )
    problems += [
        Problem("fsck.checkpoint", f"checkpoint {at}", f"signed, but there are {size} entries") for at in roots
    ]
    problems += _check_tiles(view, frontier, tiles)
    problems += _check_payloads(view)
    return problems


def _checkpoint_roots(view: View, verifier: NoteVerifier, problems: list[Problem]) -> dict[int, bytes]:
    roots: dict[int, bytes] = {}
    for size, note in view.rows("SELECT size, note FROM checkpoint ORDER BY size"):
        try:
            checkpoint = open_checkpoint(note, verifier)
        except SafeholdError as error:
            problems.append(Problem("fsck.checkpoint", f"checkpoint {size}", error.message))
            continue
        if checkpoint.size != size:
            problems.append(Problem("fsck.checkpoint", f"checkpoint {size}", f"it says {checkpoint.size}"))
        else:
            roots[size] = checkpoint.root
    if view.size() and view.size() not in roots:
        problems.append(Problem("fsck.checkpoint", "head", f"no valid checkpoint covers all {view.size()} entries"))
    return roots


def _check_entry(index: int, body: bytes, problems: list[Problem]) -> None:
    try:
        decode(body)
    except SafeholdError as error:
        problems.append(Problem("fsck.entry_form", f"entry {index}", error.message))


def _check_tiles(view: View, frontier: Frontier, tiles: dict[tuple[int, int], bytes]) -> list[Problem]:
    for level, index, hashes in frontier.partial_tiles():
        tiles[level, index] = hashes
    problems = []
    for level, index, width in tiles_of_size(frontier.size):
        stored = view.tile(level, index)
        if stored != tiles[level, index]:
            problems.append(
                Problem("fsck.tile", tile_path(level, index, width), "the stored hashes are not those of the entries")
            )
    return problems


def _check_payloads(view: View) -> list[Problem]:
    problems = []
    for (name,) in view.rows("SELECT digest FROM payload ORDER BY digest"):
        if sha256_digest(view.payload(name) or b"") != name:
            problems.append(Problem("fsck.payload", name, "the bytes do not have the digest that names them"))
    return problems
