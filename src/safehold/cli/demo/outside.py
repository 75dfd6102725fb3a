"""What the demo's lab takes in from other systems: the records of a CI, hosts, a registry, a cluster; and what people note.

All of it is made up for the demo and harmless: text that says what such a system would have said.
"""

from __future__ import annotations

from typing import Final

from safehold.cli.demo.world import World, moment
from safehold.exposure.evidence import Evidence, EvidenceFile
from safehold.exposure.evidence_formats import Reading, read_evidence
from safehold.model.evidence import EvidenceTopic
from safehold.model.ids import AdvisoryId, Digest, HostId, PartyId, Subject, sha256_digest
from safehold.model.statements_outside import CredentialAct, CredentialNoted, CredentialRank, ReleaseChecked

__all__ = ["take_evidence"]

_COVERS: Final = (moment("2026-03-24T00:00:00+00:00"), moment("2026-04-01T00:00:00+00:00"))
_HEAD: Final = "t,host,actor,act,object,things\n"

_FILES: Final[tuple[tuple[EvidenceTopic, str, str], ...]] = (
    ("start", "auditd of the supplier's hosts",
     "2026-03-24T11:29:50Z,quill-works/ci-1,ci,exec,/usr/bin/python3,litellm==1.82.8 evals-runner==0.4.0\n"),
    ("ci", "the supplier's CI",
     ("2026-03-24T10:57:30Z,quill-works/ci-1,nightly,resolved,job 4711,litellm==1.82.8 evals-runner==0.4.0\n"
     "2026-03-25T02:00:00Z,quill-works/ci-1,nightly,resolved,job 4712,litellm==1.82.6 evals-runner==0.4.0\n")),
    ("image", "the supplier's image registry",
     "2026-03-24T02:00:00Z,,registry,built,evals-image@sha256:41aa,litellm==1.82.6 evals-runner==0.4.0\n"),
    ("cache", "listing of the supplier's package mirror",
     "2026-03-31T08:00:00Z,,mirror,can serve,mirror/pypi,litellm==1.82.6 litellm==1.82.8\n"),
    ("egress", "the supplier's resolver",
     ("2026-03-24T11:02:10Z,quill-works/ci-1,resolver,resolved,packages.example,\n"
     "2026-03-24T11:29:55Z,quill-works/ci-1,resolver,resolved,models.litellm.cloud,\n")),
    ("cluster", "audit of the supplier's cluster",
     "2026-03-24T12:00:00Z,,system:serviceaccount:ci,get,pods/evals,\n"),
)  # fmt: skip


def take_evidence(world: World, advisory: AdvisoryId, host: HostId, told: PartyId) -> int:
    """Record all of it; how many entries that made."""
    evidence = Evidence(world.home.log, world.clock, world.home.registry.by)
    made = 0
    for topic, source, lines in _FILES:
        data = (_HEAD + lines).encode()
        read = read_evidence("csv", data, Reading())
        file = EvidenceFile(topic=topic, source=source, form="csv", data=data, read=read, covers=_COVERS)
        made += len(evidence.record_file(file).entries)
    made += _credentials(world, evidence, host)
    text = b"To our customer: releases of yours may have been taken on 24 March 2026. We will tell you more within a day.\n"
    evidence.note_notice(advisory, told, "contract", text, moment("2026-03-31T11:00:00+00:00"))
    return made + 1 + _checks(world, evidence)


def _credentials(world: World, evidence: Evidence, host: HostId) -> int:
    """Two credentials in reach of the host, revoked by one act in the right order, and shown to be dead."""
    steps: tuple[tuple[str, CredentialRank, CredentialAct, str], ...] = (
        ("mirror-upload-token", "publishing", "reach", "2026-03-16T08:00:00+00:00"),
        ("evals-bucket-key", "cloud", "reach", "2026-03-16T08:00:00+00:00"),
        ("mirror-upload-token", "publishing", "revoked", "2026-03-31T09:30:00+00:00"),
        ("evals-bucket-key", "cloud", "revoked", "2026-03-31T09:30:00+00:00"),
        ("mirror-upload-token", "publishing", "dead", "2026-03-31T09:31:00+00:00"),
        ("evals-bucket-key", "cloud", "dead", "2026-03-31T09:31:00+00:00"),
    )
    for name, rank, act, at in steps:
        evidence.note_credential(
            CredentialNoted(
                t=world.clock(), by=world.home.registry.by, credential=name, act=act, at=moment(at), rank=rank,
                host=host if act == "reach" else None,
                subject=None, action="rotation of 31 March" if act == "revoked" else "",
                proof=sha256_digest(b"the provider's answer: no such key") if act == "dead" else None, words="",
            )
        )  # fmt: skip
    opens = Subject("dataset", "quill-works/texts")
    evidence.note_credential(
        CredentialNoted(
            t=world.clock(), by=world.home.registry.by, credential="evals-bucket-key", act="opens",
            at=moment("2026-03-16T08:00:00+00:00"), rank="cloud", host=None, subject=opens, action="", proof=None, words="",
        )
    )  # fmt: skip
    return len(steps) + 1


def _checks(world: World, evidence: Evidence) -> int:
    """Every release's files were held against its manifest."""
    with world.home.log.view() as view:
        rows = view.rows('SELECT "release", parts FROM "release" ORDER BY idx')
    for release, parts in rows:
        at = world.clock()
        evidence.note_check(
            ReleaseChecked(
                t=at, by=world.home.registry.by, release=Digest(release), outcome="intact", parts=parts, at=at,
                words="by `safehold verify`",
            )
        )  # fmt: skip
    return len(rows)
