"""``fsck`` of segments: every file against its entry, and its rows against the entries that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safehold.ledger.fsck import Problem
from safehold.ledger.segments.form import arrow_rows, file_name, parquet_rows
from safehold.ledger.segments.seal import read_entries
from safehold.ledger.segments.verified import check_ranges, segment_of, verify_file
from safehold.ledger.storage import Entry, View
from safehold.model.errors import VerificationFailed
from safehold.model.statements import SegmentSealed, decode

__all__ = ["check_segments", "find_sealed"]

_BATCH: Final = 2048
_FINDINGS: Final = {
    "ledger.segment_range": "fsck.segment_range",
    "ledger.segment_form": "fsck.segment_form",
    "ledger.segment_missing": "fsck.segment_missing",
    "ledger.segment_size": "fsck.segment_size",
    "ledger.segment_swapped": "fsck.segment_swapped",
    "ledger.segment_digest": "fsck.segment_digest",
}


def find_sealed(view: View) -> list[Entry]:
    """The entries that seal segments, from the entries alone: by table and begin, of equal ones the later."""
    found: dict[tuple[str, int], Entry] = {}
    for begin in range(0, view.size(), _BATCH):
        for offset, body in enumerate(view.bodies(begin, begin + _BATCH)):
            if b'"segment.sealed"' in body:
                entry = Entry(begin + offset, body, decode(body))
                if isinstance(entry.statement, SegmentSealed):
                    found[entry.statement.table, entry.statement.begin] = entry
    return [found[key] for key in sorted(found)]


def check_segments(view: View, folder: Path) -> list[Problem]:
    """All problems of the segments in ``folder``. The entries must hold already: see ``check_ledger``.

    Codes: ``fsck.segment_range``, ``fsck.segment_form``, ``fsck.segment_missing``, ``fsck.segment_size``,
    ``fsck.segment_swapped``, ``fsck.segment_digest``, ``fsck.segment_rows``.
    """
    sealed = find_sealed(view)
    try:
        check_ranges(sealed)
    except VerificationFailed as error:
        return [Problem(_FINDINGS.get(error.code, error.code), "segments", error.message)]
    known = {segment_of(entry).digest: segment_of(entry) for entry in sealed}
    problems: list[Problem] = []
    for entry in sealed:
        segment = segment_of(entry)
        where = f"entry {entry.index}"
        try:
            path = verify_file(folder, segment, known).path
        except VerificationFailed as error:
            problems.append(Problem(_FINDINGS.get(error.code, error.code), where, error.message))
            continue
        if not _holds(path.read_bytes(), segment, read_entries(view, segment.begin, segment.end)):
            name = file_name(segment.table, segment.begin, segment.end)
            problems.append(Problem("fsck.segment_rows", where, f"{name} does not hold what the ledger holds"))
    return problems


def _holds(data: bytes, segment: SegmentSealed, entries: Sequence[Entry]) -> bool:
    rows = arrow_rows(segment.table, entries)
    times = [t for t in rows.column("t").to_pylist() if t is not None]
    said = (segment.rows, segment.since, segment.until)
    try:
        same: bool = parquet_rows(data).equals(rows)
    except (OSError, ValueError):  # pyarrow's words for bytes that are no Parquet: such a file was sealed as it is
        return False
    return same and said == (rows.num_rows, times[0] if times else None, times[-1] if times else None)
