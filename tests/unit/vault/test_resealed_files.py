"""A sealed release of files as the tree of the next one: the same parts, and whatever does not come out is refused."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from safehold.model.errors import Refused, VerificationFailed
from safehold.vault.check_files import HeldFile, folder_parts, sealed_files
from safehold.vault.resealed import check_resealed
from safehold.vault.resealed_files import SealedTree, prove_same_files
from tests.files_kit import make_files, open_files, seal_files
from tests.vault_kit import Sealed


@pytest.fixture
def old(tmp_path: Path) -> Sealed:
    make_files(tmp_path / "in")
    return seal_files(tmp_path / "in", tmp_path / "r1")


def _again(old: Sealed, folder: Path) -> Sealed:
    with SealedTree(open_files(old), old.release) as tree:
        tree.files()
        return seal_files(tree, folder, tree.part_bytes, version=2, parent=old.release)


def _held(sealed: Sealed) -> list[HeldFile]:
    return list(sealed_files(sealed.manifest, sealed.keys, folder_parts(sealed.folder)))


def test_the_same_files_in_the_same_parts(old: Sealed, tmp_path: Path) -> None:
    new = _again(old, tmp_path / "r2")
    assert len({part.part for part in old.manifest.parts}) > 2
    assert [(part.part, part.rows) for part in old.manifest.parts] == [
        (part.part, part.rows) for part in new.manifest.parts
    ]
    check_resealed(old.manifest, new.manifest, old.release)
    assert prove_same_files(_held(old), _held(new)) == len(make_files(tmp_path / "again"))


@pytest.mark.parametrize("sizes", [{"one": 0}, {"a": 0, "b": 0}, {"a": 5}, {"a": 400_000, "b": 0, "c": 600_001}])
def test_small_and_empty_files(sizes: dict[str, int], tmp_path: Path) -> None:
    make_files(tmp_path / "in", sizes)
    first = seal_files(tmp_path / "in", tmp_path / "r1")
    new = _again(first, tmp_path / "r2")
    check_resealed(first.manifest, new.manifest, first.release)
    assert prove_same_files(_held(first), _held(new)) == len(sizes)


def test_the_cut_that_is_known_is_the_one_of_a_single_part_too(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a": 10})
    one = seal_files(tmp_path / "in", tmp_path / "r1")
    with SealedTree(open_files(one), one.release) as tree:
        tree.files()
        assert tree.part_bytes == 64 << 20


def test_any_stretch_of_a_file(old: Sealed, tmp_path: Path) -> None:
    data = (tmp_path / "in" / "logs" / "run.log").read_bytes()
    with SealedTree(open_files(old), old.release) as tree:
        files = {file.path: file for file in tree.files()}
        for start, length in ((0, len(data)), (5, 10), (900_000, 1_100_000), (len(data) - 1, 1), (0, 0)):
            assert b"".join(tree.read(files["logs/run.log"], start, length)) == data[start : start + length]


def test_a_damaged_container_is_named_and_the_new_release_is_not_made(old: Sealed, tmp_path: Path) -> None:
    part = next(part for part in old.manifest.parts if part.group == "content")
    path = old.folder / part.file
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailed, match=part.file):
        _again(old, tmp_path / "r2")
    assert not (tmp_path / "r2").exists()


def test_other_bytes_than_the_names_tell_are_refused(old: Sealed) -> None:
    with SealedTree(open_files(old), old.release) as tree:
        (file, *_) = (one for one in tree.files() if one.size > 10)
        pieces = tree._pieces[file.path]
        tree._pieces[file.path] = [msgspec.structs.replace(pieces[0], sha256="sha256:" + "0" * 64), *pieces[1:]]
        with pytest.raises(VerificationFailed) as caught:
            list(tree.read(file, 0, file.size))
        assert caught.value.code == "vault.resealed_files"
        with pytest.raises(Refused):
            tree.remove(file)


@pytest.mark.parametrize("change", ["missing", "added", "other", "order"])
def test_files_that_differ_are_told(old: Sealed, change: str) -> None:
    mine = _held(old)
    other = HeldFile("x", 1, "sha256:" + os.urandom(32).hex())
    theirs = {
        "missing": mine[:-1], "added": [*mine, other], "other": [*mine[:-1], other], "order": [mine[1], mine[0], *mine[2:]],
    }[change]  # fmt: skip
    for left, right in ((mine, theirs), (theirs, mine)):
        with pytest.raises(VerificationFailed) as caught:
            prove_same_files(left, right)
        assert caught.value.code == "vault.resealed_files"
