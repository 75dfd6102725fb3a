"""Question 12: were the credentials used after, and when was each revoked? In the order in which they must be rotated."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.rotation import RANKS, Life, lives_of, without_record
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 12
QUESTION: Final = "Were they used after the window, and when was each revoked?"
FALLBACK: Final = "provider logs"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a use is on record; *no*: only grants were in reach, and no key left by one; else *unknown*."""
    lives, blind = lives_of(case, judgement), without_record(case, judgement)
    reply, verdict, summary = _summary(judgement, lives, blind, whole=case.touches is None)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(
            ("credential", "rotate as", "in reach from", "used since", "revoked", "shown dead", "evidence"),
            tuple(_row(life) for life in lives),
        ),
        evidence=entries_of(*(life.entries for life in lives)),
        coverage="Uses and ends of grants are complete; of other credentials only what was noted is known."
        + (f" Nothing was noted of {list_words(blind)}." if blind else ""),
        fallback=FALLBACK,
    )


def _row(life: Life) -> tuple[str, ...]:
    place = RANKS.index(life.rank) + 1
    used = f"{len(life.uses)}, last {time_words(max(life.uses)[0])}" if life.uses else "no use on record"
    revoked = "not revoked" if life.revoked is None else time_words(life.revoked)
    entries = entries_words(life.entries)
    return (life.name, f"{place} {life.rank}", time_words(life.start), used, revoked, time_words(life.dead), entries)


def _summary(
    judgement: Judgement, lives: tuple[Life, ...], blind: list[str], *, whole: bool
) -> tuple[Reply, Verdict | None, str]:
    used = [life for life in lives if life.uses]
    alive = [life.name for life in lives if life.ended is None]
    rest = f" Not revoked: {list_words(alive)}." if alive else " All are revoked or have ended." if lives else ""
    rest += _late(lives) + _disorder(lives)
    if used:
        uses = sum(len(life.uses) for life in used)
        return "yes", "exposed", f"{count_words(uses, 'use')} of {list_words([life.name for life in used])}.{rest}"
    if blind or any(life.kind == "noted" for life in lives) or not judgement.presences or (lives and not whole):
        return "unknown", "unknown", f"No use is on record, and the record is not complete.{rest}"
    if lives:
        return "no", "held", f"No key left by a grant that was in reach.{rest}"
    return "no", "not_held", "None was in reach."


def _late(lives: tuple[Life, ...]) -> str:
    """Uses after the end: a revocation that did not work."""
    late = [life.name for life in lives if life.ended is not None and any(at > life.ended for at, _ in life.uses)]
    return f" Used after its end: {list_words(late)}." if late else ""


def _disorder(lives: tuple[Life, ...]) -> str:
    """Whether something was revoked before what should have gone first."""
    noted = [life for life in lives if life.kind == "noted" and life.revoked is not None]
    for earlier, later in pairwise(noted):
        if earlier.rank != later.rank and (later.revoked or 0) < (earlier.revoked or 0):
            return f" Out of order: {later.name} ({later.rank}) before {earlier.name} ({earlier.rank})."
    return ""
