"""Proofs that do not hold: each reason has its code, and nothing that is too long, too short or moved is taken."""

from __future__ import annotations

import pytest

from safehold.ledger.proof import verify_consistency, verify_inclusion
from safehold.ledger.tree import EMPTY_ROOT, consistency_proof, inclusion_proof
from safehold.model.errors import VerificationFailed
from tests.ledger_kit import MemoryTree

ENTRIES = [b"entry %d" % index for index in range(13)]
TREE = MemoryTree(ENTRIES)
PATH = inclusion_proof(5, 13, TREE.read)
PROOF = consistency_proof(6, 13, TREE.read)
ROOT = TREE.roots[13]


def _inclusion(entry: bytes, index: int, size: int, path: list[bytes], root: bytes = ROOT) -> str:
    with pytest.raises(VerificationFailed) as caught:
        verify_inclusion(entry, index, size, path, root)
    return caught.value.code


def _consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]) -> str:
    with pytest.raises(VerificationFailed) as caught:
        verify_consistency(old, old_root, new, new_root, proof)
    return caught.value.code


def test_inclusion_that_does_not_hold() -> None:
    assert _inclusion(b"other", 5, 13, PATH) == "ledger.inclusion"
    assert _inclusion(ENTRIES[5], 5, 13, PATH, TREE.roots[12]) == "ledger.inclusion"
    assert _inclusion(ENTRIES[5], 5, 13, PATH[::-1]) == "ledger.inclusion"
    assert _inclusion(ENTRIES[5], 13, 13, PATH) == "ledger.proof_range"
    assert _inclusion(ENTRIES[5], -1, 13, PATH) == "ledger.proof_range"
    assert _inclusion(ENTRIES[5], 5, 13, PATH[:-1]) == "ledger.proof_length"
    assert _inclusion(ENTRIES[5], 5, 13, [*PATH, ROOT]) == "ledger.proof_length"
    assert _inclusion(ENTRIES[5], 5, 13, [PATH[0][:31], *PATH[1:]]) == "ledger.proof_length"
    assert _inclusion(ENTRIES[5], 5, 13, [ROOT] * 65) == "ledger.proof_length"
    assert _inclusion(ENTRIES[5], 5, 2**62, [ROOT] * 62) == "ledger.inclusion"


def test_a_proof_is_for_one_index_and_one_size() -> None:
    for index in range(13):
        path = inclusion_proof(index, 13, TREE.read)
        for other in range(13):
            if other != index:
                assert _inclusion(ENTRIES[index], other, 13, path) in {"ledger.inclusion", "ledger.proof_length"}
    # Sizes in which a leaf's path has the same shape cannot be told apart by the path: there the root decides.
    for size in range(6, 13):
        assert _inclusion(ENTRIES[5], 5, size, PATH, TREE.roots[size]) in {"ledger.inclusion", "ledger.proof_length"}


def test_consistency_that_does_not_hold() -> None:
    old, new = TREE.roots[6], ROOT
    assert verify_consistency(6, old, 13, new, PROOF) == new
    assert _consistency(6, TREE.roots[5], 13, new, PROOF) == "ledger.consistency"
    assert _consistency(6, old, 13, TREE.roots[12], PROOF) == "ledger.consistency"
    assert _consistency(6, old, 13, old, PROOF) == "ledger.consistency"
    assert _consistency(13, new, 6, old, PROOF) == "ledger.proof_range"
    assert _consistency(-1, old, 6, old, PROOF) == "ledger.proof_range"
    assert _consistency(6, old, 13, new, []) == "ledger.proof_length"
    assert _consistency(6, old, 13, new, PROOF[:-1]) == "ledger.proof_length"
    assert _consistency(6, old, 13, new, [*PROOF, old]) == "ledger.proof_length"
    assert _consistency(6, old, 13, new, [*PROOF[:-1], b"short"]) == "ledger.proof_length"
    assert _consistency(6, old, 13, new, [old] * 65) == "ledger.proof_length"


def test_consistency_where_the_proof_is_empty() -> None:
    assert verify_consistency(0, EMPTY_ROOT, 13, ROOT, []) == ROOT
    assert verify_consistency(13, ROOT, 13, ROOT, []) == ROOT
    assert _consistency(0, ROOT, 13, ROOT, []) == "ledger.consistency"
    assert _consistency(0, EMPTY_ROOT, 13, ROOT, PROOF) == "ledger.proof_length"
    assert _consistency(13, ROOT, 13, TREE.roots[12], []) == "ledger.consistency"
    assert _consistency(13, ROOT, 13, ROOT, [ROOT]) == "ledger.proof_length"
    assert _consistency(0, ROOT, 0, ROOT, []) == "ledger.consistency"


def test_two_sizes_with_one_root_are_refused_whatever_the_proof() -> None:
    assert _consistency(4, TREE.roots[4], 8, TREE.roots[4], [TREE.roots[4]]) == "ledger.consistency"
