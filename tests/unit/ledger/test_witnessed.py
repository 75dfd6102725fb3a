"""Read-only start: a home whose witnesses know more than its ledger has does not append."""

from __future__ import annotations

from pathlib import Path

import pytest

from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.witnessed import KnownSize, WitnessedSizes
from safehold.model.errors import NotFound, StorageFailed
from tests.ledger_kit import KEY, ORIGIN, NoProjections, open_log, party


def _open(folder: Path, sizes: WitnessedSizes) -> Log:
    return Log(
        SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), KEY, ORIGIN, NoProjections(), sizes
    )


def _make(folder: Path, numbers: range) -> bytes:
    log = open_log(folder)
    log.append_statements(*(party(number) for number in numbers))
    note = log.checkpoint().note
    log.close()
    return note


@pytest.mark.parametrize(("size", "read_only"), [(0, False), (4, False), (5, False), (6, True), (10**9, True)])
def test_it_starts_read_only_if_a_witness_knows_more(tmp_path: Path, size: int, read_only: bool) -> None:
    _make(tmp_path / "home", range(5))
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    sizes.advance(KnownSize("w.example+00", size, b""))
    log = _open(tmp_path / "home", sizes)
    if read_only:
        with pytest.raises(StorageFailed) as caught:
            log.append_statements(party(9))
        assert caught.value.code == "ledger.rolled_back"
        assert "w.example+00" in caught.value.message
        assert log.checkpoint().size == 5, "reads go on"
        log.close()
        sizes.forget("w.example+00")
        log = _open(tmp_path / "home", sizes)
    assert log.append_statements(party(9))[0].index == 5
    log.close()
    sizes.close()


def test_it_starts_read_only_if_a_witness_knows_another_tree(tmp_path: Path) -> None:
    _make(tmp_path / "home", range(5))
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    sizes.advance(KnownSize("w", 3, _make(tmp_path / "same", range(3))))
    log = _open(tmp_path / "home", sizes)
    assert log.read_only is None
    log.close()
    sizes.advance(KnownSize("w", 4, _make(tmp_path / "other", range(1, 5))))
    log = _open(tmp_path / "home", sizes)
    assert log.read_only is not None
    assert log.read_only.code == "ledger.rolled_back"
    log.close()
    sizes.close()


def test_sizes_only_grow(tmp_path: Path) -> None:
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    for size, note in ((3, b"three"), (2, b"two"), (3, b"again"), (5, b""), (5, b"five"), (5, b"")):
        sizes.advance(KnownSize("w", size, note))
    assert sizes.known() == [KnownSize("w", 5, b"five")]
    for size, note in ((5, b"five"), (4, b"four"), (5, b"five and more")):
        sizes.set_complete("o", size, note)
    sizes.close()
    again = WitnessedSizes(tmp_path / "witnessed.db")
    assert (again.complete("o"), again.complete("p")) == (b"five and more", None)
    assert again._open().pragma("synchronous") == 3
    assert again._open().pragma("journal_mode") == "delete"
    again.close()


def test_nothing_is_written_before_there_is_something_to_remember(tmp_path: Path) -> None:
    sizes = WitnessedSizes(tmp_path / "none" / "witnessed.db")
    assert (sizes.known(), sizes.complete("o")) == ([], None)
    sizes.close()
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "witnessed.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageFailed) as caught:
        WitnessedSizes(tmp_path / "witnessed.db")
    assert caught.value.code == "ledger.witnessed"
    sizes = WitnessedSizes(tmp_path / "good.db")
    sizes._open().execute("DROP TABLE known")
    for act in (sizes.known, lambda: sizes.forget("w")):
        with pytest.raises(StorageFailed):
            act()
    sizes.close()


def test_cosignatures_need_a_checkpoint(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(party(1), party(2))
    with pytest.raises(NotFound) as caught:
        log.add_cosignatures(1, [])
    assert caught.value.code == "ledger.no_checkpoint"
    log.close()
