"""What differs between two releases: by records and by columns.

Files that both releases hold are not opened: what is the same there is the same. Only what lies in other files is read,
compared bit for bit (``compare``), and held in memory while that is done. With a record id, a record that is on both sides
under one id and differs counts as *changed*, and its columns are named; without, it is one removed and one added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from safehold.model.errors import InputInvalid
from safehold.vault.compare import row_numbers
from safehold.vault.fields import same_types
from safehold.vault.manifest import Field, Run
from safehold.vault.open import OpenedRelease

__all__ = ["Difference", "differ"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Records by number, and columns by name. ``read``: records of both sides that had to be looked at.

    ``changed_columns``: in how many of the changed records each column differs. ``added_rows``, ``removed_rows``: the
    places of the first of them, in their own release.
    """

    unchanged: int
    added: int
    removed: int
    changed: int
    read: int
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_retyped: tuple[str, ...]
    changed_columns: dict[str, int]
    added_rows: tuple[int, ...]
    removed_rows: tuple[int, ...]


_SHOWN = 20


def differ(old: OpenedRelease, new: OpenedRelease, record_id: str | None = None) -> Difference:
    """Compare the open columns of two releases.

    Raises ``InputInvalid`` (``vault.column_unknown`` for a record id that is not an open column of both), and what
    reading raises.
    """
    before, now = ({column.name: column for column in one.columns} for one in (old, new))
    common = [name for name in now if name in before and _same(before[name], now[name])]
    if record_id is not None and record_id not in common:
        raise InputInvalid(
            "vault.column_unknown",
            f"there is no column {record_id!r} in both releases",
            f"both have: {', '.join(common[:12])}",
        )
    shared = _shared(old, new, common)
    old_rest, new_rest = _without(old, new, shared), _without(new, old, shared)
    left, right = _read(old, old_rest, common), _read(new, new_rest, common)
    numbers = row_numbers([left, right]) if common else [[], []]
    gone, come = _unmatched(numbers[0], numbers[1])
    same_rows = new.manifest.rows - right.num_rows if common else 0
    changed: list[tuple[int, int]] = []
    if record_id is not None:
        changed, gone, come = _by_id(left, right, gone, come, record_id)
    return Difference(
        unchanged=same_rows + right.num_rows - len(come) - len(changed),
        added=len(come),
        removed=len(gone),
        changed=len(changed),
        read=left.num_rows + right.num_rows,
        columns_added=tuple(name for name in now if name not in before),
        columns_removed=tuple(name for name in before if name not in now),
        columns_retyped=tuple(name for name in now if name in before and name not in common),
        changed_columns=_changed_columns(left, right, changed),
        added_rows=tuple(_place(new_rest, at) for at in come[:_SHOWN]),
        removed_rows=tuple(_place(old_rest, at) for at in gone[:_SHOWN]),
    )


class _Stretch(msgspec.Struct, frozen=True):
    """Records ``start`` … of a release, and where they lie; no run: the whole release, merged."""

    start: int
    rows: int
    run: Run | None


def _same(left: Field, right: Field) -> bool:
    return same_types([left], [right]) and left == right


def _shared(old: OpenedRelease, new: OpenedRelease, common: Sequence[str]) -> set[int]:
    """Parts whose files, as far as they hold common columns, both releases have."""
    if old.manifest.numbered or new.manifest.numbered:
        return set()
    files: list[dict[int, set[str]]] = []
    for one in (old, new):
        groups = {group.name for group in one.groups if set(group.columns) & set(common)}
        found: dict[int, set[str]] = {}
        for part in one.manifest.files(groups):
            found.setdefault(part.part, set()).add(part.sha256)
        files.append(found)
    return {part for part, digests in files[1].items() if files[0].get(part) == digests}


def _without(one: OpenedRelease, other: OpenedRelease, shared: set[int]) -> list[_Stretch]:
    """What must be read of ``one``: records that do not stand in the same place of a file that ``other`` has too."""
    if one.manifest.numbered:
        return [_Stretch(0, one.manifest.rows, None)]
    theirs: dict[int, list[Run]] = {}
    for run in other.manifest.sequence() if shared else ():
        if run.part in shared:
            theirs.setdefault(run.part, []).append(run)
    stretches: list[_Stretch] = []
    start = 0
    for run in one.manifest.sequence():
        rests = _subtract(run, theirs.get(run.part, []))
        stretches += [_Stretch(start + rest.first - run.first, rest.rows, rest) for rest in rests]
        start += run.rows
    return stretches


def _subtract(run: Run, others: Sequence[Run]) -> list[Run]:
    """What of ``run`` no other covers; the others rise and do not overlap."""
    left: list[Run] = []
    at, end = run.first, run.first + run.rows
    for other in others:
        begin, stop = max(at, other.first), min(end, other.first + other.rows)
        if begin < stop:
            if at < begin:
                left.append(Run(run.part, at, begin - at))
            at = stop
    if at < end:
        left.append(Run(run.part, at, end - at))
    return left


def _read(one: OpenedRelease, stretches: Sequence[_Stretch], columns: Sequence[str]) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    for stretch in stretches if columns else ():
        batches += one.batches(columns) if stretch.run is None else one.run_batches(stretch.run, columns)
    if batches:
        return pa.Table.from_batches(batches)
    first = next(iter(one.batches(columns)), None) if columns else None
    return first.schema.empty_table() if first is not None else pa.table({})


def _unmatched(old: Sequence[int], new: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places of records that the other side does not have as often."""

    def rest(mine: Sequence[int], theirs: Sequence[int]) -> list[int]:
        have = Counter(theirs)
        places = []
        for place, number in enumerate(mine):
            if have[number]:
                have[number] -= 1
            else:
                places.append(place)
        return places

    return rest(old, new), rest(new, old)


def _by_id(
    left: pa.Table, right: pa.Table, gone: list[int], come: list[int], record_id: str
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs of records under one id, and what is left on either side."""
    ids = row_numbers([_rows(left, [record_id], gone), _rows(right, [record_id], come)])
    waiting: dict[int, list[int]] = {}
    for number, place in zip(ids[0], gone, strict=True):
        waiting.setdefault(number, []).append(place)
    changed: list[tuple[int, int]] = []
    added: list[int] = []
    for number, place in zip(ids[1], come, strict=True):
        found = waiting.get(number)
        if found:
            changed.append((found.pop(0), place))
        else:
            added.append(place)
    return changed, sorted(place for places in waiting.values() for place in places), added


def _rows(table: pa.Table, columns: Sequence[str], places: Sequence[int]) -> pa.Table:
    return table.select(columns).take(pa.array(places, pa.int64()))


def _changed_columns(left: pa.Table, right: pa.Table, changed: Sequence[tuple[int, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    if not changed:
        return counts
    before = _rows(left, right.column_names, [old for old, _ in changed])
    now = _rows(right, right.column_names, [new for _, new in changed])
    for name in right.column_names:
        old, new = row_numbers([before.select([name]), now.select([name])])
        differing = sum(one != other for one, other in zip(old, new, strict=True))
        if differing:
            counts[name] = differing
    return counts


def _place(stretches: Sequence[_Stretch], at: int) -> int:
    """The place in the release of the record that was read as number ``at``."""
    for stretch in stretches:
        if at < stretch.rows:
            return stretch.start + at
        at -= stretch.rows
    return at
