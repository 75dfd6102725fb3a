"""fsck of the store: each kind of damage has its code and its place; a sound ledger has none."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from safehold.ledger.fsck import Problem, check_ledger
from safehold.ledger.log import Draft
from safehold.ledger.note import sign_checkpoint
from safehold.ledger.sqlite import SqliteStore
from safehold.model.statements import encode
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER, open_log, party

ENTRIES = 300


def _ledger(folder: Path) -> Path:
    log = open_log(folder)
    for begin in range(0, ENTRIES, 50):
        statements = tuple(party(number) for number in range(begin, begin + 50))
        log.append(lambda _view, made=statements: Draft(made, (b"payload", b"")))
    log.close()
    return folder / "ledger.db"


def _problems(path: Path, sql: str = "", *arguments: object) -> set[tuple[str, str]]:
    connection = apsw.Connection(str(path))
    connection.execute(sql, arguments)
    connection.close()
    store = SqliteStore(path)
    with store.read() as view:
        found = check_ledger(view, VERIFIER)
    store.close()
    assert all(isinstance(problem, Problem) and problem.message for problem in found)
    return {(problem.code, problem.where) for problem in found}


def test_a_sound_ledger_has_no_problem(tmp_path: Path) -> None:
    assert _problems(_ledger(tmp_path)) == set()


def test_an_empty_ledger_has_no_problem(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    assert _problems(tmp_path / "ledger.db") == set()


CHANGED = encode(party(77, title="other"))


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM entry WHERE idx = 7", {("fsck.entry_missing", "entries 0-299")}),
        ("DELETE FROM entry WHERE idx = 0", {("fsck.entry_missing", "entries 0-299")}),
        ("UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND idx = 0", {("fsck.tile", "tile/0/000")}),
        ("DELETE FROM tile WHERE level = 1", {("fsck.tile", "tile/1/000.p/1")}),
        ("UPDATE tile SET hashes = CAST(hashes || zeroblob(32) AS BLOB) WHERE level = 1", {("fsck.tile", "tile/1/000.p/1")}),
        ("UPDATE tile SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND idx = 1", {("fsck.tile", "tile/0/001.p/44")}),
        ("UPDATE checkpoint SET note = x'00' WHERE size = 100", {("fsck.checkpoint", "checkpoint 100")}),
        ("DELETE FROM checkpoint WHERE size = 300", {("fsck.checkpoint", "head")}),
        ("UPDATE checkpoint SET note = x'' WHERE size = 300", {("fsck.checkpoint", "checkpoint 300"), ("fsck.checkpoint", "head")}),
        ("UPDATE checkpoint SET size = 99 WHERE size = 100", {("fsck.checkpoint", "checkpoint 99")}),
        ("UPDATE payload SET body = x'00' WHERE length(body) = 0",
         {("fsck.payload", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")}),
        ("UPDATE payload SET digest = 'no digest' WHERE length(body) = 0", {("fsck.payload", "no digest")}),
    ],
)  # fmt: skip
def test_each_damage_has_its_code_and_its_place(tmp_path: Path, sql: str, found: set[tuple[str, str]]) -> None:
    assert _problems(_ledger(tmp_path), sql) == found


def test_a_changed_entry_breaks_its_tiles_and_every_later_checkpoint(tmp_path: Path) -> None:
    found = _problems(_ledger(tmp_path), "UPDATE entry SET body = ? WHERE idx = 77", CHANGED)
    assert found == {
        ("fsck.tile", "tile/0/000"),
        ("fsck.tile", "tile/1/000.p/1"),
        *(("fsck.root", f"checkpoint {size}") for size in range(100, 301, 50)),
    }


def test_an_entry_that_is_no_statement_has_its_own_code(tmp_path: Path) -> None:
    found = _problems(_ledger(tmp_path), "UPDATE entry SET body = x'7b7d' WHERE idx = 299")
    assert found == {
        ("fsck.entry_form", "entry 299"),
        ("fsck.tile", "tile/0/001.p/44"),
        ("fsck.root", "checkpoint 300"),
    }


def test_entries_that_were_cut_off_are_missed_by_the_checkpoints(tmp_path: Path) -> None:
    found = _problems(_ledger(tmp_path), "DELETE FROM entry WHERE idx >= 210")
    assert {
        ("fsck.checkpoint", "checkpoint 250"),
        ("fsck.checkpoint", "checkpoint 300"),
        ("fsck.checkpoint", "head"),
    } <= found


def test_an_entry_that_no_checkpoint_covers_is_found(tmp_path: Path) -> None:
    found = _problems(_ledger(tmp_path), "INSERT INTO entry VALUES(300, ?)", CHANGED)
    assert ("fsck.checkpoint", "head") in found
    assert ("fsck.tile", "tile/0/001.p/45") in found


@pytest.mark.parametrize(
    ("origin", "signer"), [(ORIGIN, OTHER_KEY), ("other.example/log", KEY)], ids=["another key", "another log"]
)
def test_a_checkpoint_of_another_is_found(tmp_path: Path, origin: str, signer: object) -> None:
    note = sign_checkpoint(origin, 100, bytes(32), signer).note  # type: ignore[arg-type]  # a SigningKey
    found = _problems(_ledger(tmp_path), "UPDATE checkpoint SET note = ? WHERE size = 100", note)
    assert found == {("fsck.checkpoint", "checkpoint 100")}


def test_a_second_root_signed_for_one_size_is_found(tmp_path: Path) -> None:
    note = sign_checkpoint(ORIGIN, 100, bytes(32), KEY).note
    assert _problems(_ledger(tmp_path), "UPDATE checkpoint SET note = ? WHERE size = 100", note) == {
        ("fsck.root", "checkpoint 100")
    }
