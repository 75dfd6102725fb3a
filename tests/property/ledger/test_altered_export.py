"""Any one byte that differs, in any file of an export, is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safehold.ledger.audit import audit_export, read_verifier
from safehold.ledger.export import export_ledger
from safehold.ledger.log import Draft
from safehold.model.errors import VerificationFailed
from tests.ledger_kit import CONTENTS, VERIFIER, memory_folder, one_of_each, open_log, party


@pytest.fixture(scope="module")
def exported() -> Iterator[Path]:
    with memory_folder() as folder:
        log = open_log(folder)
        log.append(lambda _view: Draft(tuple(one_of_each().values()), (CONTENTS,)))
        log.append_statements(*(party(number) for number in range(262 - 18)))
        with log.view() as view:
            export_ledger(view, VERIFIER, folder / "export")
        log.close()
        yield folder / "export"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(1, 255))
def test_one_byte_that_differs_is_found(exported: Path, which: int, where: int, mask: int) -> None:
    files = sorted(path for path in exported.rglob("*") if path.is_file())
    path = files[which % len(files)]
    original = path.read_bytes()
    at = where % len(original)
    path.write_bytes(original[:at] + bytes([original[at] ^ mask]) + original[at + 1 :])
    try:
        with pytest.raises(VerificationFailed):
            audit_export(exported, VERIFIER)
        with pytest.raises(VerificationFailed):
            audit_export(exported, read_verifier(exported))
    finally:
        path.write_bytes(original)


def test_and_the_original_is_sound(exported: Path) -> None:
    assert audit_export(exported, read_verifier(exported)).checkpoint.size == 263
