"""The auditor's path: verify an exported ledger with nothing but the export and the ledger's verifier line.

No private key, no database, no part of Safehold besides ``model`` and ``ledger``. Everything is recomputed from
the entry bytes; the tiles in the export are *compared*, never used. Steps, numbered as in the code:

1. the checkpoint is signed by the expected key; 2. the entries hash to its root; 3. every tile holds what the
entries hash to; 4. each entry is a statement in canonical bytes (unknown kinds are counted, not refused);
5. payloads that are present have the digest that names them, and missing ones are listed: one may have been erased
by right, so its absence is reported and not refused; 6. the verifier line in the export is the expected one;
7. segments that are present are those that entries name (not their rows: `safehold fsck` compares those).

Nothing is left out for speed. Parts of 65,536 entries are verified by themselves (``audit_part``), by several processes if
asked for, and put together here: the roots of their tiles grow into the root that was signed.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.audit_part import PART_ENTRIES, AuditedPart, audit_part, read_bundle, read_limited
from safehold.ledger.export import CHECKPOINT_FILE, SEGMENTS_FOLDER, VERIFIER_FILE
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.segments.form import file_name
from safehold.ledger.segments.verified import verify_file
from safehold.ledger.tree import HASH_BYTES, TILE_WIDTH, Frontier, leaf_hash, tile_path, tiles_of_size
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import Digest, sha256_digest
from safehold.model.statements import SegmentSealed

__all__ = ["AuditReport", "audit_export", "read_verifier"]

_MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + 65_535)
_MAX_SMALL_FILE: Final = 1 << 20
_MAX_PAYLOAD_BYTES: Final = 1 << 30  # more than SQLite keeps in one row
_WORTH_PROCESSES: Final = 4
_PAYLOAD_NAME: Final = re.compile(r"[0-9a-f]{64}")


class AuditReport(msgspec.Struct, frozen=True):
    """What was verified: the ``checkpoint``, statements by ``kinds``, ``unknown`` ones, ``payloads`` checked.

    ``missing`` are digests of payloads that entries name and the export does not have. ``segments`` files match their entries.
    """

    checkpoint: Checkpoint
    kinds: dict[str, int]
    unknown: int
    payloads: int
    missing: tuple[Digest, ...]
    segments: int = 0


def read_verifier(folder: Path) -> NoteVerifier:
    """The verifier line inside an export. It proves nothing about *whose* ledger it is: compare it by other means.

    Raises ``VerificationFailed`` (``ledger.verifier_file``) if it is not exactly one such line.
    """
    data = read_limited(folder / VERIFIER_FILE, _MAX_SMALL_FILE)
    try:
        verifier = NoteVerifier.parse(data.decode())
    except (InputInvalid, UnicodeDecodeError) as error:
        raise _verifier_altered() from error
    if data != verifier.text.encode() + b"\n":
        raise _verifier_altered()
    return verifier


def audit_export(folder: Path, verifier: NoteVerifier, *, processes: int = 1) -> AuditReport:
    """Verify the export in ``folder``; return what was verified. All of it is checked, by however many ``processes``.

    Several are begun by importing the program's main module again: a script that asks for them needs its
    ``if __name__ == "__main__"``.

    Raises ``NotFound`` (``ledger.export_missing``) or ``VerificationFailed`` naming the file or entry:
    ``ledger.note_*``, ``ledger.root``, ``ledger.tile_altered``, ``ledger.bundle``, ``ledger.entry``, ``ledger.payload``,
    ``ledger.verifier_file``, ``ledger.segment_*``.
    """
    if not (folder / CHECKPOINT_FILE).is_file():
        raise NotFound(
            "ledger.export_missing", f"{folder} is no exported ledger", "make one with `safehold log export FOLDER`"
        )
    checkpoint = open_checkpoint(read_limited(folder / CHECKPOINT_FILE, _MAX_SMALL_FILE), verifier)  # 1
    frontier, tiles, kinds = Frontier(), dict[tuple[int, int], bytes](), Counter[str]()
    unknown, named, altered, segments = 0, set[Digest](), None, list[SegmentSealed]()
    for part in _parts(folder, checkpoint.size, processes):
        if part.entries is not None:
            raise part.entries.error()  # 4
        frontier.extend(part.roots, tiles, 1)
        frontier.extend(part.leaves, tiles)
        altered = altered or part.tile
        kinds.update(part.kinds)
        unknown += part.unknown
        named.update(part.named)
        segments += part.segments
    if not hmac.compare_digest(frontier.root(), checkpoint.root):  # 2
        raise VerificationFailed(
            "ledger.root",
            f"the {checkpoint.size} entries do not hash to the signed root: {_first_difference(folder, checkpoint.size)}",
            "this copy was altered, or is another ledger's: ask for a fresh export and keep this one as evidence",
        )
    for level, index, hashes in frontier.partial_tiles():
        tiles[level, index] = hashes
    if altered is not None:  # 3, of level 0
        raise altered.error()
    for level, index, width in tiles_of_size(checkpoint.size):  # 3, of the levels above
        if level == 0:
            continue
        stored = read_limited(folder / tile_path(level, index, width), TILE_WIDTH * HASH_BYTES)
        if stored != tiles[level, index]:
            raise VerificationFailed(
                "ledger.tile_altered", f"{tile_path(level, index, width)} does not fit the entries"
            )
    present = _check_payloads(folder)  # 5
    if (folder / VERIFIER_FILE).exists() and read_verifier(folder) != verifier:  # 6
        raise _verifier_altered()
    missing = tuple(sorted(named - present))
    carried = _check_segments(folder / SEGMENTS_FOLDER, segments)  # 7
    return AuditReport(checkpoint, dict(sorted(kinds.items())), unknown, len(present), missing, carried)


def _parts(folder: Path, size: int, processes: int) -> Iterator[AuditedPart]:
    """The parts in their order. Processes are begun where they are worth their start: from some 250,000 entries on."""
    begins = range(0, size, PART_ENTRIES)
    ends = [min(begin + PART_ENTRIES, size) for begin in begins]
    if processes < 2 or len(begins) < _WORTH_PROCESSES:
        yield from map(audit_part, repeat(folder), begins, ends)
        return
    # Not by fork: whoever calls this may have threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(audit_part, repeat(folder), begins, ends)
        except BrokenProcessPool as error:
            raise StorageFailed(
                "ledger.audit_ended",
                "a process of the audit was ended from outside",
                "free some memory and run it again",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after a failure nobody needs the rest


def _check_segments(folder: Path, segments: list[SegmentSealed]) -> int:
    """Hold the segments that are there against their entries; of two entries for one range the later one counts."""
    known = {file_name(one.table, one.begin, one.end): one for one in segments}
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        if name not in known:
            raise VerificationFailed(
                "ledger.segment_unnamed", f"{SEGMENTS_FOLDER}/{name} is named by no entry", "it is not of this ledger"
            )
        verify_file(folder, known[name])
    return len(names)


def _verifier_altered() -> VerificationFailed:
    return VerificationFailed(
        "ledger.verifier_file",
        f"the file {VERIFIER_FILE} does not hold the verifier line of this ledger",
        "take the line from its operator by another way, and keep this copy as evidence",
    )


def _first_difference(folder: Path, size: int) -> str:
    """Name the first entry whose hash is not the one in its level-0 tile; a help for people, no evidence."""
    for begin in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - begin)
        try:
            tile = read_limited(folder / tile_path(0, begin // TILE_WIDTH, width), TILE_WIDTH * HASH_BYTES)
            name = tile_path("entries", begin // TILE_WIDTH, width)
            bodies = read_bundle(read_limited(folder / name, _MAX_BUNDLE_BYTES), width, name)
        except SafeholdError as error:
            return error.message
        for offset, body in enumerate(bodies):
            if leaf_hash(body) != tile[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]:
                return f"entry {begin + offset} differs"
    return "entries and tiles agree, so the whole tree was replaced"


def _check_payloads(folder: Path) -> set[Digest]:
    present = set[Digest]()
    payloads = folder / "payload"
    for path in sorted(payloads.iterdir()) if payloads.is_dir() else ():
        if not _PAYLOAD_NAME.fullmatch(path.name):
            continue
        digest = sha256_digest(read_limited(path, _MAX_PAYLOAD_BYTES))
        if digest != f"sha256:{path.name}":
            raise VerificationFailed("ledger.payload", f"payload/{path.name} does not have the digest that names it")
        present.add(digest)
    return present
