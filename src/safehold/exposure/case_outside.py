"""Reading what came from outside: the queries of a case for evidence, credentials, clocks, notices, checks, hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from safehold.exposure.facts import AdvisoryVersion, Span
from safehold.exposure.facts_outside import (
    Adopted,
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
from safehold.model.statements_outside import CredentialRank

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
    recorded = dict[str, list[tuple[int, str]]]()
    for idx, document, value in view.rows(
        "SELECT idx, document, value FROM indicator WHERE kind IN ('domain', 'address') ORDER BY idx, place"
    ):
        recorded.setdefault(document, []).append((idx, value.lower()))
    for version in newest_versions(versions):
        if version.withdrawn:
            continue
        places += [value for _, value in recorded.get(version.document, ())]
        entries += [idx for idx, _ in recorded.get(version.document, ())][:1]
        document = view.payload(Digest(version.document))
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
        "evidence_lines": (*_lines(view, window), *_latent(view, incident)),
        "credential_notes": (
            *_found_credentials(view),
            *(
                CredentialNote(**dict(zip(CredentialNote.__struct_fields__, row, strict=True)))
                for row in view.rows(
                    "SELECT idx, credential, act, at, rank, host, subject_kind, subject_id, action, proof, words"
                    " FROM credential_note ORDER BY idx"
                )
            ),
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
        "adopted": tuple(
            Adopted(*row)
            for row in view.rows("SELECT idx, dataset, location, host, files, removed_t FROM adopted ORDER BY idx")
        ),
        "hooks": tuple(
            Hook(*row)
            for row in view.rows(
                "SELECT inventory, path, name, sha256 FROM item WHERE kind IN ('hook', 'startup') ORDER BY 1, 2, 4"
            )
        ),
    }


_RANKS: Final[tuple[tuple[str, CredentialRank], ...]] = (
    ("git", "publishing"), ("pypi", "publishing"), ("npm", "publishing"), ("docker", "publishing"), ("aws", "cloud"),
    ("gcp", "cloud"), ("azure", "cloud"), ("kube", "cloud"), ("ssh", "ssh"),
)  # fmt: skip


def _found_credentials(view: View) -> tuple[CredentialNote, ...]:
    """Credentials that a host's own agent found in its reach: noted by the report, from its first sweep on."""
    rows = view.rows(
        "SELECT o.host, i.sha256, i.name, i.family, min(o.since), min(o.idx) FROM item i"
        " JOIN observation o ON o.inventory = i.inventory WHERE i.kind = 'credential'"
        " GROUP BY o.host, i.sha256, i.name, i.family ORDER BY 6, 2, 3"
    )
    return tuple(
        CredentialNote(
            idx=idx, credential=sha256 or name, act="reach", at=since, host=host, words=f"{family} {name}".strip(),
            rank=next((rank for word, rank in _RANKS if word in family), "other"),
        )
        for host, sha256, name, family, since, idx in rows
    )  # fmt: skip


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


def _latent(view: View, incident: tuple[str, ...]) -> tuple[EvidenceLine, ...]:
    """What hosts' agents found in caches that an advisory names: a cache that can serve it again."""
    rows = view.rows(
        "SELECT l.idx, o.host, o.environment, l.name, l.version, l.path, l.advisory, min(o.since) FROM latent l"
        " JOIN observation o ON o.inventory = l.inventory"
        " JOIN advisory a ON a.advisory = l.advisory AND a.document = l.document AND a.withdrawn = 0"
        " WHERE l.item = 'cached' AND a.idx = (SELECT max(b.idx) FROM advisory b WHERE b.advisory = a.advisory)"
        " GROUP BY l.idx, o.host, o.environment, l.name, l.version, l.path, l.advisory ORDER BY l.idx, o.host"
    )
    return tuple(
        EvidenceLine(
            idx=idx, topic="cache", t=since, host=host, act="cached", object=f"{environment} {path}".strip(),
            things=(f"{name}=={version}",),
        )
        for idx, host, environment, name, version, path, advisory, since in rows
        if advisory in incident
    )  # fmt: skip


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
