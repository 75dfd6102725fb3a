"""Write ``vectors/witness/*.json``: cases for whoever writes a witness, or checks cosignatures, in another language.

They follow the rules of ``vectors/ledger``: entry number n is the ASCII text ``entry n`` (``fork n`` in the other history,
from the size that a case names), Ed25519 secrets are a number as 32 bytes in big-endian form. Key 1 is the log's, key 77 the
witness's. ML-DSA-44 signatures are made with random bytes, so only the message that they sign is given.

    python -m tools.vectors_witness            says whether the files are what the source says
    python -m tools.vectors_witness --write    writes them
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safehold.ledger.cosignature import Cosigner, CosignerKey, signed_message
from safehold.ledger.keys import SigningKey
from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.tree import HASH_BYTES, Frontier, consistency_proof, leaf_hash
from safehold.ledger.witness import format_request

__all__ = ["FOLDER", "main", "render"]

FOLDER = "vectors/witness"
_ORIGIN = "north-lab.example/custody"
_NAME = "witness.example/w1"
_AT = 1_774_310_400
_Case = dict[str, Any]


def _key(number: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


_LOG, _OTHER = _key(1), _key(2)
_VERIFIER = NoteVerifier(_ORIGIN, _LOG.public)
_WITNESS = Cosigner.ed25519(_NAME, _key(77))


class _History:
    """Entries ``entry n``, from ``fork`` on ``fork n``."""

    def __init__(self, fork: int | None = None) -> None:
        self._fork = fork

    def _tree(self, size: int) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
        frontier, tiles = Frontier(), dict[tuple[int, int], bytes]()
        for number in range(size):
            word = b"entry" if self._fork is None or number < self._fork else b"fork"
            frontier.append(leaf_hash(b"%s %d" % (word, number)), tiles)
        for level, index, hashes in frontier.partial_tiles():
            tiles[level, index] = hashes
        return frontier, tiles

    def note(self, size: int, key: SigningKey = _LOG, origin: str = _ORIGIN) -> bytes:
        return sign_checkpoint(origin, size, self._tree(size)[0].root(), key).note

    def request(self, old: int, size: int) -> bytes:
        return format_request(old, self.proof(old, size), self.note(size))

    def proof(self, old: int, size: int) -> Sequence[bytes]:
        tiles = self._tree(size)[1]
        return consistency_proof(old, size, lambda level, index, width: tiles[level, index][: width * HASH_BYTES])


def _cosignatures() -> list[_Case]:
    note = _History().note(9)
    text = note.partition(b"\n\n")[0] + b"\n"
    made = _WITNESS.cosign(text, _AT * 1_000_000)
    good = made.signature.line
    stranger = Cosigner.ed25519("stranger.example", _key(5)).cosign(text, 0).signature.line
    elsewhere = _WITNESS.cosign(_History().note(8).partition(b"\n\n")[0] + b"\n", _AT * 1_000_000).signature.line
    later = (
        CosignerKey(_NAME, 4, _key(77).public.raw).key_id + (1 << 63).to_bytes(8, "big") + made.signature.signature[8:]
    )

    def case(name: str, expect: str, lines: str, seconds: int | None) -> _Case:
        return {
            "name": name,
            "key": _WITNESS.key.text,
            "note": note.decode() + lines,
            "seconds": seconds,
            "expect": expect,
        }

    return [
        case("one cosignature", "ok", good, _AT),
        case("none", "ok", "", None),
        case("by another witness", "ok", stranger, None),
        case("beside another's", "ok", stranger + good, _AT),
        case("two by one witness: the later counts", "ok",
             good + _WITNESS.cosign(text, (_AT + 5) * 1_000_000).signature.line, _AT + 5),
        case("at time 0", "ok", _WITNESS.cosign(text, 0).signature.line, 0),
        case("over another checkpoint", "ledger.cosignature", elsewhere, None),
        case("one good and one that does not hold", "ledger.cosignature", good + elsewhere, None),
        case("a time after 2^63 - 1", "ledger.cosignature", _line(later), None),
        case("without the time", "ledger.cosignature", _line(made.key.key_id + made.signature.signature[8:]), None),
        case("a line that is none", "ledger.note_form", good.replace("—", "-"), None),
    ]  # fmt: skip


def _line(value: bytes) -> str:
    return f"— {_NAME} {base64.b64encode(value).decode()}\n"


def _messages() -> list[_Case]:
    note = _History().note(9)
    text = note.partition(b"\n\n")[0] + b"\n"
    post_quantum = CosignerKey(_NAME, 6, bytes(range(32)) * 41)
    return [
        {"kind": key.kind, "name": key.name, "public": key.raw.hex(), "key_id": key.key_id.hex(), "text": text.decode(),
         "seconds": seconds, "message": signed_message(key, seconds, text).hex()}
        for key in (_WITNESS.key, post_quantum) for seconds in (0, 1, _AT)
    ]  # fmt: skip


def _submissions() -> list[_Case]:
    """One witness, asked in this order."""
    log, fork, four = _History(), _History(4), _History(8)
    unsigned = log.note(12).replace(b"\n12\n", b"\n13\n")

    def case(name: str, status: int, request: bytes, size: int) -> _Case:
        return {"name": name, "request": request.decode(), "status": status, "latest": size}

    return [
        case("no request", 400, b"old 0\n", 0),
        case("old size larger than the checkpoint's", 400, format_request(4, [], log.note(3)), 0),
        case("unknown log", 404, format_request(0, [], log.note(3, _OTHER, "other.example/log")), 0),
        case("another key", 403, format_request(0, [], log.note(3, _OTHER)), 0),
        case("a size that was not signed", 403, format_request(0, [], unsigned), 0),
        case("a proof from nothing", 422, format_request(0, [bytes(32)], log.note(3)), 0),
        case("the first", 200, log.request(0, 3), 3),
        case("the same again", 200, log.request(3, 3), 3),
        case("wrong old size", 409, log.request(0, 9), 3),
        case("from 3 to 8", 200, log.request(3, 8), 8),
        case("a split after a power of two", 422, fork.request(8, 12), 8),
        case("a fork of the same size", 409, fork.request(8, 8), 8),
        case("from 8 to 9", 200, log.request(8, 9), 9),
        case("a rollback", 409, log.request(3, 8), 9),
        case("a rollback that names the size", 400, format_request(9, [], log.note(8)), 9),
        case("a fork of an earlier size", 409, fork.request(0, 8), 9),
        case("a fork that grew", 422, four.request(9, 20), 9),
        case("no proof", 422, format_request(9, [], log.note(20)), 9),
        case("a proof with a hash too many", 422, format_request(9, [*log.proof(9, 20), bytes(32)], log.note(20)), 9),
        case("64 hashes", 400, format_request(9, [bytes(32)] * 64, log.note(20)), 9),
        case("a size with a leading zero", 400, log.request(9, 20).replace(b"old 9", b"old 09"), 9),
        case("from 9 to 20, cosigned by another already", 200,
             log.request(9, 20) + Cosigner.ed25519("w.example", _key(5)).cosign(b"", 0).signature.line.encode(), 20),
    ]  # fmt: skip


def _policies() -> list[_Case]:
    note = _History().note(9)
    text = note.partition(b"\n\n")[0] + b"\n"
    witnesses = {
        name: Cosigner.ed25519(f"{name}.example", _key(100 + at)) for at, name in enumerate(("a", "b", "c", "d"))
    }
    lines = {name: one.cosign(text, _AT * 1_000_000).signature.line for name, one in witnesses.items()}
    keys = "".join(f"witness {name} {one.key.text}\n" for name, one in witnesses.items())

    def case(name: str, expect: str, rules: str, by: str, log: NoteVerifier = _VERIFIER) -> _Case:
        policy = f"log {log.text}\n{keys}{rules}"
        return {
            "name": name,
            "policy": policy,
            "note": note.decode() + "".join(lines[one] for one in by),
            "expect": expect,
        }

    two = "group g 2 a b c\nquorum g\n"
    levels = "group g 2 a b c\ngroup h all g d\nquorum h\n"
    return [
        case("no witness asked for", "ok", "quorum none\n", ""),
        case("one named, there", "ok", "quorum b\n", "b"),
        case("one named, another there", "ledger.not_witnessed", "quorum b\n", "a"),
        case("2 of 3 by two", "ok", two, "ac"),
        case("2 of 3 by three and a stranger", "ok", two, "abcd"),
        case("2 of 3 by one", "ledger.not_witnessed", two, "a"),
        case("2 of 3 by one, twice", "ledger.not_witnessed", two, "aa"),
        case("two levels", "ok", levels, "abd"),
        case("two levels, the upper missing", "ledger.not_witnessed", levels, "abc"),
        case("any", "ok", "group g any a b\nquorum g\n", "b"),
        case("all but one", "ledger.not_witnessed", "group g all a b c d\nquorum g\n", "abc"),
        case("another log", "ledger.note_unsigned", "quorum none\n", "", NoteVerifier(_ORIGIN, _OTHER.public)),
        case("no quorum", "ledger.policy_form", "", "a"),
        case("a member twice", "ledger.policy_form", "group g 2 a a\nquorum g\n", "a"),
        case("a member of two groups", "ledger.policy_form", "group g any a\ngroup h any a\nquorum h\n", "a"),
        case("a threshold above the members", "ledger.policy_form", "group g 3 a b\nquorum g\n", "ab"),
        case("a name defined later", "ledger.policy_form", "quorum g\ngroup g any a\n", "a"),
        case("comments, tabs and empty lines", "ok", " # one\n\n\tquorum\t a \n", "a"),
    ]


def render() -> dict[str, str]:
    """File names and contents."""
    files: dict[str, tuple[str, Callable[[], list[_Case]]]] = {
        "cosignature.json": (
            "C2SP tlog-cosignature in a note; seconds is the time of the key's cosignature",
            _cosignatures,
        ),
        "message.json": ("the bytes that a cosignature signs: kind 4 is Ed25519, kind 6 ML-DSA-44", _messages),
        "add-checkpoint.json": (
            "C2SP tlog-witness: one witness that knows the log's key 1, asked in this order",
            _submissions,
        ),
        "policy.json": ("C2SP tlog-policy: whether the checkpoint in note fulfils the policy", _policies),
    }
    return {
        name: json.dumps({"about": about, "verifier": _VERIFIER.text, "cases": make()}, indent=1, ensure_ascii=False)
        + "\n"
        for name, (about, make) in sorted(files.items())
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
