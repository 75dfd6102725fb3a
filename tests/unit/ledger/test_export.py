"""Export and audit: what was exported verifies by itself, and whatever is changed in it is found and named."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from safehold.ledger import audit, export
from safehold.ledger.audit import audit_export, read_verifier
from safehold.ledger.audit_part import read_bundle
from safehold.ledger.export import encode_bundle, export_ledger
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.tree import tile_path
from safehold.model.errors import NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.model.statements import STATEMENT_TYPES, encode
from tests.ledger_kit import (
    CONTENTS,
    KEY,
    ORIGIN,
    OTHER_KEY,
    VERIFIER,
    MemoryTree,
    memory_folder,
    one_of_each,
    open_log,
    party,
)


def _fill(log: Log, count: int) -> None:
    log.append(lambda _view: Draft(tuple(one_of_each().values()), (CONTENTS, b"'report'")))
    log.append_statements(*(party(number) for number in range(count - len(STATEMENT_TYPES))))


def _export(log: Log, folder: Path) -> int:
    with log.view() as view:
        return export_ledger(view, VERIFIER, folder).files


@pytest.fixture(scope="module")
def exported() -> Iterator[Path]:
    with memory_folder() as folder:
        log = open_log(folder)
        _fill(log, 600)
        _export(log, folder / "export")
        log.close()
        yield folder / "export"


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def _code(folder: Path, verifier: NoteVerifier = VERIFIER) -> str:
    with pytest.raises(VerificationFailed) as caught:
        audit_export(folder, verifier)
    return caught.value.code


def test_an_export_verifies_by_itself(exported: Path) -> None:
    report = audit_export(exported, read_verifier(exported))
    assert report.checkpoint.size == 600 == sum(report.kinds.values())
    assert report.kinds["party.registered"] == 601 - len(STATEMENT_TYPES)
    assert set(report.kinds) == set(STATEMENT_TYPES)
    assert (report.unknown, report.payloads) == (0, 2)
    assert sha256_digest(CONTENTS) not in report.missing
    assert len(report.missing) == 3, "one report, the document and the manifest were never put in"


def test_its_files_are_those_of_tlog_tiles(exported: Path) -> None:
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    payloads = {f"payload/{hashlib.sha256(data).hexdigest()}" for data in (CONTENTS, b"'report'")}
    assert names == payloads | {
        "checkpoint", "verifier", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000",
        "tile/entries/001", "tile/entries/002.p/88",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in exported.rglob("*") if path.is_file())
    assert (exported / "tile/1/000.p/2").stat().st_size == 64


@pytest.mark.parametrize("count", [18, 255, 256, 257, 512, 513])
def test_awkward_sizes_verify(count: int, tmp_path: Path) -> None:
    log = open_log(tmp_path)
    _fill(log, count)
    _export(log, tmp_path / "export")
    assert audit_export(tmp_path / "export", VERIFIER).checkpoint == log.checkpoint()
    log.close()


def test_every_file_that_is_missing_or_cut_is_found(exported: Path, copy: Path) -> None:
    for path in sorted(path for path in exported.rglob("*") if path.is_file()):
        name = path.relative_to(exported)
        original = path.read_bytes()
        for cut in (0, 1, len(original) - 1):
            (copy / name).write_bytes(original[:cut])
            assert _code(copy), (name, cut)
        (copy / name).write_bytes(original + b"\n")
        assert _code(copy), name
        (copy / name).unlink()
        if name.parts[0] == "tile":
            assert _code(copy) == "ledger.export_file"
        elif name.name == "checkpoint":
            with pytest.raises(NotFound) as caught:
                audit_export(copy, VERIFIER)
            assert caught.value.code == "ledger.export_missing"
        else:  # a payload may be erased, and the verifier line must come from elsewhere anyway
            report = audit_export(copy, VERIFIER)
            assert (name.parts[0] == "payload") == (report.payloads == 1)
        (copy / name).write_bytes(original)
    assert audit_export(copy, VERIFIER).payloads == 2


def test_several_processes_say_what_one_says(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = audit_export(copy, VERIFIER)
    codes = []
    for processes in (1, 2):
        monkeypatch.setattr(audit, "PART_ENTRIES", 256 if processes == 2 else 65_536)
        monkeypatch.setattr(audit, "_WORTH_PROCESSES", 2)
        assert audit_export(copy, VERIFIER, processes=processes) == alone
        for name in ("tile/entries/001", "tile/0/001", "tile/1/000.p/2", "tile/entries/002.p/88"):
            original = (copy / name).read_bytes()
            (copy / name).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
            with pytest.raises(VerificationFailed) as caught:
                audit_export(copy, VERIFIER, processes=processes)
            codes.append((caught.value.code, caught.value.message, caught.value.hint))
            (copy / name).write_bytes(original)
    assert codes[:4] == codes[4:]
    assert [code[0] for code in codes[:4]] == [
        "ledger.entry",
        "ledger.tile_altered",
        "ledger.tile_altered",
        "ledger.entry",
    ]


def test_entries_that_are_no_canonical_statements_are_named(tmp_path: Path) -> None:
    """A ledger signed over bytes that no honest writer makes: the root holds, and the entry is refused."""
    good = [encode(party(number)) for number in range(300)]
    for bad in (
        good[7].replace(b'"t":7', b'"t":7.0'), b" " + good[7], good[7] + b"\n", good[7] + b"\n" + good[8], b"", b"\n",
        good[7].replace(b'"t":7', b'"t":%d' % 2**53), good[7].replace(b'"title"', b'"titles"'), b"{}",
        good[7][:-1] + b',"t":7}', good[7].replace(b"Party", b"\\u0050arty"), b"\xff",
    ):  # fmt: skip
        for place in (7, 299):
            bodies = [*good[:place], bad, *good[place + 1 :]]
            folder = tmp_path / "export"
            shutil.rmtree(folder, ignore_errors=True)
            tree = MemoryTree(bodies)
            for (level, index), hashes in tree.tiles.items():
                export.write_file(folder / tile_path(level, index, len(hashes) // 32), hashes)
            export.write_file(folder / "tile/entries/000", encode_bundle(bodies[:256]))
            export.write_file(folder / "tile/entries/001.p/44", encode_bundle(bodies[256:]))
            export.write_file(folder / "checkpoint", sign_checkpoint(ORIGIN, 300, tree.frontier.root(), KEY).note)
            with pytest.raises(VerificationFailed) as caught:
                audit_export(folder, VERIFIER)
            assert (caught.value.code, f"entry {place} " in caught.value.message) == ("ledger.entry", True), bad


def test_codes_say_what_was_altered(copy: Path) -> None:
    def altered(name: str, change: bytes | None = None) -> str:
        path = copy / name
        kept = path.read_bytes()
        path.write_bytes(bytes([kept[0] ^ 1]) + kept[1:] if change is None else change)
        code = _code(copy)
        path.write_bytes(kept)
        return code

    payload = next((copy / "payload").iterdir()).name
    assert altered("tile/0/001") == "ledger.tile_altered"
    assert altered("tile/1/000.p/2") == "ledger.tile_altered"
    assert altered("tile/entries/001") == "ledger.bundle"
    body = (copy / "tile/entries/001").read_bytes()
    assert altered("tile/entries/001", body[:40] + bytes([body[40] ^ 1]) + body[41:]) in {"ledger.entry", "ledger.root"}
    assert altered("tile/entries/001", body[:2] + b" " + body[3:]) == "ledger.entry"
    assert altered("payload/" + payload) == "ledger.payload"
    assert altered("checkpoint", b"x") == "ledger.note_form"
    assert altered("checkpoint", b"x" * (1 << 21)) == "ledger.export_file"
    assert altered("verifier") == "ledger.verifier_file"
    assert altered("verifier", NoteVerifier(ORIGIN, OTHER_KEY.public).text.encode() + b"\n") == "ledger.verifier_file"
    assert altered("verifier", (VERIFIER.text + "\r\n").encode()) == "ledger.verifier_file"


def test_the_entry_that_differs_is_named(copy: Path) -> None:
    path = copy / "tile/entries/001"
    bodies = read_bundle(path.read_bytes(), 256, "bundle")
    at = bodies[10].index(b"Party ")
    bodies[10] = bodies[10][:at] + b"Pirat " + bodies[10][at + 6 :]
    path.write_bytes(encode_bundle(bodies))
    with pytest.raises(VerificationFailed) as caught:
        audit_export(copy, VERIFIER)
    assert caught.value.code == "ledger.root"
    assert "entry 266 differs" in caught.value.message


def test_swapped_bundles_are_found_even_with_their_tiles(copy: Path) -> None:
    for folder in ("tile/entries", "tile/0"):
        os.rename(copy / folder / "000", copy / folder / "x")
        os.rename(copy / folder / "001", copy / folder / "000")
        os.rename(copy / folder / "x", copy / folder / "001")
        with pytest.raises(VerificationFailed) as caught:
            audit_export(copy, VERIFIER)
        assert caught.value.code == "ledger.root"
    assert "whole tree was replaced" in caught.value.message


def test_two_entries_that_change_places_are_found(copy: Path) -> None:
    path = copy / "tile/entries/002.p/88"
    bodies = read_bundle(path.read_bytes(), 88, "bundle")
    bodies[3], bodies[4] = bodies[4], bodies[3]
    path.write_bytes(encode_bundle(bodies))
    assert _code(copy) == "ledger.root"


def test_another_ledgers_checkpoint_does_not_do(copy: Path) -> None:
    assert _code(copy, NoteVerifier(ORIGIN, OTHER_KEY.public)) == "ledger.note_unsigned"
    note = (copy / "checkpoint").read_bytes()
    root = bytes(32)
    (copy / "checkpoint").write_bytes(sign_checkpoint("other.example/log", 600, root, KEY).note)
    assert _code(copy) == "ledger.note_unsigned"
    (copy / "checkpoint").write_bytes(sign_checkpoint(ORIGIN, 600, root, KEY).note)
    assert _code(copy) == "ledger.root"
    (copy / "checkpoint").write_bytes(sign_checkpoint(ORIGIN, 601, root, KEY).note)
    assert _code(copy) == "ledger.export_file"
    (copy / "checkpoint").write_bytes(sign_checkpoint(ORIGIN, 256, root, KEY).note)
    assert _code(copy) == "ledger.root"
    (copy / "checkpoint").write_bytes(note)
    assert audit_export(copy, VERIFIER).checkpoint.size == 600


def test_an_export_grows_with_the_ledger_and_writes_only_what_is_new(tmp_path: Path) -> None:
    log, folder = open_log(tmp_path), tmp_path / "export"
    _fill(log, 600)
    assert _export(log, folder) == 11
    assert _export(log, folder) == 2, "the checkpoint and the verifier line only"
    log.append_statements(party(1))
    assert _export(log, folder) == 4, "and a partial tile with its bundle"
    log.append_statements(*(party(number) for number in range(200)))
    _export(log, folder)
    assert audit_export(folder, VERIFIER).checkpoint == log.checkpoint()
    (folder / "tile/0/000").write_bytes(b"broken")
    _export(log, folder)
    assert audit_export(folder, VERIFIER).checkpoint.size == 801
    log.close()


@pytest.mark.parametrize("stop", range(11))
def test_an_export_that_stops_anywhere_is_the_older_one_and_can_be_run_again(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, folder = open_log(tmp_path), tmp_path / "export"
    _fill(log, 250)
    _export(log, folder)
    old = log.checkpoint()
    log.append(lambda _view: Draft(tuple(party(number) for number in range(300)), (b"new payload",)))
    replace, calls = os.replace, 0

    def failing(source: str, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > stop:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(export.os, "replace", failing)
    if stop < 10:
        with pytest.raises(StorageFailed) as caught:
            _export(log, folder)
        assert caught.value.code == "ledger.export"
        assert audit_export(folder, VERIFIER).checkpoint == old
    monkeypatch.setattr(export.os, "replace", replace)
    _export(log, folder)
    assert audit_export(folder, VERIFIER).checkpoint == log.checkpoint() != old
    assert not list(folder.rglob(".new-*"))
    log.close()


def test_a_ledger_without_entries_is_not_exported(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(NotFound) as caught:
        _export(log, tmp_path / "export")
    assert caught.value.code == "ledger.empty"
    assert not (tmp_path / "export").exists()
    log.close()


def test_a_folder_that_is_no_export_or_cannot_be_read(tmp_path: Path, copy: Path) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(NotFound) as missing:
            audit_export(folder, VERIFIER)
        assert missing.value.code == "ledger.export_missing"
    (copy / "tile/0/000").unlink()
    (copy / "tile/0/000").mkdir()
    assert _code(copy) == "ledger.export_file"


def test_a_folder_named_like_a_payload_is_found(copy: Path) -> None:
    (copy / "payload" / ("0" * 64)).mkdir()
    assert _code(copy) == "ledger.export_file"
    (copy / "payload" / ("0" * 64)).rmdir()
    (copy / "payload" / "notes.txt").write_text("not ours")
    assert audit_export(copy, VERIFIER).payloads == 2


@pytest.mark.parametrize(
    ("data", "width"),
    [(b"\0", 1), (b"\0\1", 1), (b"\0\1ab", 1), (b"", 1), (b"\0\0\0\0", 1), (b"\xff\xff" + b"x" * 65_534, 1)],
)
def test_a_bundle_that_does_not_fit_is_refused(data: bytes, width: int) -> None:
    with pytest.raises(VerificationFailed) as caught:
        read_bundle(data, width, "bundle")
    assert caught.value.code == "ledger.bundle"


def test_bundles_go_there_and_back() -> None:
    bodies = [b"", b"x", b"y" * 65_535, b"z"]
    assert read_bundle(encode_bundle(bodies), 4, "bundle") == bodies
