"""Entries from the future: a raw log of kinds and versions that nobody here knows is kept, proven, exported, skipped."""

from __future__ import annotations

from pathlib import Path

from safehold.ledger.audit import audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Log
from safehold.ledger.note import sign_checkpoint
from safehold.ledger.receipt import verify_receipt
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry
from safehold.ledger.tree import Frontier, leaf_hash
from safehold.model.encoding import canonical_bytes
from safehold.model.statements import Unknown, decode
from safehold.state.projection import StateProjector, digest_projections, rebuild
from tests.ledger_kit import KEY, ORIGIN, VERIFIER, one_of_each, open_log, party

FUTURE = [
    canonical_bytes({"kind": "moon.landed", "v": 1, "crew": ["é", None, {"deep": [True, -1]}]}),
    canonical_bytes({"kind": "hold.placed", "v": 2, "everything": "else"}),
    canonical_bytes({"kind": "", "v": 0}),
]


def _append_raw(path: Path, bodies: list[bytes]) -> None:
    """What a newer Safehold would do: append bytes that this one could not make."""
    store, projector = SqliteStore(path), StateProjector()
    with store.write() as transaction:
        size, frontier, tiles = transaction.size(), Frontier(), dict[tuple[int, int], bytes]()
        for body in [*transaction.bodies(0, size), *bodies]:
            frontier.append(leaf_hash(body), tiles)
        for offset, body in enumerate(bodies):
            transaction.add_entry(size + offset, body)
            projector.apply(transaction, [Entry(size + offset, body, decode(body))])
        for level, index, hashes in [*((*place, hashes) for place, hashes in tiles.items()), *frontier.partial_tiles()]:
            transaction.put_tile(level, index, hashes)
        transaction.put_checkpoint(frontier.size, sign_checkpoint(ORIGIN, frontier.size, frontier.root(), KEY).note)
    store.close()


def _projections(log: Log) -> str:
    with log.view() as view:
        return digest_projections(view)


def test_the_future_is_kept_proven_exported_and_skipped(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(*one_of_each().values())
    with log.view() as view:
        before = view.rows("SELECT * FROM hold"), view.rows("SELECT * FROM party")
    log.close()
    _append_raw(tmp_path / "ledger.db", FUTURE)

    log = open_log(tmp_path)
    assert log.read_only is None
    (entry,) = log.append_statements(party(1))
    first = len(one_of_each())
    assert entry.index == first + 3
    for index, body in enumerate(FUTURE, first):
        read = log.entry(index)
        assert read.body == body
        assert isinstance(read.statement, Unknown)
        assert verify_receipt(log.receipt(index), VERIFIER).body == body
    with log.view() as view:
        assert check_ledger(view, VERIFIER) == []
        assert view.rows("SELECT * FROM unknown_entry ORDER BY idx") == [
            (first, "moon.landed", 1),
            (first + 1, "hold.placed", 2),
            (first + 2, "", 0),
        ]
        assert view.rows("SELECT * FROM hold") == before[0]
        assert view.rows("SELECT * FROM party WHERE party = 'quill-works'") == before[1]
    kept = _projections(log)
    with log.write() as transaction:
        assert rebuild(transaction) == first + 4
    assert _projections(log) == kept

    with log.view() as view:
        export_ledger(view, VERIFIER, tmp_path / "export")
    report = audit_export(tmp_path / "export", VERIFIER)
    assert (report.unknown, report.checkpoint.size) == (3, first + 4)
    assert (report.kinds["moon.landed"], report.kinds["hold.placed"], report.kinds[""]) == (1, 2, 1)
    log.close()
