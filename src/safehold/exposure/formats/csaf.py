"""The exposure as a CSAF 2.0 document of the VEX profile (OASIS, 2022, section 4.5): the same statements as OpenVEX.

A product is a distribution on a host: what held it is *known affected*, with what to do (rotate, rebuild); a host that was
observed throughout without it is *known not affected*, since the component was not present; what nobody saw is *under
investigation*. No host is left out, and none is said to be safe that was not seen.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from safehold.exposure.facts import Case
from safehold.exposure.formats.stamps import purl, stable_uuid, stamp
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.words import list_words, plain_words, span_words

__all__ = ["csaf_document"]

_STATUS: Final = {"held": "known_affected", "not_held": "known_not_affected", "unknown": "under_investigation"}
_PUBLISHED: Final = re.compile(r"(PYSEC|GHSA|MAL|CVE|OSV)-")
"""Ids that osv.dev has a page for; an indicator file or a name of one's own has none."""
_Branch = Literal["vendor", "product_name", "product_version"]  # words: as CSAF names them


def csaf_document(case: Case, judgement: Judgement, author: str, version: str) -> dict[str, Any]:
    """The document as plain data. ``author`` is who says so: the ledger's origin; ``version`` that of Safehold."""
    name = case.asked or (case.incident[0] if case.incident else "unknown")
    things = sorted({(finding.name, finding.version) for finding in case.findings if finding.version})
    things = things or sorted({(claim.name, "") for one in case.advisories for claim in one.affected})
    things = things or [("what-the-advisory-names", "")]
    hosts = judgement.presences
    document = {
        "document": _document(case, name, author, version),
        "product_tree": {
            "branches": [_thing(*thing) for thing in things],
            "full_product_names": [{"product_id": _host_id(one), "name": f"host {one.host}"} for one in hosts],
            "relationships": [_installed(one, thing) for one in hosts for thing in things],
        },
        "vulnerabilities": [_vulnerability(case, name, judgement, things)],
    }
    if not hosts:  # CSAF wants lists that are not empty
        document["product_tree"] = {"branches": [_thing(*thing) for thing in things]}
    ordered: dict[str, Any] = _ordered(document)
    return ordered


def _ordered(value: Any) -> Any:
    """Members in the order of their names, as the standard recommends (6.2.13)."""
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


def _document(case: Case, name: str, author: str, version: str) -> dict[str, Any]:
    now = stamp(case.now)
    history = [{"date": now, "number": "1", "summary": f"Stands on {case.size} entries of {author}, root {case.root}"}]
    return {
        "category": "csaf_vex",
        "csaf_version": "2.0",
        "lang": "en",
        "title": plain_words(f"Exposure to {name}"),
        "publisher": {"category": "user", "name": author, "namespace": f"https://{author.partition('/')[0]}"},
        "tracking": {
            "id": stable_uuid("csaf", case.size, case.root, *case.incident),
            "status": "final",
            "version": "1",
            "initial_release_date": now,
            "current_release_date": now,
            "generator": {"engine": {"name": "Safehold", "version": version}},
            "revision_history": history,
        },
        "references": [
            {"category": "external", "summary": f"Advisory {one}", "url": f"https://osv.dev/vulnerability/{one}"}
            for one in case.incident
            if _PUBLISHED.match(one)
        ],
    }


def _branch(category: _Branch, name: str, inner: dict[str, Any]) -> dict[str, Any]:
    return {"category": category, "name": name, **inner}


def _thing(name: str, version: str) -> dict[str, Any]:
    product = {
        "product_id": _thing_id(name, version),
        "name": f"{name} {version}".strip(),
        "product_identification_helper": {"purl": purl(name, version)},
    }
    last = _branch("product_version", version or "as the advisory says", {"product": product})
    inner = {"branches": [_branch("product_name", name, {"branches": [last]})]}
    return _branch("vendor", "PyPI", inner)  # words: as CSAF names it


def _thing_id(name: str, version: str) -> str:
    return f"thing:{name}@{version}"


def _host_id(presence: Presence) -> str:
    return f"host:{presence.host}"


def _pair_id(presence: Presence, thing: tuple[str, str]) -> str:
    return f"{_thing_id(*thing)} on {presence.host}"


def _installed(presence: Presence, thing: tuple[str, str]) -> dict[str, Any]:
    product = {"product_id": _pair_id(presence, thing), "name": f"{' '.join(thing).strip()} on host {presence.host}"}
    return {
        "category": "installed_on",
        "product_reference": _thing_id(*thing),
        "relates_to_product_reference": _host_id(presence),
        "full_product_name": product,
    }


def _status_of(presence: Presence, thing: tuple[str, str], things: list[tuple[str, str]]) -> str:
    """Of a host that held some of the things by name and version, the others are judged apart.

    A host that held it in another way (a file, say) is affected in all of them: what was there is not told by a version.
    """
    if presence.verdict != "held":
        return _STATUS[presence.verdict]
    held = {name for run in presence.runs for name in run.things}
    own = [one for one in things if f"{one[0]} {one[1]}" in held]
    if thing in own or not own:
        return "known_affected"
    return "under_investigation" if presence.unknown else "known_not_affected"


def _vulnerability(case: Case, name: str, judgement: Judgement, things: list[tuple[str, str]]) -> dict[str, Any]:
    by_status: dict[str, list[str]] = {}
    remedies, impacts = list[dict[str, Any]](), list[dict[str, Any]]()
    for presence in judgement.presences:
        for thing in things:
            product, status = _pair_id(presence, thing), _status_of(presence, thing, things)
            by_status.setdefault(status, []).append(product)
            if status == "known_affected":
                remedies.append(_remedy(case, presence, product))
            else:
                impacts.append(_impact(presence, product))
    found: dict[str, Any] = {
        "title": plain_words(name),
        "ids": [{"system_name": _system(one), "text": one} for one in case.incident or (name,)],
        "notes": [{"category": "description", "title": "What it is", "text": _summary(case, name)}],
    }
    cve = next((one for one in case.incident if one.startswith("CVE-")), None)
    if cve is not None:
        found["cve"] = cve
    if by_status:
        found["product_status"] = dict(sorted(by_status.items()))
    if remedies:
        found["remediations"] = remedies
    if impacts:
        found["threats"] = impacts
    absent = by_status.get("known_not_affected")
    if absent:
        found["flags"] = [{"label": "component_not_present", "product_ids": absent}]
    return found


def _summary(case: Case, name: str) -> str:
    texts = [one.summary for one in case.advisories if one.summary]
    return plain_words(texts[-1]) if texts else name


def _system(advisory: str) -> str:
    return advisory.partition("-")[0] or "advisory"


def _entries(presence: Presence) -> str:
    return f"entries {list_words([str(entry) for entry in presence.entries], 8)}" if presence.entries else "no entry"


def _remedy(case: Case, presence: Presence, product: str) -> dict[str, Any]:
    subjects = (("host", presence.host), ("party", presence.party))
    holds = [hold.hold for hold in case.holds if (hold.subject_kind, hold.subject_id) in subjects]
    done = f"Suspended by {list_words(holds)}." if holds else "Suspend the host."
    spans = list_words([span_words(run.outer) for run in presence.runs], 4)
    details = f"{done} Rotate what was in reach, then rebuild it. Held at most {spans} UTC; {_entries(presence)}."
    return {"category": "mitigation", "details": details, "product_ids": [product]}


def _impact(presence: Presence, product: str) -> dict[str, Any]:
    if presence.verdict == "unknown" or presence.unknown:
        spans = list_words([span_words(span) for span in presence.unknown], 4)
        said = f"Not observed {spans or 'at all'} UTC; {_entries(presence)}."
    else:
        said = f"Observed, and this was not there; {_entries(presence)}."
    return {"category": "impact", "details": said, "product_ids": [product]}
