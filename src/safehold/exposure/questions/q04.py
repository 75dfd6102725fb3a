"""Question 4: which CI runs had the thing? From recorded jobs and what each resolved."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer
from safehold.exposure.questions.naming import Asked, answer_by_things

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 4
QUESTION: Final = "Which CI runs?"
FALLBACK: Final = "CI log search (logs expire)"
_ASKED: Final = Asked(
    number=NUMBER,
    question=QUESTION,
    topic="ci",
    one="CI job",
    record="record of CI jobs",
    columns=("when", "runner", "job"),
    fallback=FALLBACK,
)


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: one that has it is on record; *no*: the record of the window is complete and has none; else *unknown*."""
    return answer_by_things(case, judgement, _ASKED)
