"""Any history, nonsense too, means the same in both stores: entries, tree, projections, and what the rooms read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.containment.holds import preview
from safehold.exposure.case import load_case
from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import NoteVerifier
from safehold.ledger.postgres import PostgresStore
from safehold.ledger.postgres_batch import batch_rows
from safehold.ledger.postgres_sql import escape, translate, unescape
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Store, View
from safehold.model.errors import SafeholdError
from safehold.model.ids import HostId, PartyId, RequestId, Subject, sha256_digest
from safehold.model.statements import InventoryRecorded, Statement
from safehold.state import standing
from safehold.state.projection import StateProjector, _sql, digest_projections, dump_projections, rebuild
from safehold.state.tables import TABLES
from tests.ledger_kit import KEY, memory_folder
from tests.postgres_kit import fresh_origin, new_schema
from tests.property.state.test_histories import HISTORIES, PAYLOADS, SUBJECTS


def _play(store: Store, origin: str, folder: Path, history: list[list[Statement]]) -> Log:
    log = Log(store, CheckpointLock(folder), KEY, origin, StateProjector())
    for statements in history:
        named = {one.inventory for one in statements if isinstance(one, InventoryRecorded)}
        payloads = tuple(body for body in PAYLOADS if sha256_digest(body) in named)
        draft = Draft(tuple(statements), payloads)
        log.append(lambda _view, draft=draft: draft)
    return log


def _answer(ask: Any, *arguments: Any) -> Any:
    try:
        return ask(*arguments)
    except SafeholdError as error:
        return error.code


def _seen(view: View, subject: Subject) -> list[Any]:
    host, party = HostId("p/h1"), PartyId("p")
    return [
        view.size(),
        view.bodies(0, 999),
        list(dump_projections(view)),
        digest_projections(view),
        standing.find_host(view, host),
        standing.list_hosts(view),
        standing.list_hosts(view, party),
        standing.find_party_key(view, party),
        standing.list_releases(view),
        standing.list_grants(view),
        standing.list_grants(view, party),
        standing.active_holds(view),
        standing.read_inventories(view, host),
        [standing.request_used(view, RequestId(f"q-{number}")) for number in range(4)],
        _answer(preview, view, subject, 5),
        _answer(load_case, view, "A-1", 5),
    ]


@settings(max_examples=25)
@given(HISTORIES, SUBJECTS)
def test_a_history_means_the_same_in_both(history: list[list[Statement]], subject: Subject) -> None:
    origin = fresh_origin()
    with memory_folder() as folder:
        one = _play(SqliteStore(folder / "ledger.db"), origin, folder / "one.db", history)
        two = _play(PostgresStore(new_schema(), origin), origin, folder / "two.db", history)
        try:
            with one.view() as here, two.view() as there:
                assert _seen(here, subject) == _seen(there, subject)
                if here.size():
                    assert here.checkpoint() == there.checkpoint()
                assert check_ledger(there, NoteVerifier(origin, KEY.public)) == []
                kept = digest_projections(here)
            with two.write() as transaction:
                assert rebuild(transaction) == transaction.size()
                assert digest_projections(transaction) == kept
        finally:
            one.close()
            two.close()


STRANGE = st.text(alphabet="\0\1\2ab\U0010ffff", max_size=6)


@given(STRANGE, STRANGE)
def test_escaping_keeps_text_and_order(one: str, two: str) -> None:
    assert unescape(escape(one)) == one
    assert "\0" not in escape(one)
    assert (one.encode() < two.encode()) == (escape(one).encode() < escape(two).encode())
    assert (one == two) == (escape(one) == escape(two))


def test_translating_leaves_quotes_alone() -> None:
    assert (
        translate("SELECT '?', \"?1\" FROM t WHERE a = ? AND b = ?")
        == "SELECT '?', \"?1\" FROM t WHERE a = $1 AND b = $2"
    )
    assert translate("SELECT ?2, ?1, ?2") == "SELECT $2, $1, $2"
    assert translate("SELECT 'INTEGER' AS TEXT") == "SELECT 'INTEGER' AS TEXT"
    made = translate('CREATE TABLE IF NOT EXISTS "TEXT"("a" INTEGER NOT NULL, b TEXT, c BLOB)')
    assert made == 'CREATE TABLE IF NOT EXISTS "TEXT"("a" BIGINT NOT NULL, b TEXT COLLATE "C", c BYTEA)'


def test_only_plain_inserts_are_batched() -> None:
    replace = 'INSERT INTO "t"("k", "a") VALUES($1, $2) ON CONFLICT("k") DO UPDATE SET "a" = excluded."a"'
    batch = batch_rows(replace, [("x", 1), ("y", 2), ("x", 3)])
    assert batch is not None
    assert batch.sql == (
        'INSERT INTO "t"("k", "a") SELECT c0, c1 FROM unnest($1::text[], $2::bigint[]) AS r(c0, c1)'
        ' ON CONFLICT("k") DO UPDATE SET "a" = excluded."a"'
    )
    assert batch.arrays[1].data.endswith(
        b"\0\0\0\x08" + (3).to_bytes(8, "big") + b"\0\0\0\x08" + (2).to_bytes(8, "big")
    )
    rows = [("x", 1), ("y", 2)]
    for sql in (
        'UPDATE "t" SET "a" = $1 WHERE "k" = $2',
        'INSERT INTO "t"("k", "a") VALUES($2, $1)',
        'INSERT INTO "t"("k", "a") VALUES($1, $2 + 1)',
        'INSERT INTO "t"("k", "a") VALUES($1, $2) ON CONFLICT("k") DO UPDATE SET "a" = t."a" + 1',
        'INSERT INTO "t"("k", "a") VALUES($1, $2) ON CONFLICT("k") DO UPDATE SET "b" = excluded."b"',
        'INSERT INTO "t"("k", "a") VALUES($1, $2) ON CONFLICT("k") DO UPDATE SET "a" = excluded."k"',
        'INSERT INTO "t"("k", "a") VALUES($1, $2) RETURNING "a"',
        'INSERT INTO "t"("k", "a") VALUES($1, $2), ($1, $2)',
    ):
        assert batch_rows(sql, rows) is None, sql
    assert batch_rows(replace, [("x", 1), ("y", "2")]) is None, "two types in one column"
    assert batch_rows(replace, [("x", True), ("y", False)]) is None
    assert batch_rows(replace, [("x",), ("y",)]) is None


def test_rows_of_every_projection_go_together() -> None:
    """What the fold puts or adds is sent as arrays: a shape that is not seen through would go row by row, and slowly."""
    for table in TABLES:
        row = {
            name: number if kind.startswith("INTEGER") else f"x{number}"
            for number, (name, kind) in enumerate(table.columns)
        }
        for act in ("put", "add"):
            for names in (tuple(row), tuple(reversed(row))):
                sql = translate(_sql(act, table.name, names, ()))
                assert batch_rows(sql, [tuple(row[name] for name in names)] * 2) is not None, (table.name, act)
