"""The 23 questions of an exposure review: a module each, with its query, its rule, its evidence and its fallback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions import (
    q01,
    q02,
    q03,
    q04,
    q05,
    q06,
    q07,
    q08,
    q09,
    q10,
    q11,
    q12,
    q13,
    q14,
    q15,
    q16,
    q17,
    q18,
    q19,
    q20,
    q21,
    q22,
    q23,
)
from safehold.exposure.questions.answer import Answer

__all__ = ["QUESTIONS", "Question"]

Question = Callable[[Case, Judgement], Answer]

QUESTIONS: Final[tuple[Question, ...]] = tuple(
    module.answer
    for module in (
        q01, q02, q03, q04, q05, q06, q07, q08, q09, q10, q11, q12, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22, q23
    )
)  # fmt: skip
"""All questions, in the order of their numbers."""
