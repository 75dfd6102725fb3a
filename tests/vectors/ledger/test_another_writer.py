"""A log that another implementation wrote (`aics-tlog`, recorded by ``tests/tlog_peer.py``): tiles, notes, a cosignature."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from safehold.ledger.audit_part import read_bundle
from safehold.ledger.cosignature import CosignerKey, open_cosignatures
from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.proof import verify_consistency, verify_inclusion
from safehold.ledger.source import FolderSource, source_bundle, source_tiles
from safehold.ledger.tree import Frontier, consistency_proof, inclusion_proof, leaf_hashes, tree_root
from safehold.model.errors import VerificationFailed

RECORDED = json.loads((Path(__file__).parents[3] / "vectors" / "ledger" / "another-writer.json").read_bytes())


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    for name, data in RECORDED["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(base64.b64decode(data))
    return FolderSource(tmp_path)


def test_its_checkpoints_and_cosignatures_are_read() -> None:
    verifier, witness = NoteVerifier.parse(RECORDED["verifier"]), CosignerKey.parse(RECORDED["witness"])
    for note, size in zip(RECORDED["notes"], (1, 256, 300), strict=True):
        checkpoint = open_checkpoint(note.encode(), verifier)
        assert (checkpoint.size, checkpoint.origin) == (size, "peer.example/log")
        (cosignature,) = open_cosignatures(note.encode(), [witness]).values()
        assert cosignature.seconds == 1_774_310_400
        with pytest.raises(VerificationFailed):
            open_checkpoint(
                note.replace("\n300\n", "\n301\n").replace("\n256\n", "\n255\n").replace("\n1\n", "\n2\n").encode(),
                verifier,
            )


def test_its_tree_is_read_and_proven(source: FolderSource) -> None:
    heads = [open_checkpoint(note.encode(), NoteVerifier.parse(RECORDED["verifier"])) for note in RECORDED["notes"]]
    head = heads[-1]
    tiles = source_tiles(source, head.size)
    assert tree_root(head.size, tiles) == head.root
    entries: list[bytes] = []
    for index, width in ((0, 256), (1, 44)):
        data, _ = source_bundle(source, index, width)
        entries += read_bundle(data, width, "bundle")
    assert entries == [b"entry %d of another writer" % number for number in range(300)]
    frontier = Frontier()
    frontier.extend(leaf_hashes(entries), {})
    assert frontier.root() == head.root
    for place in range(300):
        path = inclusion_proof(place, 300, tiles)
        assert verify_inclusion(entries[place], place, 300, path, head.root) == entries[place]
    for old in heads[:-1]:
        proof = consistency_proof(old.size, head.size, tiles)
        verify_consistency(old.size, old.root, head.size, head.root, proof)
