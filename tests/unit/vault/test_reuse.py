"""A release knows the one before: what did not change keeps its sealed file and key, and nothing else comes back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from safehold.vault.compare import Piece, align, row_numbers, same_bits
from safehold.vault.output import write_jsonl
from safehold.vault.seal import SealOptions
from safehold.vault.verify import verify_release
from tests.vault_kit import SUPPLIER, Sealed, seal, write_lines

KEY = b"k" * 32
ROWS = 4_000


def _record(number: int) -> dict[str, Any]:
    chance = random.Random(number)
    text = " ".join(str(chance.randrange(10**6)) for _ in range(chance.randrange(5, 30)))
    return {"id": f"r-{number:07d}", "q": text, "a": {"say": [str(number), "x"]}, "score": chance.random()}


RECORDS = [_record(number) for number in range(ROWS)]
GROUPS = {"text": ["id", "q"], "labels": ["a", "score"]}


def _seal(folder: Path, name: str, records: list[dict[str, Any]], before: Sealed | None = None, **more: Any) -> Sealed:
    path = write_lines(folder / f"{name}.jsonl", records)
    version = before.manifest.version + 1 if before is not None else 1
    deltas = more.pop("deltas", True)
    parent = before.parent(deltas=deltas) if before is not None else None
    options = SealOptions(part_rows=400 if before is None else None, group_rows=64, cut_key=KEY, parent=parent)
    values: dict[str, Any] = {"groups": GROUPS, "record_id": "id"}
    return seal(path, folder / name, options=options, version=version, **(values | more))


def _same(sealed: Sealed, records: list[dict[str, Any]], folder: Path) -> None:
    assert verify_release(sealed.folder, SUPPLIER.public, expected=sealed.release).size == sealed.manifest.size
    out = folder / f"{sealed.folder.name}.out"
    assert write_jsonl(sealed.open(), out).as_source
    assert out.read_bytes() == (folder / f"{sealed.folder.name}.jsonl").read_bytes()
    assert list(sealed.open().records()) == records


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return _seal(tmp_path_factory.mktemp("first"), "r1", RECORDS)


def _inserted(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*records[:400], _record(10**6), *records[400:]]


def _scattered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record | ({"q": f"new {place}"} if place % 500 == 7 else {}) for place, record in enumerate(records)]


EDITS: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], float]] = {
    "nothing": (lambda records: records, 0.0),
    "appended": (lambda records: [*records, *(_record(10**6 + n) for n in range(200))], 200 / ROWS * 1.2),
    "one inserted": (_inserted, 0.12),
    "50 deleted": (lambda records: [*records[:1000], *records[1050:]], 0.01),
    "one deleted": (lambda records: records[1:], 0.01),
    "a third deleted": (lambda records: [*records[:1000], *records[2300:]], 0.1),
    "scattered": (_scattered, 0.06),
    "the first half": (lambda records: records[: ROWS // 2], 0.01),
}


@pytest.mark.parametrize("record_id", ["id", None])
@pytest.mark.parametrize("case", EDITS)
def test_an_edit_seals_little_anew(case: str, record_id: str | None, first: Sealed, tmp_path: Path) -> None:
    edit, share = EDITS[case]
    before = first if record_id else _seal(tmp_path, "r1", RECORDS, record_id=None)
    records = edit(RECORDS)
    second = _seal(tmp_path, "r2", records, before, record_id=record_id)
    _same(second, records, tmp_path)
    assert second.fresh <= share * before.manifest.size, second.fresh / before.manifest.size
    kept = [part for part in second.manifest.parts if part.sealed == 1]
    for part in kept:
        assert part in before.manifest.parts
        assert second.keys[part.file] == before.keys[part.file]
        assert os.path.samefile(second.folder / part.file, before.folder / part.file)
    fresh_keys = {key for name, key in second.keys.items() if name.startswith("2-")}
    assert not fresh_keys & set(before.keys.values())


def test_a_changed_column_reseals_its_group_alone(first: Sealed, tmp_path: Path) -> None:
    records = [record | {"score": record["score"] + 1} for record in RECORDS]
    second = _seal(tmp_path, "r2", records, first)
    _same(second, records, tmp_path)
    assert {(part.group, part.sealed) for part in second.manifest.parts} == {("text", 1), ("labels", 2)}
    # Changed in one part alone, both groups' files of the others stay.
    few = [record | ({"score": 2.0} if place < 300 else {}) for place, record in enumerate(RECORDS)]
    third = _seal(tmp_path, "r3", few, first)
    assert third.fresh < 0.1 * first.manifest.size
    _same(third, few, tmp_path)


def test_without_deltas_nothing_of_a_removed_record_stays(first: Sealed, tmp_path: Path) -> None:
    records = [*RECORDS[:1000], *RECORDS[1001:]]
    second = _seal(tmp_path, "r2", records, first, deltas=False)
    _same(second, records, tmp_path)
    rows = {part.part: part.rows for part in second.manifest.parts}
    assert all((run.first, run.rows) == (0, rows[run.part]) for run in second.manifest.sequence())
    assert sum({part.part: part.rows for part in second.manifest.parts}.values()) == len(records)
    assert 0 < second.fresh < 0.4 * first.manifest.size


def test_releases_go_on_for_long(tmp_path: Path) -> None:
    chance = random.Random(4)
    records = RECORDS[:1500]
    sealed = _seal(tmp_path, "r1", records)
    for number in range(2, 8):
        for _ in range(20):
            place = chance.randrange(len(records))
            act = chance.randrange(3)
            middle = [
                [],
                [_record(chance.randrange(10**5, 10**6))],
                [records[place], _record(chance.randrange(10**6))],
            ][act]
            records = [*records[:place], *middle, *records[place + 1 :]]
        sealed = _seal(tmp_path, f"r{number}", records, sealed)
        assert sealed.fresh < 0.5 * sealed.manifest.size
        _same(sealed, records, tmp_path)
    assert len({part.sealed for part in sealed.manifest.parts}) > 2


def test_another_order_or_other_records_are_sealed_anew(first: Sealed, tmp_path: Path) -> None:
    turned = list(reversed(RECORDS))
    second = _seal(tmp_path, "r2", turned, first)
    _same(second, turned, tmp_path)
    others = [_record(10**7 + n) for n in range(900)]
    third = _seal(tmp_path, "r3", others, first)
    _same(third, others, tmp_path)
    assert all(part.sealed == 2 for part in third.manifest.parts)


def test_a_column_more_keeps_the_other_groups(first: Sealed, tmp_path: Path) -> None:
    records = [record | {"more": place} for place, record in enumerate(RECORDS)]
    second = _seal(tmp_path, "r2", records, first, groups=GROUPS | {"extra": ["more"]})
    _same(second, records, tmp_path)
    assert {(part.group, part.sealed) for part in second.manifest.parts} == {("text", 1), ("labels", 1), ("extra", 2)}


def test_the_bits_of_values_are_compared() -> None:
    def array(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind)

    double = pa.float64()
    assert not same_bits(array([0.0], double), array([-0.0], double))
    assert same_bits(array([float("nan"), None], double), array([float("nan"), None], double))
    nested = pa.list_(pa.struct([("x", double)]))
    assert not same_bits(array([[{"x": 0.0}]], nested), array([[{"x": -0.0}]], nested))
    assert same_bits(array([[{"x": 1.0}], None, []], nested), array([[{"x": 1.0}], None, []], nested))
    assert not same_bits(array([[], None], nested), array([None, []], nested))
    maps = pa.map_(pa.string(), double)
    assert not same_bits(array([[("k", 0.0)]], maps), array([[("k", -0.0)]], maps))
    assert not same_bits(array([1], pa.int32()), array([1], pa.int64()))


def test_numbers_of_records_are_equal_exactly_where_records_are() -> None:
    left = pa.table({"a": [0.0, -0.0, None], "b": [["x"], ["x"], None]})
    right = pa.table({"a": [-0.0, None, None, 0.0], "b": [["x"], None, ["x"], ["y"]]})
    before, now = row_numbers([left, right])
    assert now[:2] == before[1:]
    assert not set(now[2:]) & set(before)
    assert len(set(before)) == 3


def test_what_is_aligned_covers_the_new_sequence_in_the_old_order() -> None:
    chance = random.Random(9)
    for _ in range(300):
        old = [chance.randrange(30) for _ in range(chance.randrange(40))]
        new = [chance.choice([*old, 99]) for _ in range(chance.randrange(40))] if chance.random() < 0.5 else old[3:]
        pieces = align(old, new)
        assert [place for piece in pieces for place in range(piece.first, piece.first + piece.rows)] == list(
            range(len(new))
        )
        last = 0
        for piece in pieces:
            if piece.old is not None:
                assert piece.old >= last
                last = piece.old + piece.rows
                assert old[piece.old : last] == new[piece.first : piece.first + piece.rows]
    assert align([1, 2, 3], [1, 9, 3]) == [Piece(0, 1, 0), Piece(1, 1, None), Piece(2, 1, 2)]
