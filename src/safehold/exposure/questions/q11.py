"""Question 11: which credentials were in reach? Those that somebody noted, the grants, and what they open in turn."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.exposure.lateral import find_targets
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.rotation import Life, lives_of, without_record
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 11
QUESTION: Final = "Which credentials were in reach?"
FALLBACK: Final = "environment dumps, vault leases"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: they are on record; *unknown*: of a host that held the thing none is; *no*: no host held it."""
    lives = lives_of(case, judgement)
    rows, entries = [_row(life) for life in lives], [entry for life in lives for entry in life.entries]
    for presence in judgement.hosts_with("held"):
        for target in find_targets(case, presence.host, presence.held):
            rows.append((presence.host, "opens", target.path, time_words(target.start), entries_words(target.entries)))
            entries += target.entries
    blind = without_record(case, judgement)
    reply, verdict, summary = _summary(judgement, lives, blind)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "kind", "credential", "in reach from", "evidence"), tuple(rows)),
        evidence=entries_of(entries),
        coverage="Grants are complete."
        + (
            f" No other credential was noted of {list_words(blind)}: what else lay there is not known." if blind else ""
        ),
        fallback=FALLBACK,
    )


def _row(life: Life) -> tuple[str, ...]:
    kind = "grant" if life.kind == "grant" else life.rank
    return (life.host, kind, life.name, time_words(life.start), entries_words(life.entries[:1]))


def _summary(judgement: Judgement, lives: tuple[Life, ...], blind: list[str]) -> tuple[Reply, Verdict | None, str]:
    noted = [life for life in lives if life.kind == "noted"]
    if judgement.hosts_with("held") and not blind:
        said = f"{count_words(len(noted), 'credential')} and {count_words(len(lives) - len(noted), 'grant')} in reach"
        return "yes", None, f"{said}: {list_words([life.name for life in lives])}."
    if blind or not judgement.presences:
        said = f"In reach for certain: {list_words([life.name for life in lives])}. " if lives else ""
        rest = f"Of {list_words(blind)} no credential was noted" if blind else "No host is registered"
        return "unknown", "unknown", f"{said}{rest}: take it that all that the host could read was taken."
    return "no", "not_held", "None: the thing was on no host."
