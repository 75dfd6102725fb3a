"""Copies of the ledger's file, and a restored ledger held against a checkpoint from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from safehold.ledger.copy import copy_ledger, open_copy
from safehold.ledger.fsck import check_ledger
from safehold.ledger.note import sign_checkpoint
from safehold.ledger.restored import compare_checkpoint, read_only_restored
from safehold.model.errors import SafeholdError, StorageFailed, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER, open_log, party


def test_a_copy_is_one_file_that_reading_does_not_change(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(*(party(number) for number in range(300)))
    said: list[tuple[int, int]] = []
    (tmp_path / "copies").mkdir()
    copy = tmp_path / "copies" / "ledger.db"
    copy_ledger(tmp_path / "ledger.db", copy, lambda done, total: said.append((done, total)))
    assert said[-1][0] == said[-1][1] > 0
    before = copy.read_bytes()
    with open_copy(copy) as view:
        assert view.size() == 300
        assert view.checkpoint() == log.checkpoint().note
        assert check_ledger(view, VERIFIER) == []
    assert [path.name for path in copy.parent.iterdir()] == ["ledger.db"]
    assert copy.read_bytes() == before
    log.append_statements(party(300))  # the copy did not get in its way
    log.close()


def test_what_is_no_copy_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "a copy?#%.db"
    for data in (None, b"no database at all, but long enough to look at" * 100):
        if data is not None:
            copy.write_bytes(data)
        with pytest.raises(VerificationFailed) as caught, open_copy(copy) as view:
            view.size()
        assert caught.value.code == "ledger.copy_damaged"
    with pytest.raises(StorageFailed) as failed:
        copy_ledger(tmp_path / "nothing.db", tmp_path / "target.db")
    assert failed.value.code == "ledger.copy"


def test_a_checkpoint_from_elsewhere_fits_or_says_what_is_missing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    notes = [log.append_statements(party(number)) and log.checkpoint().note for number in range(5)]
    copy_ledger(tmp_path / "ledger.db", tmp_path / "copy.db")
    log.append_statements(party(5), party(6), party(7))
    newer = log.checkpoint().note
    log.close()
    with open_copy(tmp_path / "copy.db") as view:
        for number, note in enumerate(notes):
            assert compare_checkpoint(view, VERIFIER, note).size == number + 1
        cases = [
            (newer, "ledger.rolled_back", "3 entries are missing: 8 were signed, 5 are here"),
            (sign_checkpoint(ORIGIN, 3, bytes(32), KEY).note, "ledger.rolled_back", "not the ones that were signed"),
            (sign_checkpoint(ORIGIN, 5, bytes(32), KEY).note, "ledger.rolled_back", "not the ones that were signed"),
            (sign_checkpoint(ORIGIN, 3, bytes(32), OTHER_KEY).note, "ledger.note_unsigned", ""),
            (b"no note", "ledger.note_form", ""),
        ]
        for note, code, words in cases:
            with pytest.raises(SafeholdError) as caught:
                compare_checkpoint(view, VERIFIER, note)
            assert caught.value.code == code
            assert words in caught.value.message


def test_a_refusing_log_goes_on_only_when_that_refusal_ends(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(party(1))
    refusal, other = read_only_restored(1), read_only_restored(1)
    log.refuse(refusal)
    log.refuse(other)
    assert log.read_only is refusal
    log.resume(other)
    with pytest.raises(StorageFailed) as caught:
        log.append_statements(party(2))
    assert caught.value.code == "ledger.restored"
    log.resume(refusal)
    (entry,) = log.append_statements(party(2))
    assert entry.index == 1
    log.close()
