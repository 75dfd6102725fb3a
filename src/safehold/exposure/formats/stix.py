"""The exposure as a STIX 2.1 bundle (OASIS, 2021-06-10): what was indicated, where it was sighted, what was stopped.

An ``incident`` for the whole; an ``indicator`` for each thing that a finding names; a ``sighting`` with times for each
host that held one; a ``note`` for what is unknown, since STIX has no word for "nobody looked"; a ``course-of-action``
for each hold. Every object carries the ledger's entries as external references. Ids are a function of the case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from safehold.exposure.facts import Case, Finding
from safehold.exposure.formats.stamps import stable_uuid, stamp
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence
from safehold.exposure.words import list_words, span_words

__all__ = ["stix_bundle"]


def stix_bundle(case: Case, judgement: Judgement) -> dict[str, Any]:
    """The bundle as plain data, in a fixed order."""
    writer = _Object("identity", case, "safehold", name="Safehold", identity_class="system")
    indicators = {_key(finding): finding for finding in case.findings}
    objects = [writer]
    objects += [_indicator(case, finding) for finding in indicators.values()]
    for presence in judgement.presences:
        objects.append(_host(case, presence))
        objects += _sightings(case, presence, indicators.values())
        if presence.unknown:
            objects.append(_blind(case, presence))
    objects += _releases(case, judgement)
    objects += [
        _Object(
            "course-of-action", case, hold.hold, entries=[hold.placed_idx],
            name=f"Suspend {hold.subject_kind} {hold.subject_id}", description=hold.reason or "no reason on record",
        )
        for hold in case.holds
    ]  # fmt: skip
    references = [
        {"source_name": version.source or "advisory", "external_id": version.advisory}
        for version in {version.advisory: version for version in case.advisories}.values()
    ]
    whole = _Object(
        "incident", case, *case.incident, name=f"Exposure to {list_words(case.incident)}",
        description="Windows are claims with sources; unknown never means not affected.",
    )  # fmt: skip
    if references:
        whole["external_references"] = references
    report = _Object(
        "report", case, "report", name=whole["name"], report_types=["incident"], published=stamp(case.now),
        object_refs=[one["id"] for one in (*objects, whole)],
    )  # fmt: skip
    return {"type": "bundle", "id": f"bundle--{stable_uuid('bundle', case.size, case.root, *case.incident)}",
            "objects": [dict(one) for one in (*objects, whole, report)]}  # fmt: skip


def _Object(kind: str, case: Case, *name: object, entries: Iterable[int] = (), **more: Any) -> dict[str, Any]:  # noqa: N802 - reads as the object that it makes
    made = {
        "type": kind,
        "spec_version": "2.1",
        "id": f"{kind}--{stable_uuid(kind, *name)}",
        "created": stamp(case.now),
        "modified": stamp(case.now),
        **more,
    }
    references = [{"source_name": "safehold-ledger", "external_id": str(entry)} for entry in sorted(set(entries))]
    if references:
        made["external_references"] = references
    return made


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.name, finding.version, "" if finding.version else finding.path


def _indicator(case: Case, finding: Finding) -> dict[str, Any]:
    if finding.version:
        pattern = f"[software:name = '{_quoted(finding.name)}' AND software:version = '{_quoted(finding.version)}']"
    else:
        folder, _, name = (finding.path or finding.name).rpartition("/")
        pattern = f"[file:name = '{_quoted(name)}'{_folder(folder)}]"
    first = min((one.first_seen for one in case.advisories if one.advisory == finding.advisory), default=case.now)
    entries = [one.idx for one in case.findings if _key(one) == _key(finding)]
    return _Object(
        "indicator", case, *_key(finding), entries=entries, name=finding.what, pattern=pattern, pattern_type="stix",
        pattern_version="2.1", valid_from=stamp(first), indicator_types=["malicious-activity"],
    )  # fmt: skip


def _folder(folder: str) -> str:
    return f" AND file:parent_directory_ref.path LIKE '%{_quoted(folder)}'" if folder else ""


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _host(case: Case, presence: Presence) -> dict[str, Any]:
    return _Object(
        "identity", case, presence.host, entries=presence.entries[:50], name=presence.host, identity_class="system",
        description=f"{presence.verdict}; of {presence.party}",
    )  # fmt: skip


def _sightings(case: Case, presence: Presence, findings: Iterable[Finding]) -> Iterable[dict[str, Any]]:
    known = list(findings)
    for number, run in enumerate(presence.runs):
        for finding in known:
            if finding.what not in run.things:
                continue
            yield _Object(
                "sighting", case, presence.host, number, *_key(finding), entries=run.entries,
                first_seen=stamp(run.inner.start), last_seen=stamp(max(run.inner.end, run.inner.start)), count=1,
                sighting_of_ref=f"indicator--{stable_uuid('indicator', *_key(finding))}",
                where_sighted_refs=[f"identity--{stable_uuid('identity', presence.host)}"],
                description=f"there at most {span_words(run.outer)} UTC",
            )  # fmt: skip


def _blind(case: Case, presence: Presence) -> dict[str, Any]:
    spans = list_words([span_words(span) for span in presence.unknown], 20)
    return _Object(
        "note", case, "unknown", presence.host, entries=presence.entries[:50], abstract="not observed",
        content=f"{presence.host} was not observed {spans} UTC: whether it held it then is unknown.",
        object_refs=[f"identity--{stable_uuid('identity', presence.host)}"],
    )  # fmt: skip


def _releases(case: Case, judgement: Judgement) -> Iterable[dict[str, Any]]:
    for judged in judgement.releases:
        refs = [f"identity--{stable_uuid('identity', host)}" for host in judged.hosts]
        yield _Object(
            "note", case, "release", judged.release.release, entries=judged.entries[:200],
            abstract=f"{judged.release.name}: {judged.verdict}", content="; ".join(judged.reasons),
            object_refs=refs or [f"identity--{stable_uuid('identity', 'safehold')}"],
        )  # fmt: skip
