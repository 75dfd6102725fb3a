"""Reading a case: every SQL query of this room, in one place and on one consistent view.

Facts come from the projections alone. A payload is read for two things that they do not hold: whether an inventory
without items is empty or merely unreadable, and why a distribution was there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from safehold.exposure.case_outside import read_indicators, read_outside, read_promises
from safehold.exposure.case_wide import widen
from safehold.exposure.facts import (
    AdvisoryVersion,
    Case,
    Contents,
    Dataset,
    Decision,
    Dependency,
    Finding,
    Grant,
    Hold,
    Host,
    KeyRelease,
    Model,
    Observation,
    Refusal,
    Release,
    Retirement,
    Run,
    Skipped,
)
from safehold.exposure.incident import choose_incident, choose_window, find_claims, newest_versions
from safehold.exposure.openings import COLUMNS, Openings, ViewOpenings, first_times, has_few, read_rows
from safehold.ledger.storage import View
from safehold.model.contents import parse_contents
from safehold.model.encoding import resolved
from safehold.model.errors import SafeholdError
from safehold.model.ids import Digest
from safehold.model.statements import AffectedClaim, SubjectCount, WindowClaim

__all__ = ["BLINDING", "load_case"]

BLINDING: Final = frozenset({"unreadable", "too-many-files", "no-metadata"})
"""Checks whose skipping leaves open *which* distributions are there: such an inventory shows no absence."""


def load_case(
    view: View, advisory: str | None, now: int, window: str | None = None, openings: Openings | None = None
) -> Case:
    """Everything that the incident of ``advisory`` is judged on, as of ``now`` (µs UTC, not before the last entry).

    ``advisory`` None takes the only incident, or the only one with findings. ``window`` names the source whose
    window counts; None takes the widest. ``openings`` is where key releases are asked for if they are too many to be read
    whole, or None: the projection if there are too many. Raises ``NotFound`` (``exposure.no_advisory``) and ``InputInvalid``
    (``exposure.which``, ``exposure.window``).
    """
    every = _advisories(view)
    standing = {(one.advisory, one.document) for one in newest_versions(every) if not one.withdrawn}
    found = view.rows("SELECT DISTINCT advisory, document FROM finding")
    incident = choose_incident(every, advisory, [name for name, document in found if (name, document) in standing])
    versions = tuple(version for version in every if version.advisory in incident)
    claims = find_claims(versions)
    span, source = choose_window(claims, window)
    findings = tuple(finding for finding in _findings(view) if finding.advisory in incident)
    narrow = openings or (None if has_few(view) else ViewOpenings(view))
    key_releases = _key_releases(view) if narrow is None else ()
    observations = _observations(view)
    releases = _releases(view, key_releases if narrow is None else narrow.unsealed())
    first = first_times(key_releases)
    if narrow is not None:
        first = narrow.first_times(row[0] for row in view.rows("SELECT host FROM host"))
    size, root = _head(view)
    case = Case(
        now=now,
        size=size,
        root=root,
        asked=advisory,
        incident=incident,
        advisories=versions,
        windows=claims,
        window=span,
        window_source=source,
        findings=findings,
        hosts=_hosts(view, observations, first, releases),
        observations=observations,
        releases=releases,
        grants=_grants(view),
        key_releases=key_releases,
        retirements=tuple(Retirement(*row) for row in view.rows("SELECT host, environment, idx, t FROM retirement")),
        refusals=_refusals(view),
        holds=_holds(view),
        decisions=_decisions(view),
        datasets=_datasets(view),
        runs=_runs(view),
        models=_models(view),
        contents=tuple(_contents(view, name) for name in sorted({finding.inventory for finding in findings})),
        skipped=_skipped(view),
        indicators=read_indicators(view, versions),
        first_opened=() if narrow is None else tuple(sorted(first.items())),
        **read_outside(view, incident, span),
    )
    return case if narrow is None else widen(view, case, narrow)


def _names(text: str) -> tuple[str, ...]:
    return tuple(msgspec.json.decode(text))


def _head(view: View) -> tuple[int, str]:
    """Size and root (base64) of the newest checkpoint; its signature is the auditor's part, not this room's."""
    lines = (view.checkpoint() or b"").decode(errors="replace").split("\n")
    try:
        base64.b64decode(lines[2], validate=True)
        return int(lines[1]), lines[2]
    except (IndexError, ValueError, binascii.Error):
        return view.size(), ""


def _advisories(view: View) -> tuple[AdvisoryVersion, ...]:
    rows = view.rows(
        "SELECT idx, advisory, document, source, aliases, joined, affected, windows, summary, first_seen, published,"
        " modified, withdrawn FROM advisory ORDER BY idx"
    )
    return tuple(
        AdvisoryVersion(
            idx=row[0],
            advisory=row[1],
            document=row[2],
            source=row[3],
            aliases=_names(row[4]),
            joined=_names(row[5]),
            affected=msgspec.json.decode(row[6], type=resolved(tuple[AffectedClaim, ...])),
            windows=msgspec.json.decode(row[7], type=resolved(tuple[WindowClaim, ...])),
            summary=row[8],
            first_seen=row[9],
            published=row[10],
            modified=row[11],
            withdrawn=bool(row[12]),
        )
        for row in rows
    )


def _findings(view: View) -> tuple[Finding, ...]:
    rows = view.rows("SELECT idx, advisory, document, inventory, match, name, version, path FROM finding ORDER BY idx")
    return tuple(_struct(Finding, row) for row in rows)


def _struct(struct: type[Any], row: Sequence[Any]) -> Any:
    """A struct from a row whose columns have the order of its fields."""
    return struct(**dict(zip(struct.__struct_fields__, row, strict=True)))


def _observations(view: View) -> tuple[Observation, ...]:
    sql = "SELECT DISTINCT o.inventory, EXISTS(SELECT 1 FROM item i WHERE i.inventory = o.inventory) FROM observation o"
    blind = {row[0] for row in _skipped_rows(view) if row[1] in BLINDING}
    readable = {name for name, known in view.rows(sql) if name not in blind and (known or _is_empty(view, name))}
    rows = view.rows(
        "SELECT idx, host, environment, inventory, since, until, largest_gap, t FROM observation ORDER BY idx"
    )
    return tuple(_struct(Observation, (*row[:7], row[3] in readable, row[7])) for row in rows)


def _is_empty(view: View, inventory: str) -> bool:
    """Whether an inventory without items is one of an empty environment, and not one that cannot be read."""
    try:
        parse_contents(view.payload(Digest(inventory)) or b"")
    except SafeholdError:
        return False
    return True


def _skipped_rows(view: View) -> list[tuple[Any, ...]]:
    return view.rows("SELECT inventory, name, path FROM item WHERE kind = 'skipped' ORDER BY inventory, name, path")


def _skipped(view: View) -> tuple[Skipped, ...]:
    return tuple(Skipped(inventory, f"{path}: {reason}") for inventory, reason, path in _skipped_rows(view))


def _contents(view: View, inventory: str) -> Contents:
    try:
        contents = parse_contents(view.payload(Digest(inventory)) or b"")
    except SafeholdError:
        return Contents(inventory, None)  # missing or damaged: the question that needs it says so
    return Contents(
        inventory,
        tuple(
            Dependency(one.name, one.version, one.installer, one.requested, one.requires)
            for one in contents.distributions
        ),
    )


def _hosts(
    view: View,
    observations: Sequence[Observation],
    opened: Mapping[str, int],
    releases: Sequence[Release],
) -> tuple[Host, ...]:
    """All hosts; one that others name and that was never registered is not left out: it promised no sweeps."""
    rows = view.rows("SELECT host, party, expected_every, idx, t FROM host ORDER BY host")
    promises = read_promises(view)
    hosts = dict[str, Host]()
    for row in rows:
        made = promises.get(row[0], ())
        known = min((promise.t for promise in made), default=row[4])
        hosts[row[0]] = _struct(Host, (*row[:4], min(known, row[4]), made if len(made) > 1 else ()))
    first = dict[str, int]()
    named = [(one.host, one.since) for one in observations]
    named += opened.items()
    named += [(one.host, one.t) for one in releases if one.host is not None]
    for host, t in named:
        if host not in hosts:
            first[host] = min(t, first.get(host, t))
    for host, t in first.items():
        hosts[host] = Host(host=host, party=host.partition("/")[0], expected_every=0, idx=None, t=t)
    return tuple(hosts[name] for name in sorted(hosts))


def _key_releases(view: View) -> tuple[KeyRelease, ...]:
    return read_rows(view.rows(f"SELECT {COLUMNS} FROM key_release ORDER BY idx"))


def _releases(view: View, key_releases: Sequence[KeyRelease]) -> tuple[Release, ...]:
    rows = view.rows(
        'SELECT r.release, r.dataset, r.version, r.party, r.host, r.parent, r."rows", r.size, r.parts, r.groups,'
        ' r.classification, r.purposes, r.people, r.idx, r.t, k."before", k.idx'
        ' FROM "release" AS r LEFT JOIN rekeyed AS k ON k.release = r.release ORDER BY r.idx'
    )
    sealed = {
        row[0]: Release(
            **dict(zip(Release.__struct_fields__[:9], row[:9], strict=True)),
            groups=_names(row[9]),
            classification=row[10],
            purposes=_names(row[11]),
            people=msgspec.json.decode(row[12], type=resolved(tuple[SubjectCount, ...])),
            idx=row[13],
            t=row[14],
            before=row[15],
            rekeyed=row[16],
        )
        for row in rows
    }
    for released in key_releases:
        if released.release not in sealed:
            party = released.dataset.partition("/")[0]
            sealed[released.release] = Release(
                release=released.release,
                dataset=released.dataset,
                version=0,
                party=party,
                host=None,
                idx=None,
                t=released.t,
            )
    return tuple(sealed.values())


def _grants(view: View) -> tuple[Grant, ...]:
    """Grants, each until its end or until its first block was revoked; a later block's revocation leaves the rest."""
    rows = view.rows(
        'SELECT g."grant", g.party, g.host, g.dataset, g.groups, g.purposes, g.not_before, g.until, g.idx, g.t, r.idx, r.t'
        ' FROM "grant" g LEFT JOIN revocation r ON r."grant" = g."grant" AND r.revocation = g.revocation ORDER BY g.idx'
    )
    made = list[Grant]()
    for row in rows:
        revoked = row[10] if row[11] is not None and row[11] < row[7] else None
        until = row[7] if revoked is None else row[11]
        made.append(_struct(Grant, (*row[:4], _names(row[4]), _names(row[5]), row[6], until, *row[8:10], revoked)))
    return tuple(made)


def _refusals(view: View) -> tuple[Refusal, ...]:
    rows = view.rows('SELECT idx, t, host, release, "grant", step, code, reason FROM key_refusal ORDER BY idx')
    return tuple(_struct(Refusal, row) for row in rows)


def _holds(view: View) -> tuple[Hold, ...]:
    rows = view.rows(
        "SELECT hold, subject_kind, subject_id, reason, placed_idx, placed_t, lifted_idx, lifted_t"
        " FROM hold ORDER BY placed_idx"
    )
    return tuple(_struct(Hold, row) for row in rows)


def _decisions(view: View) -> tuple[Decision, ...]:
    rows = view.rows(
        "SELECT decision, ruling, subject_kind, subject_id, reason, advisories, idx, t FROM decision ORDER BY idx"
    )
    return tuple(_struct(Decision, (*row[:5], _names(row[5]), *row[6:])) for row in rows)


def _datasets(view: View) -> tuple[Dataset, ...]:
    rows = view.rows("SELECT dataset, party, customer, title FROM dataset ORDER BY dataset")
    return tuple(_struct(Dataset, row) for row in rows)


def _runs(view: View) -> tuple[Run, ...]:
    used = dict[str, list[str]]()
    for run, release in view.rows('SELECT run, "release" FROM run_release ORDER BY run, "release"'):
        used.setdefault(run, []).append(release)
    rows = view.rows("SELECT run, party, host, idx, t FROM run ORDER BY idx")
    return tuple(Run(row[0], row[1], row[2], tuple(used.get(row[0], ())), row[3], row[4]) for row in rows)


def _models(view: View) -> tuple[Model, ...]:
    made = dict[str, list[str]]()
    for model, run in view.rows("SELECT model, run FROM model_run ORDER BY model, run"):
        made.setdefault(model, []).append(run)
    rows = view.rows("SELECT model, party, idx, t FROM model ORDER BY idx")
    return tuple(Model(row[0], row[1], tuple(made.get(row[0], ())), row[2], row[3]) for row in rows)
