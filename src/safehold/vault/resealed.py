"""A sealed release as the source of the next one: the same records under new keys, and the proof that they are the same.

The records go from the old part files to new ones in memory, part by part. They come in the order of the release with the
facts that the old manifest tells of them (columns with their rules, input files with their style), so that the new
release gives back the same bytes. Where the old release's parts are whole, their numbers and ends are kept, and with them
the order of training, which depends on nothing else of a release. Records that no run names belong to the release no more and do not go along.

``prove_resealed`` compares what came out, bit for bit, and holds that nothing is shared: no file, no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import pyarrow as pa

from safehold.model.errors import VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.compare import same_bits
from safehold.vault.manifest import Field, Manifest, Run, SourceFile
from safehold.vault.maps import without_maps, without_maps_schema
from safehold.vault.open import OpenedRelease

__all__ = ["SealedSource", "check_resealed", "prove_resealed", "whole_parts"]


class SealedSource:
    """The records of ``opened``, the release ``release`` with the keys of all groups, as a ``Source``."""

    def __init__(self, opened: OpenedRelease, release: Digest) -> None:
        self._opened = opened
        self._release = release

    @property
    def columns(self) -> tuple[Field, ...]:
        """See ``Source``."""
        return self._opened.manifest.columns

    @cached_property
    def schema(self) -> pa.Schema:
        """See ``Source``. Reads the first records."""
        return next(self._opened.batches()).schema

    @property
    def size_hint(self) -> int:
        """See ``Source``."""
        return self._opened.manifest.size

    @property
    def rows(self) -> int | None:
        """See ``Source``."""
        return self._opened.manifest.rows

    @property
    def identity(self) -> str | None:
        """See ``Source``. The digest of the release fixes its records, so a killed run goes on."""
        return f"records of {self._release}"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See ``Source``. Raises as ``OpenedRelease.batches``, naming the part."""
        yield from self._opened.batches()

    def files(self) -> tuple[SourceFile, ...]:
        """See ``Source``: the files that the old release was made of."""
        return self._opened.manifest.sources


def whole_parts(manifest: Manifest) -> tuple[Run, ...]:
    """The parts in the order of the release, if every one belongs to it whole and once; else none."""
    if manifest.numbered:
        return ()
    rows = {part.part: part.rows for part in manifest.parts}
    order = manifest.sequence()
    if len(order) != len(rows) or any(run.rows != rows[run.part] for run in order):
        return ()
    return order


def check_resealed(old: Manifest, new: Manifest, before: Digest) -> Manifest:
    """Return ``new`` if it says of its records what ``old`` says, replaces ``before`` and shares no file and no key with it.

    Raises ``VerificationFailed`` (``vault.resealed_facts``, ``vault.resealed_shared``).
    """
    for name in ("dataset", "party", "columns", "groups", "rows", "sources", "classification", "purposes", "people"):
        if getattr(old, name) != getattr(new, name):
            raise VerificationFailed(
                "vault.resealed_facts",
                f"{name} of {new.dataset}@{new.version} is not what {old.dataset}@{old.version} says",
                "the old release stays as it is; move the new one away and run the command again",
            )
    known = {text for part in old.parts for text in (part.sha256, part.commitment)}
    for part in new.parts:
        if part.sealed != new.version or part.sha256 in known or part.commitment in known or new.parent != before:
            raise VerificationFailed(
                "vault.resealed_shared",
                f"the part {part.file} of {new.dataset}@{new.version} was not sealed anew",
                "the old release stays as it is; move the new one away and run the command again",
            )
    return new


def prove_resealed(old: OpenedRelease, new: OpenedRelease, progress: Callable[[int], None] | None = None) -> int:
    """Read both whole and return how many records they hold, the same ones in the same order, bit for bit.

    ``progress`` gets the records compared so far. Raises ``VerificationFailed`` (``vault.resealed_differs``, naming a part of
    the new release) and what reading either raises.
    """
    theirs = _Stream(old.batches())
    ends = _part_ends(new.manifest)
    part = end = done = 0
    for batch in new.batches():
        if done >= end:
            part, end = next(ends, (part, end))
        if not _same(theirs.take(batch.num_rows), batch):
            raise _differs(part)
        done += batch.num_rows
        if progress is not None:
            progress(done)
    if theirs.take(1) is not None:
        raise _differs(part)
    return done


def _part_ends(manifest: Manifest) -> Iterator[tuple[int, int]]:
    end = 0
    for run in manifest.sequence():
        end += run.rows
        yield run.part, end


def _same(old: pa.Table | None, new: pa.RecordBatch) -> bool:
    if old is None or old.num_rows != new.num_rows or old.schema.names != new.schema.names:
        return False
    plain = without_maps_schema(new.schema)
    mine = without_maps(new, plain)
    theirs = [without_maps(one, without_maps_schema(one.schema)) for one in old.to_batches()]
    return all(
        same_bits(pa.concat_arrays([one.column(place) for one in theirs]), mine.column(place))
        for place in range(mine.num_columns)
    )


class _Stream:
    """Batches, taken in other lengths than they come in."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.Table | None:
        """The next ``rows`` records, fewer at the end, None if there are no more."""
        found: list[pa.RecordBatch] = []
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                break
            found.append(batch.slice(0, rows))
            self._rest = batch.slice(rows) if batch.num_rows > rows else None
            rows -= found[-1].num_rows
        return pa.Table.from_batches(found) if found else None


def _differs(part: int) -> VerificationFailed:
    return VerificationFailed(
        "vault.resealed_differs",
        f"part {part} of the new release does not hold the records of the old one",
        "the old release stays as it is; check the disk and the memory, then run the command again",
    )
