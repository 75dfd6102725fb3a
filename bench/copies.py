"""Reading a sealed release beside what people keep data with instead: age JSONL, restic, DVC. Same records, everything read.

Run: ``python bench/copies.py [--gb 1.0] [--rounds 5] [--threads N] [--no-peers]``; 1 GB takes some five minutes and 6 GB
of memory and of disk.
Records are those of ``bench/seal.py``. Each way begins with what lies on the disk and ends when every record has been seen:
its count and the sum of its ids are compared. What each way is:

* *safehold*: open the sealed release (signed digest, key commitments, SHA-256 of each part) and read all columns. Its
  broker answers at once: what is measured is reading.
* *plain*: Parquet of the same parts, row groups and zstd level, not encrypted and not checked.
* *zstd + age*: JSONL, zstd level 3, age. Opened by ``pyrage`` and ``zstandard`` in this process, or by Debian's ``age -d |
  zstd -dc``, three processes with the parser. Each line is parsed by ``orjson``, or by Python's own ``json``, or all by
  Arrow's JSON reader.
* *restic*: restore of the plain Parquet to the disk, then the plain read. *DVC* does not encrypt: checkout from its local
  cache, by copy and by hard link, then the plain read. Both include the start of their programs, as users see it.

Arrow has its usual threads, here and there, one a core; ``--threads 1`` gives it one, while age and zstd still run beside the
parser. Rounds alternate, medians are compared, and the first round, which warms the page cache and the allocator, does not
count. Seconds of the processor are those of all processes together. Peers live below ``.peers`` (tools/copy_peers.py makes them); one that cannot be had is
named and not counted. ``N x`` is its time / safehold's to Arrow: 5 x takes five times as long.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from readers import Plain, open_it, write_plain
from seal import SPEC, MemorySource, records

from safehold.ledger.keys import SigningKey
from safehold.vault.seal import Prepared, SealOptions, prepare

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the folder of tools is not on a script's path

from tools import copy_peers  # noqa: E402 - the path is set above

OURS = "safehold, to Arrow"
PYTHON = "safehold, to Python records"
LIBRARY = "zstd + age JSONL (pyrage)"
PROGRAMS = "zstd + age JSONL (age -d | zstd -dc)"
WANTED = 5.0
Seen = tuple[int, int]
Way = Callable[[], Seen]
"""Reads everything; how many records, and the sum of their ids."""


def seen(batches: Iterable[pa.RecordBatch]) -> Seen:
    """Of Arrow batches."""
    rows = total = 0
    for batch in batches:
        rows += batch.num_rows
        total += pc.sum(batch.column("id")).as_py() or 0
    return rows, total


def seen_records(found: Iterable[Any]) -> Seen:
    """Of Python records."""
    rows = total = 0
    for record in found:
        rows += 1
        total += record["id"]
    return rows, total


# --- safehold and plain Parquet ---------------------------------------------------------------------------


def sealed_ways(prepared: Prepared, plain: Plain) -> dict[str, Way]:
    """Ours, opened anew each time, and the plain read."""

    def to_arrow() -> Seen:
        with open_it(prepared, None) as release:
            return seen(release.batches())

    def to_python() -> Seen:
        with open_it(prepared, None) as release:
            return seen_records(release.records())

    return {OURS: to_arrow, PYTHON: to_python, "plain Parquet, to Arrow": partial(plain_read, plain)}


def plain_read(plain: Plain, folder: Path | None = None) -> Seen:
    """All plain parts, from ``folder`` if they were restored there."""
    files = plain if folder is None else plain.at(folder)
    return seen(batch for run in files.runs for batch in files.stretch(run.part, 0, None))


# --- age ----------------------------------------------------------------------------------------------------


def write_lines(batches: list[pa.RecordBatch], path: Path, zstandard: Any) -> None:
    """All records as JSONL in zstd."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file, zstandard.ZstdCompressor(3).stream_writer(file) as writer:
        for batch in batches:
            writer.write(encoder.encode_lines(batch.to_pylist()))


def age_ways(batches: list[pa.RecordBatch], home: Path) -> dict[str, Way]:
    """JSONL under age, opened by libraries and by Debian's programs."""
    folder = copy_peers.modules()
    if isinstance(folder, str):
        print(f"zstd + age JSONL: not measured: {folder}")
        return {}
    sys.path.append(str(folder))
    import orjson
    import pyrage
    import zstandard

    identity = pyrage.x25519.Identity.generate()
    lines, path = home / "lines.zst", home / "lines.zst.age"
    write_lines(batches, lines, zstandard)
    path.write_bytes(pyrage.encrypt(lines.read_bytes(), [identity.to_public()]))
    lines.unlink()

    def library(parse: Callable[[Any], Seen]) -> Seen:
        opened = pyrage.decrypt(path.read_bytes(), [identity])
        with zstandard.ZstdDecompressor().stream_reader(opened) as reader:
            return parse(reader)

    def by_line(stream: Any) -> Seen:
        return seen_records(map(orjson.loads, whole_lines(stream)))

    def by_line_of_json(stream: Any) -> Seen:
        return seen_records(map(json.loads, whole_lines(stream)))

    ways: dict[str, Way] = {
        f"{LIBRARY}, orjson by line": partial(library, by_line),
        f"{LIBRARY}, json by line": partial(library, by_line_of_json),
        f"{LIBRARY}, to Arrow": partial(library, by_arrow),
    }
    age, zstd = copy_peers.program("age"), copy_peers.program("zstd")
    if isinstance(age, str) or isinstance(zstd, str):
        print(f"age -d | zstd -dc: not measured: {age if isinstance(age, str) else zstd}")
        return ways
    secret = home / "identity.txt"
    secret.write_text(f"{identity}\n")
    opened = partial(piped, [str(age), "-d", "-i", str(secret), str(path)], [str(zstd), "-dc"])
    ways[f"{PROGRAMS}, orjson by line"] = partial(opened, by_line)
    ways[f"{PROGRAMS}, to Arrow"] = partial(opened, by_arrow)
    return ways


def whole_lines(stream: Any) -> Iterator[bytes]:
    """Lines of a stream, read by a megabyte."""
    rest = b""
    while block := stream.read(1 << 20):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest


def by_arrow(stream: Any) -> Seen:
    """Arrow's JSON reader, block by block."""
    options = pyarrow.json.ReadOptions(block_size=8 << 20)
    return seen(pyarrow.json.read_json(pa.PythonFile(stream, "r"), options).to_batches())


def piped(first: list[str], second: list[str], parse: Callable[[Any], Seen]) -> Seen:
    """What ``first | second`` writes, parsed while it comes."""
    with (
        subprocess.Popen(first, stdout=subprocess.PIPE) as one,
        subprocess.Popen(second, stdin=one.stdout, stdout=subprocess.PIPE) as other,
    ):
        assert one.stdout is not None
        one.stdout.close()  # so that the first ends if the second does
        found = parse(other.stdout)
    assert one.returncode == other.returncode == 0, "the peer failed"
    return found


# --- restic and DVC -----------------------------------------------------------------------------------------


class Tool:
    """A program that runs in a folder of its own and leaves nothing outside it."""

    def __init__(self, program: Path, folder: Path, known: dict[str, str]) -> None:
        self._program = program
        self._environment = os.environ | known
        self.folder = folder
        folder.mkdir()

    def __call__(self, *arguments: str) -> None:
        """Run it. Raises ``CalledProcessError``."""
        command = [str(self._program), *arguments]
        subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, check=True)


def restic_way(plain: Plain, home: Path) -> dict[str, Way]:
    """Backed up once; restored to a new folder each time."""
    program = copy_peers.program("restic")
    if isinstance(program, str):
        print(f"restic: not measured: {program}")
        return {}
    folder = home / "restic"
    known = {
        "RESTIC_PASSWORD": "a passphrase",
        "RESTIC_REPOSITORY": str(folder / "repository"),
        "RESTIC_CACHE_DIR": str(folder / "cache"),
    }
    restic = Tool(program, folder, known)
    plain.copy(folder / "tree")
    restic("init")
    restic("backup", "tree")

    def restore() -> Seen:
        shutil.rmtree(folder / "restored", ignore_errors=True)
        restic("restore", "latest", "--target", "restored")
        return plain_read(plain, folder / "restored" / "tree")

    return {"restic restore, plain read": restore}


def dvc_ways(plain: Plain, home: Path) -> dict[str, Way]:
    """Added once; checked out from the local cache each time, by each kind of link that this disk has."""
    program = copy_peers.dvc()
    if isinstance(program, str):
        print(f"DVC: not measured: {program}")
        return {}
    ways: dict[str, Way] = {}
    for kind in ("copy", "reflink", "hardlink"):
        folder = home / f"dvc-{kind}"
        places = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        known = {name: str(folder / "own" / name) for name in places} | {"DVC_NO_ANALYTICS": "1"}
        dvc = Tool(program, folder, known)
        plain.copy(folder / "tree")
        dvc("init", "--no-scm")
        dvc("config", "core.analytics", "false")
        dvc("config", "core.check_update", "false")
        dvc("config", "cache.type", kind)
        try:
            dvc("add", "tree")
            checkout(dvc, plain)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            print(f"DVC checkout by {kind}: not measured: {said[0] if said else 'it cannot link so on this disk'}")
            continue
        ways[f"DVC checkout by {kind} (not encrypted), plain read"] = partial(checkout, dvc, plain)
    return ways


def checkout(dvc: Tool, plain: Plain) -> Seen:
    """As after a fresh clone with a full cache."""
    shutil.rmtree(dvc.folder / "tree")
    dvc("checkout", "--quiet")
    return plain_read(plain, dvc.folder / "tree")


# --- measuring ----------------------------------------------------------------------------------------------


def processor() -> float:
    """Seconds of the processor, with those of programs that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(ways: dict[str, Way], rounds: int, expected: Seen) -> None:
    """Run all in turn and print medians. Raises ``AssertionError`` where not every record was seen."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            gc.collect()
            start, used = time.perf_counter(), processor()
            found = way()
            took = time.perf_counter() - start, processor() - used
            assert found == expected, f"{name}: saw {found}, not {expected}"
            if number:
                times[name].append(took)
    clock = {name: statistics.median(one for one, _ in taken) for name, taken in times.items()}
    used_by = {name: statistics.median(one for _, one in taken) for name, taken in times.items()}
    for name in ways:
        print(f"  {name:52} {clock[name]:7.3f} s {clock[name] / clock[OURS]:6.2f} x   processor {used_by[name]:7.3f} s")
    for peer in (LIBRARY, PROGRAMS):
        took = [clock.get(f"{peer}, {how}") for how in ("orjson by line", "to Arrow")]
        if took[0] and took[1]:
            print(
                f"{peer}: {took[0] / clock[OURS]:.2f} x by line, {took[1] / clock[OURS]:.2f} x to Arrow"
                f" (wanted >= {WANTED:.0f} x); where ours gives Python records too: {took[0] / clock[PYTHON]:.2f} x"
            )


def main() -> None:
    """Make, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="records in memory, in GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of Arrow")
    parser.add_argument("--no-peers", action="store_true")
    asked = parser.parse_args()
    pa.set_cpu_count(asked.threads)
    batches = records(max(1, round(asked.gb * 1000)))
    expected = seen(batches)
    with tempfile.TemporaryDirectory(prefix="safehold-bench-") as name:
        home = Path(name)
        source: Any = MemorySource(batches, 1)
        with prepare(source, SPEC, SigningKey.generate(), home / "sealed", SealOptions()) as prepared:
            prepared.publish()
        with open_it(prepared, None) as release:
            plain = Plain(write_plain(release, home), release)
            ways = sealed_ways(prepared, plain)
            if not asked.no_peers:
                ways |= age_ways(batches, home) | restic_way(plain, home) | dvc_ways(plain, home)
            print(
                f"{expected[0]:,} records, {sum(batch.nbytes for batch in batches) / 1e6:,.0f} MB in memory,"
                f" {len(prepared.manifest.parts)} parts, {prepared.manifest.size / 1e6:,.0f} MB sealed,"
                f" {asked.threads} threads, medians of {asked.rounds} rounds",
                flush=True,
            )
            measure(ways, asked.rounds, expected)


if __name__ == "__main__":
    main()
