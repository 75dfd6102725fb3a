"""The exposure as OCSF 1.5 events for a SIEM: a Detection Finding a host, a Data Security Finding a release.

Verdicts become severities: exposed is critical, unknown is high (it is not known to be harmless), held is medium, not
held is informational. What OCSF has no field for stands under ``unmapped``; a finding's ``uid`` is a function of the case.
"""

from __future__ import annotations

from typing import Any, Final

from safehold.exposure.facts import Case
from safehold.exposure.formats.stamps import stable_uuid
from safehold.exposure.judgement import Judgement
from safehold.exposure.verdict import VERDICT_WORDS, Verdict
from safehold.exposure.words import list_words, span_words

__all__ = ["ocsf_events"]

_SEVERITY: Final[dict[Verdict, tuple[int, str]]] = {
    "exposed": (5, "Critical"),
    "unknown": (4, "High"),
    "held": (3, "Medium"),
    "not_held": (1, "Informational"),
}
_DETECTION: Final = (2004, "Detection Finding")
_DATA: Final = (2006, "Data Security Finding")


def ocsf_events(case: Case, judgement: Judgement, version: str) -> list[dict[str, Any]]:
    """One event a host and one a release, by name. ``version`` is Safehold's own."""
    events = []
    for presence in judgement.presences:
        spans = [span_words(run.outer) for run in presence.runs]
        said = [f"held at most {list_words(spans, 4)} UTC"] if spans else []
        if presence.unknown:
            said.append(f"not observed {list_words([span_words(one) for one in presence.unknown], 4)} UTC")
        event = _event(case, _DETECTION, presence.verdict, ("host", presence.host, "; ".join(said)), version)
        event["device"] = {"hostname": presence.host, "type_id": 0, "type": "Unknown", "org": {"name": presence.party}}
        event["unmapped"] = {"entries": list(presence.entries)}
        events.append(event)
    for judged in judgement.releases:
        text = "; ".join(judged.reasons)
        event = _event(case, _DATA, judged.verdict, ("release", judged.release.name, text), version)
        event["data_security"] = {
            "category": judged.release.classification or "not classified",
            "data_lifecycle_state_id": 1,
            "data_lifecycle_state": "Data at-rest",
        }
        event["unmapped"] = {
            "entries": list(judged.entries),
            "release": judged.release.release,
            "rows": judged.release.rows,
        }
        events.append(event)
    return events


def _event(
    case: Case, kind: tuple[int, str], verdict: Verdict, about: tuple[str, str, str], version: str
) -> dict[str, Any]:
    severity, word = _SEVERITY[verdict]
    subject, name, text = about
    return {
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": kind[0],
        "class_name": kind[1],
        "type_uid": kind[0] * 100 + 1,
        "type_name": f"{kind[1]}: Create",
        "severity_id": severity,
        "severity": word,
        "status_id": 1,
        "status": "New",
        "time": case.now // 1000,
        "message": f"{subject} {name}: {VERDICT_WORDS[verdict]}",
        "metadata": {
            "version": "1.5.0",
            "product": {"name": "Safehold", "vendor_name": "Safehold", "version": version},  # words: as OCSF names it
            "uid": stable_uuid("ocsf", subject, name, case.size),
        },
        "finding_info": {
            "uid": stable_uuid("finding", subject, name, *case.incident),
            "title": f"{list_words(case.incident)}: {subject} {name} {verdict}",
            "desc": text or VERDICT_WORDS[verdict],
            "types": [verdict],
            "data_sources": [f"safehold ledger, {case.size} entries"],
        },
    }
