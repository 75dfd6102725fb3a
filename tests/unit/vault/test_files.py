"""Releases of files: byte for byte, names protected too, gone on with after a death, refused where anything is changed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.vault.file_tree import FolderTree, FoundFile
from safehold.vault.manifest import PartFile, parse_manifest
from safehold.vault.open import open_release
from safehold.vault.open_files import checked_path, file_rows, write_files
from safehold.vault.seal_files import plan_parts
from safehold.vault.stored_release import fetch_release, publish_folder
from safehold.vault.verify import load_release, verify_release
from tests.files_kit import found_in, make_files, open_files, seal_files
from tests.object_store_kit import fresh_store
from tests.vault_kit import SUPPLIER, outcome


def test_files_come_back_byte_for_byte(tmp_path: Path) -> None:
    made = make_files(tmp_path / "in")
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    assert len({part.part for part in sealed.manifest.parts}) == 4
    verify_release(sealed.folder, SUPPLIER.public, expected=sealed.release)
    seen: list[int] = []
    written = write_files(open_files(sealed), tmp_path / "out", seen.append)
    assert found_in(tmp_path / "out") == made
    assert (written.files, written.size) == (len(made), sum(map(len, made.values())))
    assert seen[-1] == written.size
    assert not list(tmp_path.glob(".s*"))
    assert all((path.stat().st_mode & 0o077) == 0 for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("sizes", [{"a": 0}, {"a": 1}, {"a": 999_999, "b": 1, "c": 1_000_000}, {"a": 3_000_000}])
def test_sizes_at_the_edge_of_a_part(tmp_path: Path, sizes: dict[str, int]) -> None:
    made = make_files(tmp_path / "in", sizes)
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    write_files(open_files(sealed), tmp_path / "out")
    assert found_in(tmp_path / "out") == made


def test_plans_lose_nothing() -> None:
    files = [FoundFile(f"f{n:05}", size, "") for n, size in enumerate([0, 7, 0, 20, 10, 1, 0, 35] * 2000)]
    parts = plan_parts(files, 10)
    assert all(sum(piece.length for piece in part) <= 10 for part in parts)
    assert all(parts)
    assert max(len(part) for part in plan_parts(files, 1 << 40)) <= 4096
    at: dict[str, int] = {}
    for piece in (piece for part in parts for piece in part):
        assert at.setdefault(piece.file.path, 0) == piece.at
        at[piece.file.path] += piece.length
    assert at == {file.path: file.size for file in files}


def test_neither_names_nor_contents_stand_in_what_is_sealed(tmp_path: Path) -> None:
    (tmp_path / "in" / "patients-of-dr").mkdir(parents=True)
    text = b"protected words that would be found " * 4000
    (tmp_path / "in" / "patients-of-dr" / "unmistakable-name.txt").write_bytes(text)
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    for path in sealed.folder.iterdir():
        data = path.read_bytes()
        for secret in (b"unmistakable", b"patients-of-dr", b"protected words"):
            assert secret not in data, path
    assert b"unmistakable" not in load_release(sealed.folder).envelope.body


def test_names_alone_and_contents_alone(tmp_path: Path) -> None:
    made = make_files(tmp_path / "in")
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    names = open_files(sealed, "names")
    assert {row["path"] for _, row in file_rows(names)} == set(made)
    assert sum(batch.num_rows for batch in names.batches()) == sealed.manifest.rows
    assert outcome(lambda: write_files(names, tmp_path / "x"))[1] == "vault.no_content"
    contents = open_files(sealed, "content")
    assert outcome(lambda: write_files(contents, tmp_path / "x"))[1] == "vault.no_names"
    assert outcome(lambda: list(contents.batches()))[1] == "vault.no_table"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("group", ["names", "content"])
@pytest.mark.parametrize("harm", ["flip", "cut", "swap"])
def test_changed_parts_are_refused(tmp_path: Path, group: str, harm: str) -> None:
    make_files(tmp_path / "in")
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    first, second = sealed.manifest.files([group])[:2]
    path = sealed.folder / first.file
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(
        data[:-1] if harm == "cut" else (sealed.folder / second.file).read_bytes() if harm == "swap" else data
    )
    code = outcome(lambda: write_files(open_files(sealed), tmp_path / "out"))[1]
    assert code in {"vault.part_altered", "vault.part_truncated"}
    assert not (tmp_path / "out").exists()


def test_the_key_of_another_part_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path / "in")
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    first, second = sealed.manifest.files(["content"])[:2]
    keys = {**sealed.keys, first.file: sealed.keys[second.file]}
    assert outcome(lambda: open_release(sealed.folder, sealed.release, keys, ["content"]))[1] == "vault.wrong_key"


def test_links_and_pipes_are_named_and_not_left_out(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 1})
    (tmp_path / "in" / "link").symlink_to("a")
    assert outcome(lambda: FolderTree(tmp_path / "in").files())[1] == "vault.files_special"
    (tmp_path / "in" / "link").unlink()
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    assert outcome(lambda: FolderTree(tmp_path / "in").files())[1] == "vault.files_special"
    (tmp_path / "in" / "folder").unlink()
    os.mkfifo(tmp_path / "in" / "pipe")
    assert outcome(lambda: FolderTree(tmp_path / "in").files())[1] == "vault.files_special"
    with pytest.raises(NotFound):
        FolderTree(tmp_path / "none").files()
    (tmp_path / "bare").mkdir()
    assert outcome(lambda: FolderTree(tmp_path / "bare").files())[1] == "vault.files_none"
    (tmp_path / "bare" / os.fsdecode(b"\xff")).write_bytes(b"")
    assert outcome(lambda: FolderTree(tmp_path / "bare").files())[1] == "vault.files_name"


def test_a_file_that_changes_while_it_is_sealed(tmp_path: Path) -> None:
    make_files(tmp_path / "in")

    def touch(path: Path, part: PartFile) -> None:
        (tmp_path / "in" / "zz").write_bytes(b"other")

    code = outcome(lambda: seal_files(tmp_path / "in", tmp_path / "r", keep=touch))[1]
    assert code == "vault.source_changed"
    assert not (tmp_path / "r").exists()
    # And the next run seals what is there now, all of it anew.
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    write_files(open_files(sealed), tmp_path / "out")
    assert found_in(tmp_path / "out") == found_in(tmp_path / "in")


def _kill_at(deadly: int, folder: Path, target: Path) -> int:
    """A child that seals and is killed for good before its ``deadly``-th call of the disk; its end."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(real):  # type: ignore[no-untyped-def]  # any call of the system
            def call(*args, **more):  # type: ignore[no-untyped-def]  # any call of the system
                nonlocal calls
                calls += 1
                if calls == deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return call

        for name in ("fsync", "rename", "mkdir", "link", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            seal_files(folder, target)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_each_step_and_gone_on_with(tmp_path: Path) -> None:
    made = make_files(tmp_path / "in", {"a": 1_500_000, "b": 700_000, "c": 0})
    resumed = 0
    for deadly in range(1, 100):
        target = tmp_path / f"r{deadly}"
        ended = _kill_at(deadly, tmp_path / "in", target)
        if not target.exists():
            fresh: list[str] = []
            sealed = seal_files(tmp_path / "in", target, keep=lambda path, part, fresh=fresh: fresh.append(part.file))  # type: ignore[misc]  # bound to this turn
            resumed += len(fresh) < len(sealed.manifest.parts)
            assert found_in(write_files(open_files(sealed), tmp_path / f"out{deadly}").path) == made
        verify_release(target, SUPPLIER.public)
        if ended == 0:
            assert deadly > 20
            assert resumed >= 5
            return
    pytest.fail("it never came to its end")


def test_what_an_earlier_run_left_is_taken_only_if_it_holds(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 3_500_000})

    def die(path: Path, part: PartFile) -> None:
        if part.part == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_files(tmp_path / "in", tmp_path / "r", keep=die)
    part = next((tmp_path / ".sealing-r").glob("1-00001-content*"))
    part.write_bytes(part.read_bytes()[:-1])
    (tmp_path / ".sealing-r" / "something else").write_bytes(b"")
    fresh: list[int] = []
    sealed = seal_files(tmp_path / "in", tmp_path / "r", keep=lambda path, part: fresh.append(part.part))
    assert sorted(set(fresh)) == [1, 2, 3]
    verify_release(sealed.folder, SUPPLIER.public)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\n", b'{"plan":"sha256:00"}\n', b'{"plan":1}\n{"files":[]}\n'])
def test_a_journal_that_says_nothing_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    make_files(tmp_path / "in", {"a": 10})
    (tmp_path / ".sealing-r.journal").write_bytes(damage)
    seal_files(tmp_path / "in", tmp_path / "r")


def test_no_key_lies_open_in_the_journal(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 2_500_000})
    journals: list[bytes] = []

    def look(path: Path, part: PartFile) -> None:
        journals.append((tmp_path / ".sealing-r.journal").read_bytes())

    sealed = seal_files(tmp_path / "in", tmp_path / "r", keep=look)
    assert len(journals[-1]) > 500
    for key in sealed.keys.values():
        assert key not in journals[-1]
        assert key.hex().encode() not in journals[-1]
    assert b'"a"' not in journals[-1]


def test_two_at_once_do_not_both_win(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 10})

    def second(path: Path, part: PartFile) -> None:
        with pytest.raises(Conflict) as busy:
            seal_files(tmp_path / "in", tmp_path / "r")
        assert busy.value.code == "vault.busy"

    seal_files(tmp_path / "in", tmp_path / "r", keep=second)
    with pytest.raises(Conflict) as exists:
        seal_files(tmp_path / "in", tmp_path / "r")
    assert exists.value.code == "vault.release_exists"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a\0b", "x" * 256])
def test_a_path_never_leaves_its_folder(path: str) -> None:
    with pytest.raises(VerificationFailed) as refused:
        checked_path(path)
    assert refused.value.code == "vault.file_path"


def test_through_a_store(tmp_path: Path) -> None:
    made = make_files(tmp_path / "in")
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    stored = publish_folder(sealed.folder, fresh_store("folder", tmp_path), 1_800_000_000_000_000)
    fetched = fetch_release(stored, tmp_path / "fetched")
    opened = open_release(fetched, sealed.release, sealed.keys, ["names", "content"])
    assert found_in(write_files(opened, tmp_path / "out").path) == made


def test_a_manifest_that_mixes_files_and_columns_is_none(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 10})
    sealed = seal_files(tmp_path / "in", tmp_path / "r")
    body = load_release(sealed.folder).envelope.body
    assert parse_manifest(body).chunked == {"content"}
    for old, new in (
        (b".chunks", b".parquet"),
        (b'"names","columns":["path"', b'"names","columns":["content"'),
        (b'"type":"file"', b'"type":"string"'),
        (b'"type":"int64"', b'"type":"file"'),
    ):
        changed = body.replace(old, new)
        if changed != body:
            with pytest.raises((SafeholdError, InputInvalid)):
                parse_manifest(changed)
