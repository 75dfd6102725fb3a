"""Question 13: was the revocation atomic? One act for all that was in reach, with proof of each."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.rotation import Life, lives_of, without_record
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 13
QUESTION: Final = "Was the revocation atomic?"
FALLBACK: Final = "none"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: each kind ended by one act, each end shown; *no*: one is not, or by several; *unknown*: not all is known."""
    lives, blind = lives_of(case, judgement), without_record(case, judgement)
    reply, verdict, summary = _summary(judgement, lives, blind)
    rows = tuple(_row(life) for life in lives)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("credential", "ended", "by", "shown", "evidence"), rows),
        evidence=entries_of(*(life.entries for life in lives)),
        coverage="A hold is one entry: all that it stops, it stops at one place of the ledger."
        + (f" What lay on {list_words(blind)} is not known." if blind else ""),
        fallback=FALLBACK,
    )


def _row(life: Life) -> tuple[str, ...]:
    by = list_words([action or "no act named" for action in life.actions]) or ("its own end" if life.dead else "–")
    shown = "yes" if life.proven else "no"
    return (life.name, time_words(life.ended), by, shown, entries_words(life.entries))


def _summary(judgement: Judgement, lives: tuple[Life, ...], blind: list[str]) -> tuple[Reply, Verdict | None, str]:
    open_ones = [life.name for life in lives if life.ended is None]
    unproven = [life.name for life in lives if life.ended is not None and not life.proven]
    acts = {kind: {act for life in lives if life.kind == kind for act in life.actions} for kind in ("noted", "grant")}
    if open_ones:
        return "no", "exposed", f"No: {list_words(open_ones)} still can be used."
    several = [kind for kind, own in acts.items() if len(own) > 1 or "" in own]
    if several:
        count = sum(len(own) for own in acts.values())
        return "no", None, f"No: {count_words(len(lives), 'credential')} ended by {count_words(count, 'act')}."
    if unproven:
        return "no", None, f"No: that {list_words(unproven)} is dead was not shown."
    if blind or not judgement.presences:
        known = (
            f"What is known was ended by one act ({count_words(len(lives), 'credential')})"
            if lives
            else "Nothing is known"
        )
        return "unknown", "unknown", f"{known}, and not all that was in reach is on record."
    if lives:
        return "yes", None, f"Yes: {count_words(len(lives), 'credential')}, each shown to have ended."
    return "yes", None, "No credential was in reach: there was nothing to revoke."
