"""Segments held against their entries: a file that does not match is refused by name before a row of it is read.

The order of the looks: is it there, is it of the size, does it have the digest. A file that changes while a query
runs is seen afterwards, and the answer is not given (``recheck``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.segments.form import FORM, SEGMENT_TABLES, file_name
from safehold.ledger.storage import Entry
from safehold.model.errors import VerificationFailed
from safehold.model.ids import Digest
from safehold.model.statements import SegmentSealed

__all__ = ["VerifiedFile", "check_ranges", "recheck", "sealed_end", "segment_of", "verify_file", "verify_files"]

_THREADS: Final = 2  # as many as a query has
_HINT = "run `safehold log segment --mend`: it writes the file again from the ledger"


class VerifiedFile(msgspec.Struct, frozen=True):
    """A segment's file that had the digest of its entry, and which file that was (device, inode, size, times)."""

    path: Path
    segment: SegmentSealed
    identity: tuple[int, ...]


def segment_of(entry: Entry) -> SegmentSealed:
    """The statement of an entry that seals a segment. Raises ``VerificationFailed`` (``ledger.segment_entry``)."""
    if not isinstance(entry.statement, SegmentSealed):
        raise VerificationFailed(
            "ledger.segment_entry", f"entry {entry.index} seals no segment", "run `safehold rebuild`"
        )
    return entry.statement


def sealed_end(sealed: Sequence[Entry]) -> int:
    """The end of what is sealed: the place of the first entry that is in no segment yet."""
    return max((segment_of(entry).end for entry in sealed), default=0)


def check_ranges(sealed: Sequence[Entry]) -> Sequence[Entry]:
    """Return ``sealed`` (ordered by table and begin) if it leaves nothing out and nothing twice.

    Raises ``VerificationFailed``: ``ledger.segment_range``, ``ledger.segment_form``.
    """
    ends = dict.fromkeys(SEGMENT_TABLES, 0)
    for entry in sealed:
        one = segment_of(entry)
        if one.form != FORM:
            raise VerificationFailed(
                "ledger.segment_form", f"{_name(one)} is of form {one.form}", "use the Safehold that sealed it"
            )
        if one.begin != ends[one.table] or not one.begin < one.end <= entry.index:
            raise VerificationFailed(
                "ledger.segment_range",
                f"entry {entry.index} seals {_name(one)}, where entry {ends[one.table]} must come next",
                "run `safehold fsck`",
            )
        ends[one.table] = one.end
    if len(set(ends.values())) > 1:
        raise VerificationFailed(
            "ledger.segment_range", "the tables are sealed to different ends", "run `safehold fsck`"
        )
    return sealed


def verify_files(folder: Path, sealed: Sequence[Entry], wanted: Iterable[SegmentSealed]) -> list[VerifiedFile]:
    """The files of the segments ``wanted``, each held against its entry; raises as ``verify_file`` does."""
    known = {segment_of(entry).digest: segment_of(entry) for entry in sealed}
    with ThreadPoolExecutor(
        _THREADS
    ) as threads:  # hashing leaves the interpreter's lock; of several failures the first counts
        return list(threads.map(lambda segment: verify_file(folder, segment, known), wanted))


def verify_file(
    folder: Path, segment: SegmentSealed, known: Mapping[Digest, SegmentSealed] | None = None
) -> VerifiedFile:
    """The file of a segment, read whole and held against its entry.

    Raises ``VerificationFailed``: ``ledger.segment_missing``, ``ledger.segment_size``, ``ledger.segment_swapped`` (it is
    the file of another of the segments in ``known``, by digest) or ``ledger.segment_digest``.
    """
    path = folder / _name(segment)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            found = Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise VerificationFailed(
            "ledger.segment_missing", f"the segment {path.name} cannot be read: {error.strerror}", _HINT
        ) from error
    if found == segment.digest:
        return VerifiedFile(path, segment, _identity(status))
    other = (known or {}).get(found)
    if other is not None:
        raise VerificationFailed(
            "ledger.segment_swapped", f"the segment {path.name} holds the bytes of {_name(other)}", _HINT
        )
    if status.st_size != segment.size:
        raise VerificationFailed(
            "ledger.segment_size",
            f"the segment {path.name} has {status.st_size:,} bytes; its entry says {segment.size:,}",
            _HINT,
        )
    raise VerificationFailed(
        "ledger.segment_digest", f"the bytes of the segment {path.name} are not those of its entry", _HINT
    )


def recheck(files: Iterable[VerifiedFile]) -> None:
    """Return if the files are still the ones that were verified. Raises ``VerificationFailed`` (``ledger.segment_changed``)."""
    for one in files:
        try:
            same = _identity(one.path.stat()) == one.identity
        except OSError:
            same = False
        if not same:
            raise VerificationFailed(
                "ledger.segment_changed",
                f"the segment {one.path.name} changed while the query ran; there is no answer",
                "run `safehold fsck`, then the query again",
            )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _name(segment: SegmentSealed) -> str:
    return file_name(segment.table, segment.begin, segment.end)
