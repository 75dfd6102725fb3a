from __future__ import annotations

import json
from pathlib import Path

import pytest

from safehold.model.errors import InputInvalid, NotFound
from safehold.vault.sources import open_source
from tests.vault_kit import exact, round_trip, seal, write_lines

REFUSED = {
    "blank line": (b'{"a":1}\n\n{"a":2}\n', "vault.blank_line", "line 2"),
    "spaces only": (b'{"a":1}\n   \n', "vault.blank_line", "line 2"),
    "cut off": (b'{"a":1}\n{"a":', "vault.cut_off", "line 2"),
    "cut off in text": (b'{"a":"x"}\n{"a":"\xc3\xa9', "vault.cut_off", "line 2"),
    "cut off in a character": (b'{"a":"x"}\n{"a":"\xc3', "vault.not_utf8", "line 2"),
    "not JSON": (b'{"a":1}\n{a:1}\n', "vault.not_json", "line 2"),
    "two records": (b'{"a":1}{"a":2}\n', "vault.not_json", "line 1"),
    "a list": (b"[1]\n", "vault.not_an_object", "line 1"),
    "a number": (b"1\n", "vault.not_an_object", "line 1"),
    "duplicate name": (b'{"a":1,"a":2}\n', "vault.duplicate_name", "line 1"),
    "duplicate inside": (b'{"a":{"b":1,"b":1}}\n', "vault.duplicate_name", "line 1"),
    "NaN": (b'{"a":NaN}\n', "vault.not_finite", "line 1"),
    "Infinity": (b'{"a":-Infinity}\n', "vault.not_finite", "line 1"),
    "overflow": (b'{"a":1e999}\n', "vault.not_finite", "line 1"),
    "5000 digits": (b'{"a":' + b"9" * 5000 + b"}\n", "vault.integer_range", "line 1"),
    "lone surrogate": (b'{"a":"\\ud800"}\n', "vault.lone_surrogate", "line 1"),
    "surrogate in a name": (b'{"\\udc00":1}\n', "vault.lone_surrogate", "line 1"),
    "surrogate inside": (b'{"a":[{"b":"x\\uD83D"}]}\n', "vault.lone_surrogate", "line 1"),
    "not UTF-8": (b'{"a":"x"}\n{"a":"\xff"}\n', "vault.not_utf8", "line 2"),
    "byte order mark": (b'\xef\xbb\xbf{"a":1}\n', "vault.byte_order_mark", "line 1"),
    "UTF-16": ('{"a":1}\n'.encode("utf-16"), "vault.byte_order_mark", "line 1"),
    "NUL": (b'{"a":1}\n{"a":\x00 1}\n', "vault.nul_byte", "line 2"),
    "deep beside a number": (b'{"a":1}\n{"a":' + b"[" * 60 + b"]" * 60 + b"}\n", "vault.too_deep", "line 2"),
    "reserved": (b'{"_safehold_row":1}\n', "vault.column_name", "line 1"),
    "reserved inside": (b'{"a":{"_safehold_empty":1}}\n', "vault.column_name", "line 1"),
    "deep": (b'{"a":' + b"[" * 60 + b"]" * 60 + b"}\n", "vault.too_deep", "line 1"),
    "very deep": (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "vault.too_deep", "line 1"),
    "names as data": (
        b"".join(b'{"a":{"k%d":1}}\n' % n for n in range(2100)),
        "vault.too_many_columns",
        "more than 2,000",
    ),
    "empty file": (b"", "vault.no_records", ""),
    "empty records": (b"{}\n{}\n", "vault.no_columns", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_exact_form_is_refused_by_line(case: str, tmp_path: Path) -> None:
    data, code, named = REFUSED[case]
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputInvalid) as caught:
        open_source(path)
    assert caught.value.code == code
    assert named in caught.value.message
    assert "in.jsonl" in caught.value.message


KEPT = {
    "types": [{"s": "é", "i": -(2**63), "f": 0.1, "b": True, "n": None, "l": [1, None], "o": {"x": "y"}}],
    "empty": [{"s": "", "l": [], "o": {}, "ll": [[], [[]]]}],
    "empty objects beside null": [{"o": {}}, {"o": None}, {"o": {}}],
    "objects now and then empty": [{"o": {}}, {"o": {"x": 1}}, {"o": {"y": 2}}],
    "absent": [{"a": 1}, {"b": 2}, {}, {"a": 3, "b": 4}],
    "absent inside": [{"a": [{"x": 1}, {}, {"y": [None]}, {"x": 2}]}],
    "fractions beside whole": [{"v": 1}, {"v": 0.5}, {"v": -3}, {"v": 2**53}],
    "whole doubles": [{"v": 1.0}, {"v": -0.0}, {"v": 1e300}],
    "nested fractions": [{"v": [{"w": 1}, {"w": 0.25}, {"w": None}]}],
    "odd names": [{"": 1, "a.b": 2, "a,b": 3, "\x00": 4, "é": {"a.b": [1]}, " ": 5}],
    "odd text": [{"t": '\x00\x7f\u2028\r\n\t"\\'}, {"t": "2026-03-24T10:39:00Z"}, {"t": "\U0001f9ea"}],
    "65 bits": [{"a": 1}, {"a": 2**63}, {"a": -(2**80)}],
    "two kinds": [{"a": 1}, {"a": "x"}, {"a": "1"}, {"a": None}, {"a": [1, {"b": 2.0}]}],
    "kinds inside": [{"a": [{"b": 1}, {}]}, {"a": [{"b": []}]}, {"a": [{"b": None}]}],
    "kinds in a list": [{"a": [1, "x", None, [], {}, True, 1.0]}],
    "true is no number": [{"a": 1}, {"a": True}],
    "1 and 1.0": [{"a": 1}, {"a": 1.0}, {"a": -0.0}],
    "2^53 + 1 beside a fraction": [{"a": 0.5}, {"a": 2**53 + 1}],
    "null and absent": [{"a": 1, "b": None}, {"a": 1}, {"b": "null", "a": 2}],
    "null and absent inside": [{"a": {"b": None}}, {"a": {}}, {}, {"a": None}],
    "odd JSON text": [{"a": 1}, {"a": "\u2028\x00\x7f\\ud83d"}, {"a": "\U0001f9ea"}],
    "chat": [
        {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
        {"messages": [{"role": "user", "content": "…", "name": "ann"}]},
    ],
}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("case", KEPT)
def test_records_come_back_as_they_were(case: str, parts: int, tmp_path: Path) -> None:
    from safehold.vault.seal import SealOptions

    records = KEPT[case]
    path = write_lines(tmp_path / "in.jsonl", records)
    back = round_trip(path, tmp_path / "r", options=SealOptions(part_rows=parts, group_rows=2))
    assert [exact(json.loads(line)) for line in back.decode().split("\n")[:-1]] == [exact(r) for r in records]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": "\\u00e9", "b": [1, 2]}\n{"a": "x", "b": []}\n',
        '{"a": "é", "b": [1, 2]}\n'.encode(),
        b'{"a":"\\u00e9","b":[1,2]}\r\n{"a":"x","b":[3]}\r\n',
        '{"a":"é","b":{"c":1.5}}'.encode(),
        b'{"a": 1, "c": 3}\n{"a": 1, "b": 2, "c": 3}\n{"b": 2}\n',
        b'{}\n{"a":1}\n',
    ],
)
def test_a_file_of_one_style_comes_back_byte_for_byte(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    assert round_trip(path, tmp_path / "r") == data


@pytest.mark.parametrize(
    "data", [b'{"a":1, "b": 2}\n', b'{"a": 1}\r\n{"a": 2}\n', b'{"b": 1, "a": 1}\n{"a": 1, "b": 1}\n', b'{"a": 1E1}\n']
)
def test_a_file_of_no_style_comes_back_in_its_values(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    sealed = seal(path, tmp_path / "r")
    assert sealed.manifest.sources[0].style is None
    assert [exact(r) for r in sealed.open().records()] == [exact(json.loads(line)) for line in data.splitlines()]


def test_a_line_of_70_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": "x"}\n{"a": "')
        file.truncate(70_000_000)  # sparse: the rest is never looked at
    with pytest.raises(InputInvalid) as caught:
        open_source(path)
    assert caught.value.code == "vault.line_too_long"
    assert "line 2" in caught.value.message
    assert "67,108,864" in caught.value.message


def test_a_line_at_the_limit_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    for end in (b"", b"\n", b"\r\n"):
        path.write_bytes(b'{"a": "xy"}' + end)
        assert sum(batch.num_rows for batch in open_source(path, line_limit=11).batches()) == 1
        with pytest.raises(InputInvalid, match="line_too_long"):
            open_source(path, line_limit=10)


@pytest.mark.parametrize("change", ["append", "replace", "same size"])
def test_a_file_that_changes_between_the_passes_is_refused(change: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"a": "x"}, {"a": "y"}])
    source = open_source(path)
    if change == "append":
        with path.open("a") as file:
            file.write('{"a": "z"}\n')
    elif change == "replace":
        path.unlink()
        write_lines(path, [{"a": "x"}, {"a": "y"}])
    else:
        write_lines(path, [{"a": "x"}, {"a": "z"}])
    with pytest.raises(InputInvalid, match="source_changed"):
        list(source.batches())


def test_a_file_that_changes_unseen_by_its_times_is_still_refused(tmp_path: Path) -> None:
    import os

    path = write_lines(tmp_path / "in.jsonl", [{"a": "x"}])
    before = path.stat()
    source = open_source(path)
    path.write_text('{"a": "y"}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputInvalid, match="source_changed"):
        list(source.batches())


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    import os

    with pytest.raises(NotFound, match="source_missing"):
        open_source(tmp_path / "none.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputInvalid, match="source_not_file"):
        open_source(tmp_path / "pipe.jsonl")
    (tmp_path / "in.txt").write_text("x")
    with pytest.raises(InputInvalid, match="source_format"):
        open_source(tmp_path / "in.txt")
    assert open_source(write_lines(tmp_path / "in.dat", [{"a": 1}]), "jsonl").columns[0].name == "a"


def test_batches_are_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"a": n} for n in range(20_000)])
    assert [batch.num_rows for batch in open_source(path).batches()] == [8_192, 8_192, 3_616]
    path = write_lines(tmp_path / "bytes.jsonl", [{"a": "x" * 12_000_000} for _ in range(4)])
    assert [batch.num_rows for batch in open_source(path).batches()] == [3, 1]
