"""Write ``vectors/vault/pieces.json``: the digests that a tail begins with, for whoever writes another reader or sealer.

What lies before the tail is, in a case, ``size`` bytes of which byte n is n × 7 modulo 251 (``vectors_chunks.plaintext``).

    python -m tools.vectors_pieces            says whether the file is what the source says
    python -m tools.vectors_pieces --write    writes it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from safehold.vault.pieces import PIECE, PieceHasher
from tools.vectors_chunks import plaintext

__all__ = ["FILE", "main", "render"]

FILE = "vectors/vault/pieces.json"
_SIZES = (0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 100)


def _digests(size: int) -> str:
    hasher = PieceHasher()
    hasher.update(plaintext(size))
    return hasher.digests().hex()


def render() -> str:
    """The file as it must be."""
    cases = [{"size": size, "digests": _digests(size)} for size in _SIZES]
    about = "docs/spec/release.md, Tails; byte n of a case is n * 7 modulo 251"
    return json.dumps({"about": about, "piece": PIECE, "cases": cases}, indent=2) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Compare, or write; 1 if the file is another."""
    path = Path(FILE)
    if "--write" in arguments:
        path.write_text(render())
        return 0
    if not path.exists() or path.read_text() != render():
        print(f"{FILE} is not what tools/vectors_pieces.py says: run it with --write and look at the difference")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
