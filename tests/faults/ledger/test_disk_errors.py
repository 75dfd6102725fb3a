"""The disk fails at each write and each sync of an append in turn: the answer that comes back is always true.

*Not appended* means that the entry is not there, now or after any crash; an answer means that it is there; *uncertain*
may be either. In the end an outsider checks what is left.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest

from safehold.ledger.audit import audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Draft, Log
from safehold.ledger.sqlite import SqliteStore, _Connection
from safehold.model.errors import NotAppended, StorageFailed, Uncertain
from safehold.model.statements import encode
from tests.ledger_kit import VERIFIER, memory_folder, open_log, party
from tests.outsider_kit import read_as_outsider
from tests.vfs_kit import Disk, DiskStore, Fault, as_written, disk

BEFORE = 5
NUMBERS = count()
ANSWERS = {
    (NotAppended, "ledger.not_appended"): "not appended",
    (NotAppended, "ledger.disk_full"): "not appended",
    (Uncertain, "ledger.uncertain"): "uncertain",
    (Uncertain, "ledger.uncertain_full"): "uncertain",
}


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """A ledger of a few entries, closed, to be copied."""
    with memory_folder() as folder:
        log = open_log(folder / "prepared")
        for number in range(BEFORE):
            log.append_statements(party(number))
        log.close()
        yield folder / "prepared"


def _open(prepared: Path, folder: Path, made: Disk, autocheckpoint: int) -> Log:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    log = open_log(folder, lambda path: DiskStore(path, made, autocheckpoint=autocheckpoint))
    log.append_statements(party(BEFORE))  # so that the write-ahead log is there and the next append only writes
    return log


def _append(log: Log) -> str:
    """What the log answers to one more append: ``done``, ``not appended`` or ``uncertain``."""
    try:
        entries = log.append(lambda _view: Draft((party(100), party(101)), (b"payload" * 3000,)))
    except StorageFailed as error:
        return ANSWERS[type(error), error.code]
    assert [entry.index for entry in entries] == [BEFORE + 1, BEFORE + 2]
    return "done"


def _oracle(folder: Path, answer: str) -> int:
    """Read what is left as an outsider would, then with our own tools; return the number of entries."""
    outside = read_as_outsider(folder / "ledger.db", VERIFIER.text)
    log = open_log(folder)
    assert log.read_only is None
    with log.view() as view:
        assert check_ledger(view, VERIFIER) == []
        size = view.size()
        assert view.bodies(0, size) == outside
        assert view.bodies(0, BEFORE + 1) == [encode(party(number)) for number in range(BEFORE + 1)]
        assert (
            size in {"done": {BEFORE + 3}, "not appended": {BEFORE + 1}, "uncertain": {BEFORE + 1, BEFORE + 3}}[answer]
        )
        export_ledger(view, VERIFIER, folder / "export")
    assert audit_export(folder / "export", VERIFIER).checkpoint.size == size
    log.append_statements(party(200))
    log.close()
    return size


def _crash(made: Disk, folder: Path) -> Path:
    """A copy of what was written, as the next process finds it when this one dies now."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in as_written(made.record).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("autocheckpoint", [100, 1], ids=["append", "append and checkpoint"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["ENOSPC", "EIO"])
def test_a_failure_at_each_write_and_sync(
    prepared: Path, error: type[apsw.Error], lasting: bool, autocheckpoint: int
) -> None:
    answers: Counter[str] = Counter()
    with memory_folder() as folder:
        for at in count(1):
            with disk(f"fault-{next(NUMBERS)}") as made:
                log = _open(prepared, folder / "run", made, autocheckpoint)
                made.fault = Fault(error, at, lasting=lasting)
                answer = _append(log)
                fault, made.fault = made.fault, None
                if answer == "not appended":  # the disk works again, and so does the same log
                    assert _append(log) == "done"
                    log.close()
                    _oracle(folder / "run", "done")
                else:
                    log.close()
                    _oracle(folder / "run", answer)
                answers[answer] += 1
                if not fault.failed:
                    assert answer == "done"
                    break
    assert answers["done"] >= 1
    stuck = error is apsw.IOError and lasting  # then nothing can be made certain, and nothing is claimed
    assert answers["uncertain" if stuck else "not appended"] >= 8, "an append makes at least so many writes"
    if error is apsw.FullError and autocheckpoint == 100:
        assert answers["uncertain"] <= 1, "a full disk is a plain case; only the sync, when it fails, is not"


def test_a_sync_that_fails_is_followed_by_the_truth(prepared: Path) -> None:
    with memory_folder() as folder, disk(f"fault-{next(NUMBERS)}") as made:
        log = _open(prepared, folder / "run", made, 100)
        made.fault = Fault(apsw.IOError, 1, syncs_only=True)
        answer = _append(log)
        assert made.fault.failed == 1
        made.fault = None
        log.close()
        _oracle(folder / "run", answer)


def _with_another_open(prepared: Path, folder: Path, made: Disk) -> str:
    """A sync fails while another process keeps the file open; then this process dies. What was answered?"""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    made.record += [("write", "ledger.db", 0, (folder / "ledger.db").read_bytes())]
    other = DiskStore(folder / "ledger.db", made)
    log = open_log(folder, lambda path: DiskStore(path, made))
    log.append_statements(party(BEFORE))
    made.fault = Fault(apsw.IOError, 1, syncs_only=True)
    answer = _append(log)
    made.fault = None
    _crash(made, folder.with_name("crashed"))
    log.close()
    other.close()
    return answer


def test_not_appended_stays_true_after_a_crash_beside_another_process(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory_folder() as folder:
        with disk(f"fault-{next(NUMBERS)}") as made:
            answer = _with_another_open(prepared, folder / "run", made)
            assert answer == "not appended"
            _oracle(folder / "crashed", answer)
        # The danger is real: without the settling write the entry comes back from the dead.
        monkeypatch.setattr(_Connection, "settle", lambda _self: None)
        with disk(f"fault-{next(NUMBERS)}") as made:
            assert _with_another_open(prepared, folder / "run", made) == "not appended"
            store = SqliteStore(folder / "crashed" / "ledger.db")
            with store.read() as view:
                assert view.size() == BEFORE + 3
            store.close()


def test_a_disk_that_stays_broken_leaves_the_log_refusing(prepared: Path) -> None:
    with memory_folder() as folder, disk(f"fault-{next(NUMBERS)}") as made:
        log = _open(prepared, folder / "run", made, 100)
        made.fault = Fault(apsw.IOError, 1, lasting=True, syncs_only=True)
        assert _append(log) == "uncertain"
        assert isinstance(log.read_only, Uncertain)
        made.fault = None
        with pytest.raises(StorageFailed):
            log.append_statements(party(7))
        log.close()
        _oracle(folder / "run", "uncertain")
