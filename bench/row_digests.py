"""Digests of records: what ``seal --row-digests`` costs a record, and what a proof of one record costs and weighs.

Run: ``python bench/row_digests.py [--gb 0.25] [--rounds 5] [--proofs 7]``, some minute. Records are those of
``bench/seal.py``; sealing with and without digests alternates, medians are compared, and the first round does not count.
The cost does not depend on how many records there are; that of a proof grows with the records of one part (it is made from all
digests of the part) and, to find the record, with the release. A proof holds the signed manifest and the ledger's receipt, so
its size is given in parts too. Whoever verifies has neither keys nor other records.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from seal import SPEC, MemorySource, records

from safehold.assembly.row_proof import ProofTerms, find_record, make_proof, verify_proof
from safehold.assembly.row_tree import row_root
from safehold.ledger.keys import SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.sqlite import SqliteStore
from safehold.model.ids import PartyId
from safehold.model.statements import ReleaseSealed
from safehold.registry import Registry
from safehold.state.projection import StateProjector
from safehold.vault.manifest import manifest_bytes
from safehold.vault.open import open_release
from safehold.vault.seal import Prepared, SealOptions, prepare
from safehold.vault.verify import load_release

SUPPLIER = PartyId("quill-works")


def now() -> int:
    """µs UTC."""
    return time.time_ns() // 1000


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    gc.collect()
    start, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - used


def seal(batches: list[pa.RecordBatch], folder: Path, signer: SigningKey, *, digests: bool) -> Prepared:
    """Seal and publish."""
    shutil.rmtree(folder, ignore_errors=True)
    source: Any = MemorySource(batches, 1)
    options = SealOptions(row_tree=row_root if digests else None, cut_key=b"the same cuts" * 2)
    with prepare(source, SPEC, signer, folder, options) as prepared:
        prepared.publish()
    return prepared


def sealing(batches: list[pa.RecordBatch], home: Path, signer: SigningKey, rounds: int) -> Prepared:
    """Print what sealing costs with and without; return the release with digests."""
    rows = sum(batch.num_rows for batch in batches)
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    made: dict[bool, Prepared] = {}
    for number in range(rounds + 1):
        for digests, taken in times.items():

            def one(digests: bool = digests) -> None:
                made[digests] = seal(batches, home / f"sealed-{digests}", signer, digests=digests)

            took = timed(one)
            if number:
                taken.append(took)
    clock, used = (
        {digests: statistics.median(one[at] for one in taken) for digests, taken in times.items()} for at in (0, 1)
    )
    print(
        f"{rows:,} records, {sum(batch.nbytes for batch in batches) / 1e6:,.0f} MB in memory,"
        f" {len(made[True].manifest.parts)} parts of about {made[True].manifest.part_rows:,}, medians of {rounds} rounds"
    )
    for what, one in (("clock", clock), ("processor", used)):
        print(
            f"  seal, {what:9}  without {one[False]:7.3f} s   with digests {one[True]:7.3f} s"
            f"   {(one[True] - one[False]) / rows * 1e6:6.2f} µs a record   ratio {one[False] / one[True]:.3f}"
        )
    plain, longer = made[False].manifest, made[True].manifest
    assert [part.rows for part in plain.parts] == [part.rows for part in longer.parts], "both are cut alike"
    more = len(manifest_bytes(longer)) - len(manifest_bytes(plain))
    print(
        f"  a part: {more / len(longer.parts):+.0f} bytes in the manifest, {longer.size - plain.size:+,} in part files"
    )
    return made[True]


def recorded(prepared: Prepared, home: Path, signer: SigningKey) -> tuple[Log, bytes]:
    """A ledger that names the release, and the receipt of that entry."""
    store = SqliteStore(home / "ledger.db")
    log = Log(store, CheckpointLock(home / "lock.db"), signer, "north-lab.example/custody", StateProjector())
    registry = Registry(log, now, signer.key_id)
    registry.add_party(SPEC.customer, "lab", "Lab", SigningKey.generate().public)
    registry.add_party(SUPPLIER, "supplier", "Supplier", SigningKey.generate().public)
    registry.add_dataset(SPEC.dataset, SPEC.customer, "Docstrings")
    manifest = prepared.manifest
    sealed = ReleaseSealed(
        t=now(),
        by=signer.key_id,
        release=prepared.release,
        dataset=SPEC.dataset,
        version=SPEC.version,
        party=SUPPLIER,
        host=None,
        parent=None,
        rows=manifest.rows,
        size=manifest.size,
        parts=len(manifest.parts),
        groups=tuple(group.name for group in manifest.groups),
        classification=SPEC.classification,
        purposes=SPEC.purposes,
        people=(),
    )
    log.append(lambda _view: Draft((sealed,), (manifest_bytes(manifest),)))
    with log.view() as view:
        index = view.size() - 1
    return log, log.receipt(index)


def proofs(prepared: Prepared, home: Path, signer: SigningKey, count: int) -> None:
    """Print what finding, proving and verifying take for records at random, and how large a proof is."""
    log, receipt = recorded(prepared, home, signer)
    groups = [group.name for group in prepared.manifest.groups]
    opened = open_release(prepared.folder, prepared.release, prepared.keys, groups)
    envelope = load_release(prepared.folder).envelope
    terms = ProofTerms(prepared.release, [signer.public], log.verifier)
    rng = random.Random(11)  # noqa: S311 - the same records every time
    times: dict[str, list[float]] = {}

    def measured(name: str, call: Callable[[], Any]) -> Any:
        kept: list[Any] = []
        took, _ = timed(lambda: kept.append(call()))
        times.setdefault(name, []).append(took)
        return kept[0]

    sizes: list[int] = []
    for _ in range(count):
        wanted = {"id": rng.randrange(prepared.manifest.rows)}
        found = measured("find by its id", partial(find_record, opened, wanted))
        data = measured("make its proof", partial(make_proof, opened, prepared.keys, envelope, found, receipt))
        proven = measured("verify it", partial(verify_proof, data, terms))
        assert proven.values["id"] == wanted["id"], "another record was proven"
        assert proven.entry is not None
        sizes.append(len(data))
    for name, taken in times.items():
        print(f"  {name:16} {statistics.median(taken) * 1e3:9.2f} ms   longest {max(taken) * 1e3:9.2f} ms")
    last = json.loads(data)
    shown = sum(len(json.dumps(one)) for one in last["groups"].values())
    print(
        f"  a proof has {statistics.median(sizes):,.0f} bytes (median): {len(json.dumps(last['manifest'])):,} the signed"
        f" manifest, {len(last['receipt']):,} the receipt, {shown:,} the record, its salt and its path"
        f" of {max(len(one['path']) for one in last['groups'].values())} digests"
    )
    log.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=0.25, help="records in memory, in GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--proofs", type=int, default=7, help="of so many records at random")
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    batches = records(max(1, round(asked.gb * 1000)))
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        home, signer = Path(name), SigningKey.generate()
        prepared = sealing(batches, home, signer, asked.rounds)
        proofs(prepared, home, signer, asked.proofs)


if __name__ == "__main__":
    main()
