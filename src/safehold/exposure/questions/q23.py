"""Question 23: what did the advisory say when we decided? Every version as first seen, and what each decision knew."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import AdvisoryVersion, Case, Decision, Finding
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import counting_findings
from safehold.exposure.questions.answer import Answer, Reply, Table, entries_of
from safehold.exposure.words import count_words, entries_words, list_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 23
QUESTION: Final = "What did the advisory say when we decided?"
FALLBACK: Final = "web archives"


def answer(case: Case, judgement: Judgement) -> Answer:
    """*yes*: each decision names the versions known; *unknown*: one names none of them; *no*: nothing was decided."""
    decisions = _decisions(case, judgement)
    dropped = _superseded(case)
    rows = [_version_row(case, version) for version in case.advisories]
    rows += [_decision_row(case, decision) for decision in decisions]
    rows += [_dropped_row(finding) for finding in dropped]
    blind = [decision for decision in decisions if not _known(case, decision)]
    reply, summary = _summary(case, decisions, blind)
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply=reply,
        verdict="unknown" if reply == "unknown" else None,
        summary=summary,
        table=Table(("when", "what", "said", "published", "document", "evidence"), tuple(rows)),
        evidence=entries_of(
            (version.idx for version in case.advisories),
            (decision.idx for decision in decisions),
            (finding.idx for finding in dropped),
        ),
        coverage="Every version that was imported is kept by digest; what a source said between two imports is not seen.",
        fallback=FALLBACK,
    )


def _decisions(case: Case, judgement: Judgement) -> list[Decision]:
    """Decisions on this incident's documents, or since it began about a party or host that held it or may have."""
    begun = min((version.first_seen for version in case.advisories), default=case.now)
    begun = begun if case.window is None else min(begun, case.window.start)
    documents = {version.document for version in case.advisories}
    touched = judgement.hosts_with("held", "unknown")
    subjects = {("host", one.host) for one in touched} | {("party", one.party) for one in touched}
    return [
        decision
        for decision in sorted(case.decisions, key=lambda decision: decision.idx)
        if documents.intersection(decision.advisories)
        or (decision.t >= begun and (decision.subject_kind, decision.subject_id) in subjects)
    ]


def _known(case: Case, decision: Decision) -> list[AdvisoryVersion]:
    return [version for version in case.advisories if version.document in decision.advisories]


def _superseded(case: Case) -> list[Finding]:
    """Findings that no longer count: of older versions, or of what was withdrawn."""
    counting = {finding.idx for found in counting_findings(case).values() for finding in found}
    return [finding for finding in case.findings if finding.idx not in counting]


def _summary(case: Case, decisions: list[Decision], blind: list[Decision]) -> tuple[Reply, str]:
    first = min(case.advisories, key=lambda version: version.first_seen, default=None)
    if first is None:
        return "unknown", "No advisory of this incident is on record."
    said = f"{count_words(len(case.advisories), 'version')} on record, the first seen {time_words(first.first_seen)}"
    if not decisions:
        return "no", f"{said}; nothing was decided yet."
    if blind:
        names = list_words([f"{decision.ruling} #{decision.idx}" for decision in blind])
        return "unknown", f"{said}; what was known at {names} is not on record."
    newest = decisions[-1]
    known = list_words([f"{one.advisory} #{one.idx}" for one in _known(case, newest)])
    return "yes", f"{said}; the last decision ({newest.ruling} #{newest.idx}) knew {known}."


def _version_row(case: Case, version: AdvisoryVersion) -> tuple[str, ...]:
    named = [f"{claim.name} {claim.versions}".strip() for claim in version.affected]
    said = [list_words(named, 4)] if named else []
    said += [version.summary] if version.summary else []
    said += ["withdrawn"] if version.withdrawn else []
    newer = any(one.advisory == version.advisory and one.idx > version.idx for one in case.advisories)
    said += ["replaced by a newer version"] if newer else []
    return (
        time_words(version.first_seen),
        f"{version.advisory} ({version.source})" if version.source else version.advisory,
        "; ".join(said) or "–",
        time_words(version.published),
        version.document[:19],
        entries_words([version.idx]),
    )


def _decision_row(case: Case, decision: Decision) -> tuple[str, ...]:
    known = [f"{version.advisory} #{version.idx}" for version in _known(case, decision)]
    return (
        time_words(decision.t),
        f"decision: {decision.ruling} {decision.subject_kind}:{decision.subject_id}",
        f"{decision.reason}; known: {list_words(known) or 'no version of this incident'}",
        "–",
        "–",
        entries_words([decision.idx]),
    )


def _dropped_row(finding: Finding) -> tuple[str, ...]:
    said = f"{finding.what}, by a version that no longer counts"
    return ("–", f"finding of {finding.advisory}", said, "–", finding.document[:19], entries_words([finding.idx]))
