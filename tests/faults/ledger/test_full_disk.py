"""A disk that is really full: nothing is appended, nothing is lost, and with room the same append works."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safehold.ledger.audit import audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Draft
from safehold.model.errors import NotAppended, StorageFailed
from safehold.model.statements import encode
from tests.ledger_kit import VERIFIER, open_log, party


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, or a skip that says why there is none."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system: {error}")
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    log = open_log(small_disk / "home")
    done = 0

    def append() -> None:
        nonlocal done
        log.append(lambda _view: Draft((party(done),), (done.to_bytes(4, "big") * 5000,)))
        done += 1

    def append_until_full() -> None:
        for _ in range(1000):
            append()

    with pytest.raises(NotAppended) as caught:
        append_until_full()
    assert caught.value.code in {"ledger.disk_full", "ledger.not_appended"}
    assert "free some space" in caught.value.hint
    assert done >= 10
    failed = done
    for _ in range(3):
        with pytest.raises(NotAppended):
            append()
    assert log.read_only is None
    with log.view() as view:
        assert view.size() == failed, "what was acknowledged can be read while the disk is full"
        with pytest.raises(StorageFailed) as full:
            export_ledger(view, VERIFIER, small_disk / "export")
        assert full.value.code == "ledger.export"

    (small_disk / "ballast").unlink()
    append()
    append()
    assert done == failed + 2
    log.close()
    log = open_log(small_disk / "home")
    assert log.read_only is None
    with log.view() as view:
        assert view.bodies(0, 2000) == [encode(party(number)) for number in range(done)]
        assert check_ledger(view, VERIFIER) == []
        export_ledger(view, VERIFIER, tmp_path / "export")
    assert audit_export(tmp_path / "export", VERIFIER).checkpoint.size == done
    log.close()
