"""Question 20: is the supplier stopped? Holds in force, refusals since, and leases that still run."""

from __future__ import annotations

from typing import Final

from safehold.exposure.credentials import holds_on
from safehold.exposure.facts import Case, Hold, Refusal
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 20
QUESTION: Final = "Is the supplier stopped?"
FALLBACK: Final = "trust"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: every host that held it is under a hold; *no*: one is not; *unknown*: none held it, some were unseen."""
    held, unknown = judgement.hosts_with("held"), judgement.hosts_with("unknown")
    rows, entries = list[tuple[str, ...]](), list[int]()
    for presence in (*held, *unknown):
        row, own = _row(case, presence)
        rows.append(row)
        entries += own
    reply, summary = _summary(case, held, unknown)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=None,
        summary=summary,
        table=Table(
            ("host", "verdict", "hold in force", "earlier holds", "refused since", "leases running"), tuple(rows)
        ),
        evidence=entries_of(entries),
        coverage="Holds, refusals and leases are complete: the broker obeys holds inside the ledger's own commit.",
        fallback=FALLBACK,
    )


def _holds(case: Case, presence: Presence) -> tuple[Hold, ...]:
    return holds_on(case, (("party", presence.party), ("host", presence.host)))


def _stopped(case: Case, presence: Presence) -> bool:
    return any(hold.lifted_idx is None for hold in _holds(case, presence))


def _row(case: Case, presence: Presence) -> tuple[tuple[str, ...], list[int]]:
    holds = _holds(case, presence)
    active = [hold for hold in holds if hold.lifted_idx is None]
    lifted = [hold for hold in holds if hold.lifted_idx is not None]
    since = min((hold.placed_idx for hold in holds), default=None)
    refused = (
        [] if since is None else [one.idx for one in case.refusals if one.idx > since and _of(one, presence, holds)]
    )
    leases = [one for one in case.key_releases if one.host == presence.host and one.until > case.now]
    ended = [
        f"{hold.hold} #{hold.placed_idx}, lifted {time_words(hold.lifted_t)} #{hold.lifted_idx}" for hold in lifted
    ]
    row = (
        presence.host,
        VERDICT_WORDS[presence.verdict],
        "; ".join(f"{_subject(hold)} since {time_words(hold.placed_t)} #{hold.placed_idx}" for hold in active)
        or "none",
        "; ".join(ended) or "–",
        f"{len(refused)} {entries_words(refused)}".strip() if since is not None else "–",
        "; ".join(f"#{one.idx} until {time_words(one.until)}" for one in leases) or "none",
    )
    places = [place for hold in holds for place in (hold.placed_idx, hold.lifted_idx) if place is not None]
    return row, [*places, *refused, *(one.idx for one in leases)]


def _of(refusal: Refusal, presence: Presence, holds: tuple[Hold, ...]) -> bool:
    """Whether a refusal is of this host, or of its party where the party is what was stopped."""
    if refusal.host is None or refusal.host == presence.host:
        return refusal.host is not None
    return any(hold.subject_kind == "party" for hold in holds) and refusal.host.partition("/")[0] == presence.party


def _subject(hold: Hold) -> str:
    return f"{hold.subject_kind}:{hold.subject_id}"


def _summary(case: Case, held: tuple[Presence, ...], unknown: tuple[Presence, ...]) -> tuple[Reply, str]:
    open_held = [one for one in held if not _stopped(case, one)]
    open_unknown = [one for one in unknown if not _stopped(case, one)]
    hosts = {one.host for one in (*held, *unknown)}
    running = sum(one.host in hosts and one.until > case.now for one in case.key_releases)
    leases = f"{count_words(running, 'lease')} of theirs still {'runs' if running == 1 else 'run'}."
    beside = f" Not observed and not stopped: {list_words([one.host for one in open_unknown])}." if open_unknown else ""
    if open_held:
        return "no", f"Not stopped: {list_words([_described(case, one) for one in open_held])}. {leases}{beside}"
    if held:
        return "yes", f"Stopped: {list_words([one.host for one in held])}. {leases}{beside}"
    if unknown:
        said = "No host was seen to hold it, so whom to stop is not known."
        return (
            ("unknown", f"{said}{beside} {leases}") if open_unknown else ("yes", f"{said} All unseen ones are stopped.")
        )
    if not case.hosts:
        return "unknown", "No host is registered, so whom to stop is not known."
    return "yes", "No host held it: nobody has to be stopped."


def _described(case: Case, presence: Presence) -> str:
    lifted = [hold for hold in _holds(case, presence) if hold.lifted_idx is not None]
    return f"{presence.host} (hold lifted {time_words(lifted[-1].lifted_t)})" if lifted else presence.host
