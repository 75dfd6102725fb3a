"""An answer to one question, and what all questions say alike.

``reply`` is *yes*, *no* or *unknown* to the question as it is worded; *no* only where the record covers it. Where the
record is missing the reply is *unknown* and ``fallback`` names where to look instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, duration_words, list_words

__all__ = ["Answer", "Reply", "Table", "coverage_of", "entries_of", "unknown_words"]

Reply = Literal["yes", "no", "unknown"]


class Table(msgspec.Struct, frozen=True):
    """Rows of text under ``columns``; every row has one cell a column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question answered. ``verdict`` is None where a verdict on data or hosts is not what was asked."""

    number: int
    question: str
    reply: Reply
    verdict: Verdict | None
    summary: str
    table: Table
    evidence: tuple[int, ...]
    coverage: str
    fallback: str

    @property
    def reply_words(self) -> str:
        """``yes`` or ``no`` where the question asks that, else ``answered``; ``unknown`` stays."""
        asks = self.question.startswith(("Did ", "Is ", "Was "))
        return self.reply if asks or self.reply == "unknown" else "answered"


def entries_of(*groups: Iterable[int | None]) -> tuple[int, ...]:
    """Entry indices of all groups, each once, in order; None (no entry) is left out."""
    return tuple(sorted({entry for group in groups for entry in group if entry is not None}))


def unknown_words(presence: Presence) -> str:
    """For how long a host was out of sight while it mattered: ``4 h 10 min``."""
    return duration_words(sum(span.end - span.start for span in presence.unknown))


def coverage_of(case: Case, judgement: Judgement) -> str:
    """One sentence: how many hosts reported at all, and which were out of sight while it mattered."""
    if not case.hosts:
        return "No host is registered, so nothing was observed."
    reporting = sum(presence.last is not None for presence in judgement.presences)
    blind = [f"{one.host} ({unknown_words(one)})" for one in judgement.presences if one.unknown]
    said = f"{reporting} of {count_words(len(case.hosts), 'host')} reported"
    if blind:
        return f"{said}; not observed while it mattered: {list_words(blind)}."
    return f"{said}, and none was out of sight while it mattered."
