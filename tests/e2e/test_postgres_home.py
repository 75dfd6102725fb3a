"""A home whose ledger is in PostgreSQL: the same commands, the same answers; no password in its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from safehold.app.wiring import HomeFactory
from tests.cli_kit import Desk
from tests.ledger_kit import party
from tests.postgres_kit import new_schema


@pytest.fixture
def store() -> str:
    return new_schema()


@pytest.fixture
def desk(tmp_path: Path, store: str) -> Desk:
    made = Desk(tmp_path / "desk")
    made("init", "--origin", "lab.example/custody", "--store", store)
    return made


def _parties(desk: Desk) -> list[str]:
    return [row["party"] for row in desk.json("party", "list")["parties"]]


def test_the_commands_work_on_it(tmp_path: Path, desk: Desk) -> None:
    assert not (desk.home / "ledger.db").exists()
    desk("party", "add", "quill-works", "--role", "supplier", "--title", "Quill")
    desk("host", "add", "quill-works/ws-1")
    assert _parties(desk) == ["quill-works"]
    assert desk.json("fsck")["problems"] == []
    desk("rebuild")
    said = desk.error("backup", tmp_path / "backup", code=7)
    assert said["code"] == "app.backup_not_here"
    assert "pg_dump" in said["hint"]
    assert not (tmp_path / "backup").exists()
    desk("log", "export", tmp_path / "export")
    desk("verify", tmp_path / "export")


def test_a_release_gets_new_keys_on_it(tmp_path: Path, desk: Desk) -> None:
    desk("party", "add", "north-lab", "--role", "lab")
    desk("party", "add", "quill-works", "--role", "supplier")
    desk("dataset", "add", "quill-works/problems", "--for", "north-lab")
    (tmp_path / "in.jsonl").write_text('{"q": "one"}\n{"q": "two"}\n')
    desk("seal", tmp_path / "in.jsonl", "--dataset", "quill-works/problems")
    rekey = ("rekey", "--release", "quill-works/problems@1")
    assert desk.json(*rekey, "--reason", "a key may be known")["successor"] == "quill-works/problems@2"
    assert desk.json(*rekey, "--finish", "--yes")["destroyed"] == 1
    desk("rebuild")
    assert [one["rekeyed_as"] for one in desk.json("dataset", "list")["releases"]] == [2, None]
    assert desk.json("fsck")["problems"] == []


def test_a_password_is_refused_before_anything_is_made(tmp_path: Path, store: str) -> None:
    url = store.replace("postgres:@", "postgres:secret@")
    assert url != store
    desk = Desk(tmp_path / "desk")
    said = desk("init", "--origin", "lab.example/custody", "--store", url, code=2)
    assert "ledger.store_password" in said.err
    assert "secret" not in said.out + said.err
    assert not desk.home.exists()


def test_another_home_cannot_take_a_ledger(tmp_path: Path, desk: Desk, store: str) -> None:
    other = Desk(tmp_path / "other")
    said = other(
        "init", "--origin", "lab.example/custody", "--store", store, code=4
    )  # its key did not sign what is there
    assert "ledger.note_unsigned" in said.err
    said = other("init", "--origin", "other.example/custody", "--store", store, code=7)
    assert "ledger.other_origin" in said.err
    assert not other.home.exists()
    assert _parties(desk) == []


def test_a_command_beside_a_leader_reads(desk: Desk) -> None:
    leader = HomeFactory().open(desk.home)
    leader.log.append_statements(party(1))
    assert _parties(desk) == ["p-1"]
    assert desk.json("fsck")["problems"] == []
    leader.close()
    desk("party", "add", "quill-works", "--role", "supplier", "--title", "Quill")
    assert _parties(desk) == ["p-1", "quill-works"]
