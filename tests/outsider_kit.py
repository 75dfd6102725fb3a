"""An outsider's reading of a ledger's SQLite file: bare SQLite, hashlib and an Ed25519 library, and the standards' own words.

Nothing of ``safehold`` is used here, so a fault that writing and reading share cannot hide.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def _root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 2.1, as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + _root(leaves[:split]) + _root(leaves[split:])).digest()


def _key(vkey: str) -> tuple[str, bytes, bytes]:
    """Name, key id and raw key of a verifier line."""
    name, key_id, data = vkey.split("+", 2)
    return name, bytes.fromhex(key_id), base64.b64decode(data)[1:]


def _open_note(note: bytes, vkey: str) -> tuple[int, bytes]:
    """Size and root of a checkpoint that this key signed; raises if it did not."""
    name, key_id, raw = _key(vkey)
    text, _, lines = note.decode().partition("\n\n")
    mine = [line.split(" ") for line in lines.splitlines() if line.split(" ")[1] == name]
    signatures = [base64.b64decode(words[2]) for words in mine]
    assert [one[4:] for one in signatures if one[:4] == key_id], "no signature by the ledger's key"
    for one in signatures:
        if one[:4] == key_id:
            Ed25519PublicKey.from_public_bytes(raw).verify(one[4:], (text + "\n").encode())
    origin, size, root = text.split("\n")[:3]
    assert origin == name
    return int(size), base64.b64decode(root)


def read_as_outsider(path: Path, vkey: str) -> list[bytes]:
    """All entries of the ledger in ``path``: its checkpoints, its root, each of its tiles and its payloads hold.

    The file is opened as a crash left it: SQLite recovers it, as it would for anyone.
    """
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT idx, body FROM entry ORDER BY idx").fetchall()
        assert [row[0] for row in rows] == list(range(len(rows))), "a gap"
        bodies = [row[1] for row in rows]
        leaves = [hashlib.sha256(b"\0" + body).digest() for body in bodies]
        notes = connection.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()
        assert (notes[-1][0] if notes else 0) == len(bodies), "the newest checkpoint covers all"
        for size, note in notes:
            assert _open_note(note, vkey) == (size, _root(leaves[:size])), "one root for one size, for ever"
        tiles = {(level, at): data for level, at, data in connection.execute("SELECT level, idx, hashes FROM tile")}
        expected, level, nodes = {}, 0, leaves
        while nodes:
            for at in range(0, len(nodes), 256):
                expected[level, at // 256] = b"".join(nodes[at : at + 256])
            nodes = [_root(nodes[at : at + 256]) for at in range(0, len(nodes) // 256 * 256, 256)]
            level += 1
        assert tiles == expected
        for digest, body in connection.execute("SELECT digest, body FROM payload"):
            assert digest == "sha256:" + hashlib.sha256(body).hexdigest()
        return bodies
    finally:
        connection.close()
