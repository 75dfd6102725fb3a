"""The tree: roots as others compute them, tiles as tlog-tiles lays them out, a frontier that comes back from tiles."""

from __future__ import annotations

from itertools import islice

import pymerkle
import pytest

from safehold.ledger.proof import verify_consistency, verify_inclusion
from safehold.ledger.tree import (
    EMPTY_ROOT,
    Frontier,
    InclusionProofs,
    checked_tile,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tile_path,
    tiles_of_size,
    tree_root,
)
from safehold.model.errors import InputInvalid, VerificationFailed
from tests.ledger_kit import MemoryTree

AWKWARD = sorted({
    *range(9), 15, 16, 17, 127, 128, 129, 254, 255, 256, 257, 258, 511, 512, 513, 767, 768, 769, 1000, 1023, 1024, 1025,
    65_280, 65_534, 65_535, 65_536, 65_537, 65_792, 66_000,
})  # fmt: skip
# The leaves and roots that implementations of Certificate Transparency share (RFC 6962).
CT_LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                              "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def _entry(index: int) -> bytes:
    return b"entry %d" % index


@pytest.fixture(scope="module")
def big() -> MemoryTree:
    return MemoryTree(_entry(index) for index in range(AWKWARD[-1]))


@pytest.fixture(scope="module")
def trees() -> dict[int, MemoryTree]:
    """A tree of its own for each awkward size: its tiles are those of that size and no other."""
    made, tree = {}, MemoryTree([])
    entries = (_entry(index) for index in range(AWKWARD[-1]))
    for size in AWKWARD:
        for entry in islice(entries, size - tree.frontier.size):
            tree.frontier.append(leaf_hash(entry), tree._full)
        grown = MemoryTree([])
        grown.frontier, grown._full = tree.frontier.copy(), dict(tree._full)
        made[size] = grown
    return made


def test_the_two_hashes_are_those_of_rfc_6962() -> None:
    assert leaf_hash(b"").hex() == CT_ROOTS[1]
    assert node_hash(leaf_hash(b""), leaf_hash(b"\0")).hex() == CT_ROOTS[2]
    assert leaf_hash(b"x") != node_hash(b"x", b"")


def test_the_roots_that_other_implementations_know() -> None:
    tree = MemoryTree(CT_LEAVES)
    assert [root.hex() for root in tree.roots] == CT_ROOTS
    assert bytes.fromhex(CT_ROOTS[0]) == EMPTY_ROOT


def test_roots_are_those_of_another_implementation(trees: dict[int, MemoryTree]) -> None:
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    for index in range(max(size for size in AWKWARD if size < 2000)):
        oracle.append_entry(_entry(index))
    for size in AWKWARD:
        if 0 < size < 2000:
            assert trees[size].frontier.root() == oracle.get_root(size)


def test_the_large_root_is_that_of_another_implementation(big: MemoryTree) -> None:
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    oracle.append_entries([_entry(index) for index in range(AWKWARD[-1])])
    for size in (65_535, 65_536, 65_537, AWKWARD[-1]):
        assert big.roots[size] == oracle.get_root(size)


@pytest.mark.parametrize("size", AWKWARD)
def test_a_frontier_comes_back_from_its_tiles(size: int, trees: dict[int, MemoryTree], big: MemoryTree) -> None:
    tree = trees[size]
    back = Frontier.from_tiles(size, tree.read)
    assert back.root() == tree.frontier.root() == big.roots[size] == tree_root(size, tree.read)
    assert list(back.partial_tiles()) == list(tree.frontier.partial_tiles())
    more, one = {}, dict[tuple[int, int], bytes]()
    twin = tree.frontier.copy()
    for index in range(size, size + 300):
        back.append(leaf_hash(_entry(index)), more)
        twin.append(leaf_hash(_entry(index)), one)
    assert (back.root(), more, list(back.partial_tiles())) == (twin.root(), one, list(twin.partial_tiles()))


@pytest.mark.parametrize("size", AWKWARD)
def test_the_tiles_of_a_size_are_exactly_those_listed(size: int, trees: dict[int, MemoryTree]) -> None:
    listed = list(tiles_of_size(size))
    assert {(level, index): width * 32 for level, index, width in listed} == {
        place: len(hashes) for place, hashes in trees[size].tiles.items()
    }
    assert sum(width for level, _, width in listed if level == 0) == size


@pytest.mark.parametrize("size", AWKWARD[1:])
def test_proofs_at_the_edges_of_awkward_sizes(size: int, trees: dict[int, MemoryTree], big: MemoryTree) -> None:
    read, root = trees[size].read, big.roots[size]
    for index in {0, 1, 254, 255, 256, 257, 511, 512, size // 2, size - 2, size - 1, 65_535, 65_536}:
        if 0 <= index < size:
            path = inclusion_proof(index, size, read)
            assert verify_inclusion(_entry(index), index, size, path, root) == _entry(index)
    for old in AWKWARD:
        if old <= size:
            proof = consistency_proof(old, size, read)
            assert verify_consistency(old, big.roots[old], size, root, proof) == root


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 300, 511, 513, 700, 65_537])
def test_many_proofs_of_one_tree_are_those_made_singly(
    size: int, big: MemoryTree, trees: dict[int, MemoryTree]
) -> None:
    tree = trees.get(size) or MemoryTree(_entry(index) for index in range(size))
    reads: list[tuple[int, int, int]] = []

    def counted(level: int, index: int, width: int) -> bytes:
        reads.append((level, index, width))
        return tree.read(level, index, width)

    proofs = InclusionProofs(size, counted)
    for index in sorted({0, 1, size // 3, size // 2, *range(max(0, size - 40), size)} & set(range(size))):
        path = proofs.path(index)
        assert path == inclusion_proof(index, size, tree.read)
        assert verify_inclusion(_entry(index), index, size, path, big.roots[size]) == _entry(index)
    assert len(reads) <= 40  # and not several for each of up to 44 proofs


def test_a_copy_is_independent() -> None:
    tree = MemoryTree(_entry(index) for index in range(300))
    before, tiles = tree.frontier.root(), dict(tree.tiles)
    twin = tree.frontier.copy()
    for index in range(300):
        twin.append(leaf_hash(_entry(index)), {})
    assert (tree.frontier.root(), tree.tiles, tree.frontier.size) == (before, tiles, 300)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 0, 1, "tile/0/000.p/1"),
        (1, 999, 255, "tile/1/999.p/255"),
        (0, 1000, 256, "tile/0/x001/000"),
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        ("entries", 1_000_000, 3, "tile/entries/x001/x000/000.p/3"),
        (63, 5, 256, "tile/63/005"),
    ],
)
def test_tile_paths(level: int | str, index: int, width: int, path: str) -> None:
    assert tile_path(level, index, width) == path


def test_proofs_of_what_is_not_there_are_refused() -> None:
    read = MemoryTree([b"a", b"b"]).read
    for index, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(InputInvalid) as caught:
            inclusion_proof(index, size, read)
        assert caught.value.code == "ledger.index_range"
    for old, new in ((3, 2), (-1, 2)):
        with pytest.raises(InputInvalid) as caught:
            consistency_proof(old, new, read)
        assert caught.value.code == "ledger.size_range"


@pytest.mark.parametrize("data", [None, b"", b"x" * 63, b"x" * 65])
def test_a_short_tile_is_refused(data: bytes | None) -> None:
    with pytest.raises(VerificationFailed) as caught:
        checked_tile(0, 0, 2, data)
    assert caught.value.code == "ledger.tile_short"
    assert checked_tile(0, 0, 2, b"x" * 96) == b"x" * 64
