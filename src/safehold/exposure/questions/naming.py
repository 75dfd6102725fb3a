"""What questions 4, 5 and 6 share: rows of CI jobs, images or caches that name packages, and whether one is the thing."""

from __future__ import annotations

from typing import Final

import msgspec

from safehold.exposure.facts import Case, Span
from safehold.exposure.facts_outside import EvidenceLine
from safehold.exposure.judgement import Judgement
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.questions.outside import (
    covers,
    evidence_coverage,
    lines_of,
    named_things,
    names_thing,
    sources_of,
)
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import entries_words, list_words, time_words
from safehold.model.evidence import EvidenceTopic

__all__ = ["Asked", "answer_by_things"]

_YES: Final = "has it"
_OPEN: Final = "has a version of which it is open"
_BLANK: Final = "names no packages"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question of this form: of which ``topic``, and the words for one row and for the record of all."""

    number: int
    question: str
    topic: EvidenceTopic
    one: str
    record: str
    columns: tuple[str, str, str]
    fallback: str


def answer_by_things(case: Case, judgement: Judgement, asked: Asked) -> Answer:
    """*yes*: a row names the thing; *no*: the record is complete for the window and none does; else *unknown*."""
    named = named_things(case)
    said = [(line, _says(line, named)) for line in lines_of(case, asked.topic)]
    mattering = [(line, word) for line, word in said if word]
    having = [line for line, word in mattering if word == _YES]
    unclear = [line for line, word in mattering if word in (_OPEN, _BLANK) and _in_time(case, line)]
    complete = covers(case, asked.topic, "", [_span(case)]) and bool(sources_of(case, asked.topic))
    reply, verdict, summary = _summary(asked, having, unclear, complete)
    held = judgement.hosts_with("held")
    return Answer(
        number=asked.number,
        question=asked.question,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table((*asked.columns, "said", "evidence"), tuple(_row(line, word) for line, word in mattering)),
        evidence=entries_of(
            (line.idx for line, _ in mattering),
            (one.idx for one in sources_of(case, asked.topic)),
            *(run.entries for presence in held for run in presence.runs if having),
        ),
        coverage=evidence_coverage(case, asked.topic, asked.record),
        fallback=asked.fallback,
    )


def _span(case: Case) -> Span:
    """When it had to be complete: in the window, or whenever if none is claimed."""
    return Span(0, case.now) if case.window is None else case.window


def _in_time(case: Case, line: EvidenceLine) -> bool:
    return case.window is None or case.window.start <= line.t


def _says(line: EvidenceLine, named: dict[str, set[str]]) -> str:
    if not line.things:
        return _BLANK
    found = names_thing(line.things, named)
    return _YES if found else _OPEN if found is None else ""


def _row(line: EvidenceLine, word: str) -> tuple[str, ...]:
    what = f"{line.object} {line.detail}".strip() or "–"
    who = line.host or line.actor or "–"
    said = f"{word}: {list_words(line.things, 4)}" if line.things else word
    return (time_words(line.t), who, f"{line.act} {what}".strip(), said, entries_words([line.idx]))


def _summary(
    asked: Asked, having: list[EvidenceLine], unclear: list[EvidenceLine], complete: bool
) -> tuple[Reply, Verdict | None, str]:
    objects = list(dict.fromkeys(line.object or line.actor for line in having))
    if having:
        beside = (
            f" Of {list_words(list(dict.fromkeys(line.object for line in unclear)))} it is open." if unclear else ""
        )
        rest = "" if complete else " The record is not said to be complete: there may be more."
        return "yes", "held", f"{list_words(objects)}.{beside}{rest}"
    if unclear:
        objects = list(dict.fromkeys(line.object for line in unclear))
        return "unknown", "unknown", f"None is shown to have it, but of {list_words(objects)} it is open."
    if complete:
        return "no", "not_held", f"None: the record of the window is complete, and no {asked.one} has it."
    return "unknown", "unknown", f"No {asked.one} with it is on record, and the record is not complete."
