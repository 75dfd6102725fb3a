"""What the tests of witnesses share: logs that grow and fork in memory, and a witness in a folder."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from safehold.ledger.cosignature import Cosigner, CosignerKey, open_cosignatures
from safehold.ledger.evidence import EvidenceFolder
from safehold.ledger.keys import SigningKey
from safehold.ledger.note import NoteVerifier, sign_checkpoint
from safehold.ledger.tree import TILE_WIDTH, consistency_proof, tile_path, tiles_of_size
from safehold.ledger.witness import Witness, format_request
from safehold.ledger.witness_state import WitnessState
from tests.ledger_kit import KEY, ORIGIN, MemoryTree, key_of

WITNESS_NAME = "witness.example/w1"
WITNESS_KEY = key_of(77)
AT = 1_774_310_400_000_000


class ShownLog:
    """One history of a log: its tree, and checkpoints of any size that it had, signed."""

    def __init__(self, entries: Iterable[bytes], key: SigningKey = KEY, origin: str = ORIGIN) -> None:
        self.tree = MemoryTree(entries)
        self.key = key
        self.origin = origin

    @property
    def size(self) -> int:
        return len(self.tree.entries)

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.origin, self.key.public)

    def note(self, size: int | None = None) -> bytes:
        size = self.size if size is None else size
        return sign_checkpoint(self.origin, size, self.tree.roots[size], self.key).note

    def proof(self, old: int, size: int | None = None) -> list[bytes]:
        size = self.size if size is None else size
        return consistency_proof(old, size, MemoryTree(self.tree.entries[:size]).read)

    def request(self, old: int, size: int | None = None) -> bytes:
        return format_request(old, self.proof(old, size), self.note(size))


class TreeSource:
    """A static tree in memory, as a source."""

    def __init__(self, log: ShownLog, size: int | None = None) -> None:
        self.name = "memory"
        size = log.size if size is None else size
        tree = MemoryTree(log.tree.entries[:size])
        self.files = {"checkpoint": log.note(size)}
        for level, index, width in tiles_of_size(size):
            self.files[tile_path(level, index, width)] = tree.tiles[level, index]
            if level == 0:
                bodies = tree.entries[index * TILE_WIDTH : index * TILE_WIDTH + width]
                bundle = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
                self.files[tile_path("entries", index, width)] = bundle

    def read(self, path: str, limit: int) -> bytes | None:
        return self.files.get(path)

    def close(self) -> None: ...


def entries(count: int, fork: object = "") -> list[bytes]:
    return [b"entry %d %s" % (number, str(fork).encode()) for number in range(count)]


def forked(common: int, count: int, fork: object = "other") -> list[bytes]:
    """``common`` entries as in ``entries``, then others."""
    return entries(common) + entries(count, fork)[common:]


class Desk:
    """A witness in a folder, with a clock that stands still."""

    def __init__(self, folder: Path, *verifiers: NoteVerifier, ml_dsa: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.at = AT
        self.state = WitnessState(folder / "state.db")
        self.evidence = EvidenceFolder(folder / "evidence")
        self.cosigners = [Cosigner.ed25519(WITNESS_NAME, WITNESS_KEY)]
        if ml_dsa:
            self.cosigners.append(Cosigner.ml_dsa_44(WITNESS_NAME, bytes(32)))
        self.witness = Witness(self.state, self.cosigners, self.evidence, lambda: self.at)
        for verifier in verifiers:
            self.witness.add_log(verifier)

    @property
    def key(self) -> CosignerKey:
        return self.cosigners[0].key

    def kept(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.evidence.files())

    def close(self) -> None:
        self.state.close()


def cosigned(note: bytes, lines: bytes, key: CosignerKey) -> int:
    """The seconds of a cosignature on ``note`` in a witness's answer; fails if there is none that holds."""
    return open_cosignatures(note + lines, [key])[key].seconds


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
