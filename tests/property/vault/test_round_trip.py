"""Laws of sealing: what goes in comes out, or is refused; never something else.

The naive twin is Python's own ``json``: what it reads from the input must be what it reads from the output.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.vault.output import write_csv, write_jsonl, write_parquet
from safehold.vault.seal import SealOptions
from tests.vault_kit import exact, outcome, seal

TEXT = st.text(max_size=12)
NAMES = st.sampled_from(["a", "b", "id", "a.b", "é", "", "x\x00", "Element", "element", "list", "key_value"]) | st.text(
    st.characters(codec="utf-8"), max_size=5
).filter(lambda name: not name.startswith("_safehold_"))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
REFUSALS = {"vault.column_types", "vault.mixed_numbers", "vault.null_and_absent", "vault.no_columns"}
OPTIONS = st.builds(SealOptions, part_rows=st.integers(1, 9), group_rows=st.integers(1, 5), level=st.just(1))


@st.composite
def _typed(draw: st.DrawFn, depth: int = 0) -> st.SearchStrategy[Any]:
    """A strategy for values of one shape that Arrow can hold: what real records are like."""
    kind = draw(st.sampled_from(["text", "int", "fraction", "whole", "mixed", "bool", "null", "list", "object"]))
    if depth >= 3 and kind in {"list", "object"}:
        kind = "text"
    leaves: dict[str, st.SearchStrategy[Any]] = {
        "text": TEXT,
        "int": st.integers(-(2**63), 2**63 - 1),
        "fraction": st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: not v.is_integer()),
        "whole": st.integers(-(2**40), 2**40).map(float),
        "mixed": st.integers(-(2**53), 2**53) | st.sampled_from([0.5, -1.25, 1e-300]),
        "bool": st.booleans(),
        "null": st.none(),
    }
    if kind == "list":
        return st.lists(draw(_typed(depth + 1)) | st.none(), max_size=3)
    if kind == "object":
        return draw(_object(depth + 1))
    return leaves[kind]


@st.composite
def _object(draw: st.DrawFn, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, unique=True, min_size=1 - bool(depth), max_size=4)):
        member = draw(_typed(depth))
        if draw(st.booleans()):
            required[name] = member | st.none()
        else:
            optional[name] = member.filter(lambda value: value is not None)
    if not required and depth == 0:
        required["r"] = TEXT
        optional.pop("r", None)
    return st.fixed_dictionaries(required, optional={k: v for k, v in optional.items() if not v.is_empty})


TABLES = _object().flatmap(lambda record: st.lists(record, min_size=1, max_size=12))


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vault-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@settings(max_examples=200)
@given(records=TABLES, options=OPTIONS, ascii_only=st.booleans(), compact=st.booleans())
def test_records_of_one_shape_come_back(
    records: list[dict[str, Any]], options: SealOptions, ascii_only: bool, compact: bool
) -> None:
    separators = (",", ":") if compact else None
    lines = [json.dumps(record, ensure_ascii=ascii_only, separators=separators) for record in records]
    with _folder() as folder:
        (folder / "in.jsonl").write_bytes("".join(line + "\n" for line in lines).encode())
        sealed = seal(folder / "in.jsonl", folder / "r", options=options)
        written = write_jsonl(sealed.open(), folder / "out.jsonl")
        back = (folder / "out.jsonl").read_bytes()
        assert [exact(json.loads(line)) for line in back.split(b"\n")[:-1]] == [exact(record) for record in records]
        assert written.as_source == (back == (folder / "in.jsonl").read_bytes())
        assert written.as_source == (sealed.manifest.sources[0].style is not None)


@settings(max_examples=200)
@given(records=st.lists(st.dictionaries(NAMES, ANY_JSON, max_size=3), min_size=1, max_size=6), options=OPTIONS)
def test_any_json_comes_back_or_is_refused(records: list[dict[str, Any]], options: SealOptions) -> None:
    with _folder() as folder:
        (folder / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        sealed, code = outcome(lambda: seal(folder / "in.jsonl", folder / "r", options=options))
        if sealed is None:
            assert code in REFUSALS
            assert sorted(entry.name for entry in folder.iterdir()) == ["in.jsonl"]
            return
        write_jsonl(sealed.open(), folder / "out.jsonl")
        lines = (folder / "out.jsonl").read_text().split("\n")[:-1]
        assert [exact(json.loads(line)) for line in lines] == [exact(record) for record in records]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@settings(max_examples=100)
@given(
    rows=st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=8)),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
    options=OPTIONS,
)
def test_csv_cells_come_back(rows: list[list[str]], quoting: Any, end: str, options: SealOptions) -> None:
    header = [f"c{n}" for n in range(len(rows[0]))]
    text = io.StringIO()
    # Written with \r\n so that a lone \r in a cell is quoted too; then the row ends become what is asked.
    for row in [header, *rows]:
        line = io.StringIO()
        csv.writer(line, quoting=quoting, lineterminator="\r\n").writerow(row)
        text.write(line.getvalue()[:-2] + end)
    with _folder() as folder:
        (folder / "in.csv").write_bytes(text.getvalue().encode())
        sealed = seal(folder / "in.csv", folder / "r", options=options)
        assert [list(record.values()) for record in sealed.open().records()] == rows
        write_csv(sealed.open(), folder / "out.csv")
        assert (folder / "out.csv").read_bytes() == (folder / "in.csv").read_bytes()


@settings(max_examples=60)
@given(
    numbers=st.lists(st.none() | st.floats(width=64), min_size=1, max_size=30),
    bits=st.integers(0, 2**64 - 1),
    options=OPTIONS,
)
def test_doubles_come_back_bit_for_bit(numbers: list[float | None], bits: int, options: SealOptions) -> None:
    odd = pa.Array.from_buffers(pa.float64(), 1, [None, pa.py_buffer(bits.to_bytes(8, "little"))])
    column = pa.chunked_array([pa.array(numbers, pa.float64()), odd]).combine_chunks()
    with _folder() as folder:
        pq.write_table(pa.table({"v": column}), folder / "in.parquet")
        sealed = seal(folder / "in.parquet", folder / "r", options=options)
        write_parquet(sealed.open(), folder / "out.parquet")
        back = pq.read_table(folder / "out.parquet").column("v").combine_chunks()
        assert back.is_valid().equals(column.is_valid())
        plain = pq.read_table(folder / "in.parquet").column("v").combine_chunks().drop_null()
        assert back.drop_null().view(pa.int64()).equals(plain.view(pa.int64()))
        assert plain.view(pa.int64()).equals(column.drop_null().view(pa.int64()))


@settings(max_examples=60)
@given(count=st.integers(1, 300), options=OPTIONS, groups=st.sampled_from([None, {"x": ["n"], "y": ["t"]}]))
def test_any_cut_gives_the_order_back(count: int, options: SealOptions, groups: Any) -> None:
    records = [{"n": n % 7, "t": str(n)} for n in range(count)]
    with _folder() as folder:
        (folder / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        sealed = seal(folder / "in.jsonl", folder / "r", options=options, groups=groups)
        assert list(sealed.open().records()) == records
        assert sum(batch.num_rows for batch in sealed.open().batches()) == count
