"""Adopted data: files that no key guards. Whether they were in reach is told by evidence from outside, or unknown. Pure.

Files that lie on a host that held the thing were in its reach. Of files elsewhere only a complete record of reads shows that
those hosts did not read them.
"""

from __future__ import annotations

import msgspec

from safehold.exposure.facts import Case, Span
from safehold.exposure.facts_outside import Adopted
from safehold.exposure.presence import Presence, merge_spans
from safehold.exposure.verdict import Verdict

__all__ = ["Unguarded", "judge_adopted"]


class Unguarded(msgspec.Struct, frozen=True, kw_only=True):
    """One adopted listing with its verdict, why, and the entries that show it."""

    adopted: Adopted
    verdict: Verdict
    words: str
    entries: tuple[int, ...]


def judge_adopted(case: Case, presences: tuple[Presence, ...]) -> tuple[Unguarded, ...]:
    """Each adopted listing whose originals were there while the thing was, or may have been, on a host."""
    touched = [one for one in presences if one.held or one.unknown]
    first = min((span.start for one in touched for span in (*one.held, *one.unknown)), default=None)
    if first is None:
        return ()
    return tuple(
        _judge(case, adopted, touched)
        for adopted in case.adopted
        if adopted.removed_t is None or adopted.removed_t >= first
    )


def _judge(case: Case, adopted: Adopted, touched: list[Presence]) -> Unguarded:
    here = next((one for one in touched if one.host == adopted.host), None)
    if here is not None and here.held:
        return _made(adopted, "exposed", f"its files lie on {here.host}, which held the thing", here.entries)
    reads = [
        line
        for line in case.evidence_lines
        if line.topic == "storage" and line.object.startswith(adopted.location) and "refused" not in line.act
    ]
    for one in touched:
        own = [line for line in reads if line.host == one.host and _within(line.t, one.held)]
        if own:
            words = f"read {len(own)} times by {one.host} while it held the thing"
            return _made(adopted, "exposed", words, tuple(line.idx for line in own))
    spans = merge_spans(span for one in touched for span in (*one.held, *one.unknown))
    strange = [line for line in reads if line.host is None and _within(line.t, spans)]
    maybe = [line for one in touched for line in reads if line.host == one.host and _within(line.t, one.unknown)]
    if strange or maybe:
        words = f"{len(strange) + len(maybe)} reads in that time by someone who may have been it"
        return _made(adopted, "unknown", words, tuple(line.idx for line in (*strange, *maybe)))
    if here is None and _complete(case, adopted, spans):
        return _made(adopted, "not_held", "a complete record of reads has none by a host that held it", ())
    return _made(adopted, "unknown", "no key guards it, and no complete record says who read it", ())


def _made(adopted: Adopted, verdict: Verdict, words: str, entries: tuple[int, ...]) -> Unguarded:
    return Unguarded(adopted=adopted, verdict=verdict, words=words, entries=tuple(sorted({adopted.idx, *entries})))


def _within(at: int, spans: tuple[Span, ...]) -> bool:
    return any(span.start <= at <= span.end for span in spans)


def _complete(case: Case, adopted: Adopted, spans: tuple[Span, ...]) -> bool:
    known = merge_spans(
        Span(one.covers_from, one.covers_until)
        for one in case.evidence
        if one.topic == "storage" and one.unread == 0 and one.covers_from is not None and one.covers_until is not None
        and (not one.subjects or any(adopted.location.startswith(name) for name in one.subjects))
    )  # fmt: skip
    return all(any(own.start <= span.start and span.end <= own.end for own in known) for span in spans)
