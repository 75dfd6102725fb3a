"""Carrying segments along with a copy of the ledger: only files that match their entries, and durable when this returns.

What does not match is left out and named: a segment can be written again from the entries, and a copy that holds a wrong
one would be refused by whoever verifies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.segments.form import file_name
from safehold.ledger.segments.verified import segment_of, verify_file
from safehold.ledger.storage import Entry
from safehold.model.errors import StorageFailed, VerificationFailed
from safehold.model.ids import sha256_digest

__all__ = ["Carried", "carry_segments"]


class Carried(msgspec.Struct, frozen=True):
    """How many segment files the copy has now, how many of them this run ``written``, and which were ``left_out``."""

    files: int
    written: int
    left_out: tuple[str, ...]


def carry_segments(source: Path, sealed: Sequence[Entry], folder: Path) -> Carried:
    """Copy the files of ``sealed`` from ``source`` to ``folder``; those that are there and match stay.

    Raises ``StorageFailed`` (``ledger.segment_carry``).
    """
    files, written, left_out = 0, 0, list[str]()
    try:
        for entry in sealed:
            segment = segment_of(entry)
            name = file_name(segment.table, segment.begin, segment.end)
            try:
                verify_file(folder, segment)
            except VerificationFailed:
                data = _bytes(source / name)
                if data is None or sha256_digest(data) != segment.digest:
                    left_out.append(name)
                    (folder / name).unlink(missing_ok=True)  # what is there is of another entry
                    continue
                write_file(folder / name, data)
                written += 1
            files += 1
        if written:
            sync_folder(folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise StorageFailed(
            "ledger.segment_carry",
            f"the segments cannot be copied to {folder}: {error.strerror}",
            "free some space or choose another folder, then run the same command again",
        ) from error
    return Carried(files, written, tuple(left_out))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
