"""Random histories of a small world as statements: hosts, sweeps, silences, grants, openings, holds, advisories, evidence.

One tick is a minute; every time in a history is an even number of ticks, but for the odd ones that a wrong clock makes.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from safehold.model import statements as s
from safehold.model.encoding import canonical_bytes
from safehold.model.evidence import EvidenceRow, evidence_bytes
from safehold.model.ids import Subject, sha256_digest
from safehold.model.statement import Statement
from tests.ledger_kit import BY, KEY

TICK = 60_000_000
NOW = 48
QUARTERS = range(4 * NOW + 1)
HOSTS = ("quill-works/ci-1", "quill-works/ws-1", "bright-annotators/ws-1")
DATASETS = ("quill-works/texts", "bright-annotators/talks")
NAMED = "litellm"

_CLEAN = [{"name": "rich", "version": "15.0.0"}]
_BAD = [{"name": NAMED, "version": "1.82.8"}, *_CLEAN]
CONTENTS: dict[str, dict[str, Any]] = {
    "clean": {"distributions": _CLEAN},
    "cleaner": {"distributions": [{"name": "rich", "version": "15.1.0"}]},
    "empty": {},
    "bad": {"distributions": _BAD},
    "worse": {"distributions": [{"name": NAMED, "version": "1.82.7"}]},
    "path": {"distributions": _CLEAN, "unowned": [{"path": "tmp/pglog"}]},
    "blind": {"distributions": _CLEAN, "skipped": [{"path": "lib", "reason": "no-metadata"}]},
    "blind-bad": {"distributions": _BAD, "skipped": [{"path": "lib", "reason": "unreadable"}]},
    "lost": {"distributions": [{"name": "gone", "version": "1"}]},
    "odd": {"distributions": _CLEAN, "skipped": [{"path": "big", "reason": "too-large"}]},
}
BODIES = {name: canonical_bytes(contents) for name, contents in CONTENTS.items()}
INVENTORY = {name: sha256_digest(body) for name, body in BODIES.items()}
BLIND = {INVENTORY["blind"], INVENTORY["blind-bad"], INVENTORY["lost"]}
BLINDED = {INVENTORY["blind"], INVENTORY["blind-bad"]}


def digest(text: str) -> Any:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Maker:
    """Makes one history; the same seed makes the same one."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.made: list[tuple[int, Statement]] = []
        self.payloads: list[bytes] = [body for name, body in BODIES.items() if name != "lost"]
        self.releases: list[tuple[Any, str]] = []
        self.grants: list[str] = []

    def time(self) -> int:
        return 2 * self.chance.randrange(NOW // 2 + 1)

    def maybe(self, share: float) -> bool:
        return self.chance.random() < share

    def add(self, kind: type[Statement], claimed: int, /, *, placed: int | None = None, **values: Any) -> None:
        """``placed``: when it reached the ledger, if not at the time that it claims."""
        when = claimed if placed is None else placed
        self.made.append((when, kind(t=when * TICK, by=BY, **values)))

    def history(self) -> list[Statement]:
        self.parties()
        for dataset in DATASETS:
            self.seals(dataset)
        for host in HOSTS:
            if self.maybe(0.85):
                self.sweeps(host)
        self.grants_and_openings()
        self.holds()
        self.advisories()
        self.runs()
        self.outside()
        # Order of arrival: by the time of writing, and at the same moment in any order.
        self.made.sort(key=lambda one: (one[0], self.chance.random()))
        return [statement for _, statement in self.made]

    def parties(self) -> None:
        for party, role in (("north-lab", "lab"), ("quill-works", "supplier"), ("bright-annotators", "supplier")):
            self.add(s.PartyRegistered, 0, party=party, role=role, title=party, key=KEY.public.line)
        for host in HOSTS:
            if self.maybe(0.05):
                continue  # never registered, and yet others may name it
            times = [self.chance.choice([0, 0, 0, 4, 10, 30])]
            while self.maybe(0.15):
                times.append(self.time())
            for t in times:
                self.add(
                    s.HostRegistered, t, host=host, party=host.partition("/")[0], key=KEY.public.line,
                    expected_every=self.chance.choice([60, 60, 120, 240]),
                )  # fmt: skip
        for dataset in DATASETS:
            if self.maybe(0.9):
                self.add(
                    s.DatasetRegistered, 0, dataset=dataset, party=dataset.partition("/")[0], customer="north-lab",
                    title=dataset,
                )  # fmt: skip

    def seals(self, dataset: str) -> None:
        parent = None
        for version in range(1, self.chance.choice([1, 1, 2, 3]) + 1):
            release = digest(f"{dataset}@{version}")
            self.releases.append((release, dataset))
            if self.maybe(0.06):
                continue  # keys of it may be released, and its seal is not in this ledger
            people = (s.SubjectCount(category="writer", jurisdiction="DE", count=3),) if self.maybe(0.7) else ()
            self.add(
                s.ReleaseSealed, self.time(), release=release, dataset=dataset, version=version,
                party=dataset.partition("/")[0], host=self.chance.choice([None, *HOSTS, *HOSTS]), parent=parent, rows=10,
                size=100, parts=1, groups=("text",), classification="internal", purposes=("training",), people=people,
            )  # fmt: skip
            parent = release if self.maybe(0.7) else None

    def sweeps(self, host: str) -> None:
        names = [
            *(["clean"] * 6),
            "cleaner",
            "empty",
            "bad",
            "bad",
            "worse",
            "path",
            "blind",
            "blind-bad",
            "lost",
            "odd",
        ]
        for environment in self.chance.choice([["a"], ["a"], ["a", "b"]]):
            at = self.chance.choice([0, 0, 2, self.time()])
            for _ in range(self.chance.randrange(1, 7)):
                length = self.chance.choice([0, 0, 2, 4, 8, 16])
                self.sweep(host, environment, at, length, INVENTORY[self.chance.choice(names)])
                at = min(at + length + self.chance.choice([0, 2, 2, 4, 10, 14]), NOW)
                at = self.time() if self.maybe(0.1) else at

    def sweep(self, host: str, environment: str, since: int, length: int, inventory: Any) -> None:
        until = min(since + length, NOW + 4)
        late = self.chance.choice([0, 0, 0, 2, 8])
        skew = self.chance.choice([0] * 12 + [-3, -5])  # the host's clock is ahead of when the report arrived
        placed = min(max(until + late + skew, 0), NOW)
        common = {"host": host, "environment": environment, "inventory": inventory, "report": digest("report")}
        if length == 0:
            self.add(
                s.InventoryRecorded, since, placed=placed, observed=since * TICK, distributions=1, oddities=0, **common
            )
            return
        self.add(
            s.InventoryRecorded, since, placed=min(since, placed), observed=since * TICK, distributions=1, oddities=0,
            **common,
        )  # fmt: skip
        self.add(
            s.InventoryConfirmed, since, placed=placed, since=since * TICK, until=until * TICK, sweeps=3,
            largest_gap=self.chance.choice([0, 2, 6, length]) * TICK, **common,
        )  # fmt: skip

    def grants_and_openings(self) -> None:
        for number in range(self.chance.randrange(5)):
            grant, host = f"g-{number:016x}", self.chance.choice([None, *HOSTS])
            party = host.partition("/")[0] if host else self.chance.choice(["quill-works", "bright-annotators"])
            start, end = sorted((self.time(), self.time()))
            self.grants.append(grant)
            self.add(
                s.GrantIssued, self.chance.choice([start, 0, end]), grant=grant, party=party, host=host,
                dataset=self.chance.choice(DATASETS), groups=("text",), purposes=("training",), not_before=start * TICK,
                until=end * TICK, token=digest(grant), revocation="00",
            )  # fmt: skip
        for number in range(self.chance.randrange(6)):
            at, (release, dataset), host = self.time(), self.chance.choice(self.releases), self.chance.choice(HOSTS)
            lease = self.chance.choice([0, 2, 4, 20])
            self.add(
                s.KeyReleased, at, request=f"q-{number:032x}", release=release, dataset=dataset, groups=("text",), parts=1,
                party=host.partition("/")[0], host=host, member=None,
                grant=self.chance.choice([*self.grants, "g-00000000000000ff"]),
                purpose=self.chance.choice(["training", "review"]), inventories=(INVENTORY["clean"],),
                reader=digest("r"), until=(at + lease) * TICK,
            )  # fmt: skip
        for _ in range(self.chance.randrange(3)):
            self.add(
                s.KeyRefused, self.time(), request=None, release=None, host=self.chance.choice([None, *HOSTS]), grant=None,
                step=5, code="broker.finding", reason="r", hint="",
            )  # fmt: skip

    def holds(self) -> None:
        subjects = [("party", "quill-works"), ("party", "bright-annotators"), ("host", HOSTS[0]), ("host", HOSTS[2])]
        subjects += [
            ("dataset", DATASETS[0]),
            ("release", self.releases[0][0]),
            ("member", "quill-works/m-" + "0" * 20),
        ]
        subjects += [("grant", grant) for grant in self.grants[:1]]
        for number in range(self.chance.choice([0, 0, 1, 2, 3])):
            kind, name = self.chance.choice(subjects)
            start, end = sorted((self.time(), self.time()))
            subject, decision = Subject(kind, name), f"d-{number:016x}"  # type: ignore[arg-type]  # one of the kinds
            hold = {"hold": f"h-{number:016x}", "subject": subject, "reason": "r", "decision": decision}
            known = tuple(digest(f"A-1 {v}") for v in (1, 2)) if self.maybe(0.6) else ()
            self.add(
                s.DecisionMade, start, decision=decision, ruling="suspend", subject=subject, reason="r", member=None,
                advisories=known,
            )  # fmt: skip
            self.add(s.HoldPlaced, start, **hold)
            if self.maybe(0.5):
                self.add(s.HoldLifted, end, **hold)

    def advisories(self) -> None:
        for advisory in ("A-1", "A-2", "A-3")[: self.chance.choice([1, 2, 3])]:
            at = self.time()
            for version in range(1, self.chance.choice([1, 1, 2, 3]) + 1):
                at = min(at + self.chance.choice([0, 2, 6]), NOW)
                self.advisory(advisory, version, at)

    def advisory(self, advisory: str, version: int, at: int) -> None:
        windows = []
        for number in range(self.chance.choice([0, 1, 1, 2])):
            start, end = self.chance.choice([sorted((self.time(), self.time())), [20, 20], [30, 12]])
            windows.append(s.WindowClaim(source=f"source {number}", start=start * TICK, end=end * TICK))
        links = tuple(self.chance.sample(["A-1", "A-2", "CVE-1"], self.chance.choice([0, 1, 1])))
        self.add(
            s.AdvisoryRecorded, at, advisory=advisory, document=digest(f"{advisory} {version}"), format="osv",
            source="osv", aliases=links, joined=("A-1",) if advisory != "A-1" and self.maybe(0.4) else (),
            affected=(s.AffectedClaim(ecosystem="PyPI", name=NAMED, versions="1.82.7, 1.82.8"),), windows=tuple(windows),
            summary="", first_seen=at * TICK, published=None, modified=None, withdrawn=self.maybe(0.12),
        )  # fmt: skip
        for name, match in (("bad", "version"), ("worse", "version"), ("blind-bad", "version"), ("path", "path")):
            if self.maybe(0.75 if name == "bad" else 0.4):
                self.add(
                    s.FindingRecorded, at, advisory=advisory, document=digest(f"{advisory} {version}"),
                    inventory=INVENTORY[name], match=match, name=NAMED if match == "version" else "",
                    version="1.82.8" if match == "version" else "", path="" if match == "version" else "tmp/pglog",
                )  # fmt: skip

    def runs(self) -> None:
        for number in range(self.chance.choice([0, 0, 1, 2])):
            used = self.chance.sample(self.releases, self.chance.randrange(1, len(self.releases) + 1))
            party = self.chance.choice(["north-lab", "quill-works"])
            self.add(
                s.RunDeclared, self.time(), run=f"{party}/run-{number}", party=party, host=None,
                releases=tuple(sorted({one for one, _ in used})),
            )  # fmt: skip

    def outside(self) -> None:
        if self.maybe(0.3):
            for number in range(self.chance.randrange(1, 4)):
                self.credential(f"k-{number}")
        for release, _ in self.releases:
            if self.maybe(0.3):
                at = self.time()
                self.add(
                    s.ReleaseChecked, at, release=release, outcome=self.chance.choice(["intact", "intact", "altered"]),
                    parts=1, at=at * TICK, words="",
                )  # fmt: skip
        if self.maybe(0.4):
            self.starts()

    def credential(self, name: str) -> None:
        subjects = [("host", host) for host in HOSTS] + [("dataset", one) for one in DATASETS]
        acts = ["reach", "opens", *self.chance.choices(["reach", "opens", "revoked", "dead", "used"], k=3)]
        for act in acts:
            at, about = self.time(), self.chance.choice(subjects)
            self.add(
                s.CredentialNoted, at, placed=self.time(), credential=name, act=act, at=at * TICK, rank="other",
                host=self.chance.choice(HOSTS) if act == "reach" else None,
                subject=Subject(about[0], about[1]) if act == "opens" else None, action="a", proof=None, words="",  # type: ignore[arg-type]  # one of the kinds
            )  # fmt: skip

    def starts(self) -> None:
        rows = []
        for _ in range(self.chance.randrange(3)):
            thing = self.chance.choice([f"{NAMED}==1.82.8", "rich==15.0.0"])
            rows.append(EvidenceRow(t=self.time() * TICK, host=self.chance.choice(HOSTS), act="exec", things=(thing,)))
        rows.sort(key=lambda row: row.t)
        body = evidence_bytes(rows)
        self.payloads.append(body)
        start, end = sorted((self.chance.choice([0, self.time()]), self.chance.choice([NOW, self.time()])))
        covers = (start * TICK, end * TICK) if self.maybe(0.7) else (None, None)
        self.add(
            s.EvidenceRecorded, self.time(), topic="start", source="log", format="csv", original=digest("log"),
            rows=sha256_digest(body), count=len(rows), unread=self.chance.choice([0, 0, 0, 1]),
            since=rows[0].t if rows else None, until=rows[-1].t if rows else None, covers_from=covers[0],
            covers_until=covers[1], subjects=self.chance.choice([(), (HOSTS[0],), ("quill-works/",)]),
        )  # fmt: skip
