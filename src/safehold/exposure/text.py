"""The report as plain lines for a terminal. The command line gives each line its colour by ``tone``; this room does not."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from safehold.exposure.facts import Span
from safehold.exposure.questions.answer import Answer, Table
from safehold.exposure.report import Report, asked_words
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import entries_words, plain_words, span_words

__all__ = ["Line", "Tone", "text_lines"]

Tone = Literal["title", "headline", "head", "plain", "dim", "exposed", "unknown", "held", "not_held"]

_WIDTH: Final = 100
_MARKS: Final[dict[Verdict, str]] = {"exposed": "!!", "unknown": "??", "held": "! ", "not_held": "ok"}


class Line(msgspec.Struct, frozen=True):
    """A line of text without a line end, and how it is meant."""

    text: str
    tone: Tone = "plain"


def text_lines(
    report: Report, width: int = _WIDTH, *, tables: bool = True, only: bool = False, answers: bool = True
) -> tuple[Line, ...]:
    """The lines of the report, none wider than ``width`` (at least 60) where words can be broken.

    ``tables`` False leaves out the table under each answer. ``only``: the head and the questions, nothing else; and not
    the questions either with ``answers`` False.
    """
    width = max(width, 60)
    lines = [Line(plain_words(report.title), "title"), Line(asked_words(report), "dim"), Line("")]
    lines += _wrapped(report.headline, width, "headline")
    lines += [Line(""), *_window(report, width)]
    if only:
        lines += [Line("")] if answers else []
        for answer in report.answers if answers else ():
            lines += _answer(answer, width, tables=tables)
        return tuple(lines)
    lines += [Line(""), Line("Releases", "head")]
    for release in report.releases:
        reasons = (*release.reasons[:-1], _with_evidence(release.reasons[-1], release.evidence))
        lines += _judged(release.verdict, release.name, reasons, width)
    lines += [Line(""), Line("Hosts", "head")]
    for host in report.hosts:
        lines += _judged(host.verdict, host.host, (host.words,), width)
    lines += [Line(""), Line("Questions", "head")]
    for answer in report.answers:
        lines += _answer(answer, width, tables=tables)
    lines += [Line(""), Line("What was not seen", "head"), *_wrapped(report.coverage, width)]
    if report.open_points:
        lines += [Line(""), Line("Open points", "head")]
        for point in report.open_points:
            lines += _wrapped(point, width, "plain", "- ")
    lines += [Line(""), Line(f"Checkpoint: {report.size:,} entries, root {report.root or '(none)'}", "dim")]
    return tuple(lines)


def _with_evidence(words: str, entries: Sequence[int]) -> str:
    return f"{words} [{entries_words(entries)}]" if entries else words


def _wrapped(text: str, width: int, tone: Tone = "plain", first: str = "") -> list[Line]:
    folded = textwrap.wrap(
        plain_words(text), width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )
    return [Line(part, tone) for part in folded]


def _window(report: Report, width: int) -> list[Line]:
    if report.window is None:
        return _wrapped("Window: no source claims one; presence counts whenever it was observed.", width)
    lines = _wrapped(f"Window: {span_words(report.window)} UTC ({report.window_source})", width)
    for claim in report.windows:
        chosen = "" if claim.current else ", no longer claimed"
        said = f"{span_words(Span(claim.start, claim.end))}: {claim.source} ({claim.advisory} #{claim.idx}{chosen})"
        lines += _wrapped(said, width, "dim", "  ")
    return lines


def _judged(verdict: Verdict, name: str, reasons: Sequence[str], width: int) -> list[Line]:
    lines = [Line(f"  {_MARKS[verdict]} {plain_words(name)}  {VERDICT_WORDS[verdict]}", verdict)]
    return lines + [line for reason in reasons for line in _wrapped(reason, width, "plain", "     ")]


def _answer(answer: Answer, width: int, *, tables: bool) -> list[Line]:
    tone: Tone = answer.verdict or "plain"
    lines = _wrapped(f"{answer.question} {answer.reply_words}", width, tone, f"{answer.number:>4}  ")
    lines += _wrapped(answer.summary, width, "plain", "      ")
    lines += _table(answer.table, width) if tables else ()
    if answer.evidence:
        lines += _wrapped(f"evidence: {entries_words(answer.evidence)}", width, "dim", "      ")
    if answer.reply == "unknown":
        lines += _wrapped(f"look instead at: {answer.fallback}", width, "dim", "      ")
    return lines


def _table(table: Table, width: int) -> Iterator[Line]:
    """The columns' names once, then one item a row, its cells joined."""
    if table.rows:
        yield from _wrapped(" | ".join(table.columns), width, "dim", "      ")
    for row in table.rows:
        yield from _wrapped(" | ".join(cell or "–" for cell in row), width, "dim", "      · ")
