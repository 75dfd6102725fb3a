"""Opening a release of 1,000 part files: round trips to the broker, and the time besides it.

Run: ``python bench/open_parts.py [--parts 1000] [--rounds 15]``. What is measured is all that stands between a reader and
its first record besides the broker's answer: the manifest read and checked, the request made and signed, the keys
opened, each compared with its commitment, each file's place and size looked at, and (shown apart) the first batch read.
The broker here only unwraps and seals keys: its own work is measured in ``bench/release.py``. The peer is what plain
Parquet needs to know as much: opening 1,000 plain files of the same records and reading their footers.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safehold.broker.client import KeyOrder
from safehold.broker.proof import Proof
from safehold.broker.request import SealedKeys, parse_request
from safehold.broker.sealing import seal_keys
from safehold.ledger.keys import SigningKey
from safehold.model.ids import DatasetId, GroupName, HostId, PartyId, Purpose
from safehold.readers import open_with_broker
from safehold.vault.seal import Prepared, ReleaseSpec, SealOptions, prepare
from safehold.vault.sources import open_source

__all__ = ["main"]

ROWS = 40
"""Records that a part gets; those of the last row of a part decide where it ends, so there are about as many parts."""


class Door:
    """A broker that decides nothing: it seals the keys that it has, and counts requests and the time in here."""

    def __init__(self, prepared: Prepared) -> None:
        self._keys = dict(prepared.keys)
        self.calls = 0
        self.seconds = 0.0

    def release_keys(self, body: bytes, _proof: Proof) -> SealedKeys:
        """Answer, whoever asks."""
        began = time.perf_counter()
        self.calls += 1
        asked = parse_request(body)
        sealed = seal_keys(self._keys, asked.reader, asked.request, asked.release)
        answer = SealedKeys(
            request=asked.request, release=asked.release, entry=1, until=2**52, sealed=sealed, receipt=b""
        )
        self.seconds += time.perf_counter() - began
        return answer


def _sealed(folder: Path, parts: int) -> Prepared:
    """A release of about so many parts, published in ``folder``."""
    table = pa.table({"question": [f"How much is {n} times {n}?" for n in range(parts * ROWS)],
                      "answer": [str(n * n) for n in range(parts * ROWS)]})  # fmt: skip
    path = folder.with_name("records.parquet")
    pq.write_table(table, path)
    spec = ReleaseSpec(
        dataset=DatasetId("quill-works/sums"), version=1, customer=PartyId("north-lab"), classification="internal",
        purposes=(Purpose("training"),),
    )  # fmt: skip
    options = SealOptions(part_rows=ROWS, cut_key=b"k" * 32)
    with prepare(open_source(path), spec, SigningKey.generate(), folder, options) as prepared:
        prepared.publish()
    return prepared


def _timed(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _report(prepared: Prepared, folder: Path, rounds: int, plain: list[Path]) -> None:
    door = Door(prepared)
    order = KeyOrder(
        release=prepared.release, groups=[GroupName("data")], purpose=Purpose("training"),
        host=HostId("north-lab/trainer"), member=None, grant="none",
    )  # fmt: skip
    signer = SigningKey.generate()
    besides, peer, first = [], [], []
    for _ in range(rounds):
        door.seconds, door.calls = 0.0, 0
        began = time.perf_counter()
        opening = open_with_broker(folder, order, door, signer, lambda: 1)
        besides.append(time.perf_counter() - began - door.seconds)
        assert door.calls == 1
        first.append(_timed(lambda opening=opening: next(opening.opened.batches())))
        peer.append(_timed(lambda: [pq.ParquetFile(path).metadata for path in plain]))
    parts = len(prepared.manifest.parts)
    ours, theirs = statistics.median(besides), statistics.median(peer)
    print(f"parts {parts:,}; round trips to the broker: {door.calls} (at most 1)")
    print(
        f"open besides the broker: {ours * 1e3:.1f} ms median, {min(besides) * 1e3:.1f} best of {rounds} (at most 50 ms)"
    )
    print(f"first batch after it: {statistics.median(first) * 1e3:.1f} ms")
    print(f"peer, {parts:,} plain files opened, footers read: {theirs * 1e3:.1f} ms; ratio {theirs / ours:.2f}")
    print(f"per part: {ours / parts * 1e6:.0f} µs")


def main() -> None:
    """Seal, then open again and again beside the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        folder = Path(name) / "release"
        prepared = _sealed(folder, options.parts)
        plain = []
        table = pq.read_table(Path(name) / "records.parquet")
        for number in range(len(prepared.manifest.parts)):
            plain.append(Path(name) / f"plain-{number}.parquet")
            pq.write_table(table.slice(number * ROWS, ROWS), plain[-1], compression="zstd")
        _report(prepared, folder, options.rounds, plain)


if __name__ == "__main__":
    main()
