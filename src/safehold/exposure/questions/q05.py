"""Question 5: which images and layers have the thing? From recorded images and the packages in each."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer
from safehold.exposure.questions.naming import Asked, answer_by_things

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 5
QUESTION: Final = "Which images and layers?"
FALLBACK: Final = "the history of each image"
_ASKED: Final = Asked(
    number=NUMBER,
    question=QUESTION,
    topic="image",
    one="image",
    record="record of images",
    columns=("when", "where", "image"),
    fallback=FALLBACK,
)


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: one that has it is on record; *no*: the record of the window is complete and has none; else *unknown*."""
    return answer_by_things(case, judgement, _ASKED)
