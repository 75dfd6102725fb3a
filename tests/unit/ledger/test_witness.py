"""The witness: every answer of tlog-witness; no rollback, no split; contradictions stay as evidence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safehold.ledger.cosignature import ML_DSA_44, open_cosignatures
from safehold.ledger.evidence import open_evidence
from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.tree import EMPTY_ROOT
from safehold.ledger.witness import WitnessConflict, format_request, read_request
from safehold.model.errors import InputInvalid, NotFound, Refused, SafeholdError, StorageFailed, VerificationFailed
from tests.ledger_kit import KEY, ORIGIN, OTHER_KEY, VERIFIER
from tests.witness_kit import AT, Desk, ShownLog, TreeSource, cosigned, entries, forked

LOG = ShownLog(entries(300))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "witness", VERIFIER)
    yield made
    made.close()


def _refused(desk: Desk, request: bytes) -> SafeholdError:
    before = desk.witness.latest(ORIGIN)
    with pytest.raises(SafeholdError) as caught:
        desk.witness.add_checkpoint(request)
    assert desk.witness.latest(ORIGIN) == before, "a refusal changes nothing"
    return caught.value


def test_it_cosigns_a_log_that_grows(desk: Desk) -> None:
    old = 0
    for size in (0, 1, 2, 3, 7, 8, 8, 255, 256, 257, 300):
        lines = desk.witness.add_checkpoint(LOG.request(old, size))
        assert cosigned(LOG.note(size), lines, desk.key) == AT // 1_000_000
        assert desk.witness.latest(ORIGIN).size == size
        old = size
    assert desk.kept() == []


def test_both_kinds_of_key_sign(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "both", VERIFIER, ml_dsa=True)
    lines = desk.witness.add_checkpoint(LOG.request(0, 5))
    found = open_cosignatures(LOG.note(5) + lines, [cosigner.key for cosigner in desk.cosigners])
    assert sorted(key.kind for key in found) == [4, ML_DSA_44]
    desk.close()


def test_it_remembers_when_opened_again(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 9))
    desk.close()
    again = Desk(desk.folder)
    assert [verifier.text for verifier in again.witness.logs] == [VERIFIER.text]
    assert isinstance(_refused(again, LOG.request(0, 12)), WitnessConflict)
    again.witness.add_checkpoint(LOG.request(9, 12))
    again.close()


def test_a_log_made_known_elsewhere_is_known_at_once(desk: Desk) -> None:
    stranger = ShownLog(entries(3), OTHER_KEY, "other.example/log")
    assert isinstance(_refused(desk, stranger.request(0)), NotFound)
    another = Desk(desk.folder, stranger.verifier)
    assert desk.witness.add_checkpoint(stranger.request(0))
    another.close()


def test_the_time_never_runs_back(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 3))
    desk.at = AT - 3_600_000_000
    lines = desk.witness.add_checkpoint(LOG.request(3, 4))
    assert cosigned(LOG.note(4), lines, desk.key) == AT // 1_000_000


def test_a_wrong_old_size_is_told_the_right_one(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 9))
    for old, size in ((0, 12), (8, 12), (10, 12), (0, 9), (3, 5), (0, 0)):
        error = _refused(desk, LOG.request(old, size))
        assert isinstance(error, WitnessConflict)
        assert (error.code, error.size) == ("ledger.witness_size", 9)
    assert desk.kept() == [], "an old checkpoint of the same history contradicts nothing"


def test_a_split_at_the_same_size_is_kept(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 9))
    other = ShownLog(forked(4, 9))
    error = _refused(desk, other.request(9))
    assert isinstance(error, WitnessConflict)
    assert (error.code, error.size) == ("ledger.split_view", 9)
    _refused(desk, other.request(9))
    (path,) = desk.evidence.files()
    known, offered = open_evidence(path.read_bytes(), VERIFIER)
    assert (known.root, offered.root) == (LOG.tree.roots[9], other.tree.roots[9])


def test_a_split_at_an_earlier_size_is_kept(desk: Desk) -> None:
    for old, size in ((0, 5), (5, 9), (9, 20)):
        desk.witness.add_checkpoint(LOG.request(old, size))
    other = ShownLog(forked(2, 9))
    error = _refused(desk, other.request(0))
    assert error.code == "ledger.split_view"
    known, offered = open_evidence(desk.evidence.files()[0].read_bytes(), VERIFIER)
    assert (known.size, offered.size) == (9, 9)


def test_a_fork_that_grew_is_proven_by_its_own_proof(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 9))
    other = ShownLog(forked(4, 20))
    assert _refused(desk, other.request(9)).code == "ledger.witness_proof"
    assert desk.kept() == ["split"]
    known, offered = open_evidence(desk.evidence.files()[0].read_bytes(), VERIFIER)
    assert (known.size, offered.size) == (9, 20)


def test_from_a_power_of_two_it_is_suspected(desk: Desk) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 8))
    assert _refused(desk, ShownLog(forked(4, 20)).request(8)).code == "ledger.witness_proof"
    assert desk.kept() == ["unproven"]
    with pytest.raises(VerificationFailed) as caught:
        open_evidence(desk.evidence.files()[0].read_bytes(), VERIFIER)
    assert caught.value.code == "ledger.evidence_unproven"


def test_a_false_proof_accuses_nobody_by_proof_and_fills_no_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safehold.ledger.evidence._MAX_FILES", {"split": 4, "unproven": 3, "rollback": 3})
    desk.witness.add_checkpoint(LOG.request(0, 9))
    for size in range(10, 20):
        proof = LOG.proof(9, size)
        for bad in (proof[:-1], [*proof, proof[0]], [bytes(32), *proof[1:]], []):
            error = _refused(desk, format_request(9, bad, LOG.note(size)))
            assert (type(error), error.code) == (VerificationFailed, "ledger.witness_proof")
    assert desk.kept() == ["unproven"] * 3
    desk.witness.add_checkpoint(LOG.request(9, 19))


def test_a_proof_where_none_belongs(desk: Desk) -> None:
    assert _refused(desk, format_request(0, [bytes(32)], LOG.note(3))).code == "ledger.witness_proof"
    desk.witness.add_checkpoint(LOG.request(0, 3))
    assert _refused(desk, format_request(3, [bytes(32)], LOG.note(3))).code == "ledger.witness_proof"
    assert desk.kept() == []


def test_an_empty_tree_with_a_root_is_refused(desk: Desk) -> None:
    note = sign_checkpoint(ORIGIN, 0, bytes(32), KEY).note
    assert _refused(desk, format_request(0, [], note)).code == "ledger.split_view"
    assert cosigned(LOG.note(0), desk.witness.add_checkpoint(LOG.request(0, 0)), desk.key)
    assert desk.witness.latest(ORIGIN).root == EMPTY_ROOT


def test_unknown_logs_and_keys(desk: Desk) -> None:
    stranger = ShownLog(entries(3), OTHER_KEY, "other.example/log")
    assert isinstance(_refused(desk, stranger.request(0)), NotFound)
    forged = ShownLog(entries(3), OTHER_KEY)
    error = _refused(desk, forged.request(0))
    assert (type(error), error.code) == (Refused, "ledger.witness_signature")
    altered = LOG.note(3).replace(b"\n3\n", b"\n4\n", 1)
    assert _refused(desk, format_request(0, [], altered)).code == "ledger.witness_signature"
    desk.witness.add_log(NoteVerifier(ORIGIN, OTHER_KEY.public))
    desk.witness.add_checkpoint(forged.request(0))  # one log may have two keys
    desk.witness.add_checkpoint(LOG.request(3, 5) if forged.tree.roots[3] == LOG.tree.roots[3] else b"")


def test_signatures_of_others_on_the_checkpoint_do_no_harm(desk: Desk) -> None:
    note = LOG.note(3)
    lines = desk.witness.add_checkpoint(format_request(0, [], note))
    again = desk.witness.add_checkpoint(format_request(3, [], note + lines))
    assert cosigned(note, again, desk.key)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"old 0\n",
        b"old 00\n\n" + LOG.note(3),
        b"old -1\n\n" + LOG.note(3),
        b"old 0 \n\n" + LOG.note(3),
        b"old\n\n" + LOG.note(3),
        b"size 0\n\n" + LOG.note(3),
        b"old 4\n\n" + LOG.note(3),
        b"old 0\nAAAA\n\n" + LOG.note(3),
        b"old 0\n!\n\n" + LOG.note(3),
        b"old 0\n\xff\n\n" + LOG.note(3),
        b"old 0\n\n",
        b"old 0\n\nno checkpoint",
        b"old 0\n\n" + LOG.note(3)[:-1],
        format_request(0, [bytes(32)] * 64, LOG.note(3)),
        b"old 0\n\n" + LOG.note(3) + b"x" * (1 << 18),
        b"old 99999999999999999999\n\n" + LOG.note(3),
        format_request(0, [], sign_checkpoint(ORIGIN, 1 << 62, bytes(32), KEY).note),
        format_request(0, [], sign_checkpoint(ORIGIN, 9_999_999_999_999_999_999, bytes(32), KEY).note),
    ],
)
def test_what_is_no_request(desk: Desk, request_: bytes) -> None:
    error = _refused(desk, request_)
    assert (type(error), error.code) == (InputInvalid, "ledger.witness_request")


def test_a_request_is_read_back() -> None:
    request = read_request(LOG.request(5, 12))
    assert (request.old, list(request.proof), request.note) == (5, LOG.proof(5, 12), LOG.note(12))
    assert format_request(request.old, request.proof, request.note) == LOG.request(5, 12)


def test_many_at_once_and_only_one_history(tmp_path: Path) -> None:
    desks = [
        Desk(tmp_path / "w", VERIFIER),
        Desk(tmp_path / "w"),
    ]  # two processes on one state, as far as SQLite can tell
    histories = [ShownLog(entries(40)), ShownLog(forked(3, 40))]
    answers: dict[int, set[bytes]] = {}
    lock = threading.Lock()

    def submit(number: int) -> None:
        log, witness = histories[number % 2], desks[number // 2 % 2].witness
        for size in range(1 + number % 5, 41, 3):
            for _ in range(4):
                old = witness.latest(ORIGIN).size
                if old > size:
                    break
                try:
                    witness.add_checkpoint(log.request(old, size))
                except SafeholdError:
                    continue
                with lock:
                    answers.setdefault(size, set()).add(log.tree.roots[size])
                break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(submit, range(12)))
    assert all(len(roots) == 1 for roots in answers.values())
    sides = {
        next(at for at, log in enumerate(histories) if log.tree.roots[size] in roots)
        for size, roots in answers.items()
        if size > 3
    }
    assert len(sides) == 1
    for desk in desks:
        desk.close()


def test_nothing_is_cosigned_that_is_not_durable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.witness.add_checkpoint(LOG.request(0, 3))
    desk.state._open().execute("PRAGMA query_only = 1")
    with pytest.raises(StorageFailed):
        desk.witness.add_checkpoint(LOG.request(3, 5))
    desk.close()
    assert desk.witness.latest(ORIGIN).size == 3
    desk.witness.add_checkpoint(LOG.request(3, 5))


def test_it_follows_a_static_tree(desk: Desk) -> None:
    for size in (1, 5, 256, 300):
        observed = desk.witness.observe(TreeSource(LOG, size))
        assert cosigned(LOG.note(size), observed.lines, desk.key)
    assert observed.before == 256


@pytest.mark.parametrize("known", [8, 9])
def test_a_fork_in_a_static_tree_is_always_proven(desk: Desk, known: int) -> None:
    desk.witness.observe(TreeSource(LOG, known))
    with pytest.raises(VerificationFailed):
        desk.witness.observe(TreeSource(ShownLog(forked(4, 30))))
    assert desk.kept() == ["split"]
    open_evidence(desk.evidence.files()[0].read_bytes(), VERIFIER)


def test_an_older_static_tree_is_kept_as_evidence(desk: Desk) -> None:
    desk.witness.observe(TreeSource(LOG, 9))
    desk.witness.observe(TreeSource(LOG, 30))
    for source, code, kept in (
        (TreeSource(LOG, 12), "ledger.source_older", ["rollback"]),
        (TreeSource(ShownLog(forked(4, 9))), "ledger.split_view", ["rollback", "split"]),
    ):
        with pytest.raises(SafeholdError) as caught:
            desk.witness.observe(source)
        assert caught.value.code == code
        assert desk.kept() == kept
    assert desk.witness.latest(ORIGIN).size == 30


def test_a_static_tree_that_is_not_its_checkpoints(desk: Desk) -> None:
    source = TreeSource(LOG, 30)
    source.files["tile/0/000.p/30"] = TreeSource(ShownLog(forked(4, 30))).files["tile/0/000.p/30"]
    for change, code in (
        ("altered", "ledger.source_root"),
        ("short", "ledger.tile_short"),
        ("gone", "ledger.tile_short"),
    ):
        if change == "short":
            source.files["tile/0/000.p/30"] = source.files["tile/0/000.p/30"][:-1]
        if change == "gone":
            del source.files["tile/0/000.p/30"]
        with pytest.raises(VerificationFailed) as caught:
            desk.witness.observe(source)
        assert caught.value.code == code
    assert desk.witness.latest(ORIGIN).size == 0


def test_a_partial_tile_that_became_full_is_used(desk: Desk) -> None:
    source = TreeSource(LOG, 300)
    source.files["checkpoint"] = LOG.note(200)
    assert desk.witness.observe(source).checkpoint.size == 200
