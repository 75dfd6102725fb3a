"""Question 6: which caches and mirrors can serve the thing again? From their recorded listings."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer
from safehold.exposure.questions.naming import Asked, answer_by_things

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 6
QUESTION: Final = "Which caches and mirrors can serve it again?"
FALLBACK: Final = "pip, uv, conda, pipx caches, artefact stores"
_ASKED: Final = Asked(
    number=NUMBER,
    question=QUESTION,
    topic="cache",
    one="cache or mirror",
    record="listing of caches and mirrors",
    columns=("when", "where", "cache"),
    fallback=FALLBACK,
)


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: one that has it is on record; *no*: the record of the window is complete and has none; else *unknown*."""
    return answer_by_things(case, judgement, _ASKED)
