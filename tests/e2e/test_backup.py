"""Backup and restore by the command line: nothing lost, nothing altered unseen, and nothing appended unanswered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safehold.app.backup_form import BACKUP_FILE, load_backup_file
from tests.cli_kit import Desk, make_desk, make_environment_of, write_texts

HOST = "north-lab/trainer"
RELEASE = "quill-works/problems@1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with a sealed release, a grant and a member, and a full backup in ``backup``."""
    desk = make_desk(tmp_path_factory.mktemp("backup") / "desk")
    write_texts(desk.folder / "records.jsonl", 200)
    desk("seal", desk.folder / "records.jsonl", "--dataset", "quill-works/problems")
    grant = ["grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out"]
    desk(*grant, desk.folder / "grant.json")
    desk("member", "add", "north-lab", "Rosa Diaz")
    make_environment_of(desk.folder / "env")
    desk("backup", desk.folder / "backup", "--releases")
    return desk


@pytest.fixture
def desk(made: Desk, tmp_path: Path) -> Desk:
    return made.copy(tmp_path / "desk")


def restored(desk: Desk, *more: Any) -> Desk:
    """The same desk, at a home restored from its backup; its old home is gone."""
    shutil.rmtree(desk.home)
    new = desk.folder / "new-home"
    desk("restore", desk.folder / "backup", "--home", new, *more)
    desk.home = new
    return desk


def test_a_restored_home_waits_and_then_opens_byte_for_byte(desk: Desk) -> None:
    size = desk.json("log", "checkpoint")["size"]
    restored(desk)
    for command in (
        ["party", "add", "p-1", "--role", "lab"],
        ["suspend", f"host:{HOST}", "--reason", "x"],
        ["inventory", "record", HOST, "--environment", desk.folder / "env"],
    ):
        error = desk.error(*command, code=5)
        assert error["code"] == "ledger.restored"
        assert "restore accept" in error["hint"]
    opening = [
        "open",
        RELEASE,
        "--host",
        HOST,
        "--grant",
        desk.folder / "grant.json",
        "--out",
        desk.folder / "out.jsonl",
    ]
    assert desk.error(*opening, code=5)["code"] == "ledger.restored"
    assert desk.json("log", "checkpoint")["size"] == size
    said = desk.json("restore", "accept", "--reason", "the disk was gone")
    assert (said["entry"], said["size"], said["witnessed"]) == (size, size, None)
    assert desk.json("log", "show", size)["kind"] == "ledger.restored"
    desk("inventory", "record", HOST, "--environment", desk.folder / "env")
    assert desk.json(*opening)["as_sealed"] is True
    assert (desk.folder / "out.jsonl").read_bytes() == (desk.folder / "records.jsonl").read_bytes()
    assert desk.json("fsck")["problems"] == []
    assert desk.json("member", "list")["members"][0]["name"] == "Rosa Diaz"
    assert desk.error("restore", "accept", "--reason", "again", code=7)["code"] == "app.not_restored"


def test_entries_after_the_backup_are_missed_by_a_checkpoint(desk: Desk) -> None:
    old = desk.folder / "old.note"
    old.write_text(desk.json("log", "checkpoint")["note"])
    desk("suspend", f"host:{HOST}", "--reason", "someone wants this gone")
    newer = desk.folder / "newer.note"
    newer.write_text(desk.json("log", "checkpoint")["note"])
    restored(desk)
    error = desk.error("restore", "accept", "--checkpoint", newer, code=5)
    assert error["code"] == "ledger.rolled_back"
    assert error["message"].startswith("2 entries are missing")
    assert desk.error("party", "add", "p-1", "--role", "lab", code=5)["code"] == "ledger.restored"
    said = desk.json("restore", "accept", "--checkpoint", old)
    assert said["witnessed"] == said["size"]
    desk("party", "add", "p-1", "--role", "lab")
    # two histories now: the one that others know is refused for what it is
    assert desk.json("backup", "to", desk.folder / "backup-2")["size"] == said["size"] + 2


def test_a_checkpoint_of_another_history_or_key_is_refused(desk: Desk, made: Desk, tmp_path: Path) -> None:
    desk("party", "add", "p-1", "--role", "lab")
    restored(desk)
    first = desk.folder / "first"
    shutil.copytree(desk.home, first)
    desk("restore", "accept", "--reason", "one")
    note = desk.folder / "note"
    note.write_text(desk.json("log", "checkpoint")["note"])
    backup = desk.folder / "backup-2"
    desk.home = first
    desk("restore", "accept", "--reason", "another")
    desk("backup", backup)
    desk("restore", backup, "--home", desk.folder / "third")
    desk.home = desk.folder / "third"
    error = desk.error("restore", "accept", "--checkpoint", note, code=5)
    assert error["code"] == "ledger.rolled_back"
    assert "not the ones that were signed" in error["message"]
    stranger = make_desk(tmp_path / "stranger")
    note.write_text(stranger.json("log", "checkpoint")["note"])
    assert desk.error("restore", "accept", "--checkpoint", note, code=4)["code"] in {
        "ledger.signature",
        "ledger.note_unsigned",
    }
    assert desk.error("restore", "accept", "--checkpoint", desk.folder / "no", code=6)["code"] == "cli.checkpoint_file"
    assert desk.error("restore", "accept", code=2)["code"] == "app.restore_reason"


def test_an_altered_byte_in_any_file_is_found(desk: Desk) -> None:
    backup = desk.folder / "backup"
    desk("backup", "verify", backup)
    files = [path for path in backup.rglob("*") if path.is_file()]
    listed = {one.path for one in load_backup_file(backup).files}
    assert {path.relative_to(backup).as_posix() for path in files} == listed | {BACKUP_FILE}
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            for command in (["backup", "verify", backup], ["restore", backup, "--home", desk.folder / "never"]):
                assert desk.error(*command, code=4)["code"] == "app.backup_altered", (path, at)
        path.write_bytes(whole)
        path.rename(path.with_name("elsewhere"))
        missing = desk.error("backup", "verify", backup, code=6 if path.name == BACKUP_FILE else 4)["code"]
        assert missing == ("app.no_backup" if path.name == BACKUP_FILE else "app.backup_missing")
        path.with_name("elsewhere").rename(path)
    assert not (desk.folder / "never").exists()
    desk("backup", "verify", backup)


def test_a_backup_signed_anew_over_an_altered_ledger_is_found(desk: Desk) -> None:
    """Whoever has the ledger's key can sign any list of files; the copied ledger is checked by itself."""
    from safehold.app.backup_form import hash_file, signed
    from safehold.ledger.keys import SigningKey
    from safehold.model.encoding import canonical_bytes

    backup = desk.folder / "backup"
    ledger = backup / "ledger.db"
    data = bytearray(ledger.read_bytes())
    at = data.index(b"Quill Works")
    data[at] ^= 1
    ledger.write_bytes(data)
    file = load_backup_file(backup)
    files = []
    for one in file.files:
        size, digest = hash_file(backup / one.path)
        files.append(type(one)(path=one.path, size=size, sha256=digest))
    import msgspec

    again = msgspec.structs.replace(file, files=tuple(files))
    (backup / BACKUP_FILE).write_bytes(canonical_bytes(signed(again, SigningKey.load(desk.home / "keys" / "ledger"))))
    assert desk.error("backup", "verify", backup, code=4)["code"] == "app.backup_ledger"


def test_running_again_renews_and_keeps_equal_parts(desk: Desk) -> None:
    backup = desk.folder / "backup"
    part = next(backup.glob("releases/*/*/1/*.parquet"))
    before = part.stat().st_ino
    desk("party", "add", "p-1", "--role", "lab")
    said = desk.json("backup", backup, "--releases")
    assert part.stat().st_ino == before
    assert said["missing"] == []
    assert said["size"] == desk.json("log", "checkpoint")["size"]
    part.write_bytes(b"x" * part.stat().st_size)
    desk("backup", backup, "--releases")
    assert desk.json("backup", "verify", backup)["size"] == said["size"]


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    said = desk.json("backup", desk.folder / "other", "--releases", "--dry-run")
    assert said["dry_run"] is True
    assert said["files"] > 10
    assert said["bytes"] > 10_000
    assert not (desk.folder / "other").exists()


def test_without_keys_the_keys_come_from_elsewhere(desk: Desk) -> None:
    backup, new = desk.folder / "bare", desk.folder / "new"
    assert desk.json("backup", backup, "--without-keys")["keys"] is False
    assert not (backup / "keys").exists()
    assert desk.error("restore", backup, "--home", new, code=2)["code"] == "app.backup_without_keys"
    other = make_desk(desk.folder / "stranger")
    wrong = desk.error("restore", backup, "--home", new, "--keys", other.home / "keys", code=4)
    assert wrong["code"] == "app.restore_key"
    assert not new.exists()
    desk("restore", backup, "--home", new, "--keys", desk.home / "keys")
    desk.home = new
    desk("restore", "accept", "--reason", "moved")
    desk("party", "add", "p-1", "--role", "lab")


def test_what_is_no_place_for_a_backup_or_a_home_is_refused(desk: Desk) -> None:
    backup = desk.folder / "backup"
    assert desk.error("backup", desk.home / "inside", code=2)["code"] == "app.backup_inside"
    assert desk.error("backup", desk.folder, code=7)["code"] == "app.backup_folder"
    stranger = make_desk(desk.folder / "stranger")
    assert stranger.error("backup", backup, code=7)["code"] == "app.backup_other"
    assert desk.error("restore", backup, "--home", desk.home, code=7)["code"] == "app.home_exists"
    assert (
        desk.error("restore", desk.folder / "nothing", "--home", desk.folder / "n", code=6)["code"] == "app.no_backup"
    )
    line = stranger.json("log", "checkpoint")["verifier"]
    assert desk.error("backup", "verify", backup, "--verifier", line, code=4)["code"] == "app.backup_verifier"
    ours = desk.json("log", "checkpoint")["verifier"]
    assert desk.json("backup", "verify", backup, "--verifier", ours)["verifier_from"] == "option"
    (desk.folder / "empty").mkdir()
    desk("restore", backup, "--home", desk.folder / "empty")


def test_an_older_ledger_does_not_replace_a_newer_backup(desk: Desk) -> None:
    desk("backup", desk.folder / "older")
    desk("party", "add", "p-1", "--role", "lab")
    desk("backup", desk.folder / "newer")
    desk("restore", desk.folder / "older", "--home", desk.folder / "new")
    desk.home = desk.folder / "new"
    assert desk.error("backup", desk.folder / "newer", code=7)["code"] == "app.backup_newer"
    desk("backup", "verify", desk.folder / "newer")


def test_a_release_that_is_not_there_is_named(desk: Desk) -> None:
    shutil.rmtree(desk.home / "releases" / "quill-works")
    said = desk.json("backup", desk.folder / "other", "--releases")
    assert said["missing"] == ["quill-works/problems/1"]
    assert "NOT in it" in desk("backup", desk.folder / "other", "--releases").out


def test_an_altered_part_is_not_backed_up(desk: Desk) -> None:
    part = next(desk.home.glob("releases/*/*/1/*.parquet"))
    part.write_bytes(b"x" * part.stat().st_size)
    assert desk.error("backup", desk.folder / "other", "--releases", code=4)["code"] == "app.backup_altered"
    assert desk.error("backup", "verify", desk.folder / "other", code=6)["code"] == "app.no_backup"


def test_an_answer_whose_mark_stayed_is_given_once(desk: Desk) -> None:
    """The process died between the entry and the removal of the mark."""
    restored(desk)
    mark = desk.home / "restored.json"
    kept = mark.read_bytes()
    first = desk.json("restore", "accept", "--reason", "one")
    mark.write_bytes(kept)
    assert desk.error("party", "add", "p-1", "--role", "lab", code=5)["code"] == "ledger.restored"
    assert desk.json("restore", "accept", "--reason", "two") == first
    desk("party", "add", "p-1", "--role", "lab")
    mark.write_bytes(b"{")
    assert desk.error("party", "list", code=5)["code"] == "app.restore_mark"
    document = json.loads(kept)
    mark.write_text(json.dumps(document | {"size": document["size"] - 1}))
    assert desk.error("restore", "accept", "--reason", "x", code=7)["code"] == "app.restore_head"


def test_an_erased_key_is_back_after_restoring(desk: Desk) -> None:
    """Said in the guide: erasing must be followed by new backups. Here is why."""
    from safehold.vault.keystore import KeyStore

    with KeyStore(desk.home / "keys.db") as store:
        (release,) = store.releases()
        assert store.erase(release) > 0
    restored(desk)
    with KeyStore(desk.home / "keys.db") as store:
        assert store.count(release) > 0
        store.erase(release)
        assert store.count(release) == 0
