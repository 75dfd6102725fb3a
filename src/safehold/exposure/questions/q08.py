"""Question 8: did it stay, or were start-up hooks left? Hooks of the inventories, compared with those of before."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Observation
from safehold.exposure.facts_outside import Hook
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence, counting_findings
from safehold.exposure.questions.answer import Answer, Reply, Table, coverage_of, entries_of
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 8
QUESTION: Final = "Is there persistence, or an odd start-up hook?"
FALLBACK: Final = "a sweep for the advisory's paths"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a path of the advisory, or a hook that was not there before; *no*: every host was seen, and none."""
    hooks = dict[str, list[Hook]]()
    for hook in case.hooks:
        hooks.setdefault(hook.inventory, []).append(hook)
    rows, entries, without = list[tuple[str, ...]](), list[int](), list[str]()
    by_host = dict[str, list[Observation]]()
    for observation in case.observations:
        by_host.setdefault(observation.host, []).append(observation)
    for presence in judgement.presences:
        own = sorted(by_host.get(presence.host, []), key=lambda one: (one.since, one.idx))
        found = _new_hooks(case, presence, own, hooks) + _paths(case, presence, own)
        rows += [row for row, _ in found]
        entries += [entry for _, entry in found]
        if own and not any(_is_before(case, one) for one in own):
            without.append(presence.host)
    reply, verdict, summary = _summary(judgement, rows, without)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "first seen", "what", "of", "evidence"), tuple(dict.fromkeys(rows))),
        evidence=entries_of(entries),
        coverage=coverage_of(case, judgement)
        + f" Compared with before the window; of {count_words(len(without), 'host')} nothing of before is on record.",
        fallback=FALLBACK,
    )


def _is_before(case: Case, observation: Observation) -> bool:
    return case.window is not None and observation.readable and observation.since < case.window.start


def _new_hooks(
    case: Case, presence: Presence, own: list[Observation], hooks: dict[str, list[Hook]]
) -> list[tuple[tuple[str, ...], int]]:
    """Hooks of this host that no inventory of before the window had, each once."""
    if case.window is None:
        return []
    before = {
        (one.environment, hook.path, hook.sha256)
        for one in own
        if _is_before(case, one)
        for hook in hooks.get(one.inventory, ())
    }
    baseline = {one.environment for one in own if _is_before(case, one)}
    found = list[tuple[tuple[str, ...], int]]()
    told = set(before)
    for one in own:
        for hook in hooks.get(one.inventory, ()) if one.until >= case.window.start else ():
            key = (one.environment, hook.path, hook.sha256)
            if key in told or one.environment not in baseline:
                continue
            told.add(key)
            of = f"owned by {hook.owner}" if hook.owner else "owned by no distribution"
            found.append(((presence.host, time_words(one.since), hook.path, of, entries_words([one.idx])), one.idx))
    return found


def _paths(case: Case, presence: Presence, own: list[Observation]) -> list[tuple[tuple[str, ...], int]]:
    """Files that an advisory names, found on this host."""
    findings, found = counting_findings(case), list[tuple[tuple[str, ...], int]]()
    told = set[str]()
    for one in own:
        for finding in findings.get(one.inventory, ()):
            if finding.path and finding.path not in told:
                told.add(finding.path)
                row = (presence.host, time_words(one.since), finding.path, "named by the advisory")
                found.append(((*row, entries_words([one.idx, finding.idx])), finding.idx))
    return found


def _summary(
    judgement: Judgement, rows: list[tuple[str, ...]], without: list[str]
) -> tuple[Reply, Verdict | None, str]:
    unknown = judgement.hosts_with("unknown")
    if rows:
        said = list_words(list(dict.fromkeys(f"{row[2]} on {row[0]}" for row in rows)), 4)
        return "yes", "held", f"New since the window began, or named by an advisory: {said}. Rebuild such a host."
    if not judgement.presences:
        return "unknown", "unknown", "No host is registered: nothing was looked at."
    unseen = [one.host for one in judgement.presences if one.unknown] or [one.host for one in unknown]
    if unseen or without:
        hosts = list_words(sorted({*unseen, *without}))
        return "unknown", "unknown", f"No new hook was seen, but {hosts} cannot be compared with before throughout."
    return "no", "not_held", "No new start-up hook, and no path that an advisory names."
