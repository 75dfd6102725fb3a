"""Segments that are altered, cut, swapped, gone, or half made: refused by name, found by fsck, and mended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safehold.ledger.segments import query as query_module
from safehold.ledger.segments import seal as seal_module
from safehold.ledger.segments.check import check_segments
from safehold.ledger.segments.form import arrow_rows, parquet_bytes
from safehold.ledger.segments.seal import Segments, read_entries
from safehold.model.errors import StorageFailed, VerificationFailed
from safehold.state.segments import sealed_segments
from tests.ledger_kit import open_log
from tests.segments_kit import ask, filled, segments_of

ROOT = Path(__file__).parents[3]
COUNT = "SELECT count(*) FROM entry"


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Segments]:
    made = filled(tmp_path)
    made.seal(4)
    yield made
    made.log.close()


def _file(segments: Segments, number: int = 0) -> Path:
    return sorted(segments.folder.glob("*.parquet"))[number]


def _findings(segments: Segments) -> list[str]:
    with segments.log.view() as view:
        return [problem.code for problem in check_segments(view, segments.folder)]


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _swap(path: Path) -> None:
    path.write_bytes(sorted(path.parent.glob("*.parquet"))[1].read_bytes())


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = [
    (_alter, "digest"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "size"),
    (lambda path: path.write_bytes(b""), "size"),
    (_grow, "size"),
    (_swap, "swapped"),
    (Path.unlink, "missing"),
    (lambda path: (path.unlink(), path.mkdir()), "missing"),
]


@pytest.mark.parametrize(("damage", "code"), DAMAGES)
def test_a_file_that_does_not_match_is_refused_before_a_row_is_read(
    segments: Segments, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], code: str
) -> None:
    damage(_file(segments))
    with monkeypatch.context() as unread:
        unread.setattr(query_module, "_connected", lambda *_: pytest.fail("a database was opened"))
        with pytest.raises(VerificationFailed) as refused:
            ask(segments, COUNT)
    assert refused.value.code == f"ledger.segment_{code}"
    assert _file(segments).name in refused.value.message or code == "missing"
    assert _findings(segments) == [f"fsck.segment_{code}"]


@pytest.mark.parametrize(("damage", "code"), DAMAGES[:-1])
def test_what_is_damaged_is_mended_from_the_ledger(
    segments: Segments, damage: Callable[[Path], object], code: str
) -> None:
    name = _file(segments).name
    damage(_file(segments))
    with segments.log.view() as view:
        size = view.size()
    assert segments.mend() == (name,)
    assert _findings(segments) == []
    assert ask(segments, COUNT).rows == ((size,),), "the same bytes: no new entry"


def test_other_bytes_of_the_same_rows_get_an_entry(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another version of pyarrow would write them."""
    _file(segments).unlink()
    with monkeypatch.context() as newer:
        newer.setattr(
            seal_module, "parquet_bytes", lambda rows: parquet_bytes(rows.replace_schema_metadata({"a": "b"}))
        )
        segments.mend()
    with segments.log.view() as view:
        assert [entry.index for entry in sealed_segments(view)] == [13, 11, 10, 12]
    assert _findings(segments) == []
    assert ask(segments, COUNT).rows == ((14,),)


def test_a_segment_that_lies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed with a row left out: it matches its entry, and not the ledger."""
    segments = filled(tmp_path)
    with monkeypatch.context() as lying:
        lying.setattr(seal_module, "arrow_rows", lambda table, entries: arrow_rows(table, entries[:-1]))
        segments.seal(4)
    assert ask(segments, COUNT).rows == ((11,),)
    assert _findings(segments) == ["fsck.segment_rows"] * 4
    segments.log.close()


def test_a_segment_that_is_no_parquet_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = filled(tmp_path)
    monkeypatch.setattr(seal_module, "parquet_bytes", lambda _rows: b"PAR1 no")
    segments.seal(9)
    assert _findings(segments) == ["fsck.segment_rows"] * 2
    segments.log.close()


def test_a_file_that_changes_while_the_query_runs_gives_no_answer(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = query_module._fetch

    def fetch(*given: object) -> object:
        answer = real(*given)  # type: ignore[arg-type]  # handed on as it came
        os.utime(_file(segments), ns=(1, 1))
        return answer

    monkeypatch.setattr(query_module, "_fetch", fetch)
    with pytest.raises(VerificationFailed) as refused:
        ask(segments, COUNT)
    assert refused.value.code == "ledger.segment_changed"


@pytest.mark.parametrize("name", ["write_file", "sync_folder"])
def test_a_disk_that_is_full_leaves_no_entry(segments: Segments, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with segments.log.view() as view:
        size = view.size()
    with monkeypatch.context() as broken:
        broken.setattr(seal_module, name, full)
        with pytest.raises(StorageFailed) as failed:
            segments.seal(4, rest=True)
    assert failed.value.code == "ledger.segment_write"
    with segments.log.view() as view:
        assert view.size() == size
    segments.seal(4, rest=True)
    assert _findings(segments) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from safehold.ledger import export
from safehold.ledger.segments import seal
from tests.ledger_kit import open_log
from tests.segments_kit import segments_of
folder, deadly, steps = Path(sys.argv[1]), int(sys.argv[2]), 0
def around(owner, name):
    real = getattr(owner, name)
    def call(*given, **named):
        global steps
        for act in (None, real):
            result = act and act(*given, **named)
            steps += 1
            if steps == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, call)
around(seal, "write_file"), around(seal, "sync_folder"), around(seal.Segments, "_seal_range")
around(export.os, "replace"), around(seal.Log, "append")
segments_of(open_log(folder), folder).seal(5)
print(steps)
"""


def test_killed_at_every_step_and_run_again(tmp_path: Path) -> None:
    """Two tables of one range: the files, their folder, the entry."""
    died = 0
    for deadly in range(1, 40):
        folder = tmp_path / str(deadly)
        filled(folder).log.close()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(deadly)], cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )  # fmt: skip
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        log = open_log(folder)
        segments = segments_of(log, folder)
        with log.view() as view:
            size, sealed = view.size(), sealed_segments(view)
        assert (size, len(sealed)) in {(9, 0), (11, 2), (13, 4)}, "both tables or none"
        assert _findings(segments) == []
        assert ask(segments, COUNT).rows == ((size,),)
        segments.seal(5)
        assert _findings(segments) == []
        with log.view() as view:
            assert len(read_entries(view, 0, view.size())) == view.size() >= 11
            assert len(sealed_segments(view)) >= 2
        log.close()
        if done.returncode == 0:
            break
        died += 1
    assert died >= 10
