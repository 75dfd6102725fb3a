"""Sealing and opening beside plain Parquet: same records, same zstd level, same row groups, one thread.

Records are Python's own documentation strings with words replaced, from memory, so that no input format is
measured. Both sides write to the same disk and fsync. Sealing includes the SHA-256 of each part and the signed
manifest; opening includes the signed digest, the key commitments and the SHA-256 of each part before the first
record. Rounds alternate; medians are compared. A ratio is plain time / sealed time: 1 is as fast as plain. The ratio of
processor time is printed too: on a machine with other work it is the steadier one.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safehold.ledger.keys import SigningKey
from safehold.model.ids import DatasetId, Digest, PartyId, Purpose
from safehold.vault.fields import describe
from safehold.vault.manifest import Field, SourceFile
from safehold.vault.open import open_release
from safehold.vault.seal import Prepared, ReleaseSpec, SealOptions, prepare
from safehold.vault.verify import check_part

MEGABYTES = 256
ROUNDS = 7
ROWS = 8_192
SPEC = ReleaseSpec(
    dataset=DatasetId("quill-works/docstrings"),
    version=1,
    customer=PartyId("north-lab"),
    classification="internal",
    purposes=(Purpose("training"),),
)


def docstrings() -> list[str]:
    """Every documentation string of the standard library."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
        found += [text for text in texts if text and text.isascii()]
    return found


def records(megabytes: int) -> list[pa.RecordBatch]:
    """Batches of at least this size: an id, two texts and a score."""
    rng = random.Random(2026)  # noqa: S311 - the same records every time, no secret
    texts = docstrings()
    words = sorted({word for text in texts for word in text.split()})
    batches: list[pa.RecordBatch] = []
    size = 0
    while size < megabytes * 1_000_000:
        first = len(batches) * ROWS
        columns = [[vary(rng.choice(texts), words, rng) for _ in range(ROWS)] for _ in range(2)]
        batch = pa.RecordBatch.from_pydict(
            {
                "id": pa.array(range(first, first + ROWS), pa.int64()),
                "prompt": columns[0],
                "response": columns[1],
                "score": [round(rng.random(), 3) for _ in range(ROWS)],
            }
        )
        batches.append(batch)
        size += batch.nbytes
    return batches


def vary(text: str, words: list[str], rng: random.Random) -> str:
    """One word in five replaced, so that texts are not mere copies for the compressor."""
    return " ".join(rng.choice(words) if rng.random() < 0.2 else word for word in text.split(" "))


class MemorySource:
    """A ``Source`` of batches in memory."""

    def __init__(self, batches: list[pa.RecordBatch], parts: int) -> None:
        self._batches = batches
        self.schema = batches[0].schema
        self.columns: tuple[Field, ...] = describe(self.schema)
        self.size_hint = parts

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of them."""
        return iter(self._batches)

    def files(self) -> tuple[SourceFile, ...]:
        """What stands in for a file: there is none to hash."""
        rows = sum(batch.num_rows for batch in self._batches)
        size = sum(batch.nbytes for batch in self._batches)
        digest = Digest("sha256:" + "0" * 64)
        return (SourceFile(name="memory", format="batches", sha256=digest, size=size, rows=rows, style=None),)


def write_plain(batches: list[pa.RecordBatch], path: Path) -> None:
    """The peer: one Parquet file with row groups of 16,384 rows, fsynced."""
    with path.open("wb") as file:
        with pq.ParquetWriter(file, batches[0].schema, compression="zstd", compression_level=3) as writer:
            for place in range(0, len(batches), 2):
                table = pa.Table.from_batches(batches[place : place + 2])
                writer.write_table(table, row_group_size=table.num_rows)
        file.flush()
        os.fsync(file.fileno())


def read_plain(path: Path) -> int:
    """The peer: the same batches as our reader asks for."""
    file = pq.ParquetFile(pa.OSFile(str(path), "rb"), pre_buffer=False, buffer_size=1 << 20)
    return sum(batch.num_rows for batch in file.iter_batches(batch_size=16_384))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that ``call`` takes: on the clock, and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - used


def seal(batches: list[pa.RecordBatch], folder: Path, signer: SigningKey, parts: int, made: list[Prepared]) -> None:
    """Seal and publish; what was sealed goes into ``made``."""
    values = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__}
    spec = ReleaseSpec(**values | {"record_id": None if parts == 1 else "id"})
    with prepare(MemorySource(batches, parts), spec, signer, folder, SealOptions(parts=parts)) as prepared:
        prepared.publish()
    made.append(prepared)


def hash_parts(prepared: Prepared) -> None:
    """The share of opening that looks at the files before any key is used."""
    for part in prepared.manifest.parts:
        check_part(prepared.folder, part)


def read_sealed(prepared: Prepared) -> int:
    """Open with all checks and read every batch."""
    opened = open_release(prepared.folder, prepared.release, prepared.keys, ["data"])
    return sum(batch.num_rows for batch in opened.batches())


def compare(batches: list[pa.RecordBatch], home: Path, parts: int) -> None:
    """Measure one number of parts and print it."""
    signer = SigningKey.generate()
    plain, folder = home / "plain.parquet", home / "sealed"
    rows = sum(batch.num_rows for batch in batches)
    size = sum(batch.nbytes for batch in batches)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("write", "seal", "read", "open", "hash")}
    sizes = (0, 0)
    for number in range(ROUNDS + 1):
        shutil.rmtree(folder, ignore_errors=True)
        made: list[Prepared] = []
        write = timed(partial(write_plain, batches, plain))
        sealing = timed(partial(seal, batches, folder, signer, parts, made))
        read = timed(partial(read_plain, plain))
        opening = timed(partial(read_sealed, made[0]))
        hashing = timed(partial(hash_parts, made[0]))
        prepared = made[0]
        assert read_sealed(prepared) == read_plain(plain) == rows
        sizes = (plain.stat().st_size, prepared.manifest.size)
        if number:  # the first round warms the allocator and the page cache
            for name, took in zip(times, (write, sealing, read, opening, hashing), strict=True):
                times[name].append(took)
    clock = {name: statistics.median(took for took, _ in pairs) for name, pairs in times.items()}
    used = {name: statistics.median(used for _, used in pairs) for name, pairs in times.items()}
    print(f"{rows:,} records, {size / 1e6:,.0f} MB in memory, {parts} part(s), medians of {ROUNDS} rounds")
    for plain_act, sealed_act in (("write", "seal"), ("read", "open")):
        print(
            f"  {plain_act:5} plain {clock[plain_act]:6.3f} s   {sealed_act} {clock[sealed_act]:6.3f} s"
            f"   ratio {clock[plain_act] / clock[sealed_act]:.3f}"
            f"   (processor: {used[plain_act]:.3f} s, {used[sealed_act]:.3f} s, {used[plain_act] / used[sealed_act]:.3f})"
        )
    without = used["read"] / (used["open"] - used["hash"])
    print(f"  of opening, SHA-256 before the first record: {used['hash']:.3f} s; without it the ratio is {without:.3f}")
    print(f"  size: plain {sizes[0]:,}, sealed {sizes[1]:,} bytes: {100 * (sizes[1] / sizes[0] - 1):+.3f} %")


def main() -> None:
    """Measure one part, then four (which must be merged back into the input's order)."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES
    batches = records(megabytes)
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as home:
        for parts in (1, 4):
            compare(batches, Path(home), parts)


if __name__ == "__main__":
    main()
