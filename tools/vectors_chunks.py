"""Write ``vectors/vault/chunks.json``: cases for whoever writes a reader of chunk containers in another language.

The plaintext of a case is ``size`` bytes of which byte n is n × 7 modulo 251. Small containers stand there in hex; of large
ones the SHA-256. A case that is refused names what was done to a container that opens.

    python -m tools.vectors_chunks            says whether the file is what the source says
    python -m tools.vectors_chunks --write    writes it
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safehold.model.ids import DatasetId, GroupName, PartyId
from safehold.vault.chunks import CHUNK_BYTES, ChunkWriter
from safehold.vault.part_keys import aad_text, key_commitment

__all__ = ["FILE", "main", "plaintext", "render"]

FILE = "vectors/vault/chunks.json"
_KEY = bytes(range(32))
_STEP = CHUNK_BYTES + 16
_SMALL = 200
_Case = dict[str, Any]


def plaintext(size: int) -> bytes:
    """The bytes of a case."""
    period = bytes(n * 7 % 251 for n in range(251))
    return (period * (size // 251 + 1))[:size]


def _container(size: int, aad: str) -> bytes:
    sink = io.BytesIO()
    writer = ChunkWriter(sink, _KEY, aad)
    writer.write(plaintext(size))
    writer.finish()
    return sink.getvalue()


def _case(name: str, size: int, container: bytes, *, opens: bool) -> _Case:
    case: _Case = {
        "name": name,
        "size": size,
        "sealed": len(container),
        "sha256": hashlib.sha256(container).hexdigest(),
        "opens": opens,
    }
    if len(container) <= _SMALL:
        case["container"] = container.hex()
    return case


def render() -> str:
    """The file as it must be."""
    aad = aad_text(PartyId("quill-works"), DatasetId("quill-works/images"), 3, 7, GroupName("content"))
    sizes = (0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 5)
    cases = [_case(f"{size} bytes", size, _container(size, aad), opens=True) for size in sizes]
    small, large = _container(100, aad), _container(2 * CHUNK_BYTES + 5, aad)
    head, one, two, three = (
        large[:16],
        large[16 : 16 + _STEP],
        large[16 + _STEP : 16 + 2 * _STEP],
        large[16 + 2 * _STEP :],
    )
    harms: list[tuple[str, int, bytes]] = [
        ("a bit changed in the first chunk", 100, small[:16] + bytes([small[16] ^ 1]) + small[17:]),
        ("a bit changed in the tag", 100, small[:-1] + bytes([small[-1] ^ 128])),
        ("another head", 100, small[:15] + b"\x02" + small[16:]),
        ("cut within the tag", 100, small[:-1]),
        ("cut at the end of the second chunk", 2 * CHUNK_BYTES + 5, head + one + two),
        ("the first two chunks swapped", 2 * CHUNK_BYTES + 5, head + two + one + three),
        ("the last chunk twice", 2 * CHUNK_BYTES + 5, large + three),
        ("sealed for another part", 100, _container(100, aad.replace('"part":7', '"part":8'))),
    ]
    cases += [_case(name, size, container, opens=False) for name, size, container in harms]
    document = {"key": _KEY.hex(), "aad": aad, "commitment": key_commitment(_KEY, aad), "cases": cases}
    return json.dumps(document, indent=1) + "\n"


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> int:
    """See the docstring of the module."""
    path = Path(__file__).resolve().parent.parent / FILE
    if "--write" in arguments:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(), encoding="ascii")
        return 0
    same = path.is_file() and path.read_text(encoding="ascii") == render()
    say(f"{FILE}: {'as the source says' if same else 'not what the source says: --write'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
