from __future__ import annotations

from pathlib import Path

import pytest

from safehold.model.errors import InputInvalid
from safehold.vault.output import write_csv
from safehold.vault.sources import open_source
from tests.vault_kit import seal, write_lines

REFUSED = {
    "ragged short": (b"a,b\n1,2\n3\n", "vault.csv_ragged", "line 3"),
    "ragged long": (b"a,b\n1,2,3\n", "vault.csv_ragged", "line 2"),
    "blank line": (b"a\nx\n\ny\n", "vault.csv_ragged", "line 3"),
    "open quote": (b'a,b\n1,"2\n', "vault.csv_malformed", "line 1"),
    "text after a quote": (b'a,b\n1,"2"x\n', "vault.csv_malformed", "line 1"),
    "header twice": (b"a,a\n1,2\n", "vault.duplicate_name", "line 1"),
    "header empty": (b"a,\n1,2\n", "vault.column_name", "line 1"),
    "reserved": (b"_safehold_row\n1\n", "vault.column_name", "line 1"),
    "header alone": (b"a,b\n", "vault.no_records", ""),
    "blank header": (b"\n\n", "vault.no_columns", "line 1"),
    "nothing": (b"", "vault.no_records", ""),
    "Latin-1": (b"a\n\xe9\n", "vault.not_utf8", "line 2"),
    "NUL": (b"a\nx\x00\n", "vault.nul_byte", "line 2"),
    "mark": (b"\xef\xbb\xbfa\nx\n", "vault.byte_order_mark", "line 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_clean_csv_is_refused_by_line(case: str, tmp_path: Path) -> None:
    data, code, named = REFUSED[case]
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    with pytest.raises(InputInvalid) as caught:
        open_source(path)
    assert caught.value.code == code
    assert named in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"id,v\n007,1e5\nNA,\n,null\n",
        'a,b\r\n"x, y","say ""hi"""\r\né,"two\r\nlines"\r\n'.encode(),
        b'"a","b"\n"1",""\n"2","x"',
        b'a\n""\nx\n',
        b"a,b\n 1 ,2026-03-24\n",
        b'a\n"' + b"x" * 200_000 + b',"\n',
    ],
)
def test_every_cell_comes_back_as_text(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    sealed = seal(path, tmp_path / "r")
    written = write_csv(sealed.open(), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == data
    assert written.as_source


def test_a_file_of_mixed_quoting_comes_back_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'a,b\n"1",2\n')
    sealed = seal(path, tmp_path / "r")
    assert sealed.manifest.sources[0].style is None
    assert list(sealed.open().records()) == [{"a": "1", "b": "2"}]


def test_a_change_between_the_passes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\n1,2\n")
    source = open_source(path)
    path.write_bytes(b"a,b\n1,2,3\n")
    with pytest.raises(InputInvalid, match="source_changed"):
        list(source.batches())


def test_json_text_with_line_ends_is_quoted_in_csv(tmp_path: Path) -> None:
    sealed = seal(write_lines(tmp_path / "in.jsonl", [{"a": "x\ry"}, {"a": "x\ny"}, {"a": ""}]), tmp_path / "r")
    write_csv(sealed.open(), tmp_path / "out.csv")
    again = seal(tmp_path / "out.csv", tmp_path / "r2")
    assert [record["a"] for record in again.open().records()] == ["x\ry", "x\ny", ""]


@pytest.mark.parametrize("records", [[{"a": 1}], [{"a": "x"}, {"a": None}], [{"a": ["x"]}]])
def test_what_csv_cannot_hold_is_refused(records: list[object], tmp_path: Path) -> None:
    sealed = seal(write_lines(tmp_path / "in.jsonl", records), tmp_path / "r")
    with pytest.raises(InputInvalid, match="no_csv_form"):
        write_csv(sealed.open(), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
