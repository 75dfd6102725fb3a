"""The auditor's path: verify an exported ledger with nothing but the export and the ledger's verifier line.

No private key, no database, no part of Safehold besides ``model`` and ``ledger``. Everything is recomputed from
the entry bytes; the tiles in the export are *compared*, never used. Steps, numbered as in the code:

1. the checkpoint is signed by the expected key; 2. the entries hash to its root; 3. every tile holds what the
entries hash to; 4. each entry is a statement in canonical bytes (unknown kinds are counted, not refused);
5. payloads that are present have the digest that names them, and missing ones are listed: one may have been erased
by right, so its absence is reported and not refused; 6. the verifier line in the export is the expected one.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.export import CHECKPOINT_FILE, VERIFIER_FILE
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.tree import HASH_BYTES, TILE_WIDTH, Frontier, leaf_hash, tile_path, tiles_of_size
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import Digest, sha256_digest
from safehold.model.statements import (
    AdvisoryRecorded,
    InventoryConfirmed,
    InventoryRecorded,
    ReleaseSealed,
    Statement,
    Unknown,
    decode,
)

__all__ = ["AuditReport", "audit_export", "payloads_named", "read_bundle", "read_verifier"]

_MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + 65_535)
_MAX_SMALL_FILE: Final = 1 << 20
_MAX_PAYLOAD_BYTES: Final = 1 << 30  # more than SQLite keeps in one row
_PAYLOAD_NAME: Final = re.compile(r"[0-9a-f]{64}")


class AuditReport(msgspec.Struct, frozen=True):
    """What was verified: the ``checkpoint``, statements by ``kinds``, ``unknown`` ones, ``payloads`` checked.

    ``missing`` are digests of payloads that entries name and the export does not have.
    """

    checkpoint: Checkpoint
    kinds: dict[str, int]
    unknown: int
    payloads: int
    missing: tuple[Digest, ...]


def read_verifier(folder: Path) -> NoteVerifier:
    """The verifier line inside an export. It proves nothing about *whose* ledger it is: compare it by other means.

    Raises ``VerificationFailed`` (``ledger.verifier_file``) if it is not exactly one such line.
    """
    data = _read(folder / VERIFIER_FILE, _MAX_SMALL_FILE)
    try:
        verifier = NoteVerifier.parse(data.decode())
    except (InputInvalid, UnicodeDecodeError) as error:
        raise _verifier_altered() from error
    if data != verifier.text.encode() + b"\n":
        raise _verifier_altered()
    return verifier


def audit_export(folder: Path, verifier: NoteVerifier) -> AuditReport:
    """Verify the export in ``folder``; return what was verified.

    Raises ``NotFound`` (``ledger.export_missing``) or ``VerificationFailed`` naming the file or entry:
    ``ledger.note_*``, ``ledger.root``, ``ledger.tile_altered``, ``ledger.bundle``, ``ledger.entry``, ``ledger.payload``,
    ``ledger.verifier_file``.
    """
    if not (folder / CHECKPOINT_FILE).is_file():
        raise NotFound(
            "ledger.export_missing", f"{folder} is no exported ledger", "make one with `safehold log export FOLDER`"
        )
    checkpoint = open_checkpoint(_read(folder / CHECKPOINT_FILE, _MAX_SMALL_FILE), verifier)  # 1
    frontier, tiles, kinds = Frontier(), dict[tuple[int, int], bytes](), Counter[str]()
    unknown, named = 0, set[Digest]()
    for index, body in enumerate(_entries(folder, checkpoint.size)):
        frontier.append(leaf_hash(body), tiles)
        try:
            statement = decode(body)  # 4
        except SafeholdError as error:
            raise VerificationFailed("ledger.entry", f"entry {index} is not a statement: {error.message}") from error
        if isinstance(statement, Unknown):
            unknown += 1
        named.update(payloads_named(statement))
        kinds[statement.kind if isinstance(statement, Unknown) else str(statement.__struct_config__.tag)] += 1
    if not hmac.compare_digest(frontier.root(), checkpoint.root):  # 2
        raise VerificationFailed(
            "ledger.root",
            f"the {checkpoint.size} entries do not hash to the signed root: {_first_difference(folder, checkpoint.size)}",
            "this copy was altered, or is another ledger's: ask for a fresh export and keep this one as evidence",
        )
    for level, index, hashes in frontier.partial_tiles():
        tiles[level, index] = hashes
    for level, index, width in tiles_of_size(checkpoint.size):  # 3
        stored = _read(folder / tile_path(level, index, width), TILE_WIDTH * HASH_BYTES)
        if stored != tiles[level, index]:
            raise VerificationFailed(
                "ledger.tile_altered", f"{tile_path(level, index, width)} does not fit the entries"
            )
    present = _check_payloads(folder)  # 5
    if (folder / VERIFIER_FILE).exists() and read_verifier(folder) != verifier:  # 6
        raise _verifier_altered()
    missing = tuple(sorted(named - present))
    return AuditReport(checkpoint, dict(sorted(kinds.items())), unknown, len(present), missing)


def payloads_named(statement: Statement | Unknown) -> tuple[Digest, ...]:
    """The payloads that a statement names by digest, and that belong to the ledger."""
    match statement:
        case InventoryRecorded(inventory=inventory, report=report):
            return inventory, report
        case InventoryConfirmed(report=report):
            return (report,)
        case AdvisoryRecorded(document=document):
            return (document,)
        case ReleaseSealed(release=release):  # a release's identity is the digest of its manifest
            return (release,)
    return ()


def _verifier_altered() -> VerificationFailed:
    return VerificationFailed(
        "ledger.verifier_file",
        f"the file {VERIFIER_FILE} does not hold the verifier line of this ledger",
        "take the line from its operator by another way, and keep this copy as evidence",
    )


def _entries(folder: Path, size: int) -> Iterator[bytes]:
    for begin in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - begin)
        name = tile_path("entries", begin // TILE_WIDTH, width)
        yield from read_bundle(_read(folder / name, _MAX_BUNDLE_BYTES), width, name)


def read_bundle(data: bytes, width: int, name: str) -> list[bytes]:
    """Split an entry bundle of exactly ``width`` entries, or raise ``VerificationFailed`` (``ledger.bundle``)."""
    bodies: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        if position + 2 > len(data) or end > len(data):
            raise VerificationFailed("ledger.bundle", f"{name} ends in the middle of an entry")
        bodies.append(data[position + 2 : end])
        position = end
    if len(bodies) != width:
        raise VerificationFailed("ledger.bundle", f"{name} holds {len(bodies)} entries where {width} were signed")
    return bodies


def _first_difference(folder: Path, size: int) -> str:
    """Name the first entry whose hash is not the one in its level-0 tile; a help for people, no evidence."""
    for begin in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - begin)
        try:
            tile = _read(folder / tile_path(0, begin // TILE_WIDTH, width), TILE_WIDTH * HASH_BYTES)
            name = tile_path("entries", begin // TILE_WIDTH, width)
            bodies = read_bundle(_read(folder / name, _MAX_BUNDLE_BYTES), width, name)
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
        digest = sha256_digest(_read(path, _MAX_PAYLOAD_BYTES))
        if digest != f"sha256:{path.name}":
            raise VerificationFailed("ledger.payload", f"payload/{path.name} does not have the digest that names it")
        present.add(digest)
    return present


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise VerificationFailed(
            "ledger.export_file",
            f"{path.name} cannot be read: {error.strerror}",
            "the export is incomplete: make it again",
        ) from error
    if len(data) > limit:
        raise VerificationFailed("ledger.export_file", f"{path.name} is larger than it can be")
    return data
