"""The pages `docs/spec/ledger.md` and `state.md` say what the source says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safehold.ledger import fsck
from safehold.ledger.note import sign_checkpoint
from safehold.model.statements import STATEMENT_TYPES
from safehold.state import invariants
from safehold.state.tables import TABLES
from tests.ledger_kit import KEY, ORIGIN, MemoryTree

SPEC = Path(__file__).parents[3] / "docs" / "spec"
LEDGER = (SPEC / "ledger.md").read_text(encoding="utf-8")
STATE = (SPEC / "state.md").read_text(encoding="utf-8")


def _rows(page: str) -> dict[str, list[str]]:
    """Rows of all tables whose first cell is code: that code, and the other cells."""
    found = re.findall(r"^\| (`[^|]+) \| (.*) \|$", page, re.MULTILINE)
    return {first: rest.split(" | ") for first, rest in found}


def test_every_kind_is_in_the_table_with_its_members() -> None:
    rows = {name.strip("`"): cells for name, cells in _rows(LEDGER).items() if len(cells) == 2 and "." in name}
    assert set(rows) == set(STATEMENT_TYPES)
    for kind, struct in STATEMENT_TYPES.items():
        members = re.findall(r"`(\w+)`", rows[kind][0])
        assert members == sorted(set(struct.__struct_fields__) - {"v", "t", "by"}), kind
        assert rows[kind][1] == str(struct.__doc__).strip().splitlines()[0]


def test_the_kinds_stand_in_the_order_of_the_source() -> None:
    assert [
        kind for kind in re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", LEDGER, re.MULTILINE) if kind in STATEMENT_TYPES
    ] == list(STATEMENT_TYPES)


def test_every_finding_code_is_explained() -> None:
    codes = set(re.findall(r'"(fsck\.\w+)"', Path(fsck.__file__).read_text() + Path(invariants.__file__).read_text()))
    assert set(re.findall(r"^\| `(fsck\.\w+)` \|", LEDGER, re.MULTILINE)) == codes
    assert len(codes) == 12


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_every_table_is_named(table: str) -> None:
    assert any(f"`{table}`" in first for first in _rows(STATE)), table


def test_no_table_is_named_that_is_not_there() -> None:
    named = {name for first in _rows(STATE) for name in re.findall(r"`(\w+)`", first)}
    assert named == {table.name for table in TABLES}


def test_the_checkpoint_shown_is_a_real_one() -> None:
    real = sign_checkpoint(ORIGIN, 1, MemoryTree([b"entry 0"]).roots[1], KEY).note.decode().splitlines()
    shown = LEDGER[LEDGER.index(f"```\n{ORIGIN}\n") + 4 :].splitlines()[:5]
    assert shown[:4] == real[:4]
    assert real[4].startswith(shown[4].removesuffix("…"))
