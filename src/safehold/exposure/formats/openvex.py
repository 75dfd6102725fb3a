"""The exposure as an OpenVEX 0.2.0 document: for each host and thing, whether it is affected, and how that is known.

``held`` is *affected* with what was done about it; ``not held (observed)`` is *not_affected* since the component was not
present; ``unknown`` is *under_investigation*, which is what VEX calls a question that nobody has answered yet.
"""

from __future__ import annotations

from typing import Any

from safehold.exposure.facts import Case
from safehold.exposure.formats.stamps import purl, stable_uuid, stamp
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.words import list_words, span_words

__all__ = ["openvex_document"]


def openvex_document(case: Case, judgement: Judgement, author: str) -> dict[str, Any]:
    """The document as plain data. ``author`` is who says so: the ledger's origin."""
    things = sorted({(finding.name, finding.version) for finding in case.findings if finding.version})
    things = things or sorted({(claim.name, "") for version in case.advisories for claim in version.affected})
    name = case.asked or (case.incident[0] if case.incident else "unknown")
    vulnerability = {"name": name, "aliases": [one for one in case.incident if one != name]}
    statements = [
        {
            "vulnerability": vulnerability,
            "timestamp": stamp(case.now),
            "products": [
                {
                    "@id": f"urn:safehold:host:{presence.host}",
                    "subcomponents": [{"@id": purl(*thing)} for thing in _of(case, presence, things)],
                }
            ],
            **_status(case, presence),
        }
        for presence in judgement.presences
    ]
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": f"urn:uuid:{stable_uuid('openvex', case.size, case.root, *case.incident)}",
        "author": author,
        "timestamp": stamp(case.now),
        "version": 1,
        "tooling": "Safehold",
        "statements": statements,
    }


def _of(case: Case, presence: Presence, things: list[tuple[str, str]]) -> list[tuple[str, str]]:
    held = {name for run in presence.runs for name in run.things}
    own = [(name, version) for name, version in things if f"{name} {version}" in held]
    return own or things


def _status(case: Case, presence: Presence) -> dict[str, str]:
    entries = f"entries {list_words([str(entry) for entry in presence.entries], 8)}" if presence.entries else "no entry"
    if presence.verdict == "held":
        spans = list_words([span_words(run.outer) for run in presence.runs], 4)
        holds = [
            hold
            for hold in case.holds
            if (hold.subject_kind, hold.subject_id) in (("host", presence.host), ("party", presence.party))
        ]
        done = f"suspended by {list_words([hold.hold for hold in holds])}" if holds else "suspend it, then rebuild it"
        return {
            "status": "affected",
            "status_notes": f"held at most {spans} UTC; {entries}",
            "action_statement": f"{done}; rotate what was in reach",
        }
    if presence.verdict == "not_held":
        return {
            "status": "not_affected",
            "justification": "component_not_present",
            "status_notes": f"observed throughout; {entries}",
        }
    spans = list_words([span_words(span) for span in presence.unknown], 4)
    return {"status": "under_investigation", "status_notes": f"not observed {spans or 'at all'} UTC; {entries}"}
