"""Drafts of notices, from what stands on record: to an authority, a customer, the people, and the supplier's workers.

A draft says what happened, when, whose data, what is not known, and what was done, each in plain words and with the
entries that show it. What only a person can know stands as a gap in square brackets; nothing is made up to fill it.
A draft is no notice: what was sent is recorded by its digest (``safehold evidence notice``). Pure text in, text out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec

from safehold.exposure.duties import Deadline
from safehold.exposure.facts import Case, Hold
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.words import count_words, entries_words, list_words, plain_words, span_words, time_words

__all__ = ["AUDIENCES", "Audience", "Draft", "draft_notice"]

Audience = Literal["authority", "customer", "people", "workers"]
AUDIENCES: Final[tuple[str, ...]] = get_args(Audience)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A text to be read, completed and sent by a person. ``gaps`` are what stands in square brackets."""

    audience: Audience
    to: str
    text: str
    gaps: tuple[str, ...]


def draft_notice(
    case: Case, judgement: Judgement, deadlines: Iterable[Deadline], audience: Audience, to: str = ""
) -> Draft:
    """The draft for an audience; ``to`` is a customer's party for ``customer`` and limits the data to his, else free."""
    affected = _affected(case, judgement, to if audience == "customer" else "")
    parts = _OPENINGS[audience](to)
    parts += ["", "What happened", *_happened(case, judgement)]
    parts += ["", "Which data", *_data(affected, people=audience in ("people", "workers"))]
    parts += ["", "What we do not know", *_unknown(judgement, affected)]
    parts += ["", "What was done", *_done(case, judgement)]
    if audience == "authority":
        parts += ["", "Clocks and rules", *_rules(deadlines)]
    parts += ["", *_CLOSINGS[audience]]
    parts += ["", f"Drafted {time_words(case.now)} UTC from {case.size:,} entries of the ledger, root {case.root}."]
    text = "\n".join(plain_words(line) if line else "" for line in parts) + "\n"
    gaps = tuple(dict.fromkeys(piece.partition("]")[0] for piece in text.split("[")[1:]))
    return Draft(audience=audience, to=to, text=text, gaps=gaps)


def _affected(case: Case, judgement: Judgement, customer: str) -> tuple[Judged, ...]:
    customers = {dataset.dataset: dataset.customer for dataset in case.datasets}
    every = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    return tuple(one for one in every if not customer or customers.get(one.release.dataset) == customer)


def _happened(case: Case, judgement: Judgement) -> list[str]:
    names = list_words(case.incident)
    lines = [f"Advisories {names} name software that was made to take credentials."]
    if case.window is not None:
        lines.append(f"It could be had {span_words(case.window)} UTC, by the widest claim ({case.window_source}).")
    for presence in judgement.hosts_with("held"):
        spans = list_words([span_words(run.outer) for run in presence.runs], 4)
        entries = entries_words(entry for run in presence.runs for entry in run.entries)
        lines.append(f"The machine {presence.host} held it, at most {spans} UTC ({entries}).")
    if not judgement.hosts_with("held"):
        lines.append("No machine was seen to hold it.")
    return lines


def _data(affected: tuple[Judged, ...], *, people: bool) -> list[str]:
    if not affected:
        return ["No data is known to have been in reach, and none is in doubt."]
    lines = []
    for judged in affected:
        release = judged.release
        word = "could be read" if judged.verdict == "exposed" else "may have been in reach; nobody observed it"
        counts = list_words([f"{one.count:,} {one.category} ({one.jurisdiction})" for one in release.people], 8)
        about = f"; about {counts}" if counts else "; how many people it speaks of is not on record"
        size = "" if people else f", {count_words(release.rows, 'record')}, {release.classification or 'no class'}"
        entries = "" if people else f" ({entries_words(judged.entries)})"
        lines.append(f"- {release.name}{size}: {word}{about}{entries}")
    return lines


def _unknown(judgement: Judgement, affected: tuple[Judged, ...]) -> list[str]:
    lines = [
        f"- {presence.host} was not observed {list_words([span_words(span) for span in presence.unknown], 4)} UTC"
        for presence in judgement.hosts_with("unknown", "held")
        if presence.unknown
    ]
    if any(judged.verdict == "exposed" for judged in affected):
        lines.append("- Whether anybody copied the data is not known: that it could be read is what the record shows.")
    return lines or ["Every machine that could open the data was observed throughout."]


def _done(case: Case, judgement: Judgement) -> list[str]:
    concerned = judgement.hosts_with("held", "unknown")
    subjects = {("host", one.host) for one in concerned} | {("party", one.party) for one in concerned}
    lines = [f"- {_hold_words(hold)}" for hold in case.holds if (hold.subject_kind, hold.subject_id) in subjects]
    refused = [one.idx for one in case.refusals if ("host", one.host) in subjects]
    if refused:
        lines.append(
            f"- refused: {count_words(len(refused), 'request')} for data from these machines ({entries_words(refused)})"
        )
    lines += [f"- notice to {one.to} sent {time_words(one.at)} UTC (#{one.idx})" for one in case.notices]
    return lines or ["- [what was done so far: nothing is on record]"]


def _hold_words(hold: Hold) -> str:
    subject = f"{hold.subject_kind} {hold.subject_id}"
    ended = "" if hold.lifted_t is None else f", until {time_words(hold.lifted_t)} UTC (#{hold.lifted_idx})"
    return f"{subject} was suspended {time_words(hold.placed_t)} UTC (#{hold.placed_idx}){ended}"


def _rules(deadlines: Iterable[Deadline]) -> list[str]:
    lines = []
    for one in deadlines:
        until = f"due {time_words(one.due)} UTC" if one.due is not None else one.state
        since = f"since {time_words(one.since)} UTC" if one.since is not None else "clock not noted"
        lines.append(f"- {one.duty.id} ({one.duty.source}): {since}, {until}; {one.why}")
    return lines or ["- no rule on file applies; [what a lawyer says]"]


def _to_authority(_to: str) -> list[str]:
    return [
        "Notice of a personal data breach",
        "",
        "Controller: [name and address]. Contact for this notice: [name, telephone, e-mail].",
        "This notice may be incomplete; what is not known is said, and will follow.",
    ]


def _to_customer(to: str) -> list[str]:
    return [
        f"To {to or '[customer]'}",
        "",
        "We tell you of an incident in which data that was made for you may have been read by others.",
    ]


def _to_people(_to: str) -> list[str]:
    return [
        "To the people whose data this is",
        "",
        "We write since data about you may have been read by someone who had no right to it.",
    ]


def _to_workers(_to: str) -> list[str]:
    return [
        "To everyone who wrote and checked this data",
        "",
        "We write to you since your work, and what you told us about yourself, may have been read by someone who had",
        "no right to it. You did nothing wrong. This is what we know, and what we do not.",
    ]


_OPENINGS: Final = {
    "authority": _to_authority,
    "customer": _to_customer,
    "people": _to_people,
    "workers": _to_workers,
}
_CLOSINGS: Final[dict[str, tuple[str, ...]]] = {
    "authority": ("Likely consequences: [your assessment]. Measures proposed: [what comes next, and when].",),
    "customer": (
        "What you can check yourself: each entry above has a receipt that verifies offline (`safehold verify receipt`).",
        "Who answers your questions: [name, telephone].",
    ),
    "people": (
        "What you can do: [what fits the kind of data, such as changing a password, or watching an account].",
        "Who answers you: [name, telephone, e-mail]. You may also turn to your data protection authority.",
    ),
    "workers": (
        "What you can do: change every password and key that was on the machines named above, from another machine.",
        "Work that is on hold meanwhile: [whether and how it is paid]. Nobody is asked to prove that he did no harm.",
        "Who answers you: [name, telephone, e-mail].",
    ),
}
