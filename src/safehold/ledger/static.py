"""The ledger read as static files, straight from its store: what ``export`` writes, one named file at a time.

Names are those of C2SP tlog-tiles (``checkpoint``, ``tile/…``), ``verifier`` and ``payload/SHA256``. Hash tiles and
checkpoints say nothing of what the entries say; entries and payloads do, so whoever serves them asks ``is_open`` first.
"""

from __future__ import annotations

import re
from typing import Final

from safehold.ledger.export import CHECKPOINT_FILE, VERIFIER_FILE, encode_bundle
from safehold.ledger.note import NoteVerifier
from safehold.ledger.storage import View
from safehold.ledger.tree import HASH_BYTES, TILE_WIDTH, tile_path
from safehold.model.errors import NotFound
from safehold.model.ids import parse_digest

__all__ = ["MAX_NAME_CHARACTERS", "needs_publishing", "never_changes", "read_static"]

MAX_NAME_CHARACTERS: Final = 200
_TILE: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_PAYLOAD: Final = re.compile(r"payload/([0-9a-f]{64})")


def needs_publishing(name: str) -> str | None:
    """``name`` if it shows what entries say: statements or payloads. None: hashes and signatures alone."""
    return name if name.startswith(("tile/entries/", "payload/")) else None


def never_changes(name: str) -> bool:
    """Whether the bytes under this name are the same for ever: a tile of any width, or a payload."""
    return name.startswith(("tile/", "payload/"))


def read_static(view: View, verifier: NoteVerifier, name: str) -> bytes:
    """The file with this name. Raises ``NotFound`` (``ledger.no_file``)."""
    if len(name) > MAX_NAME_CHARACTERS:
        raise _no_file(name)
    if name == CHECKPOINT_FILE:
        data = view.checkpoint()
    elif name == VERIFIER_FILE:
        data = verifier.text.encode() + b"\n"
    elif payload := _PAYLOAD.fullmatch(name):
        data = view.payload(parse_digest("sha256:" + payload.group(1)))
    else:
        data = _tile(view, name)
    if data is None:
        raise _no_file(name)
    return data


def _tile(view: View, name: str) -> bytes | None:
    found = _TILE.fullmatch(name)
    if found is None:
        return None
    kind, number, part = found.groups()
    index = int(number.replace("x", "").replace("/", ""))
    width = int(part) if part else TILE_WIDTH
    # One tile, one name (tlog-tiles): leading zero groups or a width of 256 would be a second one.
    if width > TILE_WIDTH or tile_path(kind, index, width) != name:
        return None
    if kind == "entries":
        begin = index * TILE_WIDTH
        bodies = view.bodies(begin, begin + width) if begin + width <= view.size() else []
        return encode_bundle(bodies) if len(bodies) == width else None
    if index >= 1 << 40:
        return None
    hashes = view.tile(int(kind), index)
    return hashes[: width * HASH_BYTES] if hashes is not None and len(hashes) >= width * HASH_BYTES else None


def _no_file(name: str) -> NotFound:
    return NotFound("ledger.no_file", f"this ledger has no {name[:MAX_NAME_CHARACTERS]}", "begin with its checkpoint")
