"""What the tests of model, ledger and state share: keys that are always the same, one statement a kind, an open log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Log
from safehold.ledger.note import NoteVerifier
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry, Store, Transaction
from safehold.ledger.tree import HASH_BYTES, Frontier, TileReader, leaf_hash
from safehold.model import statements as s
from safehold.model import statements_access as a
from safehold.model.ids import Subject, sha256_digest
from safehold.model.statements import Statement
from safehold.model.statements_response import ResponseStep
from safehold.state.projection import StateProjector

ORIGIN = "north-lab.example/custody"


def key_of(seed: int) -> SigningKey:
    """The same key for the same seed: only for tests."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big")))


KEY = key_of(1)
OTHER_KEY = key_of(2)
VERIFIER = NoteVerifier(ORIGIN, KEY.public)
BY = KEY.key_id


def digest(seed: object) -> Any:
    return sha256_digest(repr(seed).encode())


def party(number: int, **changed: Any) -> s.PartyRegistered:
    """A cheap statement that differs by its number."""
    values: dict[str, Any] = {"party": f"p-{number}", "role": "supplier", "title": f"Party {number}", "key": "k"}
    return s.PartyRegistered(t=number, by=BY, **values | changed)


def hold(number: int, subject: Subject | None = None) -> s.HoldPlaced:
    about = subject or Subject("party", "quill-works")
    return s.HoldPlaced(
        t=number, by=BY, hold=f"h-{number:016x}", subject=about, reason="why", decision=f"d-{number:016x}"
    )


def lift(number: int, subject: Subject | None = None) -> s.HoldLifted:
    about = subject or Subject("party", "quill-works")
    return s.HoldLifted(
        t=number, by=BY, hold=f"h-{number:016x}", subject=about, reason="clean", decision=f"d-{number:016x}"
    )


CONTENTS = (
    b'{"distributions":[{"name":"quill","version":"1.0","folder":"site"}],"hooks":[{"path":"a.pth","sha256":"00"}],'
    b'"skipped":[{"path":"b","reason":"not readable"}],"newer":1}'
)


EVIDENCE = b'[{"act":"GetObject","object":"s3://sets/a.jsonl","t":5}]'


def one_of_each() -> dict[str, Statement]:
    """One statement of every kind, all about the same small world."""
    common: dict[str, Any] = {"t": 1_774_310_400_000_000, "by": BY}
    lab, supplier, host = "north-lab", "quill-works", "quill-works/ci-1"
    dataset, grant, purpose = "quill-works/word-problems", "g-0123456789abcdef", "training"
    release, inventory, document = digest("manifest"), sha256_digest(CONTENTS), digest("document")
    subject = Subject("party", supplier)
    hold_id, decision, member = "h-0123456789abcdef", "d-0123456789abcdef", "north-lab/m-0123456789abcdef0123"
    made: list[Statement] = [
        s.LedgerOpened(**common, origin=ORIGIN, verifier=VERIFIER.text),
        s.PartyRegistered(**common, party=supplier, role="supplier", title="Quill Works", key=KEY.public.line),
        s.MemberRegistered(**common, member=member, party=lab),
        s.HostRegistered(**common, host=host, party=supplier, key=KEY.public.line, expected_every=60),
        s.DatasetRegistered(**common, dataset=dataset, party=supplier, customer=lab, title="Wörter und Zahlen"),
        s.ReleaseSealed(
            **common, release=release, dataset=dataset, version=1, party=supplier, host=host, parent=None, rows=10,
            size=1000, parts=2, groups=("question", "answer"), classification="internal", purposes=(purpose,),
            people=(s.SubjectCount(category="writer", jurisdiction="DE", count=3),),
        ),
        s.GrantIssued(
            **common, grant=grant, party=supplier, host=host, dataset=dataset, groups=("question",), purposes=(purpose,),
            not_before=0, until=2**53 - 1, token=digest("token"), revocation="00ff",
        ),
        s.InventoryRecorded(
            **common, host=host, environment="ci", inventory=inventory, report=digest("report"), observed=1,
            distributions=1, oddities=1,
        ),
        s.InventoryConfirmed(
            **common, host=host, environment="ci", inventory=inventory, report=digest("again"), since=1, until=9,
            sweeps=3, largest_gap=4,
        ),
        s.AdvisoryRecorded(
            **common, advisory="PYSEC-2026-2", document=document, format="osv", source="osv", aliases=("CVE-1",),
            joined=(), affected=(s.AffectedClaim(ecosystem="PyPI", name="quill", versions="1.0"),),
            windows=(s.WindowClaim(source="osv", start=1, end=2),), summary="bad", first_seen=5, published=None,
            modified=4, withdrawn=False,
        ),
        s.FindingRecorded(
            **common, advisory="PYSEC-2026-2", document=document, inventory=inventory, match="version", name="quill",
            version="1.0", path="",
        ),
        s.KeyReleased(
            **common, request="q-" + "0" * 32, release=release, dataset=dataset, groups=("question",), parts=2,
            party=supplier, host=host, member=None, grant=grant, purpose=purpose, inventories=(inventory,),
            reader=digest("reader"), until=10,
        ),
        s.KeyRefused(
            **common, request=None, release=None, host=None, grant=None, step=1, code="broker.request_form",
            reason="unreadable", hint="",
        ),
        s.DecisionMade(
            **common, decision=decision, ruling="suspend", subject=subject, reason="r", member=member,
            advisories=(document,),
        ),
        s.HoldPlaced(**common, hold=hold_id, subject=subject, reason="r", decision=decision),
        s.HoldLifted(**common, hold=hold_id, subject=subject, reason="r", decision=decision),
        s.RunDeclared(**common, run="north-lab/run-7", party=lab, host=None, releases=(release,)),
        s.ModelDeclared(**common, model="north-lab/tutor-1", party=lab, runs=("north-lab/run-7",)),
        s.SegmentSealed(
            **common, table="key_release", form=1, begin=0, end=2, rows=1, since=1, until=1, size=100,
            digest=digest("segment"),
        ),
        a.LeaseOpened(
            **common, lease="l-0123456789abcdef", request="q-" + "1" * 32, party=supplier, host=host, member=None,
            grant=grant, dataset=dataset, purpose=purpose, inventories=(inventory,), reader=digest("reader"), until=10,
            keys=100,
        ),
        a.LeaseEnded(**common, lease="l-0123456789abcdef", code="asked", reason="done"),
        a.GrantRevoked(**common, grant=grant, revocation="00ff", reason="left"),
        a.MemberKeyed(**common, member=member, key=KEY.public.line),
        a.AccessApproved(
            **common, dataset=dataset, host=host, member=member, approver=member, until=10, approval=digest("approval"),
        ),
        a.EnvironmentRetired(**common, host=host, environment="old", reason="gone"),
        a.KeysRewrapped(**common, release=release, kek="kek-1", keys=2, of="kek"),
        a.PolicyRecorded(**common, policy=digest("policy")),
        s.LedgerRestored(**common, size=7, root="ab" * 32, taken=5, witnessed=6, reason="the disk was gone"),
        s.RefusalsCounted(**common, code="broker.token_signature", count=3, since=1, until=2),
        s.EvidenceRecorded(
            **common, topic="storage", source="trail", format="csv", original=digest("trail"), rows=sha256_digest(EVIDENCE),
            count=1, unread=0, since=5, until=5, covers_from=1, covers_until=9, subjects=("s3://sets/",),
        ),
        s.CredentialNoted(
            **common, credential="k-1", act="opens", at=5, rank="cloud", host=None, subject=subject, action="",
            proof=None, words="the CI's key",
        ),
        s.ClockNoted(**common, clock="awareness", advisory="PYSEC-2026-2", at=6, words="the report was read"),
        s.NoticeSent(**common, advisory="PYSEC-2026-2", to="north-lab", duty="contract", document=document, at=7),
        s.ReleaseChecked(**common, release=release, outcome="intact", parts=2, at=8, words=""),
        s.ReleaseStored(**common, release=release, location="s3://vault/quill-works/word-problems/1", endpoint=None),
        s.DatasetAdopted(
            **common, listing=digest("listing"), dataset=dataset, location="/data/old", endpoint=None, host=host,
            files=3, size=99, rows=None,
        ),
        s.ReleaseRetired(**common, release=release, reason="replaced"),
        s.ReleaseRekeyed(**common, release=digest("next"), before=release, keys=4, reason="a key may be known"),
        s.ReleaseErased(**common, release=release, keys=4, kept=1, shared=(digest("next"),), reason="asked for"),
        s.LatentRecorded(
            **common, advisory="PYSEC-2026-2", document=document, inventory=inventory, item="cached", match="version",
            name="quill", version="1.0", path="~/.cache/pip/wheels/quill-1.0-py3-none-any.whl",
        ),
        s.IndicatorsRecorded(
            **common, advisory="PYSEC-2026-2", document=document, domains=("models.example.invalid",),
            addresses=("192.0.2.1",), paths=("/tmp/trace",),
        ),
        s.SourceTrusted(**common, source="feed", key=KEY.public.line),
        s.AdvisoriesSynced(
            **common, source="feed", bundle=digest("bundle"), number=3, made=5, key=common["by"], files=2, unread=0
        ),
        s.AdoptionSealed(**common, listing=digest("listing"), release=release),
        s.AdoptionRemoved(**common, listing=digest("listing"), files=3),
        s.ResponsePlanned(
            **common, response="r-0123456789abcdef", course="suspend-hosts", profile="measured", proposed="watch",
            advisory="PYSEC-2026-2", reason="it held litellm 1.82.8", member=None, clean_for=86_400, decisions=(),
            steps=(ResponseStep(act="rebuild", subject=Subject("host", host), words="rebuild it"),),
        ),
        s.ResponseProven(
            **common, response="r-0123456789abcdef", step=0, proof="rebuilt from image 7", document=None, member=None
        ),
    ]  # fmt: skip
    return {str(statement.__struct_config__.tag): statement for statement in made}


def open_log(folder: Path, make_store: Callable[[Path], Store] = SqliteStore, key: SigningKey = KEY) -> Log:
    """A log with the projections of ``state`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    return Log(make_store(folder / "ledger.db"), CheckpointLock(folder / "lock.db"), key, ORIGIN, StateProjector())


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the system has one: for tests of order and bytes, not of durability."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None, prefix="safehold-") as folder:
        yield Path(folder)


class NoProjections:
    """A projector for tests of the tree alone."""

    def prepare(self, transaction: Transaction) -> None: ...

    def apply(self, transaction: Transaction, entries: Sequence[Entry]) -> None: ...


class MemoryTree:
    """A tree in memory with its tiles, and the leaves it was made of."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        self.frontier = Frontier()
        self.entries: list[bytes] = []
        self.roots = [self.frontier.root()]
        self._full: dict[tuple[int, int], bytes] = {}
        for entry in entries:
            self.frontier.append(leaf_hash(entry), self._full)
            self.entries.append(entry)
            self.roots.append(self.frontier.root())

    @property
    def tiles(self) -> dict[tuple[int, int], bytes]:
        return self._full | {(level, index): hashes for level, index, hashes in self.frontier.partial_tiles()}

    @property
    def read(self) -> TileReader:
        tiles = self.tiles

        def read(level: int, index: int, width: int) -> bytes:
            found = tiles[level, index][: width * HASH_BYTES]
            assert len(found) == width * HASH_BYTES
            return found

        return read
