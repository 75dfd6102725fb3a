"""The ten questions that customers and contractors could not answer in public in 2026, from the answers to the 23.

Each is a part of some of the 23, asked as a customer asks it. Nothing is judged here: replies, summaries, evidence and
coverage are those of the answers it is made of. Two of the ten are not of this room alone. What stops if the supplier is
paused today is weighed by containment, and whoever asks hands its words in. Whether data passed through the contractor's
gateway would be told by entries of model calls; this ledger has none of them, so the reply is *unknown*, never *no*.
"""

from __future__ import annotations

from typing import Final

import msgspec

from safehold.exposure.questions.answer import Reply
from safehold.exposure.report import Report
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import list_words

__all__ = ["TEN", "PublicAnswer", "answer_ten"]

_WHO: Final = 2
_GATEWAY: Final = 6
_PAUSE: Final = 9

TEN: Final[tuple[tuple[str, tuple[int, ...]], ...]] = (
    ("Which of our datasets were within reach, at which version?", (14, 15)),
    ("Who could decrypt them then?", (14,)),
    ("Which hosts, CI runs and images ran the bad versions?", (1, 2, 3, 4, 5)),
    ("Which window is right?", (3, 23)),
    ("Which credentials, revoked when, used in between?", (11, 12, 13)),
    ("Did data pass through the contractor's gateway, or rest beside it?", ()),
    ("Which people are in it?", (18,)),
    ("Who was told when, under which clock?", (19,)),
    ("What stops if we pause the supplier today?", (20,)),
    ("Whose copy has surfaced?", (21,)),
)
"""Each with the numbers of the questions that it is a part of."""


class PublicAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the ten. ``parts`` are the answers that it rests on, ``evidence`` their entries, each once."""

    number: int
    question: str
    reply: Reply
    summary: tuple[str, ...]
    parts: tuple[int, ...]
    evidence: tuple[int, ...]
    coverage: str
    fallback: str


def answer_ten(report: Report, pause: str) -> tuple[PublicAnswer, ...]:
    """All ten. ``pause``: what suspending the supplier would stop, in words."""
    return tuple(_public(number, report, pause) for number in range(1, len(TEN) + 1))


def _public(number: int, report: Report, pause: str) -> PublicAnswer:
    text, parts = TEN[number - 1]
    own = [answer for part in parts for answer in report.answers if answer.number == part]
    unclear = [one for one in own if one.reply == "unknown"]
    elsewhere = dict.fromkeys(one.fallback for one in unclear if one.fallback != "none")
    return PublicAnswer(
        number=number,
        question=text,
        reply="unknown" if len(unclear) == len(own) else "no" if all(one.reply == "no" for one in own) else "yes",
        summary=_summary(number, report, pause, [one.summary for one in own]),
        parts=parts,
        evidence=tuple(sorted({entry for one in own for entry in one.evidence})),
        coverage=own[0].coverage if own else _NO_CALLS,
        fallback="; ".join(elsewhere) if own else "logs of the gateway and of the model providers",
    )


def _summary(number: int, report: Report, pause: str, said: list[str]) -> tuple[str, ...]:
    if number == _WHO:
        return tuple(_who(report))
    if number == _GATEWAY:
        return ("No entry of this ledger speaks of model calls, so nobody can say that none carried records.",)
    return (pause, *said) if number == _PAUSE else tuple(said)


def _who(report: Report) -> list[str]:
    """The hosts that could open an affected release, certain ones first, each with what it could open."""
    said = list[str]()
    verdicts: tuple[Verdict, ...] = ("exposed", "unknown")
    for verdict in verdicts:
        hosts = dict[str, list[str]]()
        for line in report.pairs:
            if line.pair.verdict == verdict:
                hosts.setdefault(line.pair.host, []).append(line.name)
        said += [f"{host} ({VERDICT_WORDS[verdict]}): {list_words(names, 6)}." for host, names in sorted(hosts.items())]
    return said or ["No way from a host that held it, or that was not seen, to a release is on record."]


_NO_CALLS: Final = "Model calls are on record only where they go through a gateway that writes entries."
