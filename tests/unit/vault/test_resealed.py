"""A sealed release as the source of the next one: the same records, and nothing of the old files or keys."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safehold.assembly.row_tree import row_root
from safehold.model.errors import VerificationFailed
from safehold.readers.order import EpochOrder, OrderRule
from safehold.vault.compare import same_bits
from safehold.vault.open import OpenedRelease
from safehold.vault.output import write_jsonl
from safehold.vault.resealed import SealedSource, check_resealed, prove_resealed, whole_parts
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.verify import load_release, verify_release
from tests.vault_kit import SPEC, SUPPLIER, Sealed, seal, write_lines

KEY = b"k" * 32
OPTIONS = SealOptions(part_rows=100, group_rows=32, cut_key=KEY)


def reseal(old: Sealed, folder: Path, **changed: Any) -> Sealed:
    """The records of ``old`` sealed anew, as ``assembly.rekeying`` does it."""
    manifest = old.manifest
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | {
        "version": manifest.version + 1,
        "parent": old.release,
        "groups": {group.name: group.columns for group in manifest.groups},
        "record_id": manifest.record_id.column,
        "dataset": manifest.dataset,
        "classification": manifest.classification,
        "purposes": manifest.purposes,
        "people": manifest.people,
    }
    options = msgspec.structs.replace(OPTIONS, part_rows=manifest.part_rows or None, parts_as=whole_parts(manifest))
    options = msgspec.structs.replace(options, **changed)
    with prepare(SealedSource(old.open(), old.release), ReleaseSpec(**fields), SUPPLIER, folder, options) as prepared:
        prepared.publish()
    return Sealed(folder, prepared.release, prepared.keys, prepared.manifest, prepared.fresh)


def proven(old: Sealed, new: Sealed) -> Sealed:
    check_resealed(old.manifest, new.manifest, old.release)
    assert prove_resealed(old.open(), new.open()) == old.manifest.rows
    verify_release(new.folder, SUPPLIER.public, expected=new.release)
    return new


def _records(count: int) -> list[dict[str, Any]]:
    chance = random.Random(7)
    made = []
    for number in range(count):
        one: dict[str, Any] = {"id": f"r-{number}", "n": number, "x": chance.choice([0.5, 1.25, -0.0, None])}
        one["deep"] = {"tags": [{"name": str(number % 7), "w": [number, None]}], "may": None if number % 3 else {}}
        if number % 5:
            one["sometimes"] = chance.choice(["a", "", "é"])
        one["any"] = chance.choice([1, "one", [1], {"k": None}, None])
        made.append(one)
    return made


RECORDS = _records(900)
GROUPS = {"ids": ["id", "n"], "rest": ["x", "deep", "sometimes", "any"]}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("first")
    path = write_lines(folder / "in.jsonl", RECORDS)
    return seal(path, folder / "r1", groups=GROUPS, record_id="id", options=OPTIONS)


def test_nested_records_in_groups_come_back_as_they_were_read(first: Sealed, tmp_path: Path) -> None:
    new = proven(first, reseal(first, tmp_path / "r2"))
    assert write_jsonl(new.open(), tmp_path / "out").as_source
    assert (tmp_path / "out").read_bytes() == first.folder.with_name("in.jsonl").read_bytes()
    assert new.fresh == new.manifest.size


def test_parts_end_where_they_ended_and_tags_are_what_they_were(first: Sealed, tmp_path: Path) -> None:
    new = reseal(first, tmp_path / "r2")
    facts = [[(part.part, part.group, part.rows, part.tag) for part in one.manifest.parts] for one in (first, new)]
    assert facts[0] == facts[1]
    assert new.manifest.sequence() == first.manifest.sequence()
    # Even where another cutter would cut elsewhere: the counts are given.
    other = reseal(first, tmp_path / "r3", cut_key=b"o" * 32, part_rows=7)
    assert [part.rows for part in other.manifest.parts] == [part.rows for part in first.manifest.parts]


def test_the_order_of_training_stays_where_parts_were_kept_and_others_left_out(first: Sealed, tmp_path: Path) -> None:
    edited = [*RECORDS[:300], *RECORDS[500:], {**RECORDS[0], "id": "another"}]
    path = write_lines(tmp_path / "in2.jsonl", edited)
    options = msgspec.structs.replace(OPTIONS, part_rows=None, parent=first.parent(deltas=False))
    second = seal(path, tmp_path / "r2", groups=GROUPS, record_id="id", options=options, version=2)
    numbers = [run.part for run in second.manifest.sequence()]
    assert numbers != list(range(len(numbers))), "numbers have gaps"
    assert whole_parts(second.manifest)
    new = proven(second, reseal(second, tmp_path / "r3"))
    assert new.manifest.sequence() == second.manifest.sequence()
    for epoch in (0, 1):
        rule = OrderRule(seed=5, lanes=3, window=16)
        orders = [EpochOrder(one.manifest.sequence(), rule, epoch) for one in (second, new)]
        assert list(orders[0].pieces(0, orders[0].rows)) == list(orders[1].pieces(0, orders[1].rows))


def test_the_next_release_still_finds_what_did_not_change(first: Sealed, tmp_path: Path) -> None:
    new = reseal(first, tmp_path / "r2")
    path = write_lines(tmp_path / "in3.jsonl", [*RECORDS, {**RECORDS[0], "id": "another"}])
    options = msgspec.structs.replace(OPTIONS, part_rows=None, parent=new.parent())
    third = seal(path, tmp_path / "r3", groups=GROUPS, record_id="id", options=options, version=3)
    assert third.fresh < new.manifest.size / 2
    assert {part.sealed for part in third.manifest.parts} == {2, 3}


def test_what_runs_left_out_does_not_go_along(first: Sealed, tmp_path: Path) -> None:
    edited = [one for number, one in enumerate(RECORDS) if number % 90 != 5]
    path = write_lines(tmp_path / "in2.jsonl", edited)
    options = msgspec.structs.replace(OPTIONS, part_rows=None, parent=first.parent())
    second = seal(path, tmp_path / "r2", groups=GROUPS, record_id="id", options=options, version=2)
    assert second.manifest.runs
    assert not whole_parts(second.manifest)
    new = proven(second, reseal(second, tmp_path / "r3"))
    assert not new.manifest.runs
    rows = {part.part: part.rows for part in new.manifest.parts}
    assert sum(rows.values()) == len(edited) < sum({part.part: part.rows for part in second.manifest.parts}.values())
    assert list(new.open().records()) == edited


@pytest.mark.parametrize("kind", ["map", "dictionary", "large", "time"])
def test_types_of_parquet_files(kind: str, tmp_path: Path) -> None:
    values: dict[str, pa.Array] = {
        "map": pa.array([[("a", n), ("b", None)] if n % 4 else None for n in range(500)], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array([f"word {n % 37}" for n in range(500)]).dictionary_encode(),
        "large": pa.array([str(n) for n in range(500)], pa.large_string()),
        "time": pa.array([n * 1_000 if n % 9 else None for n in range(500)], pa.timestamp("us", "UTC")),
    }  # fmt: skip
    floats = pa.array([math.nan if n % 10 == 0 else -0.0 for n in range(500)])
    pq.write_table(pa.table({"v": values[kind], "f": floats}), tmp_path / "in.parquet")
    old = seal(tmp_path / "in.parquet", tmp_path / "r1", options=OPTIONS)
    new = proven(old, reseal(old, tmp_path / "r2"))
    assert pa.Table.from_batches(new.open().batches()).schema.equals(pa.Table.from_batches(old.open().batches()).schema)


def test_digests_of_records_are_made_again_with_the_new_keys(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", RECORDS[:200])
    old = seal(path, tmp_path / "r1", options=msgspec.structs.replace(OPTIONS, row_tree=row_root))
    new = proven(old, reseal(old, tmp_path / "r2", row_tree=row_root))
    roots = [{part.rows_root for part in one.manifest.parts} for one in (old, new)]
    assert None not in roots[0] | roots[1]
    assert not roots[0] & roots[1]


class _Other(OpenedRelease):
    """A release whose batches are changed on their way."""

    def __init__(self, real: OpenedRelease, change: Any) -> None:
        self.__dict__ = real.__dict__
        self._change = change

    def batches(self, columns: Any = None) -> Iterator[pa.RecordBatch]:
        yield from self._change(list(super().batches(columns)))


def _with_last(batches: list[pa.RecordBatch], **values: Any) -> list[pa.RecordBatch]:
    last = batches[-1]
    rows = last.to_pylist()
    rows[-1] |= values
    return [*batches[:-1], pa.RecordBatch.from_pylist(rows, schema=last.schema)]


@pytest.mark.parametrize(
    "change",
    [
        lambda batches: _with_last(batches, id="r-other"),
        lambda batches: _with_last(batches, x=0.0),
        lambda batches: _with_last(batches, deep={"tags": [], "may": None}),
        lambda batches: batches[:-1],
        lambda batches: [*batches, batches[0].slice(0, 1)],
        lambda batches: [batches[1], batches[0], *batches[2:]],
        lambda batches: [one.rename_columns([f"{name}_" for name in one.schema.names]) for one in batches],
    ],
)
def test_one_record_that_differs_is_seen(first: Sealed, tmp_path: Path, change: Any) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{**RECORDS[0], "x": -0.0}, *RECORDS[1:-1], {**RECORDS[-1], "x": -0.0}])
    old = seal(path, tmp_path / "r1", groups=GROUPS, record_id="id", options=OPTIONS)
    new = reseal(old, tmp_path / "r2")
    for mine, theirs in ((_Other(old.open(), change), new.open()), (old.open(), _Other(new.open(), change))):
        with pytest.raises(VerificationFailed) as caught:
            prove_resealed(mine, theirs)
        assert caught.value.code == "vault.resealed_differs"
        assert "part " in caught.value.message


def test_facts_that_differ_and_files_that_are_shared_are_refused(first: Sealed, tmp_path: Path) -> None:
    new = reseal(first, tmp_path / "r2")
    changed = {
        "classification": "public", "rows": 1, "purposes": (), "sources": (), "columns": (), "groups": (),
    }  # fmt: skip
    for name, value in changed.items():
        with pytest.raises(VerificationFailed, match=name) as caught:
            check_resealed(first.manifest, msgspec.structs.replace(new.manifest, **{name: value}), first.release)
        assert caught.value.code == "vault.resealed_facts"
    shared = msgspec.structs.replace(new.manifest, parts=(first.manifest.parts[0], *new.manifest.parts[1:]))
    one = msgspec.structs.replace(new.manifest.parts[0], commitment=first.manifest.parts[0].commitment)
    old, mine = first.manifest.parts[0], new.manifest.parts[0]
    alone = [
        msgspec.structs.replace(new.manifest, parts=(msgspec.structs.replace(mine, **one), *new.manifest.parts[1:]))
        for one in ({"sealed": old.sealed}, {"sha256": old.sha256})
    ]
    same_key = msgspec.structs.replace(new.manifest, parts=(one, *new.manifest.parts[1:]))
    wrong = [(manifest, first.release) for manifest in (shared, same_key, *alone)]
    for manifest, before in (*wrong, (new.manifest, new.release)):
        with pytest.raises(VerificationFailed) as caught:
            check_resealed(first.manifest, manifest, before)
        assert caught.value.code == "vault.resealed_shared"


def test_an_altered_part_of_the_old_release_is_named_and_nothing_is_left(first: Sealed, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", RECORDS)
    old = seal(path, tmp_path / "r1", options=OPTIONS)
    part = old.manifest.parts[-1]
    data = bytearray((old.folder / part.file).read_bytes())
    data[len(data) // 2] ^= 1
    (old.folder / part.file).write_bytes(data)
    with pytest.raises(VerificationFailed, match=part.file) as caught:
        reseal(old, tmp_path / "r2")
    assert caught.value.code == "vault.part_altered"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "r1"]


def test_a_release_of_the_first_form_becomes_one_of_this_form(tmp_path: Path) -> None:
    home = Path(__file__).parents[2] / "vectors" / "vault" / "release-v1"
    facts = json.loads((home / "facts.json").read_text())
    keys = {name: bytes.fromhex(key) for name, key in facts["keys"].items()}
    release = load_release(home / "release")
    old = Sealed(home / "release", release.digest, keys, release.manifest)
    new = proven(old, reseal(old, tmp_path / "r2"))
    assert not new.manifest.numbered
    assert write_jsonl(new.open(), tmp_path / "out").as_source
    assert (tmp_path / "out").read_bytes() == (home / "records.jsonl").read_bytes()


def test_dictionaries_with_other_numbers_hold_the_same_values() -> None:
    words = pa.array(["a", "b", None, "a"])
    left = words.dictionary_encode()
    right = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1], pa.int32()), pa.array(["b", "a"]))
    assert same_bits(left, right)
    assert not same_bits(left, pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1], pa.int32()), ["b", "a"]))
