"""What differs between two releases is counted exactly, and what they share is not even opened."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safehold.model.errors import InputInvalid
from safehold.vault.diff import differ
from safehold.vault.seal import SealOptions
from tests.vault_kit import Sealed, exact, seal, write_lines

RECORDS: list[dict[str, Any]] = [{"id": n, "q": f"question {n}", "s": n / 4} for n in range(600)]


def _seal(folder: Path, name: str, records: list[dict[str, Any]], before: Sealed | None = None) -> Sealed:
    parent = before.parent() if before is not None else None
    options = SealOptions(part_rows=60, group_rows=20, cut_key=b"k" * 32, parent=parent)
    version = 1 if before is None else before.manifest.version + 1
    groups = {"text": [name for name in records[0] if name != "s"], "labels": ["s"]}
    path = write_lines(folder / f"{name}.jsonl", records)
    return seal(path, folder / name, options=options, version=version, record_id="id", groups=groups)


def test_records_and_columns_are_counted(tmp_path: Path) -> None:
    first = _seal(tmp_path, "r1", RECORDS)
    edited = [record | ({"q": "new"} if record["id"] in (7, 300) else {}) for record in RECORDS if record["id"] != 100]
    edited.append({"id": 1000, "q": "more", "s": 0.5})
    second = _seal(tmp_path, "r2", edited, first)
    found = differ(first.open(), second.open(), "id")
    assert (found.unchanged, found.changed, found.added, found.removed) == (597, 2, 1, 1)
    assert found.changed_columns == {"q": 2}
    assert (found.added_rows, found.removed_rows) == ((599,), (100,))
    assert found.read < 20  # only what is not in files that both have
    plain = differ(first.open(), second.open())
    assert (plain.unchanged, plain.changed, plain.added, plain.removed) == (597, 0, 3, 3)
    assert differ(second.open(), first.open()).added == 3
    same = differ(second.open(), second.open(), "id")
    assert (same.unchanged, same.read, same.added + same.removed + same.changed) == (600, 0, 0)
    with pytest.raises(InputInvalid, match="column_unknown"):
        differ(first.open("labels"), second.open("labels"), "id")


def test_columns_that_come_go_or_change_their_type_are_named(tmp_path: Path) -> None:
    first = _seal(tmp_path, "r1", RECORDS)
    second = _seal(tmp_path, "r2", [{"id": r["id"], "more": 1, "s": str(r["s"])} for r in RECORDS], first)
    found = differ(first.open(), second.open())
    assert (found.columns_added, found.columns_removed, found.columns_retyped) == (("more",), ("q",), ("s",))
    assert (found.unchanged, found.added, found.removed) == (600, 0, 0)


def test_any_edit_is_counted_as_a_naive_count_does(tmp_path: Path) -> None:
    chance = random.Random(5)
    before, records = _seal(tmp_path, "r0", RECORDS), RECORDS
    for number in range(1, 5):
        new = [dict(record) for record in records if chance.random() > 0.02]
        for record in new:
            if chance.random() < 0.02:
                record["s"] += 1
        new += [{"id": 10_000 + number * 100 + n, "q": "x", "s": 1.5} for n in range(chance.randrange(5))]
        after = _seal(tmp_path, f"r{number}", new, before)
        found = differ(before.open(), after.open())
        old_count, new_count = (Counter(exact(record) for record in some) for some in (records, new))
        assert found.removed == (old_count - new_count).total()
        assert found.added == (new_count - old_count).total()
        by_id = differ(before.open(), after.open(), "id")
        ids = [{record["id"]: exact(record) for record in some} for some in (records, new)]
        assert by_id.changed == sum(ids[0][one] != ids[1][one] for one in ids[0].keys() & ids[1].keys())
        assert by_id.added == len(ids[1].keys() - ids[0].keys())
        before, records = after, new
