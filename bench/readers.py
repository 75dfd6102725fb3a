"""Training readers over a sealed release beside the same readers over plain Parquet, with and without the training cache.

Run: ``python bench/readers.py [torch hf workers] [--gb 1.0] [--rounds 5] [--seconds 180] [--no-cache]``. The plain files hold
the same records in the same parts and row groups at the same zstd level. *The same loader*: our torch reader's own code
reads both, so order, shuffle and batches cost both sides alike; for Hugging Face the peer is its own Parquet reader,
streaming. *workers* is torch's real ``DataLoader`` with two processes, with the torch below ``.peers``, which is made on first
use (tools/torch_peer.py). Nothing is written while measuring but the cache: records as Arrow, encrypted under a key of the
process. *First epoch* opens the release with an empty cache, reads, writes the cache and removes it; *later epochs* read it.

Rounds alternate, medians are compared, and the first round, which warms the allocator and the page cache, does not count.
``--seconds`` bounds the measuring: each comparison has its share of what is left, the cheap ones first, and after one that
counts begins no round that would not fit; making the data takes half a minute more. A ratio is the peer's time / ours: 1 is
as fast, 2 is twice as fast. Python values cost ten times as much as Arrow and are read for a quarter of the records.

A fresh read checks the SHA-256 of each part in another thread; the wall clock hides that behind a second core, the
processor's time does not. Later epochs of one reader check it no more. Whole reads beside age, restic and DVC are in
bench/copies.py.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from seal import SPEC, MemorySource, records

from safehold.broker.client import KeyOrder, OpenedKeys
from safehold.ledger.keys import SigningKey
from safehold.model.ids import Digest, GroupName, HostId, Purpose
from safehold.readers import OrderRule, ReadOptions, SealedRelease, open_release
from safehold.readers.feed import BlockSource
from safehold.readers.hf_reader import hf_dataset
from safehold.readers.torch_reader import SealedLoader, SealedTorch, TorchPlan
from safehold.vault.manifest import Field, Run
from safehold.vault.seal import Prepared, SealOptions, prepare

ROOT = Path(__file__).resolve().parents[1]
TORCH_IS_HERE = "SAFEHOLD_BENCH_TORCH"
SUBJECTS = ("torch", "hf", "workers")
FRESH = 64
"""Megabytes of records that are made; they are repeated, farther apart than zstd looks back."""
RULE = OrderRule(seed=1)
OPTIONS = SealOptions(part_bytes=32 << 20, cut_key=b"the same cuts" * 2)
SAME = "the same loader, plain Parquet"
GOAL = "sealed 0.93, cache 1.15"


class Keys:
    """A broker that answers at once: what is measured is reading."""

    def __init__(self, prepared: Prepared) -> None:
        self._keys = dict(prepared.keys)

    def request(self, order: KeyOrder) -> OpenedKeys:
        """All keys, for an hour."""
        return OpenedKeys(self._keys, time.time_ns() // 1000 + 3_600_000_000, 0, b"")

    def check(self, order: KeyOrder) -> None:
        """No hold."""


class Plain:
    """Plain Parquet parts behind the same methods as a sealed release."""

    def __init__(self, files: dict[int, Path], like: SealedRelease) -> None:
        self._files = files
        self._like = like
        self.digest: Digest = like.digest
        self.rows = like.rows
        self.runs: tuple[Run, ...] = like.runs

    def fields(self, columns: Sequence[str] | None) -> tuple[Field, ...]:
        """As sealed."""
        return self._like.fields(columns)

    def share_keys(self) -> None:
        """There are none."""

    def allow(self) -> None:
        """Always."""

    def blocks(self, columns: Sequence[str] | None = None, streams: int = 17) -> BlockSource:
        """As sealed, without a cache."""
        return BlockSource(self, columns, None, streams)

    def copy(self, folder: Path) -> None:
        """Copy all files into a new folder."""
        folder.mkdir()
        for path in self._files.values():
            shutil.copy(path, folder / path.name)

    def at(self, folder: Path) -> Plain:
        """The same files, as they lie in ``folder``."""
        return Plain({part: folder / path.name for part, path in self._files.items()}, self._like)

    def stretch(self, part: int, first: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The records of a part from ``first`` on; groups before it are not read."""
        file = pq.ParquetFile(pa.OSFile(str(self._files[part]), "rb"), pre_buffer=False, buffer_size=1 << 20)
        begin = 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if begin + rows > first:
                break
            begin += rows
        else:
            return
        skip = first - begin
        for batch in file.iter_batches(
            batch_size=16_384, row_groups=list(range(number, file.metadata.num_row_groups)), columns=columns
        ):
            found = batch.slice(min(skip, batch.num_rows))
            skip -= batch.num_rows - found.num_rows
            if found.num_rows:
                yield found


def data(megabytes: int) -> list[pa.RecordBatch]:
    """Records of about this size."""
    fresh = records(min(megabytes, FRESH))
    return fresh * max(1, round(megabytes / FRESH))


def seal(batches: list[pa.RecordBatch], home: Path) -> Prepared:
    """The release, in parts of 32 MB in memory."""
    source: Any = MemorySource(batches, 1)
    with prepare(source, SPEC, SigningKey.generate(), home / "sealed", OPTIONS) as prepared:
        prepared.publish()
    return prepared


def write_plain(release: SealedRelease, home: Path) -> dict[int, Path]:
    """The same records, parts, row groups and level without encryption."""
    files: dict[int, Path] = {}
    for part in dict.fromkeys(run.part for run in release.runs):
        table = pa.Table.from_batches(list(release.stretch(part, 0, None)))
        files[part] = home / f"plain-{part:05d}.parquet"
        pq.write_table(table, files[part], compression="zstd", compression_level=3, row_group_size=16_384)
    return files


def drain(batches: Any) -> int:
    """Read to the end; the number of records."""
    return sum(batch.num_rows if isinstance(batch, pa.RecordBatch) else len(batch) for batch in batches)


def epoch(dataset: Any, share: float = 1.0) -> int:
    """One epoch of a torch reader, always the same, or the first steps of it."""
    dataset.set_epoch(1)
    dataset.set_epoch(0)
    return drain(itertools.islice(dataset, round(dataset.steps * share)))


def of_hf(dataset: Any, form: str | None, limit: int) -> int:
    """A Hugging Face dataset, in batches of 1,000, or about the first ``limit`` records of it."""
    chosen = dataset.with_format(form) if form else dataset
    got = 0
    for batch in chosen.iter(batch_size=1000):
        got += batch.num_rows if form else len(batch["id"])
        if got >= limit:
            break
    return got


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor, with those of worker processes that have ended."""
    gc.collect()
    start, used = time.perf_counter(), os.times()
    call()
    took, now = time.perf_counter() - start, os.times()
    return took, sum(now[:4]) - sum(used[:4])


class Bench:
    """What is compared: the sealed release, its plain twin, and how long it may take."""

    def __init__(self, prepared: Prepared, home: Path, asked: argparse.Namespace) -> None:
        self.home = home
        self.asked = asked
        self.end = time.monotonic() + asked.seconds
        self.prepared = prepared
        self.release = open_it(prepared, None)
        self.cached = open_it(prepared, home / "cache") if asked.cache else None
        self.files = write_plain(self.release, home)
        self.plain = Plain(self.files, self.release)

    def close(self) -> None:
        """Forget the keys and remove the cache."""
        self.release.close()
        if self.cached is not None:
            self.cached.close()

    def first_epoch(self, read: Callable[[SealedRelease], int]) -> int:
        """Open with an empty cache and read once."""
        with open_it(self.prepared, self.home / "fresh") as release:
            return read(release)

    def ways(self, peer: str, of_peer: Callable[[], int], read: Callable[[Any], Callable[[], int]]) -> dict[str, Any]:
        """The peer, and what ``read`` makes of the release, of one with a new cache, and of one with a full cache."""
        found: dict[str, Callable[[], int]] = {peer: of_peer, "sealed": read(self.release)}
        if self.cached is not None:
            found["sealed, first epoch, writes the cache"] = partial(self.first_epoch, lambda one: read(one)())
            found["sealed, later epochs, from the cache"] = read(self.cached)
        return found

    def compare(self, title: str, ways: dict[str, Callable[[], int]], share: float) -> None:
        """Run all ways in turn; print medians, and how many times as fast as the first of them each was.

        ``share`` of the time that is left is for this.
        """
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        began, counts = time.monotonic(), set[int]()
        budget = (self.end - began) * share
        for number in range(self.asked.rounds + 1):
            spent = time.monotonic() - began
            if number > 1 and spent * (number + 1) / number > budget:
                break
            for name, call in ways.items():
                took = timed(lambda call=call: counts.add(call()))  # type: ignore[misc]  # called at once
                if number:
                    times[name].append(took)
        assert len(counts) == 1, f"not all read the same records: {counts}"
        peer, *_ = ways
        clock = {name: statistics.median(one for one, _ in taken) for name, taken in times.items()}
        used = {name: statistics.median(one for _, one in taken) for name, taken in times.items()}
        print(f"{title}: {counts.pop():,} records, medians of {len(times[peer])} rounds (to reach: {GOAL})")
        for name in ways:
            print(
                f"  {name:42} {clock[name]:7.3f} s   {clock[peer] / clock[name]:6.2f} x"
                f"   (processor {used[name]:7.3f} s, {used[peer] / max(used[name], 1e-9):5.2f} x)",
                flush=True,
            )


def torch_readers(bench: Bench) -> None:
    """Our torch reader's own code over the plain files and ours, without worker processes."""
    for form, batch, share in (("batch", 64, 0.25), ("arrow", 256, 1.0)):
        plan = TorchPlan(rule=RULE, batch=batch, form=form)

        def read(source: Any, plan: TorchPlan = plan, share: float = share) -> Callable[[], int]:
            return partial(epoch, SealedTorch(source, plan), share)

        what = "Arrow batches of 256" if form == "arrow" else "lists of 64 Python records"
        bench.compare(
            f"torch reader, shuffled, {what}",
            bench.ways(SAME, read(bench.plain), read),
            1 / 4 if form == "batch" else 1 / 3,
        )


def hf_readers(bench: Bench) -> None:
    """Hugging Face, its own Parquet reader beside our dataset."""
    import datasets

    home = str(bench.home / "hf")
    datasets.config.HF_DATASETS_CACHE = bench.home / "hf"
    datasets.disable_progress_bars()
    names = [str(path) for path in bench.files.values()]
    its = datasets.load_dataset("parquet", data_files=names, split="train", streaming=True, cache_dir=home)
    for form, limit in ((None, bench.release.rows // 4), ("arrow", bench.release.rows)):

        def read(source: Any, form: str | None = form, limit: int = limit) -> Callable[[], int]:
            return partial(of_hf, hf_dataset(source), form, limit)

        ways = bench.ways("its own reader, plain Parquet", partial(of_hf, its, form, limit), read)
        what = "Arrow tables" if form else "Python values"
        bench.compare(f"Hugging Face IterableDataset, {what}, batches of 1,000", ways, 1 / 6 if form is None else 1 / 5)


def open_it(prepared: Prepared, cache: Path | None) -> SealedRelease:
    """Open with keys at hand."""
    order = KeyOrder(
        release=prepared.release,
        groups=[GroupName("data")],
        purpose=Purpose("training"),
        host=HostId("north-lab/trainer"),
        member=None,
        grant="",
    )
    return open_release(prepared.folder, order, Keys(prepared), ReadOptions(cache=cache))


def with_workers(bench: Bench) -> None:
    """A real DataLoader with two worker processes; they are forked, and share the cache."""
    plan = TorchPlan(rule=RULE, batch=256, form="arrow")

    def read(source: Any) -> Callable[[], int]:
        loader = SealedLoader(source, plan, workers=2)

        def one() -> int:
            loader.set_epoch(0)
            return drain(loader)

        return one

    title = "torch DataLoader, two workers, Arrow batches of 256"
    bench.compare(title, bench.ways(SAME, read(bench.plain), read), 1.0)


def main() -> None:
    """Measure what is named, or all, in a process that can import torch where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="torch, hf, workers; all without")
    parser.add_argument("--gb", type=float, default=1.0, help="records in memory, in GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180, help="for the measuring; making the data takes more")
    parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    chosen = asked.subjects or list(SUBJECTS)
    if "workers" in chosen and TORCH_IS_HERE not in os.environ:
        if started_with_torch():
            return
        chosen.remove("workers")
    if chosen:
        measure(chosen, asked)


def measure(chosen: list[str], asked: argparse.Namespace) -> None:
    """Make the release and its plain twin, and compare their readers."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    batches = data(round(asked.gb * 1000))
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        home = Path(name)
        bench = Bench(seal(batches, home), home, asked)
        sizes = bench.prepared.manifest.size, sum(path.stat().st_size for path in bench.files.values())
        print(
            f"{bench.release.rows:,} records, {sum(batch.nbytes for batch in batches) / 1e6:,.0f} MB in memory,"
            f" {len(bench.files)} parts, {sizes[0] / 1e6:,.1f} MB sealed, {sizes[1] / 1e6:,.1f} MB plain",
            flush=True,
        )
        del batches
        for subject, compare in (("hf", hf_readers), ("torch", torch_readers), ("workers", with_workers)):
            if subject in chosen:
                compare(bench)
        bench.close()


def started_with_torch() -> bool:
    """Whether all of it was done in a process that finds torch below ``.peers``."""
    sys.path.append(str(ROOT))
    from tools import torch_peer  # the folder of tools is not on a script's path

    torch_peer.main(["--wheel"])
    reason = torch_peer.works()
    if reason is not None:
        print(f"torch's DataLoader: not measured: {reason}")
        return False
    known = torch_peer.environment()
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), known["TORCH_PEER"]])
    subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *sys.argv[1:]],
        env=os.environ | known | {"PYTHONPATH": path, TORCH_IS_HERE: "1"},
        check=True,
    )
    return True


if __name__ == "__main__":
    main()
