from __future__ import annotations

import fcntl
import os
import re
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from safehold.model.errors import Conflict, InputInvalid, SafeholdError, StorageFailed
from safehold.model.ids import HostId, parse_purpose, sha256_digest
from safehold.model.statements import SubjectCount
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.sidecars import SIDECARS
from safehold.vault.sources import open_source
from safehold.vault.verify import load_release
from tests.vault_kit import GSM8K, SPEC, SUPPLIER, seal, write_lines

SECRETS = [
    {"question": f"What does Ann Smith-{n} owe?", "answer": f"#### {n * 7919}", "score": 0.625} for n in range(500)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", SECRETS)


def _litter(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def test_nothing_is_published_before_publish(path: Path, tmp_path: Path) -> None:
    with prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r") as prepared:
        assert not (tmp_path / "r").exists()
        assert prepared.publish() == tmp_path / "r"
    assert load_release(tmp_path / "r").digest == prepared.release
    assert _litter(tmp_path) == []


def test_what_is_not_published_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r"):
        assert _litter(tmp_path) != []
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]
    prepared = prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r")
    prepared.discard()
    prepared.discard()
    with pytest.raises(StorageFailed, match="staging_gone"):
        prepared.publish()
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_release_is_never_overwritten(path: Path, tmp_path: Path) -> None:
    first = seal(path, tmp_path / "r")
    with pytest.raises(Conflict, match="release_exists"):
        seal(path, tmp_path / "r")
    with prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "s") as prepared:
        (tmp_path / "s").mkdir()
        with pytest.raises(Conflict, match="release_exists"):
            prepared.publish()
    assert load_release(tmp_path / "r").digest == first.release
    assert _litter(tmp_path) == []


def test_two_sealers_of_one_release_do_not_meet(path: Path, tmp_path: Path) -> None:
    with (
        prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r") as prepared,
        pytest.raises(Conflict, match="busy"),
    ):
        prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r")
    with prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r") as prepared:
        prepared.publish()


def test_what_a_killed_sealer_left_is_removed(path: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".sealing-r"
    stale.mkdir()
    (stale / "00000-data.parquet").write_bytes(b"half")
    (tmp_path / ".sealing-r.lock").touch()  # the file stays, the lock died with its holder
    sealed = seal(path, tmp_path / "r")
    assert sorted(entry.name for entry in (tmp_path / "r").iterdir() if entry.name not in SIDECARS) == [
        "1-00000-data.parquet",
        "manifest.json",
    ]
    assert sealed.manifest.rows == 500
    assert _litter(tmp_path) == []


def test_a_living_sealer_elsewhere_is_left_alone(path: Path, tmp_path: Path) -> None:
    with (tmp_path / ".sealing-r.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="busy"):
            seal(path, tmp_path / "r")
    seal(path, tmp_path / "r")


def test_the_manifest_says_what_was_sealed(path: Path, tmp_path: Path) -> None:
    people = (SubjectCount(category="annotators", jurisdiction="DE", count=3),)
    parent = sha256_digest(b"parent")
    sealed = seal(
        path,
        tmp_path / "r",
        groups={"text": ["question"], "labels": ["answer", "score"]},
        people=people,
        parent=parent,
        order="o-17",
        host=HostId("quill-works/ci-1"),
        purposes=(parse_purpose("training"), parse_purpose("review")),
        record_id="question",
        options=SealOptions(part_rows=170, level=1),
    )
    manifest = load_release(tmp_path / "r").manifest
    assert manifest == sealed.manifest
    assert (manifest.dataset, manifest.version, manifest.party) == ("quill-works/word-problems", 1, "quill-works")
    assert (manifest.customer, manifest.order, manifest.host) == ("north-lab", "o-17", "quill-works/ci-1")
    assert (manifest.people, manifest.parent, manifest.compression) == (people, parent, "zstd:1")
    assert (manifest.record_id.rule, manifest.record_id.column) == ("column", "question")
    (source,) = manifest.sources
    assert (source.name, source.size, source.rows) == ("in.jsonl", path.stat().st_size, 500)
    assert source.sha256 == sha256_digest(path.read_bytes())
    assert {g.name: g.columns for g in manifest.groups} == {"text": ("question",), "labels": ("answer", "score")}
    assert manifest.rows == sum(p.rows for p in manifest.parts if p.group == "text") == 500
    for part in manifest.parts:
        data = (tmp_path / "r" / part.file).read_bytes()
        assert (part.size, part.sha256) == (len(data), sha256_digest(data))
    assert manifest.size == sum(part.size for part in manifest.parts)
    assert set(sealed.keys) == {part.file for part in manifest.parts}
    assert len(set(sealed.keys.values())) == len(sealed.keys)


def test_nothing_protected_can_be_read_from_a_part(path: Path, tmp_path: Path) -> None:
    # Level 1 and no compression of short values: what was not encrypted would stand there as it is.
    sealed = seal(path, tmp_path / "r", options=SealOptions(part_rows=250, level=1))
    hidden = [
        b"question",
        b"answer",
        b"score",
        b"Ann Smith",
        b"####",
        b"ARROW",
        b"parquet-cpp",
        b"schema",
        b"_safehold",
    ]
    hidden += [b"\x00\x00\x00\x00\x00\x00\xe4\x3f"]  # 0.625, as a value, a minimum or a maximum
    for part in sealed.manifest.parts:
        data = (tmp_path / "r" / part.file).read_bytes()
        assert data[:4] == data[-4:] == b"PARE"
        for needle in hidden:
            assert needle not in data, needle
        # Ciphertext does not compress, but for the few bytes that frame it.
        assert len(zlib.compress(data, 9)) > len(data) * 0.98
    text = (tmp_path / "r" / "manifest.json").read_bytes() + sealed.manifest.__repr__().encode()
    assert b"Ann Smith" not in text
    assert not re.search(rb"#### \d", text)
    for key in sealed.keys.values():
        assert key not in text
        assert key.hex().encode() not in text


def test_plain_pyarrow_reads_a_part_with_its_key(path: Path, tmp_path: Path) -> None:
    sealed = seal(path, tmp_path / "r")
    (part,) = sealed.manifest.parts
    properties = pe.create_decryption_properties(sealed.keys[part.file], aad_prefix=part.aad.encode())
    table = pq.read_table(tmp_path / "r" / part.file, decryption_properties=properties)
    assert table.column_names == ["question", "answer", "score"]
    assert table.column("answer")[-1].as_py() == "#### 3951581"


def test_the_same_key_cuts_the_same_ids_into_the_same_parts(path: Path, tmp_path: Path) -> None:
    options = SealOptions(part_rows=70, cut_key=b"dataset secret 1")
    first = seal(path, tmp_path / "a", options=options, record_id="question")
    second = seal(path, tmp_path / "b", options=options, record_id="question", version=2)
    other = seal(
        path, tmp_path / "c", options=SealOptions(part_rows=70, cut_key=b"dataset secret 2"), record_id="question"
    )
    rows = [[(p.part, p.rows) for p in s.manifest.parts] for s in (first, second, other)]
    assert rows[0] == rows[1] != rows[2]
    assert 4 <= len(rows[0]) <= 14  # 500 records, 35 to 140 a part


def test_the_number_of_parts_follows_the_size(path: Path, tmp_path: Path) -> None:
    (batch,) = open_source(path).batches()
    sealed = seal(path, tmp_path / "r", options=SealOptions(part_bytes=batch.nbytes // 10))
    assert 48 <= sealed.manifest.part_rows <= 50
    assert all(part.rows <= 100 for part in sealed.manifest.parts)
    assert all(part.rows >= 24 for part in sealed.manifest.parts[:-1])


@pytest.mark.parametrize(
    "options",
    [
        SealOptions(level=0),
        SealOptions(level=23),
        SealOptions(part_rows=0),
        SealOptions(workers=0),
        SealOptions(group_rows=0),
        SealOptions(part_bytes=0),
        SealOptions(cut_key=b"short"),
    ],
)
def test_options_out_of_range_are_refused(options: SealOptions, path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="seal_options"):
        seal(path, tmp_path / "r", options=options)


def test_a_record_id_must_be_a_column_with_an_id_in_every_record(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"a": "x", "b": None, "c": 0.5}, {"a": "y", "b": "z", "c": 0.5}])
    for column, code in {"d": "record_id_column", "b": "record_id_null", "c": "record_id_type"}.items():
        with pytest.raises(InputInvalid, match=code):
            seal(path, tmp_path / "r", record_id=column, options=SealOptions(part_rows=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_source_that_changes_while_sealing_leaves_nothing(path: Path, tmp_path: Path) -> None:
    source = open_source(path)
    os.utime(path, (1, 1))
    with pytest.raises(InputInvalid, match="source_changed"):
        prepare(source, SPEC, SUPPLIER, tmp_path / "r")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_signer_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    class Refusing:
        key_id = "x"

        def sign(self, data: bytes) -> bytes:
            raise SafeholdError("test.signer", "the token was pulled out")

    with pytest.raises(SafeholdError, match="pulled out"):
        prepare(open_source(path), SPEC, Refusing(), tmp_path / "r")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("field", [{"purposes": ("Not a purpose",)}, {"host": "nowhere"}, {"version": 0}])
def test_a_spec_that_no_reader_would_take_is_refused(field: dict[str, object], path: Path, tmp_path: Path) -> None:
    values = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | field
    with pytest.raises(SafeholdError):
        prepare(open_source(path), ReleaseSpec(**values), SUPPLIER, tmp_path / "r")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K records are not here")
@pytest.mark.parametrize("parts", [None, 1_500])
def test_gsm8k_comes_back_byte_for_byte(parts: int | None, tmp_path: Path) -> None:
    from safehold.vault.output import write_jsonl

    sealed = seal(
        GSM8K,
        tmp_path / "r",
        groups={"question": ["question"], "answer": ["answer"]},
        options=SealOptions(part_rows=parts),
    )
    assert sealed.manifest.rows == 7_473
    written = write_jsonl(sealed.open(), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == GSM8K.read_bytes()
    assert (written.as_source, written.rows) == (True, 7_473)
