"""The fold and its tables: a function for each kind, rows that say what the statement said, and a rebuild that is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry
from safehold.model.errors import InputInvalid
from safehold.model.ids import Subject, sha256_digest
from safehold.model.statements import STATEMENT_TYPES, Unknown, decode, encode
from safehold.state import fold_base
from safehold.state.fold import RowChange, fold
from safehold.state.projection import StateProjector, _sql, digest_projections, dump_projections, rebuild
from safehold.state.tables import PROJECTION_VERSION, TABLES
from tests.ledger_kit import CONTENTS, EVIDENCE, hold, lift, one_of_each, open_log, party

SAMPLES = one_of_each()
# The table in which a statement of a kind is kept under its place; None: it is in no table.
HOME = {
    "ledger.opened": None, "ledger.restored": "restoration", "party.registered": "party",
    "member.registered": "member", "host.registered": "host",
    "dataset.registered": "dataset", "release.sealed": "release", "grant.issued": "grant",
    "inventory.recorded": "observation", "inventory.confirmed": "observation", "advisory.recorded": "advisory",
    "finding.recorded": "finding", "key.released": "key_release", "key.refused": "key_refusal",
    "decision.made": "decision", "hold.placed": "hold", "hold.lifted": "hold", "run.declared": "run",
    "refusals.counted": "refusal_count",
    "lease.opened": "lease", "lease.ended": "lease", "grant.revoked": "revocation", "member.keyed": "member_key",
    "access.approved": "approval", "environment.retired": "retirement", "keys.rewrapped": "rewrap",
    "policy.recorded": "policy",
    "model.declared": "model", "segment.sealed": "segment", "response.planned": "response", "response.proven": "response_step",
    "evidence.recorded": "evidence", "credential.noted": "credential_note", "clock.noted": "clock_note",
    "notice.sent": "notice", "release.checked": "release_check",
    "release.retired": "retired", "release.erased": "erased",
    "release.rekeyed": "rekeyed",
    "release.stored": "release_store", "dataset.adopted": "adopted", "adoption.sealed": "adopted",
    "adoption.removed": "adopted", "latent.recorded": "latent", "indicators.recorded": "indicator",
    "source.trusted": "advisory_source", "advisories.synced": "advisory_sync",
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path)
    yield opened
    opened.close()


def _digest(log: Log) -> str:
    with log.view() as view:
        return digest_projections(view)


def _changes(kind: str, payload: bytes | None = CONTENTS) -> list[RowChange]:
    return fold(Entry(7, encode(SAMPLES[kind]), SAMPLES[kind]), lambda _digest: payload)


def test_every_kind_has_a_function_of_its_own() -> None:
    registered = set(fold_base.fold_statement.registry) - {object}
    assert registered == set(STATEMENT_TYPES.values())
    assert set(HOME) == set(STATEMENT_TYPES)


@pytest.mark.parametrize("kind", sorted(STATEMENT_TYPES))
def test_a_statement_changes_its_own_table(kind: str) -> None:
    tables = {change.table for change in _changes(kind)}
    assert (HOME[kind] in tables) if HOME[kind] else not tables


@pytest.mark.parametrize("kind", sorted(STATEMENT_TYPES))
def test_every_change_fits_its_table(kind: str) -> None:
    by_name = {table.name: table for table in TABLES}
    for change in _changes(kind):
        table = by_name[change.table]
        _sql(change.act, change.table, tuple(change.values), tuple(change.where))
        if change.act != "set":
            assert set(change.values) == {name for name, _ in table.columns}


def test_every_table_is_filled_by_some_kind(log: Log) -> None:
    log.append(lambda _view: Draft(tuple(SAMPLES.values()), (CONTENTS, EVIDENCE)))
    with log.view() as view:
        empty = {table.name for table in TABLES if not view.rows(f'SELECT 1 FROM "{table.name}"')}
        assert empty == {"unknown_entry"}
        assert view.rows("SELECT kind, name, path FROM item ORDER BY kind") == [
            ("distribution", "quill", "site"),
            ("hook", "", "a.pth"),
            ("skipped", "not readable", "b"),
        ]
        (groups, people, parent), *_ = view.rows("SELECT groups, people, parent FROM release")
        assert json.loads(groups) == ["question", "answer"]
        assert json.loads(people) == [{"category": "writer", "jurisdiction": "DE", "count": 3}]
        assert parent is None
        assert view.rows("SELECT title, idx FROM dataset") == [("Wörter und Zahlen", 4)]
        assert view.rows("SELECT since, until, sweeps, largest_gap FROM observation ORDER BY idx") == [
            (1, 1, 1, 0),
            (1, 9, 3, 4),
        ]


def test_what_nobody_knows_leaves_one_row(log: Log) -> None:
    body = b'{"kind":"moon.landed","v":3}'
    assert fold(Entry(5, body, decode(body)), lambda _digest: None) == [
        RowChange("put", "unknown_entry", {"idx": 5, "kind": "moon.landed", "version": 3})
    ]
    assert isinstance(decode(body), Unknown)


@pytest.mark.parametrize("payload", [None, b"", b"no contents", b"[]", CONTENTS[:-1]])
def test_an_inventory_that_cannot_be_read_has_no_items_and_stops_nothing(payload: bytes | None) -> None:
    assert [change.table for change in _changes("inventory.recorded", payload)] == ["observation"]


def test_a_hold_is_placed_lifted_and_lifted_again(log: Log) -> None:
    log.append_statements(hold(1), hold(2, Subject("host", "quill-works/ci-1")), lift(1), lift(1), lift(9))
    with log.view() as view:
        assert view.rows("SELECT hold, placed_idx, lifted_idx FROM hold ORDER BY hold") == [
            ("h-0000000000000001", 0, 3),
            ("h-0000000000000002", 1, None),
        ]


def test_rebuilding_gives_the_same_bytes_and_says_how_far_it_is(log: Log) -> None:
    log.append(lambda _view: Draft(tuple(SAMPLES.values()), (CONTENTS, EVIDENCE)))
    log.append_statements(*(party(number) for number in range(3000)))
    before, said = _digest(log), list[tuple[int, int]]()
    with log.write() as transaction:
        transaction.execute("DELETE FROM hold")
        transaction.execute("UPDATE party SET title = 'wrong'")
        transaction.execute("CREATE TABLE IF NOT EXISTS of_someone_else(x)")
    assert _digest(log) != before
    with log.write() as transaction:
        assert rebuild(transaction, lambda done, total: said.append((done, total))) == 3000 + len(SAMPLES)
    assert _digest(log) == before
    assert said == [(2048, 3000 + len(SAMPLES)), (3000 + len(SAMPLES),) * 2]


def test_a_rebuild_that_dies_leaves_the_old_projections(log: Log) -> None:
    log.append_statements(*(party(number) for number in range(10)))
    before = _digest(log)

    def dies(_done: int, _all: int) -> None:
        raise InputInvalid("test.stop", "the power went")

    with pytest.raises(InputInvalid), log.write() as transaction:
        rebuild(transaction, dies)
    assert _digest(log) == before


@pytest.mark.parametrize("sql", ["UPDATE projection_version SET version = 0", "DELETE FROM projection_version",
                                 "INSERT INTO projection_version VALUES(9999)"])  # fmt: skip
def test_projections_of_another_version_are_rebuilt_at_opening(tmp_path: Path, sql: str) -> None:
    log = open_log(tmp_path)
    log.append_statements(hold(1), party(1))
    before = _digest(log)
    with log.write() as transaction:
        transaction.execute(sql)
        transaction.execute("DELETE FROM hold")
    log.close()
    log = open_log(tmp_path)
    assert _digest(log) == before
    with log.view() as view:
        assert view.rows("SELECT version FROM projection_version") == [(PROJECTION_VERSION,)]
    log.close()


def test_projections_of_this_version_are_left_alone(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(hold(1))
    with log.write() as transaction:
        transaction.execute("DELETE FROM hold")
        StateProjector().prepare(transaction)
    with log.view() as view:
        assert view.rows("SELECT * FROM hold") == []
    log.close()


def test_the_dump_names_every_table_and_is_in_key_order(log: Log) -> None:
    for number in (5, 3, 9, 1):
        log.append_statements(party(number))
    with log.view() as view:
        lines = list(dump_projections(view))
    assert [line[:-1].decode() for line in lines if not line.startswith(b"[")] == [table.name for table in TABLES]
    titles = [json.loads(line)[2] for line in lines if b'"Party' in line]
    assert titles == ["Party 1", "Party 3", "Party 5", "Party 9"]
    with log.view() as view:
        assert digest_projections(view) == sha256_digest(b"".join(lines))


def test_a_column_that_is_not_there_is_a_bug_that_is_seen() -> None:
    with pytest.raises(ValueError, match="party does not have"):
        _sql("put", "party", ("party", "no_such"), ())
