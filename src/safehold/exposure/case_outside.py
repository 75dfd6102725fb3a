"""Reading what came from outside: the queries of a case for evidence, credentials, clocks, notices, checks, hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from safehold.exposure.facts import AdvisoryVersion, Span
from safehold.exposure.facts_outside import (
    Check,
    Clock,
    CredentialNote,
    EvidenceLine,
    EvidenceSource,
    Hook,
    Indicators,
    Notice,
    Promise,
)
from safehold.exposure.incident import newest_versions
from safehold.exposure.indicators import document_places, document_pods
from safehold.ledger.storage import View
from safehold.model.ids import Digest

__all__ = ["read_indicators", "read_outside", "read_promises"]


def read_promises(view: View) -> dict[str, tuple[Promise, ...]]:
    """What each host promised, and since when; every registration counts."""
    found = dict[str, list[Promise]]()
    for host, t, every in view.rows("SELECT host, t, expected_every FROM host_registration ORDER BY idx"):
        found.setdefault(host, []).append(Promise(t, every))
    return {host: tuple(promises) for host, promises in found.items()}


def read_indicators(view: View, versions: Iterable[AdvisoryVersion]) -> Indicators:
    """The places that the newest versions name, from their documents."""
    places, pods, entries = list[str](), list[str](), list[int]()
    for version in newest_versions(versions):
        document = None if version.withdrawn else view.payload(Digest(version.document))
        named = document_places(document) if document else ()
        called = document_pods(document) if document else ()
        places += named
        pods += called
        entries += [version.idx] if named or called else []
    return Indicators(tuple(dict.fromkeys(places)), tuple(dict.fromkeys(pods)), tuple(entries))


def read_outside(view: View, incident: tuple[str, ...], window: Span | None) -> dict[str, Any]:
    """The members of a ``Case`` that come from outside, by name."""
    return {
        "evidence": _sources(view),
        "evidence_lines": _lines(view, window),
        "credential_notes": tuple(
            CredentialNote(**dict(zip(CredentialNote.__struct_fields__, row, strict=True)))
            for row in view.rows(
                "SELECT idx, credential, act, at, rank, host, subject_kind, subject_id, action, proof, words"
                " FROM credential_note ORDER BY idx"
            )
        ),
        "clocks": tuple(
            Clock(*row)
            for row in view.rows("SELECT idx, clock, advisory, at, words FROM clock_note ORDER BY idx")
            if row[2] in incident
        ),
        "notices": tuple(
            Notice(*row)
            for row in view.rows('SELECT idx, advisory, "to", duty, document, at FROM notice ORDER BY idx')
            if row[1] in incident
        ),
        "checks": tuple(
            Check(*row)
            for row in view.rows('SELECT idx, "release", outcome, parts, at, words FROM release_check ORDER BY idx')
        ),
        "hooks": tuple(
            Hook(*row)
            for row in view.rows("SELECT inventory, path, name, sha256 FROM item WHERE kind = 'hook' ORDER BY 1, 2, 4")
        ),
    }


def _sources(view: View) -> tuple[EvidenceSource, ...]:
    rows = view.rows(
        "SELECT idx, topic, source, count, unread, covers_from, covers_until, subjects,"
        " (SELECT count(*) FROM evidence_row r WHERE r.idx = e.idx) FROM evidence e ORDER BY idx"
    )
    made = []
    for idx, topic, source, count, unread, start, end, subjects, kept in rows:
        whole = kept == count  # rows that are lost show no absence
        made.append(
            EvidenceSource(
                idx=idx,
                topic=topic,
                source=source,
                count=count,
                unread=unread,
                covers_from=start if whole else None,
                covers_until=end if whole else None,
                subjects=tuple(msgspec.json.decode(subjects)),
            )
        )
    return tuple(made)


def _lines(view: View, window: Span | None) -> tuple[EvidenceLine, ...]:
    """Rows since the window began; of CI jobs, images and caches all that name packages, since those serve it later."""
    start = -(1 << 53) if window is None else window.start
    rows = view.rows(
        "SELECT idx, topic, t, host, actor, act, object, detail, things FROM evidence_row"
        " WHERE t >= ? OR (topic IN ('ci', 'image', 'cache') AND things <> '[]') ORDER BY t, idx, place",
        start,
    )
    names = EvidenceLine.__struct_fields__
    return tuple(
        EvidenceLine(**dict(zip(names, (*row[:-1], tuple(msgspec.json.decode(row[-1]))), strict=True))) for row in rows
    )
