"""Random histories, forks and liars: a witness never cosigns two trees that contradict each other, and its naive twin,
which keeps every entry and compares lists, answers the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.ledger.evidence import open_evidence
from safehold.ledger.note import open_checkpoint
from safehold.ledger.proof import verify_consistency
from safehold.ledger.witness import WitnessConflict, format_request
from safehold.model.errors import SafeholdError, VerificationFailed
from tests.ledger_kit import ORIGIN, VERIFIER, memory_folder
from tests.witness_kit import Desk, ShownLog, TreeSource, entries, forked

MOST = 70
HISTORIES = [ShownLog(entries(MOST)), *(ShownLog(forked(at, MOST, at)) for at in (0, 1, 5, 8, 31, 64))]
STEPS = st.tuples(
    st.integers(0, len(HISTORIES) - 1),
    st.integers(0, MOST),
    st.one_of(st.none(), st.integers(0, MOST)),
    st.sampled_from(["request", "request", "request", "observe", "liar"]),
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as made:
        yield made


class Twin:
    """A witness that keeps all entries of what it cosigned."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def answer(self, log: ShownLog, size: int, old: int, honest: bool) -> int:
        offered = log.tree.entries[:size]
        if old > size:
            return 400
        if old != len(self.entries):
            return 409
        if len(offered) == len(self.entries) and offered != self.entries:
            return 409
        if offered[: len(self.entries)] != self.entries or not honest:
            return 422
        self.entries = offered
        return 200


def _status(error: SafeholdError) -> int:
    if isinstance(error, WitnessConflict):
        return 409
    return 422 if isinstance(error, VerificationFailed) else 400


@settings(max_examples=120)
@given(steps=st.lists(STEPS, min_size=1, max_size=14))
def test_it_answers_as_its_naive_twin(folder: Path, steps: list[tuple[int, int, int | None, str]]) -> None:
    number = sum(1 for _ in folder.iterdir())
    desk, twin = Desk(folder / str(number), VERIFIER), Twin()
    cosigned: dict[int, bytes] = {}
    for which, size, asked, way in steps:
        log = HISTORIES[which]
        known = len(twin.entries)
        if way == "observe":
            source = TreeSource(log, size)
            expected = 422 if size < known else twin.answer(log, size, known, honest=True)
            same_size_seen = size < known and cosigned.get(size, log.tree.roots[size]) != log.tree.roots[size]
            try:
                desk.witness.observe(source)
                status = 200
            except SafeholdError as error:
                status = _status(error)
            assert status == (409 if same_size_seen else expected)
        else:
            old = known if asked is None else asked
            proof = log.proof(old, size) if old <= size else []
            honest = way != "liar" or not proof
            if not honest:
                proof[old % len(proof)] = bytes(32)
            expected = twin.answer(log, size, old, honest)
            try:
                desk.witness.add_checkpoint(format_request(old, proof, log.note(size)))
                status = 200
            except SafeholdError as error:
                status = _status(error)
            assert status == expected, (steps, which, size, asked, way)
        if status == 200:
            assert cosigned.setdefault(size, log.tree.roots[size]) == log.tree.roots[size]
        assert desk.witness.latest(ORIGIN).size == len(twin.entries)
    _one_history(twin, cosigned)
    _evidence_convicts_only_splits(desk)
    desk.close()


def _one_history(twin: Twin, cosigned: dict[int, bytes]) -> None:
    whole = ShownLog(twin.entries)
    for size, root in cosigned.items():
        proof = whole.proof(size)
        verify_consistency(size, root, whole.size, whole.tree.roots[whole.size], proof)


def _evidence_convicts_only_splits(desk: Desk) -> None:
    for path in desk.evidence.files():
        try:
            known, offered = open_evidence(path.read_bytes(), VERIFIER)
        except VerificationFailed:
            assert not path.name.startswith("split")
            continue
        sides = [
            {at for at, log in enumerate(HISTORIES) if log.tree.roots[one.size] == one.root} for one in (known, offered)
        ]
        assert not sides[0] & sides[1], "no single history explains both"


@settings(max_examples=60)
@given(st.integers(0, 6), st.integers(1, MOST), st.integers(1, MOST))
def test_an_honest_log_is_never_accused(folder: Path, which: int, one: int, other: int) -> None:
    desk = Desk(folder / f"h{sum(1 for _ in folder.iterdir())}", VERIFIER)
    log = HISTORIES[which]
    for size in (one, other, one, max(one, other)):
        if size < desk.witness.latest(ORIGIN).size:
            with pytest.raises(VerificationFailed) as caught:
                desk.witness.observe(TreeSource(log, size))
            assert caught.value.code == "ledger.source_older"
        else:
            desk.witness.observe(TreeSource(log, size))
    assert set(desk.kept()) <= {"rollback"}
    for path in desk.evidence.files():
        with pytest.raises(VerificationFailed):
            open_evidence(path.read_bytes(), VERIFIER)
    assert open_checkpoint(desk.witness.latest(ORIGIN).note, VERIFIER).size == max(one, other)
    desk.close()
