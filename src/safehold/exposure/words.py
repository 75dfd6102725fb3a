"""Times, spans, counts and entry numbers as people read them. All times are UTC; the words do not repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from safehold.exposure.facts import Span

__all__ = ["count_words", "duration_words", "entries_words", "list_words", "plain_words", "span_words", "time_words"]

_SECOND: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S" if moment.second or moment.microsecond else "%H:%M")


def time_words(at: int | None) -> str:
    """``2026-03-24 10:39``, with seconds where there are any; ``–`` for None."""
    if at is None:
        return "–"
    moment = _moment(at)
    return f"{moment:%Y-%m-%d} {_clock(moment)}"


def span_words(span: Span) -> str:
    """``2026-03-24 10:39 – 16:00``; the day is said once if both ends have it."""
    start, end = _moment(span.start), _moment(span.end)
    if span.start == span.end:
        return time_words(span.start)
    return f"{time_words(span.start)} – {_clock(end) if start.date() == end.date() else time_words(span.end)}"


def duration_words(length: int) -> str:
    """The two largest units of a length in µs: ``1 h 32 min``; ``0 s`` for nothing."""
    rest, said = max(length, 0) // _SECOND, list[str]()
    for seconds, unit in _UNITS:
        whole, rest = divmod(rest, seconds)
        if whole:
            said.append(f"{whole} {unit}")
        elif said:
            break
    return " ".join(said[:2]) or ("0 s" if length < 1 else "under 1 s")


def list_words(names: Sequence[str], limit: int = 6) -> str:
    """``a, b and c``; past ``limit`` the rest is counted."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def entries_words(entries: Iterable[int]) -> str:
    """``#3, #5–#8``: places in the ledger, neighbours joined; empty for none."""
    runs = list[list[int]]()
    for index in sorted(set(entries)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    joined = (f"#{a}" if a == b else f"#{a}, #{b}" if b == a + 1 else f"#{a}–#{b}" for a, b in runs)
    return ", ".join(joined)


def plain_words(text: str) -> str:
    """Text from elsewhere on one line, without what a terminal or a page would obey (controls, bidi marks)."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


def count_words(number: int, one: str, many: str = "") -> str:
    """``1 host``, ``2 hosts``; ``many`` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
