"""Write ``vectors/ledger/*.json``: cases for whoever reads our ledger in another language, with the outcome of each.

Everything in them follows from rules that the files state: entry number n of a tree is the ASCII text ``entry n``, keys
are Ed25519 keys whose 32 secret bytes are a number in big-endian form. Bytes are lower-case hex; notes, receipts and
verifier lines are text. ``expect`` is ``ok`` or the code of the failure that a reader must report.

    python -m tools.vectors_ledger            says whether the files are what the source says
    python -m tools.vectors_ledger --write    writes them
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safehold.ledger.keys import SigningKey
from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.receipt import format_receipt
from safehold.ledger.tree import (
    HASH_BYTES,
    Frontier,
    TileReader,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tile_path,
    tiles_of_size,
)

__all__ = ["FOLDER", "main", "render"]

FOLDER = "vectors/ledger"
_ORIGIN = "north-lab.example/custody"
_SIZES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537, 65_792)
_PROVEN = (1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, 512, 513, 65_536, 65_537)

_Case = dict[str, Any]


class _Tree:
    """The tree of entries ``entry 0``, ``entry 1`` … with the root of every size."""

    def __init__(self, size: int) -> None:
        frontier, self._tiles = Frontier(), dict[tuple[int, int], bytes]()
        wanted, self.roots = set(_SIZES) | {size}, {0: frontier.root()}
        for number in range(size):
            frontier.append(leaf_hash(_entry(number)), self._tiles)
            if number + 1 in wanted:
                self.roots[number + 1] = frontier.root()
        for level, index, hashes in frontier.partial_tiles():
            self._tiles[level, index] = hashes

    @property
    def read(self) -> TileReader:
        return lambda level, index, width: self._tiles[level, index][: width * HASH_BYTES]


def _entry(number: int) -> bytes:
    """Entry number ``number`` of the tree that all files speak of."""
    return b"entry %d" % number


def _key(number: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _tree_file(tree: _Tree) -> _Case:
    leaves = (b"", b"\0", b"entry 0", bytes(range(256)), b"x" * 65_535)
    return {
        "about": "RFC 6962: leaf = SHA-256(00 || entry), node = SHA-256(01 || left || right); C2SP tlog-tiles paths",
        "leaves": [{"entry": body.hex() if len(body) < 300 else None, "entry_repeated": None if len(body) < 300 else
                    {"byte": "78", "times": len(body)}, "hash": leaf_hash(body).hex()} for body in leaves],
        "nodes": [{"left": left.hex(), "right": right.hex(), "hash": node_hash(left, right).hex()}
                  for left, right in ((bytes(32), b"\xff" * 32), (leaf_hash(b""), leaf_hash(b"\0")))],
        "roots": [{"size": size, "root": tree.roots[size].hex()} for size in _SIZES],
        "tiles": [{"size": size, "paths": [tile_path(*tile) for tile in tiles_of_size(size)]}
                  for size in (0, 1, 255, 256, 257, 513)],
        "paths": [{"level": level, "index": index, "width": width, "path": tile_path(level, index, width)}
                  for level, index, width in (("entries", 0, 256), (0, 999, 1), (0, 1000, 256), (2, 1_234_067, 255))],
    }  # fmt: skip


def _inclusion(tree: _Tree) -> list[_Case]:
    def case(name: str, expect: str, index: int, size: int, /, **changed: Any) -> _Case:
        body = _entry(index)
        path = inclusion_proof(index, size, tree.read)
        made = {"name": name, "entry": body.hex(), "index": index, "size": size, "path": [node.hex() for node in path],
                "root": tree.roots[size].hex(), "expect": expect}  # fmt: skip
        return made | changed

    cases = [
        case(f"entry {index} of {size}", "ok", index, size)
        for size in _PROVEN
        for index in sorted({0, size // 2, size - 1})
    ]
    good = case("", "ok", 5, 9)
    path: list[str] = good["path"]
    flipped = [_flip(bytes.fromhex(path[0])).hex(), *path[1:]]
    bad = [
        case("another entry", "ledger.inclusion", 5, 9, entry=_entry(6).hex()),
        case("a bit of the path flipped", "ledger.inclusion", 5, 9, path=flipped),
        case("a bit of the root flipped", "ledger.inclusion", 5, 9, root=_flip(tree.roots[9]).hex()),
        case("the path the other way round", "ledger.inclusion", 5, 9, path=path[::-1]),
        case("the neighbour's index", "ledger.inclusion", 5, 9, index=4),
        case("the root of another size", "ledger.inclusion", 5, 9, root=tree.roots[8].hex()),
        case("one hash too few", "ledger.proof_length", 5, 9, path=path[:-1]),
        case("one hash too many", "ledger.proof_length", 5, 9, path=[*path, path[0]]),
        case("a hash of 31 bytes", "ledger.proof_length", 5, 9, path=[path[0][:-2], *path[1:]]),
        case("a hash where none belongs", "ledger.proof_length", 0, 1, path=[path[0]]),
        case("65 hashes", "ledger.proof_length", 5, 9, path=[path[0]] * 65),
        case("an index beyond the tree", "ledger.proof_range", 5, 9, index=9),
        case("an empty tree", "ledger.proof_range", 0, 1, size=0),
    ]
    return cases + bad


def _consistency(tree: _Tree) -> list[_Case]:
    def case(name: str, expect: str, old: int, new: int, /, **changed: Any) -> _Case:
        proof = consistency_proof(old, new, tree.read)
        made = {"name": name, "old_size": old, "old_root": tree.roots[old].hex(), "new_size": new,
                "new_root": tree.roots[new].hex(), "proof": [node.hex() for node in proof], "expect": expect}  # fmt: skip
        return made | changed

    cases = [
        case(f"{old} to {new}", "ok", old, new)
        for new in _PROVEN
        for old in sorted({0, 1, *(size for size in _PROVEN if size <= new)})
    ]
    proof: list[str] = case("", "ok", 5, 9)["proof"]
    root: dict[int, str] = {size: digest.hex() for size, digest in tree.roots.items()}
    bad = [
        case("a bit of the proof flipped", "ledger.consistency", 5, 9,
             proof=[_flip(bytes.fromhex(proof[0])).hex(), *proof[1:]]),
        case("a bit of the old root flipped", "ledger.consistency", 5, 9, old_root=_flip(tree.roots[5]).hex()),
        case("a bit of the new root flipped", "ledger.consistency", 5, 9, new_root=_flip(tree.roots[9]).hex()),
        case("two sizes with one root", "ledger.consistency", 5, 9, old_root=root[9]),
        case("two roots for one size", "ledger.consistency", 9, 9, old_root=root[8]),
        case("an empty tree with another root", "ledger.consistency", 0, 9, old_root=root[9]),
        case("another old size", "ledger.consistency", 4, 8, old_root=root[3]),
        case("no proof", "ledger.proof_length", 5, 9, proof=[]),
        case("one hash too few", "ledger.proof_length", 5, 9, proof=proof[:-1]),
        case("one hash too many", "ledger.proof_length", 5, 9, proof=[*proof, proof[0]]),
        case("a proof from the empty tree", "ledger.proof_length", 0, 9, proof=proof),
        case("a proof between equal sizes", "ledger.proof_length", 9, 9, proof=proof),
        case("a log that shrank", "ledger.proof_range", 5, 9, old_size=9, old_root=root[9], new_size=5, new_root=root[5]),
    ]  # fmt: skip
    return cases + bad


def _checkpoints(tree: _Tree) -> list[_Case]:
    key, other = _key(1), _key(2)
    verifier = NoteVerifier(_ORIGIN, key.public)
    good = sign_checkpoint(_ORIGIN, 9, tree.roots[9], key).note.decode()
    text = good.partition("\n\n")[0]
    witness = NoteVerifier("witness.example", other.public)

    def signed(body: str) -> str:
        made = base64.b64encode(verifier.key_id + key.sign(body.encode())).decode()
        return f"{body}\n— {_ORIGIN} {made}\n"

    def case(name: str, expect: str, note: str, line: str = verifier.text) -> _Case:
        return {"name": name, "verifier": line, "note": note, "expect": expect}

    cosigned = base64.b64encode(witness.key_id + other.sign(f"{text}\n".encode())).decode()
    forged = base64.b64encode(verifier.key_id + other.sign(f"{text}\n".encode())).decode()
    root = base64.b64encode(tree.roots[9]).decode()
    return [
        *(case(f"size {size}", "ok", sign_checkpoint(_ORIGIN, size, tree.roots[size], key).note.decode()) for size in _SIZES),
        case("with a signature of another", "ok", f"{good}— witness.example {cosigned}\n"),
        case("with an extension line", "ok", signed(f"{text}\nmore: 1\n")),
        case("another key", "ledger.note_unsigned", good, NoteVerifier(_ORIGIN, other.public).text),
        case("another name", "ledger.note_unsigned", good, NoteVerifier("other.example/log", key.public).text),
        case("only a signature of another", "ledger.note_unsigned", f"{text}\n\n— witness.example {cosigned}\n"),
        case("a signature by another key under our key id", "ledger.signature", f"{text}\n\n— {_ORIGIN} {forged}\n"),
        case("one good and one bad signature of ours", "ledger.signature", f"{good}— {_ORIGIN} {forged}\n"),
        case("another size under the same signature", "ledger.signature", good.replace("\n9\n", "\n8\n", 1)),
        case("another log, signed by our key", "ledger.note_origin", signed(f"other.example/log\n9\n{root}\n")),
        case("a size with a leading zero", "ledger.note_form", signed(f"{_ORIGIN}\n09\n{root}\n")),
        case("a negative size", "ledger.note_form", signed(f"{_ORIGIN}\n-9\n{root}\n")),
        case("a root of 31 bytes", "ledger.note_form", signed(f"{_ORIGIN}\n9\n{root[:40]}AA==\n")),
        case("a root that is not base64", "ledger.note_form", signed(f"{_ORIGIN}\n9\n!\n")),
        case("two lines", "ledger.note_form", signed(f"{_ORIGIN}\n9\n")),
        case("no signature block", "ledger.note_form", f"{text}\n"),
        case("no newline at the end", "ledger.note_form", good[:-1]),
        case("a carriage return", "ledger.note_form", good.replace("\n", "\r\n")),
        case("a hyphen for the dash", "ledger.note_form", good.replace("—", "-")),
        case("a signature of four bytes", "ledger.note_form", f"{good}— {_ORIGIN} AAAAAA==\n"),
        case("a signature in other base64", "ledger.note_form", _uncanonical(good)),
        case("empty", "ledger.note_form", ""),
    ]  # fmt: skip


def _uncanonical(note: str) -> str:
    """The same signature with unused bits of its last digit set: other text for the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    digit = note[-3]
    if not note.endswith("=\n") or note.endswith("==\n"):
        raise ValueError("the signature's length leaves no unused bits")
    return note[:-3] + alphabet[alphabet.index(digit) ^ 1] + "=\n"


def _receipts(tree: _Tree) -> list[_Case]:
    key = _key(1)
    verifier = NoteVerifier(_ORIGIN, key.public).text

    def made(index: int, size: int) -> str:
        checkpoint = sign_checkpoint(_ORIGIN, size, tree.roots[size], key)
        return format_receipt(_entry(index), index, inclusion_proof(index, size, tree.read), checkpoint).decode()

    def case(name: str, expect: str, receipt: str) -> _Case:
        return {"name": name, "verifier": verifier, "receipt": receipt, "expect": expect}

    good = made(5, 9)
    head, _, note = good.partition("\n\n")
    lines = head.split("\n")
    other = base64.b64encode(_entry(6)).decode()
    return [
        *(case(f"entry {index} of {size}", "ok", made(index, size)) for size in _PROVEN for index in sorted({0, size - 1})),
        case("another entry", "ledger.inclusion", good.replace(lines[1], f"extra {other}")),
        case("another index", "ledger.inclusion", good.replace("index 5", "index 4")),
        case("an index beyond the tree", "ledger.proof_range", good.replace("index 5", "index 9")),
        case("a hash missing", "ledger.proof_length", "\n".join(lines[:-1]) + f"\n\n{note}"),
        case("a hash too many", "ledger.proof_length", f"{head}\n{lines[-1]}\n\n{note}"),
        case("the checkpoint of another size", "ledger.proof_length", f"{head}\n\n{made(5, 8).partition(chr(10) * 2)[2]}"),
        case("the checkpoint not signed by us", "ledger.note_unsigned",
             f"{head}\n\n{sign_checkpoint(_ORIGIN, 9, tree.roots[9], _key(2)).note.decode()}"),
        case("an index with a leading zero", "ledger.receipt_form", good.replace("index 5", "index 05")),
        case("no entry", "ledger.receipt_form", good.replace(f"{lines[1]}\n", "")),
        case("another version", "ledger.receipt_form", good.replace("@v1", "@v2")),
        case("no checkpoint", "ledger.receipt_form", head),
        case("a path in other base64", "ledger.receipt_form", good.replace(f"{lines[3]}\n", f"{lines[3][:-1]}\n")),
        case("a note that is none", "ledger.note_form", f"{head}\n\nno note"),
    ]  # fmt: skip


def render() -> dict[str, str]:
    """File names and contents."""
    tree = _Tree(_SIZES[-1])
    notes: dict[str, tuple[str, Callable[[_Tree], list[_Case]]]] = {
        "inclusion.json": ("RFC 6962 §2.1.1, verified as in RFC 9162 §2.1.3.2", _inclusion),
        "consistency.json": ("RFC 6962 §2.1.2, verified as in RFC 9162 §2.1.4.2", _consistency),
        "checkpoint.json": ("C2SP tlog-checkpoint in a signed-note; key 1 is ours, key 2 another's", _checkpoints),
        "receipt.json": ("C2SP tlog-proof; the entry is in the extra line", _receipts),
    }
    files = {name: {"about": about, "cases": make(tree)} for name, (about, make) in notes.items()}
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in sorted({"tree.json": _tree_file(tree), **files}.items())
    }


def main() -> int:
    """Entry point: 1 if the files are not what the source says and were not to be written."""
    folder = Path(__file__).resolve().parent.parent / FOLDER
    wrong = []
    for name, content in render().items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        wrong.append(name)
        if "--write" in sys.argv[1:]:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    print(f"{FOLDER}: {', '.join(wrong) or 'as the source says'}")
    return 1 if wrong and "--write" not in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
