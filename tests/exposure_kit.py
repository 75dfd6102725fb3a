"""Histories for the tests of exposure: statements appended to a real log, and the case read back from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safehold.exposure.case import load_case
from safehold.exposure.facts import Case
from safehold.exposure.report import Report, answer_all
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.sqlite import SqliteStore
from safehold.model.contents import Contents, Distribution, SkippedPath
from safehold.model.encoding import canonical_bytes
from safehold.model.evidence import EvidenceRow, evidence_bytes
from safehold.model.ids import Digest, Subject, sha256_digest
from safehold.model.statements import (
    AdvisoryRecorded,
    AffectedClaim,
    DatasetRegistered,
    DecisionMade,
    FindingRecorded,
    GrantIssued,
    HoldLifted,
    HoldPlaced,
    HostRegistered,
    InventoryConfirmed,
    InventoryRecorded,
    KeyRefused,
    KeyReleased,
    ModelDeclared,
    PartyRegistered,
    ReleaseSealed,
    RunDeclared,
    Statement,
    SubjectCount,
    WindowClaim,
)
from safehold.model.statements_access import EnvironmentRetired, GrantRevoked
from safehold.model.statements_outside import (
    ClockNoted,
    CredentialNoted,
    EvidenceRecorded,
    NoticeSent,
    ReleaseChecked,
)
from safehold.state.projection import StateProjector

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MARCH_24 = 1_774_310_400_000_000
"""2026-03-24 00:00 UTC."""
WINDOW = (MARCH_24 + 10 * HOUR + 39 * MINUTE, MARCH_24 + 16 * HOUR)

CLEAN = Contents(distributions=(Distribution(name="rich", version="15.0.0", installer="pip", requested=True),))
BAD = Contents(
    distributions=(
        Distribution(name="rich", version="15.0.0", installer="pip", requested=True),
        Distribution(name="gateway-kit", version="0.4", installer="pip", requested=True, requires=("LiteLLM",)),
        Distribution(name="litellm", version="1.82.8", installer="pip"),
    )
)


def at(text: str) -> int:
    """``24T10:39`` in March 2026, or ``04-02T09:00``, as µs UTC."""
    day, _, clock = text.partition("T")
    month, _, date = day.rpartition("-")
    days = int(date) - 24 + (31 if month == "04" else 0)
    hours, minutes = (clock or "0:0").split(":")
    return MARCH_24 + days * DAY + int(hours) * HOUR + int(minutes) * MINUTE


def digest(text: str) -> Digest:
    """A digest that stands for ``text``."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


MARCH_1 = at("1")
KNOWN = at("24T16:15")
"""When the first advisory of the incident was first seen here."""


class History:
    """A ledger in a folder, filled by short verbs; each returns the index of its entry."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.key = SigningKey.generate()
        self.by = self.key.public.key_id
        self.log = Log(
            SqliteStore(folder / "ledger.db"),
            CheckpointLock(folder / "lock.db"),
            self.key,
            "lab.example/custody",
            StateProjector(),
        )
        self.releases: dict[str, Digest] = {}
        self.requests = 0

    def close(self) -> None:
        self.log.close()

    def add(self, *statements: Statement, payloads: Sequence[bytes] = ()) -> int:
        return self.log.append(lambda _view: Draft(statements, tuple(payloads)))[-1].index

    def case(self, now: int, advisory: str | None = None, window: str | None = None) -> Case:
        with self.log.view() as view:
            return load_case(view, advisory, now, window)

    def report(self, now: int, advisory: str | None = None, window: str | None = None) -> Report:
        return answer_all(self.case(now, advisory, window))

    def party(self, party, role="supplier", t=MARCH_1) -> int:
        return self.add(PartyRegistered(t=t, by=self.by, party=party, role=role, title=party, key=self.key.public.line))

    def host(self, host, every=60, t=MARCH_1) -> int:
        party = host.partition("/")[0]
        key = self.key.public.line
        return self.add(HostRegistered(t=t, by=self.by, host=host, party=party, key=key, expected_every=every))

    def dataset(self, dataset, customer="north-lab", t=MARCH_1) -> int:
        party = dataset.partition("/")[0]
        return self.add(
            DatasetRegistered(t=t, by=self.by, dataset=dataset, party=party, customer=customer, title=dataset)
        )

    def seal(self, name, host, t, *, rows=100, parent=None, people=(("experts", "DE", 3),)) -> int:
        dataset, _, version = name.partition("@")
        self.releases[name] = digest(name)
        return self.add(
            ReleaseSealed(
                t=t,
                by=self.by,
                release=digest(name),
                dataset=dataset,
                version=int(version),
                party=dataset.partition("/")[0],
                host=host,
                parent=parent and digest(parent),
                rows=rows,
                size=rows * 100,
                parts=2,
                groups=("question", "answer"),
                classification="confidential",
                purposes=("training",),
                people=tuple(SubjectCount(category=a, jurisdiction=b, count=c) for a, b, c in people),
            )
        )

    def grant(self, number, dataset, start, until, *, party="north-lab", host=None) -> int:
        return self.add(
            GrantIssued(
                t=start,
                by=self.by,
                grant=grant_id(number),
                party=party,
                host=host,
                dataset=dataset,
                groups=("question", "answer"),
                purposes=("training",),
                not_before=start,
                until=until,
                token=digest(f"token {number}"),
                revocation="00",
            )
        )

    def open(self, name, host, grant, t, *, lease=5 * MINUTE, purpose="training") -> int:
        self.requests += 1
        return self.add(
            KeyReleased(
                t=t,
                by=self.by,
                request=f"q-{self.requests:032x}",
                release=digest(name),
                dataset=name.partition("@")[0],
                groups=("question", "answer"),
                parts=2,
                party=host.partition("/")[0],
                host=host,
                member=None,
                grant=grant_id(grant),
                purpose=purpose,
                inventories=(inventory_of(CLEAN),),
                reader=digest("reader"),
                until=t + lease,
            )
        )

    def refuse(self, name, host, grant, t, reason="the host holds litellm 1.82.8") -> int:
        return self.add(
            KeyRefused(
                t=t,
                by=self.by,
                request=None,
                release=digest(name),
                host=host,
                grant=grant_id(grant),
                step=5,
                code="broker.finding",
                reason=reason,
                hint="",
            )
        )

    def observe(self, host, contents, since, until=None, *, gap=MINUTE, environment="venv", t=None, keep=True) -> int:
        """One sweep at ``since``, or sweeps until ``until``; ``keep`` False loses the payload."""
        inventory, body = inventory_of(contents), canonical_bytes(contents)
        common = {"by": self.by, "host": host, "environment": environment, "inventory": inventory}
        recorded = InventoryRecorded(
            t=t or since, report=digest("r"), observed=since, distributions=1, oddities=0, **common
        )
        index = self.add(recorded, payloads=[body] if keep else [])
        if until is not None:
            index = self.add(
                InventoryConfirmed(
                    t=t or until, report=digest("r"), since=since, until=until, sweeps=9, largest_gap=gap, **common
                )
            )
        return index

    def advisory(
        self,
        advisory="PYSEC-2026-2",
        *,
        t=KNOWN,
        version=1,
        windows=(("PyPI incident report", *WINDOW),),
        aliases=(),
        joined=(),
        withdrawn=False,
        summary="malicious releases of litellm",
        affected=(("litellm", "1.82.7, 1.82.8"),),
        document=None,
    ) -> int:
        """``document``: bytes to keep as the document; else only a digest stands for it."""
        kept = digest(f"{advisory} {version}") if document is None else sha256_digest(document)
        return self.add(
            AdvisoryRecorded(
                t=t,
                by=self.by,
                advisory=advisory,
                document=kept,
                format="osv",
                source="osv",
                aliases=aliases,
                joined=joined,
                affected=tuple(AffectedClaim(ecosystem="PyPI", name=a, versions=b) for a, b in affected),
                windows=tuple(WindowClaim(source=a, start=b, end=c) for a, b, c in windows),
                summary=summary,
                first_seen=t,
                published=t - HOUR,
                modified=None,
                withdrawn=withdrawn,
            ),
            payloads=[] if document is None else [document],
        )

    def finding(self, contents=BAD, advisory="PYSEC-2026-2", *, version=1, match="version", path="", t=KNOWN):
        name, release = ("", "") if match == "path" else ("litellm", "1.82.8")
        return self.add(
            FindingRecorded(
                t=t,
                by=self.by,
                advisory=advisory,
                document=digest(f"{advisory} {version}"),
                inventory=inventory_of(contents),
                match=match,
                name=name,
                version=release,
                path=path,
            )
        )

    def suspend(self, subject: Subject, t, *, number=1, advisories=(), reason="it held litellm 1.82.8") -> int:
        return self.add(
            DecisionMade(
                t=t,
                by=self.by,
                decision=f"d-{number:016x}",
                ruling="suspend",
                subject=subject,
                reason=reason,
                member=None,
                advisories=advisories,
            ),
            HoldPlaced(
                t=t, by=self.by, hold=f"h-{number:016x}", subject=subject, reason=reason, decision=f"d-{number:016x}"
            ),
        )

    def lift(self, subject: Subject, t, *, number=1) -> int:
        return self.add(
            HoldLifted(
                t=t,
                by=self.by,
                hold=f"h-{number:016x}",
                subject=subject,
                reason="clean again",
                decision=f"d-{number:016x}",
            )
        )

    def evidence(self, topic, *rows, covers=None, subjects=(), unread=0, t=None) -> int:
        """Rows of another system as (t, host, act, object, things); ``covers`` says for when they are complete."""
        made = [EvidenceRow(t=a, host=b, actor="svc", act=c, object=d, things=tuple(e)) for a, b, c, d, e in rows]
        body = evidence_bytes(made)
        return self.add(
            EvidenceRecorded(
                t=t or KNOWN,
                by=self.by,
                topic=topic,
                source="a log",
                format="csv",
                original=digest("file"),
                rows=Digest("sha256:" + hashlib.sha256(body).hexdigest()),
                count=len(made),
                unread=unread,
                since=made[0].t if made else None,
                until=made[-1].t if made else None,
                covers_from=covers[0] if covers else None,
                covers_until=covers[1] if covers else None,
                subjects=tuple(subjects),
            ),
            payloads=[body],
        )

    def credential(self, name, act, when, *, host=None, opens=None, rank="other", action="", proof=None) -> int:
        return self.add(
            CredentialNoted(
                t=max(when, KNOWN),
                by=self.by,
                credential=name,
                act=act,
                at=when,
                rank=rank,
                host=host,
                subject=opens,
                action=action,
                proof=proof,
                words="",
            )
        )

    def revoke(self, number, when, revocation="00") -> int:
        return self.add(GrantRevoked(t=when, by=self.by, grant=grant_id(number), revocation=revocation, reason="taken"))

    def retire(self, host, environment, when) -> int:
        return self.add(EnvironmentRetired(t=when, by=self.by, host=host, environment=environment, reason="removed"))

    def clock(self, name, when, advisory="PYSEC-2026-2") -> int:
        return self.add(ClockNoted(t=when, by=self.by, clock=name, advisory=advisory, at=when, words="a call"))

    def notice(self, to, when, advisory="PYSEC-2026-2") -> int:
        return self.add(
            NoticeSent(t=when, by=self.by, advisory=advisory, to=to, duty="contract", document=digest(to), at=when)
        )

    def check(self, name, outcome, when) -> int:
        return self.add(
            ReleaseChecked(t=when, by=self.by, release=digest(name), outcome=outcome, parts=2, at=when, words="")
        )

    def run(self, run, releases, t, host=None) -> int:
        digests = tuple(digest(name) for name in releases)
        return self.add(RunDeclared(t=t, by=self.by, run=run, party=run.partition("/")[0], host=host, releases=digests))

    def model(self, model, runs, t) -> int:
        return self.add(ModelDeclared(t=t, by=self.by, model=model, party=model.partition("/")[0], runs=tuple(runs)))


def grant_id(number: int) -> str:
    return f"g-{number:016x}"


def inventory_of(contents: Contents) -> Digest:
    return Digest("sha256:" + hashlib.sha256(canonical_bytes(contents)).hexdigest())


def with_skipped(contents: Contents, reason: str) -> Contents:
    return Contents(distributions=contents.distributions, skipped=(SkippedPath(path="lib", reason=reason),))


def tell_story(history: History) -> None:
    """Two suppliers and a lab, the incident of March 2026: releases exposed, held, not held and unknown."""
    for party, role in (("north-lab", "lab"), ("quill-works", "supplier"), ("bright-annotators", "supplier")):
        history.party(party, role)
    for host in ("quill-works/ci-1", "quill-works/desk-1", "bright-annotators/desk-1", "north-lab/trainer-1"):
        history.host(host)
    for dataset in ("quill-works/word-problems", "quill-works/proofs", "bright-annotators/dialogues"):
        history.dataset(dataset)
    history.seal("quill-works/word-problems@1", "quill-works/desk-1", at("10T09:00"), rows=7_473)
    history.seal("quill-works/proofs@1", "quill-works/desk-1", at("11T09:00"), rows=1_200)
    history.seal("bright-annotators/dialogues@1", "bright-annotators/desk-1", at("12T09:00"), rows=3_000, people=())
    history.grant(1, "quill-works/word-problems", at("10T10:00"), at("04-30"))
    history.grant(2, "quill-works/word-problems", at("10T10:00"), at("04-30"), party="quill-works")
    history.grant(3, "quill-works/proofs", at("11T10:00"), at("20"), party="quill-works", host="quill-works/ci-1")
    history.grant(4, "bright-annotators/dialogues", at("12T10:00"), at("04-30"))
    history.grant(5, "bright-annotators/dialogues", at("12T10:00"), at("04-30"), party="bright-annotators")
    history.open("quill-works/proofs@1", "quill-works/ci-1", 3, at("15T14:00"), purpose="review")
    history.open("quill-works/word-problems@1", "north-lab/trainer-1", 1, at("16T08:00"), lease=2 * HOUR)
    history.run("north-lab/run-7", ["quill-works/word-problems@1"], at("17T08:00"), "north-lab/trainer-1")
    history.model("north-lab/tutor-1", ["north-lab/run-7"], at("18T08:00"))
    history.seal(
        "quill-works/word-problems@2",
        "quill-works/ci-1",
        at("24T12:05"),
        rows=8_000,
        parent="quill-works/word-problems@1",
    )
    history.open("quill-works/word-problems@1", "quill-works/ci-1", 2, at("24T12:30"), purpose="review")
    history.observe("quill-works/ci-1", CLEAN, at("10"), at("24T10:50"))
    history.observe("quill-works/ci-1", BAD, at("24T11:02"), at("25T09:00"))
    history.observe("quill-works/ci-1", CLEAN, at("25T09:10"), at("31"))
    history.observe("quill-works/desk-1", CLEAN, at("1"), at("31"))
    history.observe("bright-annotators/desk-1", CLEAN, at("1"), at("24T09:30"))
    history.observe("bright-annotators/desk-1", CLEAN, at("24T14:00"), at("31"))
    history.observe("north-lab/trainer-1", CLEAN, at("1"), at("31"))
    history.open("bright-annotators/dialogues@1", "north-lab/trainer-1", 4, at("24T10:00"))
    history.advisory("MAL-2026-2144", t=at("24T22:11"), windows=(), aliases=("PYSEC-2026-2",))
    history.advisory(
        t=at("24T16:15"),
        windows=(
            ("vendor, first statement", WINDOW[0], at("24T11:19")),
            ("PyPI incident report", WINDOW[0], at("24T13:11")),
            ("vendor, affected if installed", *WINDOW),
        ),
    )
    history.finding()
    history.refuse("quill-works/word-problems@1", "quill-works/ci-1", 2, at("24T17:00"))
    subject = Subject("party", "quill-works")
    history.suspend(subject, at("24T18:00"), advisories=(digest("PYSEC-2026-2 1"),))
    history.refuse("quill-works/word-problems@1", "quill-works/desk-1", 2, at("25T08:00"), "quill-works is suspended")
    history.lift(subject, at("29T09:00"))
