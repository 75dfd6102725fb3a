from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safehold.model.errors import Conflict, InputInvalid, NotFound, VerificationFailed
from safehold.vault.merge import join_groups, merge_parts
from safehold.vault.open import OpenedRelease, needed_files, open_release
from safehold.vault.output import write_jsonl, write_parquet, write_records
from safehold.vault.seal import SealOptions
from safehold.vault.verify import countersign, load_release, verify_release
from tests.vault_kit import LAB, SUPPLIER, Sealed, seal, write_lines

RECORDS = [{"id": n, "q": f"question {n}", "a": {"text": f"answer {n}", "ok": n % 2 == 0}} for n in range(1_000)]
GROUPS = {"text": ["id", "q"], "labels": ["a"]}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("origin")
    path = write_lines(folder / "in.jsonl", RECORDS)
    return seal(path, folder / "r", groups=GROUPS, options=SealOptions(part_rows=160, group_rows=64, cut_key=b"k" * 32))


@pytest.fixture
def sealed(origin: Sealed, tmp_path: Path) -> Sealed:
    """A copy that a test may damage."""
    shutil.copytree(origin.folder, tmp_path / "r")
    return origin._replace(folder=tmp_path / "r")


def test_records_come_in_the_order_of_the_input(sealed: Sealed) -> None:
    opened = sealed.open()
    assert opened.whole
    assert list(opened.records()) == RECORDS
    assert list(opened.records()) == RECORDS  # a second time from the start


def test_only_the_groups_asked_for_are_touched(sealed: Sealed, tmp_path: Path) -> None:
    for part in sealed.manifest.files(["labels"]):
        (sealed.folder / part.file).unlink()
    keys = {name: key for name, key in sealed.keys.items() if "text" in name}
    opened = open_release(sealed.folder, sealed.release, keys, ["text"])
    assert list(opened.records()) == [{"id": r["id"], "q": r["q"]} for r in RECORDS]
    assert not opened.whole
    assert not write_jsonl(opened, tmp_path / "out.jsonl").as_source


def test_a_group_without_its_keys_stays_shut(sealed: Sealed) -> None:
    text_only = {name: key for name, key in sealed.keys.items() if "text" in name}
    with pytest.raises(VerificationFailed, match="no_key"):
        open_release(sealed.folder, sealed.release, text_only, ["labels"])
    names = sorted(sealed.keys)
    crossed = dict(zip(names, [sealed.keys[name] for name in reversed(names)], strict=True))
    with pytest.raises(VerificationFailed, match="wrong_key"):
        open_release(sealed.folder, sealed.release, crossed, ["labels"])
    for bad in (b"", b"k" * 16, b"k" * 32):
        with pytest.raises(VerificationFailed, match="wrong_key"):
            open_release(sealed.folder, sealed.release, dict.fromkeys(names, bad), ["text"])


def test_groups_that_do_not_exist_are_named(sealed: Sealed) -> None:
    for groups in (["nope"], [], ["text", "nope"]):
        with pytest.raises(InputInvalid, match="group_unknown"):
            open_release(sealed.folder, sealed.release, sealed.keys, groups)
    assert len(needed_files(sealed.manifest, ["text"])) == len(sealed.manifest.parts) // 2


def test_verify_needs_no_key(sealed: Sealed) -> None:
    report = verify_release(sealed.folder, SUPPLIER.public, expected=sealed.release)
    assert (report.files, report.size) == (len(sealed.manifest.parts), sealed.manifest.size)
    assert (report.signers, report.unknown_signers) == ((SUPPLIER.key_id,), ())


def test_countersigning_keeps_the_release(sealed: Sealed) -> None:
    with pytest.raises(VerificationFailed, match="manifest_unsigned"):
        verify_release(sealed.folder, SUPPLIER.public, [LAB.public])
    countersign(sealed.folder, LAB)
    report = verify_release(sealed.folder, SUPPLIER.public, [LAB.public], sealed.release)
    assert report.signers == (SUPPLIER.key_id, LAB.key_id)
    assert verify_release(sealed.folder, SUPPLIER.public).unknown_signers == (LAB.key_id,)
    assert list(sealed.open().records()) == RECORDS
    assert [e.name for e in sealed.folder.parent.iterdir()] == ["r"]


def test_an_unknown_supplier_is_refused(sealed: Sealed) -> None:
    with pytest.raises(VerificationFailed, match="manifest_unsigned"):
        verify_release(sealed.folder, LAB.public)


def _codes(sealed: Sealed) -> tuple[str, str]:
    """What verify and open say, and that open says it before a record."""
    with pytest.raises(VerificationFailed) as verified:
        verify_release(sealed.folder, SUPPLIER.public, expected=sealed.release)
    with pytest.raises(VerificationFailed) as opened:
        next(sealed.open().batches())
    return verified.value.code, opened.value.code


def test_what_is_missing_extra_or_cut_is_named(sealed: Sealed) -> None:
    part = sealed.folder / "1-00002-text.parquet"
    data = part.read_bytes()
    part.unlink()
    assert _codes(sealed) == ("vault.part_missing", "vault.part_missing")
    part.symlink_to(sealed.folder / "1-00001-text.parquet")
    assert _codes(sealed) == ("vault.part_altered", "vault.part_altered")
    part.unlink()
    part.mkdir()
    assert _codes(sealed) == ("vault.part_altered", "vault.part_altered")
    part.rmdir()
    os.mkfifo(part)
    assert _codes(sealed) == ("vault.part_altered", "vault.part_altered")
    part.unlink()
    for size in (0, 1, len(data) - 1):
        part.write_bytes(data[:size])
        assert _codes(sealed) == ("vault.part_truncated", "vault.part_truncated")
    part.write_bytes(data + b"\x00")
    assert _codes(sealed) == ("vault.part_altered", "vault.part_altered")
    part.write_bytes(data)
    (sealed.folder / "more.parquet").write_bytes(b"")
    with pytest.raises(VerificationFailed, match="extra_file"):
        verify_release(sealed.folder, SUPPLIER.public)
    (sealed.folder / "more.parquet").unlink()
    verify_release(sealed.folder, SUPPLIER.public)


def test_the_error_names_the_part(sealed: Sealed) -> None:
    part = sealed.folder / "1-00002-text.parquet"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    opened = sealed.open()
    before = sum(part.rows for part in sealed.manifest.files(["text"])[:2])
    given: list[int] = []
    with pytest.raises(VerificationFailed, match=r"1-00002-text\.parquet"):
        given.extend(batch.num_rows for batch in opened.batches())
    assert sum(given) <= before  # nothing of the damaged part


def test_swapped_parts_are_found_even_without_their_hashes(sealed: Sealed) -> None:
    left, right = sealed.folder / "1-00001-text.parquet", sealed.folder / "1-00002-text.parquet"
    left_data, right_data = left.read_bytes(), right.read_bytes()
    left.write_bytes(right_data)
    right.write_bytes(left_data)
    assert _codes(sealed)[0] in {"vault.part_altered", "vault.part_truncated"}
    keys = dict(sealed.keys)
    keys[left.name], keys[right.name] = keys[right.name], keys[left.name]
    # Past all checks, with the keys swapped along: the AAD of the place still refuses.
    opened = OpenedRelease(sealed.folder, sealed.manifest, keys, ["text"])
    with pytest.raises(VerificationFailed, match="part_altered"):
        list(opened.batches())


def test_a_manifest_of_another_release_is_found(sealed: Sealed, tmp_path: Path) -> None:
    other = seal(write_lines(tmp_path / "in.jsonl", RECORDS[:3]), tmp_path / "o")
    shutil.copy(other.folder / "manifest.json", sealed.folder / "manifest.json")
    assert _codes(sealed) == ("vault.other_release", "vault.other_release")
    # A whole older release in its place, valid in itself, is found by the digest alone.
    verify_release(other.folder, SUPPLIER.public)
    with pytest.raises(VerificationFailed, match="other_release"):
        open_release(other.folder, sealed.release, other.keys, ["data"])


def test_every_flipped_byte_of_the_manifest_is_found(sealed: Sealed) -> None:
    path = sealed.folder / "manifest.json"
    data = path.read_bytes()
    seen = set()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises((VerificationFailed, InputInvalid)) as caught:
            verify_release(sealed.folder, SUPPLIER.public, expected=sealed.release)
        seen.add(caught.value.code)
    assert {"vault.manifest_altered", "vault.manifest_signature"} <= seen
    path.unlink()
    assert _codes(sealed) == ("vault.manifest_missing", "vault.manifest_missing")
    with pytest.raises(NotFound, match="release_missing"):
        load_release(sealed.folder / "nowhere")


def test_every_flipped_byte_of_a_part_is_found_by_decryption_alone(tmp_path: Path) -> None:
    sealed = seal(write_lines(tmp_path / "in.jsonl", RECORDS[:20]), tmp_path / "r")
    (part,) = sealed.manifest.parts
    path = tmp_path / "r" / part.file
    data = path.read_bytes()
    assert len(data) < 8_000
    unread = []
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        opened = OpenedRelease(sealed.folder, sealed.manifest, sealed.keys, ["data"])  # past the hash check
        try:
            records = list(opened.records())
        except VerificationFailed as error:
            assert error.code == "vault.part_altered", place  # noqa: PT017 - some bytes carry nothing
        else:
            # The first magic bytes, padding of the footer's frame and the digest of the one piece carry no record; only
            # the hash covers them.
            assert records == RECORDS[:20], place
            unread.append(place)
            with pytest.raises(VerificationFailed, match="part_altered"):
                next(sealed.open().records())
    assert len(unread) <= 8 + 32
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(VerificationFailed, match="part_altered"):
            list(OpenedRelease(sealed.folder, sealed.manifest, sealed.keys, ["data"]).batches())


def test_a_part_that_changes_after_the_checks_yields_an_error(sealed: Sealed) -> None:
    opened = sealed.open("text")
    path = sealed.folder / "1-00003-text.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailed, match=r"1-00003-text\.parquet"):
        list(opened.batches())


def test_columns_that_the_manifest_does_not_name_are_refused(sealed: Sealed) -> None:
    import msgspec

    columns = (sealed.manifest.columns[0], msgspec.structs.replace(sealed.manifest.columns[1], name="z"))
    groups = (msgspec.structs.replace(sealed.manifest.groups[0], columns=("id", "z")),)
    wrong = msgspec.structs.replace(sealed.manifest, columns=columns, groups=groups)
    with pytest.raises(VerificationFailed, match="part_schema"):
        list(OpenedRelease(sealed.folder, wrong, sealed.keys, ["text"]).batches())


def test_output_is_private_whole_and_never_over_a_file(sealed: Sealed, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write_records(sealed.open(), out, "jsonl")
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="output_exists"):
        write_records(sealed.open(), out, "jsonl")
    write_records(sealed.open(), tmp_path / "out.parquet", "parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == RECORDS
    with pytest.raises(InputInvalid, match="no_csv_form"):
        write_records(sealed.open(), tmp_path / "out.csv", "csv")
    with pytest.raises(InputInvalid, match="output_form"):
        write_jsonl(sealed.open(), tmp_path / "x", "csv")
    compact = write_jsonl(sealed.open(), tmp_path / "compact.jsonl", "json-compact")
    assert (tmp_path / "compact.jsonl").read_text().startswith('{"id":0,"q"')
    assert compact.rows == 1_000


def test_a_read_that_fails_half_way_leaves_no_output(sealed: Sealed, tmp_path: Path) -> None:
    before = sorted(entry.name for entry in tmp_path.iterdir())
    for write in (write_jsonl, write_parquet):
        opened = sealed.open()
        path = sealed.folder / "1-00000-labels.parquet"
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"\x00" * 8 + data[len(data) // 2 + 8 :])
        with pytest.raises(VerificationFailed):
            write(opened, tmp_path / "out")
        path.write_bytes(data)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_output_works_where_files_without_names_do_not(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    real = os.open

    def no_tmpfile(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(os, "open", no_tmpfile)
    write_jsonl(sealed.open(), tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == RECORDS
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.jsonl", "r"]


def _rows(*places: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"_safehold_row": pa.array(places, pa.int64()), "v": [str(p) for p in places]})


def test_rows_that_do_not_add_up_are_refused() -> None:
    whole = [iter([_rows(0, 3), _rows(4)]), iter([_rows(1), _rows(2, 5)])]
    merged = [place for batch in merge_parts(whole, 6) for place in batch.column(0).to_pylist()]
    assert merged == [0, 1, 2, 3, 4, 5]
    for parts, rows in [
        ([[_rows(0, 1)], [_rows(3)]], 3),
        ([[_rows(0, 1)], [_rows(1)]], 3),
        ([[_rows(0, 1)], [_rows(2)]], 4),
        ([[_rows(1, 2)]], 2),
        ([[_rows(0, 2, 1)]], 3),
        ([[]], 1),
    ]:
        with pytest.raises(VerificationFailed, match=r"vault\.rows"):
            list(merge_parts([iter(part) for part in parts], rows))
    for left, right in [([_rows(0, 1)], [_rows(0)]), ([_rows(0, 1)], [_rows(0, 2)]), ([_rows(0)], [])]:
        with pytest.raises(VerificationFailed, match=r"vault\.rows"):
            list(join_groups([iter(left), iter(right)], 0))
