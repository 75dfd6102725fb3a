"""What the tests of broker, containment and registry share: a small world on a real ledger, with a clock that stands."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from safehold.broker.client import KeyOrder, OpenedKeys, request_keys
from safehold.broker.grants import GrantKey
from safehold.broker.issue import GrantOrder, IssuedGrant, issue_grant
from safehold.broker.lease_client import Lease, open_lease
from safehold.broker.proof import Proof, sign_request
from safehold.broker.release import Broker
from safehold.broker.request import KeyRequest, LeaseWish, SealedKeys, format_request
from safehold.broker.sealing import ReaderKey
from safehold.containment import Containment
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Entry
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import NotFound, Refused
from safehold.model.ids import DatasetId, Digest, HostId, MemberId, PartyId, RequestId, parse_subject, sha256_digest
from safehold.model.statements import (
    AdvisoryRecorded,
    FindingRecorded,
    InventoryRecorded,
    KeyRefused,
    ReleaseSealed,
    Statement,
    decode,
)
from safehold.registry import Registry
from safehold.state.projection import StateProjector
from safehold.vault.manifest import ColumnGroup, Field, Manifest, PartFile, RecordId, manifest_bytes, part_file_name
from safehold.vault.part_keys import aad_text, key_commitment

NOW = 1_774_310_400_000_000  # 24 March 2026, 00:00 UTC
SECOND = 1_000_000
HOUR = 3600 * SECOND
LAB, SUPPLIER, OTHER = PartyId("north-lab"), PartyId("quill-works"), PartyId("bright-annotators")
TRAINER = HostId("north-lab/trainer-1")
CI = HostId("quill-works/ci-1")
DESK = HostId("quill-works/desk-1")
ANNOTATOR = HostId("bright-annotators/desk-1")
HOSTS = (TRAINER, CI, DESK, ANNOTATOR)
WORDS = DatasetId("quill-works/word-problems")
NOTES = DatasetId("bright-annotators/notes")
MEMBER = MemberId("quill-works/m-0123456789abcdef0123")
COLLEAGUE = MemberId("quill-works/m-aaaaaaaaaaaaaaaaaaaa")
STRANGER = MemberId("bright-annotators/m-0123456789abcdef0123")
GROUPS = ("question", "answer")
CLEAN = canonical_bytes({"distributions": [{"name": "numpy", "version": "2.3.0"}]})
ADVISORY = "PYSEC-2026-2"


class MemoryKeys:
    """Part keys in memory; what was asked for is kept, so that a test can say that nothing was."""

    def __init__(self) -> None:
        self.keys: dict[tuple[Digest, str], bytes] = {}
        self.asked: list[tuple[str, ...]] = []

    def unwrap(self, release: Digest, files: Sequence[str]) -> Mapping[str, bytes]:
        self.asked.append(tuple(files))
        try:
            return {file: self.keys[release, file] for file in files}
        except KeyError as error:
            raise NotFound("vault.keys_erased", f"the keys of {release} were erased", "") from error


def make_manifest(dataset: DatasetId, version: int, keys: Mapping[str, bytes], groups: Sequence[str]) -> Manifest:
    """A manifest as a supplier would sign it, of files whose ciphertext is beside the point here."""
    party = PartyId(dataset.partition("/")[0])
    parts = []
    for number in range(len(keys) // len(groups)):
        for group in groups:
            file = part_file_name(version, number, group)
            aad = aad_text(party, dataset, version, number, group)
            common: dict[str, Any] = {
                "sealed": version,
                "tag": "",
                "rows_root": None,
                "tail": None,
                "part": number,
                "group": group,
                "file": file,
                "rows": 10,
                "size": 1000,
            }
            parts.append(
                PartFile(
                    **common, sha256=sha256_digest(file.encode()), commitment=key_commitment(keys[file], aad), aad=aad
                )
            )
    columns = tuple(
        Field(name=group, type="string", nullable=False, omit=False, integers=False, json=False, fields=())
        for group in groups
    )
    values: dict[str, Any] = {"dataset": dataset, "party": party, "purposes": ("training", "review")}
    return Manifest(
        **values,
        version=version,
        customer=LAB,
        order=None,
        host=None,
        parent=None,
        classification="internal",
        people=(),
        sources=(),
        columns=columns,
        groups=tuple(ColumnGroup(name=group, columns=(group,)) for group in groups),
        record_id=RecordId(rule="record", column=None),
        compression="zstd",
        rows=10 * (len(parts) // len(groups)),
        part_rows=10,
        parts=tuple(parts),
        runs=(),
        sidecars=(),
    )


class World:
    """A lab, two suppliers, four hosts, two datasets with a release each, and grants; its clock stands at ``now``."""

    def __init__(self, folder: Path, like: World | None = None) -> None:
        self.now = NOW
        self.signer = like.signer if like else SigningKey.generate()
        self.by = by = self.signer.key_id
        self.store = SqliteStore(folder / "ledger.db")
        self.log = Log(
            self.store, CheckpointLock(folder / "lock.db"), self.signer, "north-lab.example/custody", StateProjector()
        )
        self.registry = Registry(self.log, self.clock, by)
        self.containment = Containment(self.log, self.clock, by)
        self.part_keys = MemoryKeys()
        self.grant_key = GrantKey(b"g" * 32)
        self.broker = Broker(self.log, self.part_keys, self.grant_key.public_bytes, self.clock, by)
        if like:
            self.part_keys.keys |= like.part_keys.keys
            self.host_keys, self.grant = like.host_keys, like.grant
            self.release, self.other_release = like.release, like.other_release
            return
        self.host_keys = {host: SigningKey.generate() for host in HOSTS}
        for party in (LAB, SUPPLIER, OTHER):
            role: Any = "lab" if party == LAB else "supplier"
            self.registry.add_party(party, role, party, SigningKey.generate().public)
        for host, key in self.host_keys.items():
            self.registry.add_host(host, key.public, 60)
            self.report(host)
        for member in (MEMBER, COLLEAGUE, STRANGER):
            self.registry.add_member(member)
        self.registry.add_dataset(WORDS, LAB, "Word problems")
        self.registry.add_dataset(NOTES, LAB, "Notes")
        self.release = self.seal(WORDS, 2)
        self.other_release = self.seal(NOTES, 1)
        self.grant = self.issue()

    def clock(self) -> int:
        return self.now

    def seal(self, dataset: DatasetId, parts: int, groups: Sequence[str] = GROUPS) -> Digest:
        names = [part_file_name(1, number, group) for number in range(parts) for group in groups]
        keys = {file: sha256_digest(f"{dataset}{file}".encode()).encode()[-32:] for file in names}
        manifest = make_manifest(dataset, 1, keys, groups)
        body = manifest_bytes(manifest)
        release = sha256_digest(body)
        self.part_keys.keys |= {(release, file): key for file, key in keys.items()}
        statement = ReleaseSealed(
            t=self.now, by=self.by, release=release, dataset=dataset, version=1, party=manifest.party, host=None,
            parent=None, rows=manifest.rows, size=manifest.size, parts=parts, groups=tuple(groups),
            classification="internal", purposes=manifest.purposes, people=(),
        )  # fmt: skip
        self.log.append(lambda _view: Draft((statement,), (body,)))
        return release

    def issue(self, **changed: Any) -> IssuedGrant:
        values: dict[str, Any] = {
            "party": SUPPLIER, "host": None, "dataset": WORDS, "groups": GROUPS, "purposes": ("training", "review"),
            "not_before": self.now - HOUR, "until": self.now + 24 * HOUR,
        }  # fmt: skip
        return issue_grant(self.log, self.grant_key, GrantOrder(**values | changed), self.clock, self.by)

    def report(self, host: HostId, *, environment: str = "main", observed: int | None = None, **more: Any) -> Digest:
        contents: bytes = more.get("contents", CLEAN)
        inventory = sha256_digest(contents)
        statement = InventoryRecorded(
            t=self.now, by=self.by, host=host, environment=environment, inventory=inventory,
            report=sha256_digest(b"report"), observed=self.now if observed is None else observed, distributions=1,
            oddities=0,
        )  # fmt: skip
        payloads = (contents,) if more.get("kept", True) else ()
        self.log.append(lambda _view: Draft((statement,), payloads))
        return inventory

    def advise(self, inventory: Digest, *, document: str = "1", withdrawn: bool = False, found: bool = True) -> None:
        """A version of the advisory, and what of ``inventory`` it names, in one append."""
        digest = sha256_digest(document.encode())
        advisory = AdvisoryRecorded(
            t=self.now, by=self.by, advisory=ADVISORY, document=digest, format="osv", source="file", aliases=(),
            joined=(), affected=(), windows=(), summary="", first_seen=self.now, published=None, modified=None,
            withdrawn=withdrawn,
        )  # fmt: skip
        finding = FindingRecorded(
            t=self.now, by=self.by, advisory=ADVISORY, document=digest, inventory=inventory, match="version",
            name="litellm", version="1.82.8", path="",
        )  # fmt: skip
        self.log.append_statements(*((advisory, finding) if found else (advisory,)))

    def order(self, **changed: Any) -> KeyOrder:
        values: dict[str, Any] = {
            "release": self.release, "groups": GROUPS, "purpose": "training", "host": CI, "member": MEMBER,
            "grant": self.grant.token,
        }  # fmt: skip
        return KeyOrder(**values | changed)

    def ask(
        self, *, key: SigningKey | None = None, clock: Callable[[], int] | None = None, **changed: Any
    ) -> OpenedKeys:
        order = self.order(**changed)
        signer = key or self.host_keys[order.host]
        return request_keys(self.broker, order, signer, clock or self.clock)

    def lease(self, seconds: int = 300, keys: int = 100, **changed: Any) -> Lease:
        order = self.order(**changed)
        return open_lease(self.broker, order, self.host_keys[order.host], self.clock, LeaseWish(seconds, keys))

    def body(self, **changed: Any) -> bytes:
        """A request with nothing wrong in it, but for what is ``changed``."""
        order = self.order()
        values: dict[str, Any] = {
            "request": new_request(), "release": order.release, "groups": tuple(order.groups), "purpose": "training",
            "member": order.member, "host": order.host, "host_key": self.host_keys[CI].key_id, "grant": order.grant,
            "reader": ReaderKey().public,
        }  # fmt: skip
        return format_request(KeyRequest(**values | changed))

    def send(self, body: bytes, **changed: Any) -> SealedKeys:
        """Sign a body with the CI host's key and send it; ``changed`` replaces claims of the proof."""
        nonce = RequestId(str(decode_request(body)))
        proof = sign_request(body, nonce, self.now // SECOND, changed.pop("signer", self.host_keys[CI]))
        fields = {name: getattr(proof, name) for name in proof.__struct_fields__}
        return self.broker.release_keys(body, Proof(**fields | changed))

    def entries(self) -> list[Entry]:
        with self.log.view() as view:
            return [Entry(at, body, decode(body)) for at, body in enumerate(view.bodies(0, view.size()))]

    def statements(self, kind: type[Statement]) -> list[Any]:
        return [entry.statement for entry in self.entries() if isinstance(entry.statement, kind)]

    def hold(self, subject: str, reason: str = "a review") -> Any:
        return self.containment.suspend(parse_subject(subject), reason)

    @contextmanager
    def refused(self, step: int, code: str) -> Iterator[list[KeyRefused]]:
        """The block is refused at this step, with a last entry that says so, a reason and a hint; no key is unwrapped."""
        size, asked = len(self.entries()), len(self.part_keys.asked)
        seen: list[KeyRefused] = []
        with pytest.raises(Refused) as caught:
            yield seen
        error, entry = caught.value, self.entries()[-1]
        assert (error.code, error.entry) == (code, entry.index)
        assert isinstance(entry.statement, KeyRefused)
        assert (entry.statement.step, entry.statement.code) == (step, code)
        assert entry.statement.reason
        assert (entry.statement.reason + entry.statement.hint).isprintable()
        if step < 9:
            assert len(self.entries()) == size + 1
            assert len(self.part_keys.asked) == asked
        seen.append(entry.statement)

    def close(self) -> None:
        self.log.close()


@cache
def _first() -> tuple[World, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.close()
        return world, {name: (Path(folder) / name).read_bytes() for name in ("ledger.db", "lock.db")}


def make_world(folder: Path) -> World:
    """The same world each time, on a ledger of its own: a copy of one that was made once."""
    like, files = _first()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return World(folder, like)


_numbers = iter(range(1, 1 << 40))


def new_request() -> RequestId:
    return RequestId(f"q-{next(_numbers):032x}")


def decode_request(body: bytes) -> Any:
    try:
        return json.loads(body)["request"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return new_request()
