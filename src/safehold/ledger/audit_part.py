"""One part of an audit: a range of an export's entries, verified by itself, so that several processes can share the work.

Everything of a part is computed from its entry bundles: leaf hashes, the tiles of level 0 and their roots, and the form of
each statement. What does not hold is returned and not raised, since the order in which parts end says nothing: whoever puts
the parts together raises for the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from safehold.ledger.tree import HASH_BYTES, TILE_WIDTH, leaf_hashes, tile_path, tile_root
from safehold.model.errors import SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.model.statements import (
    AdvisoryRecorded,
    InventoryConfirmed,
    InventoryRecorded,
    ReleaseSealed,
    SegmentSealed,
    Statement,
    Unknown,
    decode,
    decode_many,
)

__all__ = ["PART_ENTRIES", "AuditedPart", "Failure", "audit_part", "payloads_named", "read_bundle", "read_limited"]

PART_ENTRIES: Final = TILE_WIDTH * TILE_WIDTH
_MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + 65_535)
_NAMING: Final = frozenset(
    {InventoryRecorded, InventoryConfirmed, AdvisoryRecorded, ReleaseSealed}
)  # kinds that name payloads


class Failure(msgspec.Struct, frozen=True):
    """What a ``VerificationFailed`` says, to be raised elsewhere."""

    code: str
    message: str
    hint: str

    def error(self) -> VerificationFailed:
        """The exception."""
        return VerificationFailed(self.code, self.message, self.hint)


class AuditedPart(msgspec.Struct, frozen=True):
    """What a part holds: the ``roots`` of its full tiles, the ``leaves`` of one that is not full, and what its entries are.

    ``entries`` is the first failure in an entry or a bundle, ``tile`` the first tile that does not hold what they hash to.
    """

    roots: list[bytes]
    leaves: list[bytes]
    kinds: dict[str, int]
    unknown: int
    named: list[Digest]
    segments: list[SegmentSealed]
    entries: Failure | None
    tile: Failure | None


def audit_part(folder: Path, begin: int, end: int) -> AuditedPart:
    """Verify entries ``begin`` (a multiple of 256) … ``end`` - 1 of the export in ``folder``."""
    roots, leaves, kinds, named = list[bytes](), list[bytes](), Counter[str](), set[Digest]()
    unknown, tile_failure, segments = 0, None, list[SegmentSealed]()
    try:
        for first in range(begin, end, TILE_WIDTH):
            width, index = min(TILE_WIDTH, end - first), first // TILE_WIDTH
            name = tile_path("entries", index, width)
            bodies = read_bundle(read_limited(folder / name, _MAX_BUNDLE_BYTES), width, name)
            hashes = leaf_hashes(bodies)
            tile = b"".join(hashes)
            tile_failure = tile_failure or _compare(folder, tile_path(0, index, width), tile)
            statements = _statements(first, bodies)
            for kind, count in Counter[type[Any]](map(type, statements)).items():
                if kind is Unknown:
                    unknown += count
                    kinds.update(one.kind for one in statements if isinstance(one, Unknown))
                else:
                    kinds[str(kind.__struct_config__.tag)] += count
                if kind in _NAMING:
                    named.update(digest for one in statements for digest in payloads_named(one))
                if kind is SegmentSealed:
                    segments += [one for one in statements if isinstance(one, SegmentSealed)]
            if width == TILE_WIDTH:
                roots.append(tile_root(tile))
            else:
                leaves = hashes
    except VerificationFailed as error:
        failure = Failure(error.code, error.message, error.hint)
        return AuditedPart(roots, leaves, dict(kinds), unknown, sorted(named), segments, failure, tile_failure)
    return AuditedPart(roots, leaves, dict(kinds), unknown, sorted(named), segments, None, tile_failure)


def _statements(first: int, bodies: Sequence[bytes]) -> list[Any]:
    try:
        return decode_many(bodies)
    except SafeholdError:
        for index, body in enumerate(bodies, first):
            try:
                decode(body)
            except SafeholdError as error:
                raise VerificationFailed(
                    "ledger.entry", f"entry {index} is not a statement: {error.message}"
                ) from error
        raise


def _compare(folder: Path, name: str, hashes: bytes) -> Failure | None:
    try:
        if read_limited(folder / name, TILE_WIDTH * HASH_BYTES) != hashes:
            raise VerificationFailed("ledger.tile_altered", f"{name} does not fit the entries")
    except VerificationFailed as error:
        return Failure(error.code, error.message, error.hint)
    return None


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


def read_bundle(data: bytes, width: int, name: str) -> list[bytes]:
    """Split an entry bundle of exactly ``width`` entries, or raise ``VerificationFailed`` (``ledger.bundle``)."""
    bodies: list[bytes] = []
    position, size = 0, len(data)
    while position + 2 <= size:
        begin = position + 2
        position = begin + (data[position] << 8 | data[position + 1])
        bodies.append(data[begin:position])
    if position != size:
        raise VerificationFailed("ledger.bundle", f"{name} ends in the middle of an entry")
    if len(bodies) != width:
        raise VerificationFailed("ledger.bundle", f"{name} holds {len(bodies)} entries where {width} were signed")
    return bodies


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of a file of an export; ``VerificationFailed`` (``ledger.export_file``) if it is missing or too large."""
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
