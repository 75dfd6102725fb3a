"""Export: the ledger as static files that any tlog-tiles reader, or a web server, can use.

The tree is the one of C2SP tlog-tiles: ``checkpoint``, ``tile/<L>/<N>[.p/<W>]``, ``tile/entries/<N>[.p/<W>]``;
beside it ``payload/<sha256>`` and ``verifier`` (the ledger's verifier line, for convenience, not for trust).

Write order: payloads and tiles first, then their folders to the disk, the checkpoint last, each file by temporary
name and rename. An export that dies in between, even with the power, is an older export with some files too many: it
verifies, and running it again finishes it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.storage import View
from safehold.ledger.tree import TILE_WIDTH, checked_tile, tile_path, tiles_of_size
from safehold.model.encoding import MAX_ENTRY_BYTES
from safehold.model.errors import NotFound, StorageFailed
from safehold.model.ids import parse_digest

__all__ = [
    "CHECKPOINT_FILE",
    "SEGMENTS_FOLDER",
    "VERIFIER_FILE",
    "ExportReport",
    "encode_bundle",
    "export_ledger",
    "write_file",
]

CHECKPOINT_FILE: Final = "checkpoint"
VERIFIER_FILE: Final = "verifier"
SEGMENTS_FOLDER: Final = "segments"


class ExportReport(msgspec.Struct, frozen=True):
    """What an export holds: the ``checkpoint`` and the number of ``files`` written by this run (others were there)."""

    checkpoint: Checkpoint
    files: int


def export_ledger(view: View, verifier: NoteVerifier, folder: Path) -> ExportReport:
    """Write or bring up to date the static tree of the ledger in ``folder``.

    Raises ``NotFound`` (``ledger.empty``) for a ledger without entries and ``StorageFailed`` (``ledger.export``).
    """
    note = view.checkpoint()
    if note is None:
        raise NotFound("ledger.empty", "the ledger has no entries yet", "run `safehold init`")
    checkpoint = open_checkpoint(note, verifier)
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for (name,) in view.rows("SELECT digest FROM payload ORDER BY digest"):
            digest = parse_digest(name)
            written += _write_new(folder / "payload" / digest.removeprefix("sha256:"), view.payload(digest) or b"")
        for level, index, width in tiles_of_size(checkpoint.size):
            hashes = checked_tile(level, index, width, view.tile(level, index))
            written += _write_new(folder / tile_path(level, index, width), hashes)
            if level == 0:
                begin = index * TILE_WIDTH
                bundle = encode_bundle(view.bodies(begin, begin + width))
                written += _write_new(folder / tile_path("entries", index, width), bundle)
        write_file(folder / VERIFIER_FILE, verifier.text.encode() + b"\n")
        for below, _, _ in os.walk(folder, topdown=False):
            sync_folder(Path(below))  # the checkpoint must not outlive a tile that it covers
        write_file(folder / CHECKPOINT_FILE, note)
        sync_folder(folder)
    except OSError as error:
        raise StorageFailed(
            "ledger.export",
            f"the export to {folder} stopped: {error.strerror}",
            "free some space or choose another folder, then run the same command again: it goes on where it stopped",
        ) from error
    return ExportReport(checkpoint, written + 2)


def encode_bundle(bodies: list[bytes]) -> bytes:
    """Entries with big-endian uint16 lengths before each (tlog-tiles, Log entries)."""
    return b"".join(len(body).to_bytes(2, "big") + body for body in bodies if len(body) <= MAX_ENTRY_BYTES)


def _write_new(path: Path, data: bytes) -> int:
    """Write unless the file is there with these bytes: tiles never change, so equal size and content is usual."""
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return 0
    write_file(path, data)
    return 1


def write_file(path: Path, data: bytes) -> None:
    """Write durably under a temporary name, then rename: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
