"""Training readers over a sealed release beside the same readers over plain Parquet, and beside encrypted JSONL.

Run: ``python bench/readers.py [MEGABYTES] [torch hf whole workers]`` (256 of records in memory, and all, without). The plain files hold the same records in the
same parts and row groups at the same zstd level. *The same loader*: our torch reader's own code reads both, so order,
shuffle and batches cost both sides alike; for Hugging Face the peer is its own Parquet reader, streaming. Nothing is
written while measuring but the cache. Rounds alternate, medians are compared, and the first round, which warms the
allocator and the page cache, does not count. A ratio is the peer's time / ours: 1 is as fast, 2 is twice as fast.

A fresh read checks the SHA-256 of each part in another thread; the wall clock hides that behind a second core, the
processor's time does not. Later epochs of one reader check it no more. With ``.peers`` (python -m tools.torch_peer; pip
install --target .peers/age pyrage zstandard; restic and dvc on the path) their lines are printed too.
"""

from __future__ import annotations

import gc
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
import pyarrow.json
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
MEGABYTES = 256
TORCH_IS_HERE = "SAFEHOLD_BENCH_TORCH"
ROUNDS = 5
FRESH = 64
"""Megabytes of records that are made; they are repeated, farther apart than zstd looks back."""
RULE = OrderRule(seed=1)


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
    with prepare(source, SPEC, SigningKey.generate(), home / "sealed", SealOptions(part_bytes=32 << 20)) as prepared:
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


def epoch(dataset: Any) -> int:
    """One epoch of a torch reader, always the same."""
    dataset.set_epoch(0)
    return drain(dataset)


def of_hf(dataset: Any, form: str | None, count: int) -> int:
    """All of a Hugging Face dataset, in batches."""
    chosen = dataset.with_format(form) if form else dataset
    got = 0
    for batch in chosen.iter(batch_size=1000):
        got += batch.num_rows if form else len(batch["id"])
    assert got == count
    return got


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    gc.collect()
    start, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - used


def compare(title: str, peer: str, ways: dict[str, Callable[[], object]], goal: str) -> None:
    """Run all ways in turn, ROUNDS times; print medians, and how many times as fast as ``peer`` each was."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, call in ways.items():
            took = timed(call)
            if number:
                times[name].append(took)
    clock = {name: statistics.median(one for one, _ in taken) for name, taken in times.items()}
    used = {name: statistics.median(one for _, one in taken) for name, taken in times.items()}
    print(f"{title} (to reach: {goal})")
    for name in ways:
        print(
            f"  {name:42} {clock[name]:7.3f} s   {clock[peer] / clock[name]:6.2f} x"
            f"   (processor {used[name]:7.3f} s, {used[peer] / max(used[name], 1e-9):5.2f} x)"
        )


def torch_readers(release: SealedRelease, cached: SealedRelease, plain: Plain) -> None:
    """Our torch reader's own code over the three, without worker processes."""
    for form, batch in (("arrow", 256), ("batch", 64)):
        plan = TorchPlan(rule=RULE, batch=batch, form=form)
        ways: dict[str, Any] = {
            "the same loader, plain Parquet": plain,
            "sealed": release,
            "sealed, from the cache": cached,
        }
        datasets = {name: SealedTorch(source, plan) for name, source in ways.items()}
        known = {name: epoch(dataset) for name, dataset in datasets.items()}
        assert set(known.values()) == {release.rows}
        what = "Arrow batches of 256" if form == "arrow" else "lists of 64 Python records"
        compare(
            f"torch reader, shuffled, {what}",
            "the same loader, plain Parquet",
            {name: partial(epoch, dataset) for name, dataset in datasets.items()},
            "sealed 0.93, cache 1.15",
        )


def hf_readers(release: SealedRelease, cached: SealedRelease, files: dict[int, Path], home: Path) -> None:
    """Hugging Face, its own Parquet reader beside our dataset."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = home / "hf"
    datasets.disable_progress_bars()
    names = [str(path) for path in files.values()]
    its = datasets.load_dataset("parquet", data_files=names, split="train", streaming=True, cache_dir=str(home / "hf"))
    ours, from_cache = hf_dataset(release), hf_dataset(cached)
    for form in ("arrow", None):
        compare(
            f"Hugging Face IterableDataset, {'Arrow tables' if form else 'Python values'}, batches of 1,000",
            "its own reader, plain Parquet",
            {
                "its own reader, plain Parquet": partial(of_hf, its, form, release.rows),
                "sealed": partial(of_hf, ours, form, release.rows),
                "sealed, from the cache": partial(of_hf, from_cache, form, release.rows),
            },
            "sealed 0.93, cache 1.15",
        )


def whole_reads(prepared: Prepared, plain: Plain, home: Path, batches: list[pa.RecordBatch]) -> None:
    """Opening and reading everything once, beside encrypted JSONL, restic and DVC where they are."""

    def ours() -> int:
        with open_it(prepared, None) as release:
            return drain(release.batches())

    ways: dict[str, Callable[[], object]] = {
        "safehold: open, check, read to Arrow": ours,
        "plain Parquet, read to Arrow": lambda: sum(drain(plain.stretch(run.part, 0, None)) for run in plain.runs),
    }
    age = age_reader(home, batches)
    if age is not None:
        ways["zstd + age JSONL (pyrage), parsed to Arrow"] = age
    ways |= other_tools(home, plain)
    compare("everything once, opened anew", "safehold: open, check, read to Arrow", ways, "age JSONL 0.20 or less")


def age_reader(home: Path, batches: list[pa.RecordBatch]) -> Callable[[], object] | None:
    """JSONL, compressed, then encrypted with age; read, decompressed and parsed by Arrow's own JSON reader."""
    sys.path.append(str(ROOT / ".peers" / "age"))
    try:
        import pyrage
        import zstandard
    except ImportError:
        print("zstd + age: not measured; pip install --target .peers/age pyrage zstandard")
        return None
    identity = pyrage.x25519.Identity.generate()
    lines = json_lines(batches)
    sealed = pyrage.encrypt(zstandard.ZstdCompressor(3).compress(lines), [identity.to_public()])
    path = home / "records.jsonl.zst.age"
    path.write_bytes(sealed)
    del lines, sealed

    def read() -> int:
        plain = zstandard.ZstdDecompressor().decompress(pyrage.decrypt(path.read_bytes(), [identity]))
        return int(
            pyarrow.json.read_json(pa.BufferReader(plain), pyarrow.json.ReadOptions(block_size=8 << 20)).num_rows
        )

    return read


def json_lines(batches: list[pa.RecordBatch]) -> bytes:
    """All records as JSONL."""
    import msgspec

    encoder = msgspec.json.Encoder()
    return b"".join(encoder.encode_lines(batch.to_pylist()) for batch in batches)


def other_tools(home: Path, plain: Plain) -> dict[str, Callable[[], object]]:
    """The restore of restic and the DVC checkout of the plain files, then the plain read; where they are installed."""
    folder = home / "tree"
    folder.mkdir()
    for path in plain._files.values():  # noqa: SLF001 - the bench's own class
        shutil.copy(path, folder / path.name)
    ways: dict[str, Callable[[], object]] = {}
    environment = os.environ | {"RESTIC_PASSWORD": "a passphrase", "RESTIC_REPOSITORY": str(home / "restic")}
    restic = shutil.which("restic") or shutil.which("restic", path=str(ROOT / ".peers/torch/unpacked/usr/bin"))
    dvc = shutil.which("dvc") or shutil.which("dvc", path=str(ROOT / ".peers/dvc/bin"))

    def run(*command: str, where: Path = home) -> None:
        subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True)

    def read() -> int:
        return sum(drain(plain.stretch(run.part, 0, None)) for run in plain.runs)

    if restic:
        run(restic, "init")
        run(restic, "backup", "tree")

        def restore() -> None:
            shutil.rmtree(home / "restored", ignore_errors=True)
            run(restic, "restore", "latest", "--target", str(home / "restored"))
            read()

        ways["restic restore, then plain read"] = restore
    if dvc:
        run(dvc, "init", "--no-scm")
        run(dvc, "config", "core.analytics", "false")
        run(dvc, "add", "tree")

        def checkout() -> None:
            shutil.rmtree(folder)
            run(dvc, "checkout")
            read()

        ways["DVC checkout (no encryption), then plain read"] = checkout
    for name, found in (("restic", restic), ("dvc", dvc)):
        if not found:
            print(f"{name}: not measured, it is not installed here")
    return ways


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


def with_workers(release: SealedRelease, cached: SealedRelease, plain: Plain) -> None:
    """A real DataLoader with two worker processes."""
    plan = TorchPlan(rule=RULE, batch=256, form="arrow")
    ways: dict[str, Any] = {
        "the same loader, plain Parquet": plain,
        "sealed": release,
        "sealed, from the cache": cached,
    }
    loaders = {name: SealedLoader(source, plan, workers=2) for name, source in ways.items()}

    def one(loader: SealedLoader) -> None:
        loader.set_epoch(0)
        assert drain(loader) == release.rows

    compare(
        "torch DataLoader, two workers, Arrow batches of 256",
        "the same loader, plain Parquet",
        {name: partial(one, loader) for name, loader in loaders.items()},
        "sealed 0.93, cache 1.15",
    )


def main() -> None:
    """Measure what is named (torch, hf, whole, workers), or all; ``workers`` in a process that can import torch."""
    chosen = [one for one in sys.argv[1:] if not one.isdigit()] or ["torch", "hf", "whole", "workers"]
    numbers = [int(one) for one in sys.argv[1:] if one.isdigit()]
    megabytes = numbers[0] if numbers else MEGABYTES
    if chosen != ["workers"]:
        measure([one for one in chosen if one != "workers"], megabytes)
    if TORCH_IS_HERE in os.environ:
        measure(["workers"], megabytes)
    elif "workers" in chosen:
        start_with_torch(megabytes)


def measure(chosen: list[str], megabytes: int) -> None:
    """Make the release and its plain twin, and compare their readers."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    batches = data(megabytes)
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        home = Path(name)
        prepared = seal(batches, home)
        with open_it(prepared, None) as release, open_it(prepared, home / "cache") as cached:
            files = write_plain(release, home)
            plain = Plain(files, release)
            sizes = prepared.manifest.size, sum(path.stat().st_size for path in files.values())
            print(
                f"{release.rows:,} records, {sum(batch.nbytes for batch in batches) / 1e6:,.0f} MB in memory,"
                f" {len(files)} parts, {sizes[0] / 1e6:,.1f} MB sealed, {sizes[1] / 1e6:,.1f} MB plain",
                flush=True,
            )
            if "torch" in chosen:
                torch_readers(release, cached, plain)
            if "hf" in chosen:
                hf_readers(release, cached, files, home)
            if "whole" in chosen:
                whole_reads(prepared, plain, home, batches)
            if "workers" in chosen:
                with_workers(release, cached, plain)


def start_with_torch(megabytes: int) -> None:
    """The comparison that needs torch, in a process that finds it below ``.peers``."""
    sys.path.append(str(ROOT))
    from tools import torch_peer  # the folder of tools is not on a script's path

    reason = torch_peer.works()
    if reason is not None:
        print(f"torch's DataLoader: not measured: {reason}")
        return
    known = torch_peer.environment()
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), known["TORCH_PEER"]])
    subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "workers", str(megabytes)],
        env=os.environ | known | {"PYTHONPATH": path, TORCH_IS_HERE: "1"},
        stderr=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    main()
