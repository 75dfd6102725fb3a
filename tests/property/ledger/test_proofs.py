"""Laws of proofs: each that is made verifies, and one flipped bit anywhere makes it fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.ledger.proof import verify_consistency, verify_inclusion
from safehold.ledger.tree import Frontier, consistency_proof, inclusion_proof, leaf_hash, tree_root
from safehold.model.errors import VerificationFailed
from tests.ledger_kit import MemoryTree

ENTRIES = [b"%d" % index for index in range(700)]
TREE = MemoryTree(ENTRIES)
SIZES = st.one_of(st.integers(0, 700), st.sampled_from([1, 2, 3, 255, 256, 257, 511, 512, 513]))


def _read(size: int) -> MemoryTree:
    return MemoryTree(ENTRIES[:size])


def _flip(data: bytes, bit: int) -> bytes:
    at = bit // 8 % len(data)
    return data[:at] + bytes([data[at] ^ (1 << bit % 8)]) + data[at + 1 :]


def test_every_index_of_every_small_size() -> None:
    for size in range(1, 40):
        read = _read(size).read
        for index in range(size):
            path = inclusion_proof(index, size, read)
            verify_inclusion(ENTRIES[index], index, size, path, TREE.roots[size])
        for old in range(size + 1):
            verify_consistency(old, TREE.roots[old], size, TREE.roots[size], consistency_proof(old, size, read))


@given(SIZES.filter(bool), st.data())
def test_inclusion_holds_and_one_flipped_bit_does_not(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path, entry, root = inclusion_proof(index, size, TREE.read), ENTRIES[index], TREE.roots[size]
    assert verify_inclusion(entry, index, size, path, root) == entry
    bit = data.draw(st.integers(0, 8 * 32 * (len(path) + 2) - 1))
    parts = [*path, root, entry]
    at = min(bit // 256, len(parts) - 1)
    parts[at] = _flip(parts[at], bit % 256)
    with pytest.raises(VerificationFailed):
        verify_inclusion(parts[-1], index, size, parts[:-2], parts[-2])


@given(SIZES, SIZES, st.data())
def test_consistency_holds_and_one_flipped_bit_does_not(one: int, two: int, data: st.DataObject) -> None:
    old, new = sorted((one, two))
    proof = consistency_proof(old, new, TREE.read)
    assert verify_consistency(old, TREE.roots[old], new, TREE.roots[new], proof) == TREE.roots[new]
    parts = [TREE.roots[old], TREE.roots[new], *proof]
    # From the empty tree everything follows: there the new root is not looked at, as RFC 9162 has it.
    bits = [bit for bit in range(len(parts)) if not (old == 0 and bit == 1 and new)]
    at = data.draw(st.sampled_from(bits))
    parts[at] = _flip(parts[at], data.draw(st.integers(0, 255)))
    with pytest.raises(VerificationFailed):
        verify_consistency(old, parts[0], new, parts[1], parts[2:])


@given(SIZES.filter(bool), st.integers(0, 700), st.integers(0, 700))
def test_a_proof_is_good_for_its_own_index_only(size: int, index: int, other: int) -> None:
    index, other = index % size, other % size
    path = inclusion_proof(index, size, TREE.read)
    if ENTRIES[index] != ENTRIES[other] or index != other:
        with pytest.raises(VerificationFailed):
            verify_inclusion(ENTRIES[index], other if other != index else size, size, path, TREE.roots[size])


@settings(max_examples=40)
@given(SIZES, st.integers(0, 300))
def test_growing_from_tiles_is_growing_at_once(size: int, more: int) -> None:
    back = Frontier.from_tiles(size, _read(size).read)
    tiles: dict[tuple[int, int], bytes] = {}
    for entry in ENTRIES[size : size + more]:
        back.append(leaf_hash(entry), tiles)
    assert back.root() == TREE.roots[min(size + more, 700)]
    assert tree_root(size, TREE.read) == TREE.roots[size]
    for place, hashes in tiles.items():
        assert TREE.tiles[place][: len(hashes)] == hashes


@settings(max_examples=60)
@given(SIZES, st.lists(st.integers(0, 600), max_size=5))
def test_growing_by_many_is_growing_one_by_one(size: int, steps: list[int]) -> None:
    one, many = Frontier.from_tiles(size, _read(size).read), Frontier.from_tiles(size, _read(size).read)
    one_full: dict[tuple[int, int], bytes] = {}
    many_full: dict[tuple[int, int], bytes] = {}
    number = size
    for step in steps:
        leaves = [leaf_hash(b"%d" % (number + more)) for more in range(step)]
        number += step
        for leaf in leaves:
            one.append(leaf, one_full)
        many.extend(leaves, many_full)
        assert (many.size, many.root()) == (one.size, one.root()) == (number, one.root())
        assert list(many.partial_tiles()) == list(one.partial_tiles())
    assert many_full == one_full
