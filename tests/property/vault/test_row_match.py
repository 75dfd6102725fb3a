"""Matching a found file with a release, against a twin that compares record by record."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.assembly.row_match import FoundFile, compared_columns, match_records
from safehold.vault.seal import SealOptions
from safehold.vault.sources import open_source
from tests.vault_kit import exact, seal, write_lines

_VALUES = st.sampled_from([None, 0, 1, 2, "", "a", "b", "1"])
_RECORDS = st.lists(
    st.fixed_dictionaries({"a": _VALUES}, optional={"b": _VALUES, "c": st.lists(st.sampled_from(["x", None]), max_size=2)}),
    min_size=1,
    max_size=12,
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(sealed=_RECORDS, leaked=_RECORDS, rows=st.integers(1, 5))
def test_it_finds_what_a_naive_comparison_finds(
    sealed: list[dict[str, Any]], leaked: list[dict[str, Any]], rows: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = seal(write_lines(folder / "in.jsonl", sealed), folder / "r", options=SealOptions(part_rows=rows))
        source = open_source(write_lines(folder / "leak.jsonl", leaked))
        common = compared_columns(source, made.manifest, ["data"])
        found = FoundFile(source, common)
        matches = {match.place: list(match.lines) for match in match_records(found, made.open())}
    assert found.records == len(leaked)

    def of(record: dict[str, Any]) -> str:
        return exact({key: value for key, value in record.items() if key in common})

    expected = {}
    for place, record in enumerate(sealed):
        lines = [line for line, other in enumerate(leaked) if of(other) == of(record)]
        if lines:
            expected[place] = lines
    assert matches == expected
    assert json.dumps(matches)
