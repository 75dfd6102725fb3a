"""Question 22: what did we not see? Hosts expected and reporting, their last word, unseen hours, checks skipped."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Host
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence, tolerance
from safehold.exposure.questions.answer import Answer, Reply, Table, coverage_of, entries_of, unknown_words
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, list_words, span_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 22
QUESTION: Final = "What did we not see?"
FALLBACK: Final = "–"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: something was not seen; *no*: all was; *unknown*: no host is registered, so nothing was expected."""
    hosts = {host.host: host for host in case.hosts}
    skipped = _skipped(case)
    rows = tuple(_row(case, hosts[one.host], one, skipped.get(one.host, [])) for one in judgement.presences)
    blind = [presence for presence in judgement.presences if presence.unknown]
    reply, verdict, summary = _summary(case, judgement, blind, skipped)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "last report", "now", "not observed while it mattered", "in all", "checks skipped"), rows),
        evidence=entries_of(hosts[presence.host].idx for presence in blind),
        coverage=coverage_of(case, judgement),
        fallback=FALLBACK,
    )


def _skipped(case: Case) -> dict[str, list[str]]:
    """What each host's agent could not check, in any of its inventories."""
    by_inventory = dict[str, list[str]]()
    for one in case.skipped:
        by_inventory.setdefault(one.inventory, []).append(one.what)
    by_host = dict[str, set[str]]()
    for observation in case.observations:
        by_host.setdefault(observation.host, set()).update(by_inventory.get(observation.inventory, ()))
    unreadable = {(one.host, one.environment) for one in case.observations if not one.readable}
    for host, environment in unreadable:
        by_host[host].add(f"{environment}: an inventory that shows no absence")
    return {host: sorted(found) for host, found in by_host.items() if found}


def _summary(
    case: Case, judgement: Judgement, blind: list[Presence], skipped: dict[str, list[str]]
) -> tuple[Reply, Verdict | None, str]:
    if not case.hosts:
        return "unknown", "unknown", "No host is registered: what should have been seen is not known."
    silent = [presence.host for presence in judgement.presences if presence.last is None]
    said = [f"{list_words(silent)} never reported"] if silent else []
    part = [f"{one.host} for {unknown_words(one)}" for one in blind if one.last is not None]
    said += [f"not observed while it mattered: {list_words(part)}"] if part else []
    checks = sum(len(found) for found in skipped.values())
    said += [f"{count_words(checks, 'check')} skipped on {count_words(len(skipped), 'host')}"] if checks else []
    if not said:
        return "no", None, f"Nothing that matters: {count_words(len(case.hosts), 'host')} reported as promised."
    return "yes", "unknown" if blind else None, f"Unseen: {'; '.join(said)}."


def _row(case: Case, host: Host, presence: Presence, skipped: list[str]) -> tuple[str, ...]:
    silent = presence.last is None or case.now - presence.last > tolerance(host)
    spans = [span_words(span) for span in presence.unknown]
    return (
        presence.host,
        "never" if presence.last is None else time_words(presence.last),
        "silent" if silent else "reporting",
        f"{unknown_words(presence)}: {list_words(spans, 4)}" if spans else "nothing",
        count_words(len(presence.unobserved), "gap"),
        list_words(skipped, 3) or "–",
    )
