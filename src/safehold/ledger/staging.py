"""Staging one group: what is written in a commit, in the order of the log's steps 1 to 3. Knows nothing of committing.

Drafts that read nothing are written together. A proposal that reads the state is run when all before it are staged, so that
it sees exactly the state before its own entries. Rows go to the store in bulk: entries, then what their fold changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from safehold.ledger.storage import Entry, Projector, Transaction
from safehold.ledger.tree import Frontier, leaf_hashes
from safehold.ledger.waiting import Draft, Waiting
from safehold.model.errors import SafeholdError
from safehold.model.ids import sha256_digest
from safehold.model.statements import Statement, encode_many

__all__ = ["stage_group", "stage_tiles"]

_Tiles = dict[tuple[int, int], bytes]


def stage_group(transaction: Transaction, group: Sequence[Waiting], projector: Projector, frontier: Frontier) -> _Tiles:
    """Stage all of ``group`` and extend ``frontier``; return the tiles that became full.

    A proposal that raises gets its error, and nothing of it is staged; a failure of the store raises and fails all.
    """
    full: _Tiles = {}
    ready: list[tuple[Waiting, Draft]] = []
    for waiting in group:
        if isinstance(waiting.proposal, Draft):
            ready.append((waiting, waiting.proposal))
            continue
        _stage_ready(transaction, ready, projector, frontier, full)
        ready.clear()
        try:
            ready.append((waiting, waiting.proposal(transaction)))  # 1 propose
        except Exception as error:  # noqa: BLE001 - refuses this proposal alone: it has staged nothing yet
            if not isinstance(error, SafeholdError):
                error.add_note("raised by a proposal; nothing of it was appended")
            waiting.error = error
    _stage_ready(transaction, ready, projector, frontier, full)
    return full


def _stage_ready(
    transaction: Transaction, ready: list[tuple[Waiting, Draft]], projector: Projector, frontier: Frontier, full: _Tiles
) -> None:
    if not ready:
        return
    bodies = _encode(ready)
    for _, draft in ready:
        for payload in draft.payloads:
            transaction.put_payload(sha256_digest(payload), payload)
    begin = frontier.size
    frontier.extend(leaf_hashes(bodies), full)  # 2 extend the copy
    transaction.add_entries(begin, bodies)  # 3 stage
    entries = list(map(Entry, count(begin), bodies, _statements(ready)))
    projector.apply(transaction, entries)
    at = 0
    for waiting, draft in ready:
        end = at + len(draft.statements)
        waiting.entries = tuple(entries[at:end])
        at = end


def _statements(ready: Sequence[tuple[Waiting, Draft]]) -> list[Statement]:
    return [statement for _, draft in ready for statement in draft.statements]


def _encode(ready: list[tuple[Waiting, Draft]]) -> list[bytes]:
    """The bytes of all statements; who has one without bytes gets his error, and is ``ready`` no more."""
    try:
        return encode_many(_statements(ready))
    except Exception:  # noqa: BLE001 - refuses below, and whoever it was
        bodies: list[bytes] = []
        for one in ready.copy():
            try:
                bodies += encode_many(one[1].statements)
            except Exception as error:  # noqa: BLE001 - refuses this draft alone: it has staged nothing yet
                one[0].error = error
                ready.remove(one)
        return bodies


def stage_tiles(transaction: Transaction, frontier: Frontier, full: _Tiles) -> None:
    """Write the tiles that became full, and those that are open."""
    for (level, index), hashes in full.items():
        transaction.put_tile(level, index, hashes)
    for level, index, hashes in frontier.partial_tiles():
        transaction.put_tile(level, index, hashes)
