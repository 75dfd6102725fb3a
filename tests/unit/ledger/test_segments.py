"""Segments: what is sealed, what a query sees, and what it may not do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safehold.ledger.log import Draft
from safehold.ledger.segments import query as query_module
from safehold.ledger.segments import seal as seal_module
from safehold.ledger.segments.check import check_segments
from safehold.ledger.segments.form import SEGMENT_TABLES, arrow_rows, file_name, parquet_bytes, parquet_rows
from safehold.ledger.segments.keeper import SegmentKeeper
from safehold.ledger.segments.query import QueryLimits, Window
from safehold.ledger.segments.seal import SegmentRule, Segments, read_entries
from safehold.ledger.segments.verified import check_ranges, segment_of, verify_files
from safehold.ledger.storage import Entry
from safehold.model.errors import (
    Conflict,
    InputInvalid,
    NotFound,
    Refused,
    SafeholdError,
    StorageFailed,
    VerificationFailed,
)
from safehold.model.ids import sha256_digest
from safehold.model.statements import SegmentSealed, decode, encode
from safehold.state.segments import sealed_segments
from tests.ledger_kit import BY, digest, party
from tests.segments_kit import ask, filled, key_release


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Segments]:
    made = filled(tmp_path)
    yield made
    made.log.close()


def _files(segments: Segments) -> list[str]:
    return sorted(path.name for path in segments.folder.glob("*.parquet"))


def test_full_ranges_are_sealed_and_the_rest_waits(segments: Segments) -> None:
    entries = segments.seal(4)
    sealed = [segment_of(entry) for entry in entries]
    assert [(one.table, one.begin, one.end, one.rows) for one in sealed] == [
        ("entry", 0, 4, 4), ("key_release", 0, 4, 2), ("entry", 4, 8, 4), ("key_release", 4, 8, 2),
    ]  # fmt: skip
    assert [(one.since, one.until) for one in sealed] == [(0, 999), (997, 999), (4, 995), (993, 995)]
    assert [entry.index for entry in entries] == [9, 10, 11, 12]
    for one in sealed:
        data = (segments.folder / file_name(one.table, one.begin, one.end)).read_bytes()
        assert (len(data), sha256_digest(data)) == (one.size, one.digest)
    assert len(_files(segments)) == 4


def test_with_rest_all_that_was_there_is_sealed(segments: Segments) -> None:
    segments.seal(4)
    sealed = [segment_of(entry) for entry in segments.seal(4, rest=True)]
    assert [(one.table, one.begin, one.end) for one in sealed if one.table == "entry"] == [
        ("entry", 8, 12), ("entry", 12, 13),
    ]  # fmt: skip
    with segments.log.view() as view:
        assert check_segments(view, segments.folder) == []
        assert check_ranges(sealed_segments(view))


def test_nothing_is_sealed_twice(segments: Segments) -> None:
    segments.seal(9)
    assert segments.seal(9) == ()
    assert segments.mend() == ()


def test_of_several_files_that_do_not_match_the_first_is_named(segments: Segments) -> None:
    segments.seal(1)  # nine ranges: more than are hashed at the same time
    with segments.log.view() as view:
        sealed = sealed_segments(view)
    wanted = [segment_of(entry) for entry in sealed if segment_of(entry).table == "entry"]
    assert [one.segment for one in verify_files(segments.folder, sealed, wanted)] == wanted
    for damaged in (wanted[5], wanted[2], wanted[7]):
        (segments.folder / file_name("entry", damaged.begin, damaged.end)).unlink()
        with pytest.raises(VerificationFailed) as refused:
            verify_files(segments.folder, sealed, wanted)
        assert refused.value.code == "ledger.segment_missing"
    assert file_name("entry", wanted[2].begin, wanted[2].end) in str(refused.value.message)


def test_a_segment_of_no_entries_is_refused(segments: Segments) -> None:
    with pytest.raises(InputInvalid) as refused:
        segments.seal(0)
    assert refused.value.code == "ledger.segment_every"


def test_rows_are_sorted_by_time_then_place(segments: Segments) -> None:
    with segments.log.view() as view:
        entries = read_entries(view, 0, 9)
    rows = arrow_rows("entry", entries)
    assert [row["idx"] for row in rows.to_pylist()] == [0, 2, 4, 6, 8, 7, 5, 3, 1]
    assert parquet_rows(parquet_bytes(rows)).equals(rows)


def test_a_key_release_is_all_there_but_its_reader() -> None:
    statement = key_release(5, 77)
    (row,) = arrow_rows("key_release", [Entry(3, encode(statement), statement)]).to_pylist()
    plain = json.loads(encode(statement))
    assert row == {"idx": 3} | {name: plain[name] for name in plain if name not in {"v", "kind", "by", "reader"}}


@pytest.mark.parametrize(
    ("t", "expected"), [("5", 5), ('"5"', None), ("null", None), ("true", None), ("[1]", None), (None, None)]
)
def test_an_entry_of_the_future_has_the_time_it_says(t: str | None, expected: int | None) -> None:
    body = ('{"kind":"moon.landed",' + (f'"t":{t},' if t else "") + '"v":1}').encode()
    rows = arrow_rows("entry", [Entry(0, body, decode(body)), Entry(1, encode(party(9)), party(9))]).to_pylist()
    assert {row["idx"]: row["t"] for row in rows} == {0: expected, 1: 9}
    assert {"idx": 0, "t": expected, "kind": "moon.landed", "body": body.decode()} in rows
    assert expected is not None or rows[-1]["idx"] == 0


def test_a_range_ends_early_where_its_bodies_are_many(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_module, "_MAX_BODIES", 1000)
    ends = [segment_of(entry).end for entry in segments.seal(9) if segment_of(entry).table == "entry"]
    assert ends
    assert 1 <= ends[0] < 9
    with segments.log.view() as view:
        assert len(read_entries(view, 0, 9, 1)) == 1


def test_entries_that_are_gone_are_said(segments: Segments) -> None:
    with segments.log.view() as view, pytest.raises(VerificationFailed) as gone:
        read_entries(view, 8, 12)
    assert gone.value.code == "ledger.segment_entries"


def test_a_query_sees_segments_and_tail_as_one(segments: Segments) -> None:
    sql = "SELECT idx, t, host FROM key_release ORDER BY idx"
    before = ask(segments, sql)
    assert [row[0] for row in before.rows] == [1, 3, 5, 7]
    assert (before.segments, before.tail, before.size) == (0, 0, 9)
    segments.seal(4)
    after = ask(segments, sql)
    assert (after.columns, after.rows) == (("idx", "t", "host"), before.rows)
    assert (after.segments, after.tail, after.size) == (4, 8, 13)
    assert ask(segments, "SELECT count(*), count(DISTINCT idx) FROM entry").rows == ((13, 13),)


def test_a_window_reads_only_the_segments_that_it_touches(segments: Segments) -> None:
    segments.seal(4)
    answer = ask(segments, "SELECT idx FROM key_release ORDER BY idx", Window(996, 1000))
    assert [row[0] for row in answer.rows] == [1, 3]
    assert answer.segments == 2  # key releases of the first range, and the entries of it
    assert [row[0] for row in ask(segments, "SELECT idx FROM key_release", Window(993, 994)).rows] == [7]
    assert ask(segments, "SELECT idx FROM key_release", Window(until=993)).rows == ()


def test_more_rows_than_wanted_are_said(segments: Segments) -> None:
    answer = ask(segments, "SELECT idx FROM entry ORDER BY idx", limits=QueryLimits(rows=2))
    assert (answer.rows, answer.more) == (((0,), (1,)), True)
    assert ask(segments, "SELECT idx FROM entry", limits=QueryLimits(rows=9)).more is False


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '/tmp/x'", "CREATE TABLE a AS SELECT 1", "SELECT 1; SELECT 2", "", "SET threads = 9",
        "INSTALL httpfs", "LOAD httpfs", "ATTACH 'x.db'", "PRAGMA version", "CALL pragma_version()", "DROP VIEW entry",
        "WITH a AS (SELECT 1) INSERT INTO entry SELECT * FROM a", "EXPLAIN SELECT 1", "EXPORT DATABASE 'x'",
    ],
)  # fmt: skip
def test_only_one_select_is_taken(segments: Segments, sql: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        ask(segments, sql)
    assert refused.value.code == "ledger.query_statement"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')", "SELECT * FROM read_text('{file}')", "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM '{file}'", "SELECT * FROM read_parquet('{file}')", "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('https://lab.example/x.parquet')", "SELECT * FROM sniff_csv('{file}')",
        "SELECT getenv('PATH')", "SELECT * FROM secret", "SELECT * FROM read_parquet('{other}')",
    ],
)  # fmt: skip
def test_a_query_cannot_look_around(segments: Segments, tmp_path: Path, sql: str) -> None:
    (tmp_path / "file.csv").write_text("a,b\nplain,text\n")
    segments.seal(4)
    other = segments.folder / "not-sealed.parquet"
    other.write_bytes((segments.folder / _files(segments)[0]).read_bytes())
    secret = [1]  # a name of Python's is no table
    assert secret
    with pytest.raises(SafeholdError) as refused:
        ask(segments, sql.format(file=tmp_path / "file.csv", folder=tmp_path, other=other))
    assert refused.value.code in {"ledger.query", "ledger.query_outside"}
    assert "plain" not in str(refused.value)


def test_a_query_that_is_wrong_is_told_in_one_line(segments: Segments) -> None:
    for sql in ("SELEC 1", "SELECT no_such FROM entry", "SELECT * FROM nowhere", "SELECT 1/'a'"):
        with pytest.raises(InputInvalid) as wrong:
            ask(segments, sql)
        assert wrong.value.code == "ledger.query"
        assert "\n" not in wrong.value.message


def test_memory_and_time_have_limits(segments: Segments) -> None:
    with pytest.raises(Refused) as much:
        ask(segments, "SELECT list(a.range) FROM range(100000000) a", limits=QueryLimits(memory=64, threads=1))
    assert much.value.code == "ledger.query_memory"
    with pytest.raises(Refused) as long:
        ask(segments, "SELECT max(a.range * b.range) FROM range(10000000) a, range(10000000) b",
            limits=QueryLimits(seconds=0.05))  # fmt: skip
    assert long.value.code == "ledger.query_time"


def test_without_the_extra_it_is_said(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(NotFound) as missing:
        ask(segments, "SELECT 1")
    assert missing.value.code == "ledger.no_duckdb"


def test_a_folder_with_the_characters_of_patterns_is_read(tmp_path: Path) -> None:
    segments = filled(tmp_path / "it's [a] *?{b}")
    segments.seal(4)
    assert ask(segments, "SELECT count(*) FROM entry").rows == ((13,),)
    segments.log.close()


def test_a_read_only_ledger_is_not_sealed(segments: Segments) -> None:
    segments.log._read_only = StorageFailed("ledger.rolled_back", "it is")
    with pytest.raises(StorageFailed) as refused:
        segments.seal(4)
    assert refused.value.code == "ledger.rolled_back"
    assert not segments.folder.exists()


def test_a_copy_that_appends_nothing_can_write_its_files(segments: Segments, tmp_path: Path) -> None:
    segments.seal(4)
    segments.log._read_only = StorageFailed("ledger.follower", "it follows")
    copy = Segments(segments.log, tmp_path / "copy", segments.sealed, lambda: 1, BY)
    assert list(copy.mend()) == sorted(_files(segments))
    assert ask(copy, "SELECT count(*) FROM entry").rows == ((13,),)


def test_two_that_seal_at_once_seal_once(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock between processes aside: the place where it counts is the commit."""
    other = Segments(segments.log, segments.folder, segments.sealed, lambda: 1, BY)
    real = Segments._sync

    def meanwhile(self: Segments) -> None:
        real(self)
        monkeypatch.setattr(Segments, "_sync", real)
        other._seal_range(self._read(0, 4, None))

    monkeypatch.setattr(Segments, "_sync", meanwhile)
    with pytest.raises(Conflict) as late:
        segments.seal(4)
    assert late.value.code == "ledger.segment_race"
    with segments.log.view() as view:
        assert len(sealed_segments(view)) == 2
        assert check_segments(view, segments.folder) == []


def _sealing(segments: Segments, **changed: Any) -> None:
    values: dict[str, Any] = {
        "table": "entry", "form": 1, "begin": 0, "end": 4, "rows": 4, "since": 0, "until": 9, "size": 9,
        "digest": digest("x"),
    }  # fmt: skip
    statement = SegmentSealed(t=1, by=BY, **values | changed)
    segments.log.append(lambda _view: Draft((statement,)))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"begin": 1}, "segment_range"),
        ({"end": 0}, "segment_range"),
        ({"end": 99}, "segment_range"),
        ({}, "segment_range"),  # the other table is not sealed
        ({"form": 2}, "segment_form"),
    ],
)
def test_entries_that_seal_nonsense_are_refused(segments: Segments, changed: dict[str, Any], code: str) -> None:
    _sealing(segments, **changed)
    for act in (lambda: ask(segments, "SELECT 1"), lambda: segments.seal(4), segments.mend):
        with pytest.raises(VerificationFailed) as refused:
            act()
        assert refused.value.code == f"ledger.{code}"
    with segments.log.view() as view:
        assert [problem.code for problem in check_segments(view, segments.folder)] == [f"fsck.{code}"]


def test_a_projection_that_names_another_entry_is_refused(segments: Segments) -> None:
    segments.seal(4)
    for place, code in ((0, "ledger.segment_entry"), (999, "state.segment_place")):
        with segments.log.write() as transaction:
            transaction.execute('UPDATE "segment" SET idx = ? WHERE "begin" = 0', place)
        with pytest.raises(VerificationFailed) as refused:
            ask(segments, "SELECT 1")
        assert refused.value.code == code


def test_pyarrow_and_duckdb_are_loaded_late() -> None:
    program = (
        "import sys, safehold.ledger.segments.check, safehold.ledger.segments.query, safehold.state.segments\n"
        "print([name for name in ('pyarrow', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_page_names_the_columns() -> None:
    page = (Path(__file__).parents[3] / "docs" / "spec" / "segments.md").read_text(encoding="utf-8")
    for table in SEGMENT_TABLES:
        rows = arrow_rows(table, [])
        part = page[page.index(f"### `{table}`") + 3 :].partition("\n##")[0]
        named = [line.split("`")[1] for line in part.splitlines() if line.startswith("| `")]
        assert named == rows.schema.names
    assert query_module.SEGMENT_TABLES == SEGMENT_TABLES


def test_full_ranges_are_due_and_the_rest_when_it_is_old(segments: Segments) -> None:
    rule = SegmentRule(every=6, age=500)
    now = 0
    segments._clock = lambda: now
    assert [segment_of(entry).end for entry in segments.seal_due(rule)] == [6, 6]
    now = 6 + 499  # the oldest that is not sealed is the one at 6, which says that it is of 6 µs
    assert segments.seal_due(rule) == ()
    now = 6 + 500
    assert [segment_of(entry).end for entry in segments.seal_due(rule)] == [11, 11]
    now = 10**15
    assert segments.seal_due(SegmentRule(every=100, age=0)) == (), "what seals is never due by its age"
    segments.log.append_statements(party(500))
    assert [segment_of(entry).end for entry in segments.seal_due(SegmentRule(every=100, age=0))] == [14, 14]


def test_a_keeper_seals_and_outlives_failures(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, stop = SegmentKeeper(segments, SegmentRule(every=4)), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(seal_module, "write_file", _full)
        assert keeper.step() == ()
        assert keeper.problem is not None
        assert keeper.problem.code == "ledger.segment_write"
    keeper_thread = threading.Thread(target=keeper.keep, args=(stop, 0.001))
    keeper_thread.start()
    while len(_files(segments)) < 6:
        pass
    segments.log.append_statements(*(party(900 + number) for number in range(4)))
    while segments.log.checkpoint().size < 23:
        pass
    stop.set()
    keeper_thread.join(30)
    assert keeper.problem is None
    assert ask(segments, "SELECT count(*) FROM entry").rows == ((segments.log.checkpoint().size,),)
    segments.log.refuse(StorageFailed("ledger.rolled_back", "it is older"))
    assert keeper.step() == ()


def _full(_path: Path, _data: bytes) -> None:
    raise OSError(28, "No space left on device")
