"""Memory while sealing a stream that is much larger than memory should be.

Run: ``python bench/seal_memory.py [gigabytes] [workers]`` (20 and 1 without). The stream is made as it is read: the records of
``bench/seal.py`` again and again under new ids. What is printed is the greatest resident size of the process that seals,
of which the pool of records that the stream is made from is a part, and the rate. A first release holds one part in
memory for each worker, and two more. Fails above 1 GB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from seal import ROWS, SPEC, pool

from safehold.ledger.keys import SigningKey
from safehold.vault.batch_source import BatchSource
from safehold.vault.seal import SealOptions, prepare

LIMIT = 1_000_000_000


def stream(made: pa.Table, size: int, sealed: list[int]) -> Iterator[pa.RecordBatch]:
    """Batches of about ``size`` bytes in all; what was handed out is counted in ``sealed``."""
    first = 0
    while sealed[0] < size:
        for batch in made.to_batches(max_chunksize=ROWS):
            ids = pa.array(range(first, first + batch.num_rows), pa.int64())
            first += batch.num_rows
            numbered = batch.add_column(0, "id", ids)
            sealed[0] += numbered.nbytes
            yield numbered
            if sealed[0] >= size:
                return


def main() -> int:
    """Seal, print, and say whether it stayed within the limit."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    made = pool(32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    schema = pa.schema([pa.field("id", pa.int64()), *made.schema])
    sealed = [0]
    source = BatchSource(schema, stream(made, int(gigabytes * 1e9), sealed))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as home:
        options = SealOptions(workers=workers)
        with prepare(source, SPEC, SigningKey.generate(), Path(home) / "r", options) as prepared:
            took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = sealed[0] / took / 1e6
    print(
        f"{sealed[0] / 1e9:.1f} GB in memory's form, {prepared.manifest.rows:,} records, {workers} worker(s): {rate:.0f} MB/s"
    )
    print(
        f"  greatest resident size {peak / 1e6:,.0f} MB, of it {before / 1e6:,.0f} MB before sealing (wanted <= 1,000 MB)"
    )
    return 0 if peak <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
