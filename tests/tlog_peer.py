"""Another implementation of the same standards, asked from its own interpreter: run by ``test_other_implementation``.

It is the library ``aics-tlog`` with ``aics-witness``, which need Python 3.12 (``requirements/peers-tlog.txt``). Nothing of Safehold is
imported here, so what it says is said by that other code alone. Each verb prints one JSON document.
"""

import json
import sys
import threading
from pathlib import Path


def say(document: dict[str, object]) -> None:
    """One line on the standard output."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def read(folder: str, vkey: str) -> dict[str, object]:
    """Verify an exported ledger: checkpoint, every tile, every bundle, proofs of every tenth place, and consistency."""
    import aics_tlog as peer

    note = peer.parse_note((Path(folder) / "checkpoint").read_bytes())
    head = peer.verify_checkpoint(note, peer.parse_vkey(vkey))
    if not head.ok or head.size is None or head.root is None:
        return {"ok": False, "error": head.error}
    tiles = peer.FileSystemTileReader(folder)
    audited = peer.audit_tiles(tiles, head.size, head.root)
    assert peer.tree_root_from_tiles(tiles, head.size) == head.root
    entries = [peer.read_entry(tiles, place, head.size) for place in range(head.size)]
    for place in range(0, head.size, 10):
        proof = peer.inclusion_proof_from_tiles(tiles, place, head.size)
        assert peer.verify_leaf_inclusion(entries[place], place, head.size, proof, head.root)
    tree = peer.MerkleTree(entries)
    for old in (1, 255, 256, 257, head.size - 1):
        if 0 < old < head.size:
            proof = peer.consistency_proof_from_tiles(tiles, old, head.size)
            assert peer.verify_consistency(old, head.size, tree.root(old), head.root, proof)
    return {
        "ok": True, "origin": head.origin, "size": head.size, "root": head.root.hex(), "tiles": audited.tiles,
        "bundles": audited.bundles, "first": entries[0].decode(),
    }  # fmt: skip


def write(folder: str) -> dict[str, object]:
    """Write a log of 300 entries in three steps, with its checkpoints and a witness's cosignature."""
    import aics_tlog as peer
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    origin, witness = "peer.example/log", "witness.example/peer"
    key, cosigner = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2))
    store = peer.DirectoryTileStore(folder, fsync=False)
    writer, notes, done = peer.IncrementalTileWriter(store), [], 0
    for size in (1, 256, 300):
        writer.append(b"entry %d of another writer" % number for number in range(done, size))
        done = size
        note = peer.sign_checkpoint(peer.Checkpoint(origin, size, writer.root()), key, origin)
        _, line = peer.sign_cosignature(cosigner, witness, 1_774_310_400, origin, size, writer.root())
        notes.append(peer.Note(note.text, [*note.signatures, line]).to_bytes())
    store.write_checkpoint(notes[-1])
    return {
        "verifier": peer.format_vkey(peer.vkey_from_ed25519(origin, key.public_key())),
        "witness": peer.format_vkey(peer.cosignature_vkey(witness, cosigner.public_key())),
        "notes": [note.decode() for note in notes],
    }


def witness(folder: str, origin: str, vkey: str) -> None:
    """Serve its witness for one log on loopback until the standard input ends."""
    import aics_tlog as peer
    from aics_witness.config import LogConfig
    from aics_witness.service import Witness, make_server
    from aics_witness.store import WitnessStore
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    store = WitnessStore(Path(folder) / "witness.db", create=True)
    key = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
    made = Witness("witness.example/peer", key, store, [LogConfig(origin, (peer.parse_vkey(vkey),))])
    server = make_server(made)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say({"url": server.url, "witness": made.vkey_text})
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    said = {"read": read, "write": write, "witness": witness}[verb](*arguments)
    if said is not None:
        say(said)
