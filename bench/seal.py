"""Sealing and opening beside plain Parquet: same records, same zstd level, same row groups, one thread of Arrow.

Run: ``python bench/seal.py [megabytes] [rounds]`` (1,000 and 5 without). Records are Python's own documentation strings
with words replaced, in eight columns, from memory, so that no input format is measured. Both sides write to the same disk
and fsync. Sealing includes the cutting into parts, the SHA-256 of each part and the signed manifest; opening includes the
signed digest, the key commitments and the SHA-256 of each part before its first record. The SHA-256 runs in a thread of
its own on both ways, so on a machine with one core the ratio of processor time counts; it is printed too. Rounds alternate;
medians are compared. A ratio is plain time / sealed time: 1 is as fast as plain.

Two workers on two cores are compared with one worker on one core, where the hash takes its turn with the compression, and with one
worker on both, where it does not. Parts are of uneven size and cut alike each time, by one key; what that alone leaves of 2 is printed.
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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from safehold.ledger.keys import SigningKey
from safehold.model.ids import DatasetId, Digest, PartyId, Purpose
from safehold.vault.fields import describe
from safehold.vault.manifest import Field, SourceFile
from safehold.vault.open import open_release
from safehold.vault.parquet_form import open_part
from safehold.vault.seal import Prepared, ReleaseSpec, SealOptions, prepare

MEGABYTES = 1_000
ROUNDS = 5
CUT_KEY = b"the same parts in every round..."
POOL = 96
"""Megabytes of records that are made; more are the same ones in another order, row group by row group without a repeat."""
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


def pool(megabytes: int) -> pa.Table:
    """Records of eight columns: an id, two texts, and what stands beside texts in real data."""
    rng = random.Random(2026)  # noqa: S311 - the same records every time, no secret
    texts = docstrings()
    words = sorted({word for text in texts for word in text.split()})
    size, prompts, responses = 0, list[str](), list[str]()
    while size < megabytes * 1_000_000:
        prompts.append(vary(rng.choice(texts), words, rng))
        responses.append(vary(rng.choice(texts), words, rng))
        size += len(prompts[-1]) + len(responses[-1]) + 40
    rows = len(prompts)
    return pa.table(
        {
            "prompt": prompts,
            "response": responses,
            "score": [round(rng.random(), 3) for _ in range(rows)],
            "topic": [rng.choice(words)[:12] for _ in range(rows)],
            "source": [f"lib/{rng.randrange(4_000)}.py" for _ in range(rows)],
            "language": [rng.choice(("en", "de", "fr")) for _ in range(rows)],
            "checked": [rng.random() < 0.5 for _ in range(rows)],
        }
    )


def records(megabytes: int) -> list[pa.RecordBatch]:
    """Batches of at least this size."""
    made = pool(min(POOL, megabytes))
    rng = random.Random(7)  # noqa: S311 - the same order every time
    batches: list[pa.RecordBatch] = []
    first = size = 0
    while size < megabytes * 1_000_000:
        order = list(range(made.num_rows))
        rng.shuffle(order)
        turned = made.take(order)
        ids = pa.array(range(first, first + made.num_rows), pa.int64())
        turned = turned.add_column(0, "id", ids).combine_chunks()
        first += made.num_rows
        for batch in turned.to_batches(max_chunksize=ROWS):
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
        self.identity: str | None = None
        self.rows: int | None = None

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


def seal(batches: list[pa.RecordBatch], folder: Path, signer: SigningKey, workers: int, made: list[Prepared]) -> None:
    """Seal and publish; what was sealed goes into ``made``."""
    options = SealOptions(workers=workers, cut_key=CUT_KEY)
    with prepare(MemorySource(batches, workers), SPEC, signer, folder, options) as prepared:
        prepared.publish()
    made.append(prepared)


def read_sealed(prepared: Prepared, columns: list[str] | None = None) -> int:
    """Open with all checks and read every batch."""
    groups = [group.name for group in prepared.manifest.groups]
    opened = open_release(prepared.folder, prepared.release, prepared.keys, groups)
    return sum(batch.num_rows for batch in opened.batches(columns))


def read_plain_columns(path: Path, columns: list[str]) -> int:
    """The peer: two columns."""
    file = pq.ParquetFile(pa.OSFile(str(path), "rb"), pre_buffer=False, buffer_size=1 << 20)
    return sum(batch.num_rows for batch in file.iter_batches(batch_size=16_384, columns=columns))


def random_groups(files: list[Any], count: int) -> list[float]:
    """Seconds for a row group at random, from files that are open."""
    rng = random.Random(3)  # noqa: S311 - the same groups every time
    places = [(file, number) for file in files for number in range(file.metadata.num_row_groups)]
    took = []
    for _ in range(count):
        file, number = rng.choice(places)
        start = time.perf_counter()
        file.read_row_group(number, use_threads=False)
        took.append(time.perf_counter() - start)
    return took


class Measured:
    """Clock and processor seconds of each act, over all rounds."""

    def __init__(self) -> None:
        self.times: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, call: Callable[[], object], *, keep: bool) -> None:
        """Time ``call``; the first round warms the allocator and the page cache and is not kept."""
        took = timed(call)
        if keep:
            self.times.setdefault(name, []).append(took)

    def median(self, name: str, at: int = 0) -> float:
        """Median seconds: on the clock (0) or of the processor (1)."""
        return statistics.median(pair[at] for pair in self.times[name])

    def line(self, plain: str, sealed: str, wanted: str) -> str:
        """Both, and their ratio."""
        ratio = self.median(plain) / self.median(sealed)
        processor = self.median(plain, 1) / self.median(sealed, 1)
        pairs = zip(self.times[plain], self.times[sealed], strict=True)
        paired = statistics.median(one[0] / other[0] for one, other in pairs)
        return (
            f"  {plain:22} {self.median(plain):7.3f} s   {sealed:22} {self.median(sealed):7.3f} s   ratio {ratio:.3f}"
            f" (round by round {paired:.3f}; processor {processor:.3f}; wanted {wanted})"
        )


TWO = ["prompt", "score"]


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def seal_on_one_core(batches: list[pa.RecordBatch], folder: Path, signer: SigningKey) -> None:
    """One worker and one core."""
    with one_core():
        seal(batches, folder, signer, 1, [])


def best_share(prepared: Prepared, workers: int) -> float:
    """How many times as fast the parts can be written at best, taken in order by whoever is free."""
    rows: dict[int, int] = {part.part: part.rows for part in prepared.manifest.parts}
    busy = [0] * workers
    for count in rows.values():
        busy[busy.index(min(busy))] += count
    return sum(rows.values()) / max(busy)


def one_round(
    batches: list[pa.RecordBatch], home: Path, signer: SigningKey, found: Measured, *, keep: bool
) -> Prepared:
    """Every act once, plain and sealed in turn."""
    plain, folder = home / "plain.parquet", home / "sealed"
    shutil.rmtree(folder, ignore_errors=True)
    plain.unlink(missing_ok=True)
    made: list[Prepared] = []
    found.add("plain write", partial(write_plain, batches, plain), keep=keep)
    found.add("seal", partial(seal, batches, folder, signer, 1, made), keep=keep)
    found.add("plain read", partial(read_plain, plain), keep=keep)
    found.add("open", partial(read_sealed, made[0]), keep=keep)
    found.add("plain 2 of 8 columns", partial(read_plain_columns, plain, TWO), keep=keep)
    found.add("open 2 of 8 columns", partial(read_sealed, made[0], TWO), keep=keep)
    other = home / "two"
    shutil.rmtree(other, ignore_errors=True)
    found.add("seal, two workers", partial(seal, batches, other, signer, 2, []), keep=keep)
    shutil.rmtree(other)
    found.add("seal, one core", partial(seal_on_one_core, batches, other, signer), keep=keep)
    return made[0]


def main() -> None:
    """Measure and print."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    batches = records(megabytes)
    rows = sum(batch.num_rows for batch in batches)
    size = sum(batch.nbytes for batch in batches)
    found, signer = Measured(), SigningKey.generate()
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        home = Path(name)
        for number in range(rounds + 1):
            prepared = one_round(batches, home, signer, found, keep=number > 0)
        assert read_sealed(prepared) == read_plain(home / "plain.parquet") == rows
        parts = len(prepared.manifest.parts)
        print(f"{rows:,} records, {size / 1e6:,.0f} MB in memory, {parts} parts, medians of {rounds} rounds")
        print(found.line("plain write", "seal", ">= 0.96"))
        print(found.line("plain read", "open", ">= 0.95"))
        print(found.line("plain 2 of 8 columns", "open 2 of 8 columns", ">= 0.95"))
        one, core, two = (found.median(name) for name in ("seal", "seal, one core", "seal, two workers"))
        print(
            f"  seal, two workers      {two:7.3f} s   {core / two:.2f} x one worker on one core ({core:.3f} s; wanted >= 1.9;"
            f" by the sizes of parts at most {best_share(prepared, 2):.2f}); {one / two:.2f} x one worker on both"
        )
        plain = [pq.ParquetFile(home / "plain.parquet")]
        keys, folder = prepared.keys, prepared.folder
        sealed = [open_part(folder / part.file, keys[part.file], part.aad) for part in prepared.manifest.parts]
        ours, theirs = random_groups(sealed, 200), random_groups(plain, 200)
        p50, other = statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3
        print(
            f"  random row group, p50  plain {other:.2f} ms   sealed {p50:.2f} ms   {p50 / other:.2f} x (wanted <= 1.1)"
        )
        sizes = (home / "plain.parquet").stat().st_size, prepared.manifest.size
        print(
            f"  size: plain {sizes[0]:,}, sealed {sizes[1]:,} bytes: {100 * (sizes[1] / sizes[0] - 1):+.3f} % (wanted <= +0.1 %)"
        )


if __name__ == "__main__":
    main()
