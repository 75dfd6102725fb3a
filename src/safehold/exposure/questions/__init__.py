"""The questions of an exposure review: a module each, with its query, its rule, its evidence and its fallback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions import q01, q03, q07, q14, q15, q17, q20, q22, q23
from safehold.exposure.questions.answer import Answer

__all__ = ["QUESTIONS", "Question"]

Question = Callable[[Case, Judgement], Answer]

QUESTIONS: Final[tuple[Question, ...]] = (
    q01.answer,
    q03.answer,
    q07.answer,
    q14.answer,
    q15.answer,
    q17.answer,
    q20.answer,
    q22.answer,
    q23.answer,
)
"""The questions that are answered here, in the order of their numbers."""
