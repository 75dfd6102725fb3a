"""``backup.json``: one form, its own signature, and no path that leads out of the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from safehold.app.backup_form import (
    BACKUP_FILE,
    BackupFile,
    CopiedFile,
    copy_file,
    hash_file,
    load_backup_file,
    signed,
)
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import SafeholdError, VerificationFailed
from safehold.model.ids import sha256_digest
from tests.ledger_kit import KEY, OTHER_KEY, VERIFIER

FILE = BackupFile(
    verifier=VERIFIER.text, size=1, root="00" * 32, note="n", taken=5, keys=True, releases=False, missing=(),
    files=(CopiedFile(path="keys/ledger", size=1, sha256="00" * 32),),
)  # fmt: skip


def _load(folder: Path, file: Any) -> str:
    (folder / BACKUP_FILE).write_bytes(file if isinstance(file, bytes) else canonical_bytes(file))
    try:
        load_backup_file(folder)
    except SafeholdError as error:
        return error.code
    return "ok"


def _with_path(path: str) -> BackupFile:
    return signed(msgspec.structs.replace(FILE, files=(CopiedFile(path=path, size=1, sha256="0"),)), KEY)


def test_a_signed_one_is_read_back(tmp_path: Path) -> None:
    file = signed(FILE, KEY)
    assert _load(tmp_path, file) == "ok"
    assert load_backup_file(tmp_path) == file


@pytest.mark.parametrize("changed", [{"size": 2}, {"taken": 6}, {"keys": False}, {"missing": ("a",)}, {"files": ()}])
def test_nothing_in_it_can_be_changed(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert _load(tmp_path, msgspec.structs.replace(signed(FILE, KEY), **changed)) == "app.backup_altered"


def test_another_key_or_none_does_not_do(tmp_path: Path) -> None:
    assert _load(tmp_path, FILE) == "app.backup_altered"
    assert _load(tmp_path, signed(FILE, OTHER_KEY)) == "app.backup_altered"


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../x", "a/..", ".", "a//b", "a/", "a\nb", "a\\b", "a\x00"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    assert _load(tmp_path, _with_path(path)) == "app.backup_altered"


@pytest.mark.parametrize("path", ["home.json", "keys/parties/north-lab", "releases/a/b/1/00000-text.parquet", "..a/b"])
def test_the_paths_of_a_home_are_taken(tmp_path: Path, path: str) -> None:
    assert _load(tmp_path, _with_path(path)) == "ok"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"form":1}', b'{"form":"safehold-backup-v1"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert _load(tmp_path, data) == "app.backup_altered"


def test_a_form_of_the_future_is_named_as_such(tmp_path: Path) -> None:
    assert _load(tmp_path, b'{"form":"safehold-backup-v2"}') == "app.backup_form"


def test_the_same_in_another_layout_is_refused(tmp_path: Path) -> None:
    assert _load(tmp_path, canonical_bytes(signed(FILE, KEY)) + b"\n") == "app.backup_altered"


def test_a_copy_has_the_hash_of_what_was_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_bytes(b"x" * 3_000_000)
    size, digest = copy_file(source, target)
    assert (size, digest) == (3_000_000, sha256_digest(source.read_bytes()).removeprefix("sha256:"))
    assert hash_file(target) == (size, digest)
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(VerificationFailed):
        copy_file(source, tmp_path / "other", CopiedFile(path="p", size=size, sha256="00"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "source"]


def test_links_and_folders_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "source")
    (tmp_path / "source").write_bytes(b"x")
    for name in ("link", "."):
        with pytest.raises(OSError):
            copy_file(tmp_path / name, tmp_path / "target")
    assert not (tmp_path / "target").exists()
