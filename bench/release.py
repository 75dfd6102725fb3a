"""Key releases by the broker in one process: one by one and 64 at a time, 1 key and 64 keys a request, and by a lease.

Run: ``python bench/release.py [--requests 640]``. Requests are made and signed beforehand: what is measured is the
broker's side alone, all eleven steps with a real ledger, key store and key-encryption key, durable before release. *At a
time* is what the served broker does with requests that wait together: one commit for 64 of them, half of their signatures
checked on another core. They ask for the same release, so that its keys are unwrapped once a commit and not once a request.
Beside each figure stand the CPU and the commits a request took, and what a commit costs on this disk. There is no peer
here (``serve.py`` has one); the bound printed is what one verification and one hybrid seal cost by themselves.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safehold.broker.client import KeyOrder
from safehold.broker.grants import GrantKey, verify_grant
from safehold.broker.issue import GrantOrder, issue_grant
from safehold.broker.lease_client import open_lease
from safehold.broker.proof import Proof, sign_request, verify_proof
from safehold.broker.release import Broker
from safehold.broker.request import (
    KeyRequest,
    LeasedRequest,
    LeaseWish,
    format_leased_request,
    format_request,
)
from safehold.broker.sealing import ReaderKey, seal_keys
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.sqlite import SqliteStore
from safehold.model.ids import DatasetId, Digest, GroupName, HostId, PartyId, Purpose, parse_request_id, sha256_digest
from safehold.model.statements import InventoryRecorded, KeyReleased, ReleaseSealed, decode
from safehold.registry import Registry
from safehold.state.projection import StateProjector
from safehold.vault.kek import PassphraseKek
from safehold.vault.keystore import KeyStore
from safehold.vault.manifest import ColumnGroup, Field, Manifest, PartFile, RecordId, manifest_bytes, part_file_name
from safehold.vault.part_keys import aad_text, key_commitment, new_part_key
from safehold.vault.wrapped import WrappedKeys

__all__ = ["main"]

LAB, SUPPLIER = PartyId("north-lab"), PartyId("quill-works")
HOST, DATASET = HostId("quill-works/ci-1"), DatasetId("quill-works/words")
GROUP, PURPOSE = GroupName("text"), Purpose("training")
AT_A_TIME = 64
CONTENTS = b'{"distributions":[{"name":"numpy","version":"2.3.0"}]}'


class Commits:
    """Counts commits with entries: one fsync of the write-ahead log each. A commit stages one signed checkpoint."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def count(self) -> int:
        """Commits so far."""
        with self._store.read() as view:
            return int(view.rows("SELECT count(*) FROM checkpoint")[0][0])


class World:
    """A home with a supplier's host, a release of 64 parts and a grant."""

    def __init__(self, folder: Path) -> None:
        signer = SigningKey.generate()
        by = signer.key_id
        store = SqliteStore(folder / "ledger.db")
        self.log = Log(store, CheckpointLock(folder / "lock.db"), signer, "north-lab.example/custody", StateProjector())
        self.commits = Commits(store)
        self.keys = WrappedKeys(KeyStore(folder / "keys.db"), PassphraseKek.create(folder / "kek.json", "a passphrase"))
        self.host_key, grant_key = SigningKey.generate(), GrantKey(secrets.token_bytes(32))
        registry = Registry(self.log, now, by)
        registry.add_party(LAB, "lab", "Lab", SigningKey.generate().public)
        registry.add_party(SUPPLIER, "supplier", "Supplier", SigningKey.generate().public)
        registry.add_host(HOST, self.host_key.public, 60)
        registry.add_dataset(DATASET, LAB, "Words")
        inventory = InventoryRecorded(
            t=now(),
            by=by,
            host=HOST,
            environment="main",
            inventory=sha256_digest(CONTENTS),
            report=sha256_digest(b"report"),
            observed=now(),
            distributions=1,
            oddities=0,
        )
        self.log.append(lambda _view: Draft((inventory,), (CONTENTS,)))
        self.releases = {parts: self._seal(parts, version, by) for version, parts in enumerate((1, 64), start=1)}
        order = GrantOrder(
            party=SUPPLIER,
            host=HOST,
            dataset=DATASET,
            groups=(GROUP,),
            purposes=(PURPOSE,),
            not_before=now(),
            until=now() + 86_400_000_000,
        )
        self.grant = issue_grant(self.log, grant_key, order, now, by)
        self.broker = Broker(self.log, self.keys, grant_key.public_bytes, now, by)

    def _seal(self, parts: int, version: int, by: Any) -> Digest:
        keys = {part_file_name(version, number, GROUP): new_part_key() for number in range(parts)}
        manifest = _manifest(keys, version)
        body = manifest_bytes(manifest)
        release = sha256_digest(body)
        self.keys.store(release, keys)
        sealed = ReleaseSealed(
            t=now(),
            by=by,
            release=release,
            dataset=DATASET,
            version=version,
            party=SUPPLIER,
            host=None,
            parent=None,
            rows=manifest.rows,
            size=manifest.size,
            parts=parts,
            groups=(GROUP,),
            classification="internal",
            purposes=(PURPOSE,),
            people=(),
        )
        self.log.append(lambda _view: Draft((sealed,), (body,)))
        return release

    def leased(self, count: int, parts: int) -> list[tuple[bytes, Any]]:
        """Requests by one lease, counted up."""
        order = KeyOrder(
            release=self.releases[parts], groups=(GROUP,), purpose=PURPOSE, host=HOST, member=None,
            grant=self.grant.token,
        )  # fmt: skip
        lease = open_lease(self.broker, order, self.host_key, now, LeaseWish(300, 10**6))
        made = []
        for counter in range(1, count + 1):
            asked = LeasedRequest(lease=lease.id, counter=counter, release=self.releases[parts], groups=(GROUP,))
            body = format_leased_request(asked)
            made.append((body, lease.session.authenticate(body)))
        return made

    def requests(self, count: int, parts: int) -> list[tuple[bytes, Proof]]:
        """Signed requests, each with an id and a reader of its own."""
        made = []
        for _ in range(count):
            request = KeyRequest(
                request=parse_request_id("q-" + secrets.token_hex(16)),
                release=self.releases[parts],
                groups=(GROUP,),
                purpose=PURPOSE,
                member=None,
                host=HOST,
                host_key=self.host_key.key_id,
                grant=self.grant.token,
                reader=ReaderKey().public,
            )
            body = format_request(request)
            made.append((body, sign_request(body, request.request, now() // 1_000_000, self.host_key)))
        return made


def now() -> int:
    """µs UTC; the broker's clock and the host's."""
    return time.time_ns() // 1000


def _manifest(keys: dict[str, bytes], version: int) -> Manifest:
    parts = []
    for number, (file, key) in enumerate(keys.items()):
        aad = aad_text(SUPPLIER, DATASET, version, number, GROUP)
        digest = sha256_digest(file.encode())
        parts.append(
            PartFile(
                sealed=version,
                tag="",
                rows_root=None,
                tail=None,
                part=number,
                group=GROUP,
                file=file,
                sha256=digest,
                size=1,
                rows=1,
                commitment=key_commitment(key, aad),
                aad=aad,
            )
        )
    return Manifest(
        dataset=DATASET,
        version=version,
        party=SUPPLIER,
        customer=LAB,
        order=None,
        host=None,
        parent=None,
        classification="internal",
        purposes=(PURPOSE,),
        people=(),
        sources=(),
        columns=(Field(name="text", type="string", nullable=False, omit=False, integers=False, json=False, fields=()),),
        groups=(ColumnGroup(name=GROUP, columns=("text",)),),
        record_id=RecordId(rule="record", column=None),
        compression="zstd",
        rows=len(parts),
        part_rows=1,
        parts=tuple(parts),
        runs=(),
        sidecars=(),
    )


def _answer(broker: Broker, requests: Sequence[tuple[bytes, Proof]], taken: list[float]) -> None:
    for body, proof in requests:
        start = time.perf_counter()
        answer = broker.release_keys(body, proof)
        taken.append(time.perf_counter() - start)
        assert answer.sealed


def _measure(world: World, parts: int, threads: int, count: int) -> None:
    requests, taken = world.requests(count, parts), list[float]()
    workers = [
        threading.Thread(target=_answer, args=(world.broker, requests[at::threads], taken)) for at in range(threads)
    ]
    commits, cpu, start = world.commits.count(), time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, cpu, commits = time.perf_counter() - start, time.process_time() - cpu, world.commits.count() - commits
    assert len(taken) == count, "every request must have been answered"
    taken.sort()
    print(
        f"{parts:>3} keys, {threads:>2} threads: {count / wall:7.0f} requests/s {parts * count / wall:9.0f} keys/s"
        f"   p50 {taken[count // 2] * 1e3:6.2f} ms  p99 {taken[count * 99 // 100] * 1e3:6.2f} ms"
        f"   cpu {cpu / count * 1e6:5.0f} us/request   {commits / count:4.2f} commits/request"
    )


def _measure_many(world: World, name: str, asks: Sequence[tuple[bytes, Any]], keys: int) -> None:
    """The same, 64 requests a call."""
    count, taken, failed = len(asks), list[float](), 0
    commits, cpu, start = world.commits.count(), time.process_time(), time.perf_counter()
    for begin in range(0, count, AT_A_TIME):
        at = time.perf_counter()
        outcomes = world.broker.release_many(asks[begin : begin + AT_A_TIME])
        taken.append(time.perf_counter() - at)
        failed += sum(isinstance(one, Exception) for one in outcomes)
    wall, cpu, commits = time.perf_counter() - start, time.process_time() - cpu, world.commits.count() - commits
    assert not failed, f"{failed} of {count} were refused"
    taken.sort()
    print(
        f"{name}, {AT_A_TIME} at a time: {count / wall:7.0f} requests/s {keys * count / wall:9.0f} keys/s"
        f"   p50 {taken[len(taken) // 2] * 1e3:6.2f} ms  longest {taken[-1] * 1e3:6.2f} ms"
        f"   cpu {cpu / count * 1e6:5.0f} us/request   {commits / count:5.3f} commits/request"
    )


def _each(act: Callable[[], object], times: int = 300) -> float:
    """µs of CPU for one call."""
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times * 1e6


def _fsync(folder: Path) -> float:
    descriptor = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT, 0o600)
    start = time.perf_counter()
    for _ in range(100):
        os.write(descriptor, bytes(4096))
        os.fsync(descriptor)
    os.close(descriptor)
    return (time.perf_counter() - start) / 100


def main() -> None:
    """Make, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=640)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        world = World(Path(name))
        _answer(world.broker, world.requests(20, 1), [])
        print(f"append of 4 KiB with fsync: {_fsync(Path(name)) * 1e3:.2f} ms")
        for parts in (1, 64):
            for threads in (1, 16):
                _measure(world, parts, threads, count)
        with ThreadPoolExecutor(1) as other_core:
            world.broker.share_work(other_core)
            for parts in (1, 64):
                _measure_many(world, f"{parts:>3} keys, fresh", world.requests(count, parts), parts)
            for parts in (1, 64):
                _measure_many(world, f"{parts:>3} keys, lease", world.leased(count, parts), parts)
        print(f"append of 4 KiB with fsync: {_fsync(Path(name)) * 1e3:.2f} ms")
        ((body, proof),) = world.requests(1, 1)
        reader, request = ReaderKey().public, parse_request_id("q-" + "0" * 32)
        one, many = ({f"{at:05d}-text.parquet": bytes(32) for at in range(parts)} for parts in (1, 64))
        verify = _each(lambda: verify_proof(body, proof, world.host_key.public))
        seal_one = _each(lambda: seal_keys(one, reader, request, world.releases[1]))
        seal_many = _each(lambda: seal_keys(many, reader, request, world.releases[64]))
        grant = _each(lambda: verify_grant(world.grant.token, world.grant.root))
        print(f"alone: Ed25519 proof {verify:.0f} us, seal of 1 key {seal_one:.0f} us, of 64 keys {seal_many:.0f} us,")
        print(f"       chain of a grant {grant:.0f} us")
        print(
            f"bound of proof and seal, one core: {1e6 / (verify + seal_one):.0f} requests/s with 1 key,"
            f" {64e6 / (verify + seal_many):.0f} keys/s by 64"
        )
        with world.log.view() as view:
            bodies = view.bodies(0, view.size())
        released = sum(isinstance(decode(body), KeyReleased) for body in bodies)
        assert released == 8 * count + 20, "each answer has its entry"
        world.log.close()


if __name__ == "__main__":
    main()
