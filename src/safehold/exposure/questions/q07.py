"""Question 7: why was the thing there? From the dependency edges of the inventories that held it."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case, Contents, Dependency, Finding
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import counting_findings
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.verdict import Verdict
from safehold.exposure.words import count_words, entries_words, list_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 7
QUESTION: Final = "Why was it there?"
FALLBACK: Final = "the dependency tree today"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: a reason is on record for all of it; *no*: it was not there; *unknown*: for some of it none is."""
    findings, contents = counting_findings(case), {one.inventory: one for one in case.contents}
    held = judgement.hosts_with("held")
    rows, known = list[tuple[str, ...]](), True
    seen = {observation.inventory: set[str]() for observation in case.observations}
    for observation in case.observations:
        seen[observation.inventory].add(observation.host)
    for inventory in sorted(findings.keys() & seen.keys()):
        for name, version in sorted({(one.name, one.version) for one in findings[inventory]}):
            why, certain = _reason(contents.get(inventory), name, version)
            known &= certain
            entries = entries_words(
                one.idx for one in findings[inventory] if (one.name, one.version) == (name, version)
            )
            what = f"{name} {version}".strip() or list_words(_paths(findings[inventory]), 3)
            rows += [(host, what, why, entries) for host in sorted(seen[inventory])]
    reply, verdict, summary = _summary(judgement, rows, known)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict=verdict,
        summary=summary,
        table=Table(("host", "what", "why", "evidence"), tuple(dict.fromkeys(rows))),
        evidence=entries_of(*(run.entries for presence in held for run in presence.runs)),
        coverage=f"{count_words(sum(one.distributions is not None for one in case.contents), 'inventory', 'inventories')}"
        f" of {len(case.contents)} with findings could be read.",
        fallback=FALLBACK,
    )


def _paths(findings: tuple[Finding, ...]) -> list[str]:
    return sorted({one.path for one in findings if not one.name})


def _summary(judgement: Judgement, rows: list[tuple[str, ...]], known: bool) -> tuple[Reply, Verdict | None, str]:
    if rows:
        said = list_words(list(dict.fromkeys(f"{what} on {host} {why}" for host, what, why, _ in rows)), 3)
        return ("yes", None, f"{said}.") if known else ("unknown", "unknown", f"Not known for all of it: {said}.")
    if judgement.hosts_with("unknown") or not judgement.presences:
        return "unknown", "unknown", "It was not seen on any host, but not all hosts were seen."
    return "no", "not_held", "It was not there."


def _reason(contents: Contents | None, name: str, version: str) -> tuple[str, bool]:
    """Why this distribution was there, and whether the record says so."""
    if contents is None or contents.distributions is None:
        return "for a reason not on record: the inventory cannot be read", False
    if not name:
        return "for a reason not on record: a file that no distribution owns", False
    own = [one for one in contents.distributions if _same(one.name, name) and version in ("", one.version)]
    if not own:
        return "for a reason not on record: the inventory does not list its distribution", False
    by = f", installed by {own[0].installer}" if own[0].installer else ""
    asking = sorted(f"{one.name} {one.version}" for one in contents.distributions if _requires(one, name))
    if any(one.requested for one in own):
        also = f"; also required by {list_words(asking)}" if asking else ""
        return f"was asked for by name{by}{also}", True
    if asking:
        return f"was required by {list_words(asking)}{by}", True
    return f"was neither asked for nor required by what else was there{by}", False


def _requires(one: Dependency, name: str) -> bool:
    return any(_same(wanted, name) for wanted in one.requires) and not _same(one.name, name)


def _same(one: str, other: str) -> bool:
    """Names of the Python registry are equal up to case and ``-``, ``_``, ``.`` (PEP 503)."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))
