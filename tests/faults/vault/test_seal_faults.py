"""Every write of sealing and opening, killed or failed: a clear error, nothing half done, and the next run works."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safehold.model.errors import NotFound, StorageFailed
from safehold.model.ids import Digest
from safehold.vault.keystore import KeyStore
from safehold.vault.manifest import PartFile
from safehold.vault.output import write_jsonl, write_parquet
from safehold.vault.part_keys import key_commitment
from safehold.vault.parts import _HashingFile
from safehold.vault.seal import SealOptions, prepare
from safehold.vault.sources import open_source
from safehold.vault.verify import load_release, verify_release
from tests.vault_kit import SPEC, SUPPLIER, MemoryKek, Sealed, seal, write_lines

ROOT = Path(__file__).parents[3]
OPTIONS = SealOptions(part_rows=200, group_rows=100, cut_key=b"k" * 32)

SEALER = """
import os, signal, sys
from pathlib import Path
from safehold.vault import parts
from tests.vault_kit import SPEC, SUPPLIER, MemoryKek
from safehold.vault.keystore import KeyStore
from safehold.vault.seal import SealOptions, prepare
from safehold.vault.sources import open_source

home, deadly = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call

for name in ("fsync", "rename", "mkdir", "link"):
    setattr(os, name, counted(getattr(os, name)))
parts._HashingFile.finish = counted(parts._HashingFile.finish)
source = open_source(home / "in.jsonl")
with prepare(source, SPEC, SUPPLIER, home / "r", SealOptions(part_rows=300, group_rows=100, cut_key=b"k" * 32)) as prepared:
    kek = MemoryKek()
    with KeyStore(home / "keys.db") as store:
        store.put_all(prepared.release, kek.id, {name: kek.wrap(key) for name, key in prepared.keys.items()})
    calls += 1
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    prepared.publish()
print(calls)
"""


def _run(home: Path, deadly: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.run(
        [sys.executable, "-c", SEALER, str(home), str(deadly)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_at_any_step_the_command_simply_runs_again(tmp_path: Path) -> None:
    records = [{"q": f"question {n}"} for n in range(1_000)]
    clean = tmp_path / "clean"
    clean.mkdir()
    write_lines(clean / "in.jsonl", records)
    steps = int(_run(clean, 0).stdout)
    assert steps >= 10
    files = len(list((clean / "r").glob("*.parquet")))
    assert files >= 2
    for deadly in range(1, steps + 1):
        home = tmp_path / str(deadly)
        home.mkdir()
        write_lines(home / "in.jsonl", records)
        assert _run(home, deadly).returncode == -signal.SIGKILL
        if (home / "r").exists():
            # Killed after the commit point: a whole release whose keys are stored; only its entry is missing.
            release = load_release(home / "r")
        else:
            with pytest.raises(NotFound):
                load_release(home / "r")
            release = load_release(seal(home / "in.jsonl", home / "r", options=OPTIONS).folder)
        assert release.manifest.rows == 1_000
        assert sorted(e.name for e in home.iterdir() if e.name.startswith(".")) in ([], [".sealing-r.lock"])
        with KeyStore(home / "keys.db") as store:
            for digest in store.releases():
                assert store.count(digest) == files  # of a release: all keys or none


class _Fault:
    """Fails one call, counted over several functions; 0 only counts."""

    def __init__(self, fatal: int, number: int) -> None:
        self.fatal, self.number, self.calls = fatal, number, 0

    def wrap(self, real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == self.fatal:
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **more)

        return call


def _with_fault(monkeypatch: pytest.MonkeyPatch, fatal: int, number: int) -> _Fault:
    fault = _Fault(fatal, number)
    for name in ("fsync", "rename", "mkdir", "link"):
        monkeypatch.setattr(os, name, fault.wrap(getattr(os, name)))
    monkeypatch.setattr(_HashingFile, "write", fault.wrap(_HashingFile.write))
    return fault


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_error_at_any_step_publishes_nothing(number: int, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"q": f"question {n}"} for n in range(400)])
    fatal = 0
    while True:
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = _with_fault(monkeypatch, fatal, number)
            target = tmp_path / f"r{fatal}"
            if fatal == 0:
                seal(path, target, options=OPTIONS)
                steps, fatal = fault.calls, 2  # the first makes the parent folder, which is there already
                continue
            with pytest.raises(StorageFailed) as caught:
                seal(path, target, options=OPTIONS)
        if caught.value.code == "vault.publish_unsure":
            assert fatal == steps  # the very last step, after the rename
            assert load_release(target).manifest.rows == 400
            break
        if number in {errno.ENOSPC, errno.EDQUOT}:
            assert caught.value.code == "vault.disk_full"
            assert caught.value.hint
        assert not target.exists()
        assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
        seal(path, target, options=OPTIONS)
        fatal += 1
        assert fatal <= steps


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _large(folder: Path) -> Path:
    return write_lines(folder / "in.jsonl", [{"q": os.urandom(40).hex()} for _ in range(8_000)])


def test_a_full_disk_is_named_and_leaves_it_empty(small_disk: Path, tmp_path: Path) -> None:
    path = _large(tmp_path)
    for _ in range(2):
        with pytest.raises(StorageFailed) as caught:
            seal(path, small_disk / "r")
        assert caught.value.code == "vault.disk_full"
        assert "free some space" in caught.value.hint
        assert list(small_disk.iterdir()) == []
    sealed = seal(path, tmp_path / "r")
    for write in (write_jsonl, write_parquet):
        with pytest.raises(StorageFailed, match="disk_full"):
            write(sealed.open(), small_disk / "out")
        assert list(small_disk.iterdir()) == []
    seal(write_lines(tmp_path / "few.jsonl", [{"q": "x"}]), small_disk / "r")


def test_keys_that_do_not_fit_on_the_disk_are_not_half_stored(small_disk: Path) -> None:
    keys = {f"{n:05d}": bytes(40) for n in range(10_000)}
    digest = load_release(seal(write_lines(small_disk / "in.jsonl", [{"q": "x"}]), small_disk / "r").folder).digest
    store = KeyStore(small_disk / "keys.db")
    with pytest.raises(StorageFailed, match="disk_full"):
        store.put_all(digest, "k", keys)
    assert store.count(digest) == 0
    store.put_all(digest, "k", {"a": bytes(40)})
    assert store.count(digest) == 1


LIMITED = """
import resource, sys
from pathlib import Path
from safehold.model.errors import StorageFailed
from tests.vault_kit import seal
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    seal(Path(sys.argv[1]), Path(sys.argv[2]))
except StorageFailed as error:
    print(error.code)
"""


def test_a_limit_on_file_size_is_named(tmp_path: Path) -> None:
    path = _large(tmp_path)
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(tmp_path / "r")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("vault.file_limit\n", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_release_of_many_parts_needs_few_open_files(tmp_path: Path) -> None:
    sealed = seal(
        write_lines(tmp_path / "in.jsonl", [{"q": n} for n in range(900)]),
        tmp_path / "r",
        options=SealOptions(part_rows=10),
    )
    assert len(sealed.manifest.parts) > 60
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, before[1]))
    try:
        assert [record["q"] for record in sealed.open().records()] == list(range(900))
        opened = sealed.open()
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (3, before[1])
        )  # not one more: the limit is of numbers, and 0 to 2 are taken
        with pytest.raises(StorageFailed, match="open_files"):
            list(opened.batches())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_keys_wrapped_stored_and_fetched_open_the_release(tmp_path: Path) -> None:
    """The order that the caller keeps: prepare, store the wrapped keys, publish, verify, fetch, unwrap, open."""
    kek = MemoryKek()
    path = write_lines(tmp_path / "in.jsonl", [{"q": "x"}])
    with (
        prepare(open_source(path), SPEC, SUPPLIER, tmp_path / "r") as prepared,
        KeyStore(tmp_path / "keys.db") as store,
    ):
        store.put_all(prepared.release, kek.id, {name: kek.wrap(key) for name, key in prepared.keys.items()})
        prepared.publish()
    report = verify_release(tmp_path / "r", SUPPLIER.public)
    with KeyStore(tmp_path / "keys.db") as store:
        wrapped = store.get(report.release.digest, [part.file for part in report.release.manifest.parts])
    keys = {name: kek.unwrap(data) for name, data in wrapped.items()}
    sealed = Sealed(tmp_path / "r", report.release.digest, keys, report.release.manifest)
    assert list(sealed.open().records()) == [{"q": "x"}]


RESUMER = """
import os, signal, sys
from pathlib import Path
from safehold.vault import journal, parts
from tests.vault_kit import SPEC, SUPPLIER, MemoryKek
from safehold.vault.seal import SealOptions, prepare
from safehold.vault.sources import open_source

home, deadly = Path(sys.argv[1]), int(sys.argv[2])
written = 0
real = parts._OpenFile.end

def counted(*args):
    global written
    written += 1
    if written == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

parts._OpenFile.end = counted
options = SealOptions(part_rows=100, group_rows=50, cut_key=b"k" * 32, wrap=MemoryKek())
with prepare(open_source(home / "in.jsonl"), SPEC, SUPPLIER, home / "r", options) as prepared:
    prepared.publish()
print(written, prepared.release, *sorted(key.hex() for key in prepared.keys.values()))
"""


def _resume(home: Path, deadly: int) -> tuple[int, list[str]]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", RESUMER, str(home), str(deadly)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.split()


def test_a_killed_sealer_goes_on_where_it_was(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", [{"q": f"question {n}"} for n in range(1_500)])
    assert _resume(tmp_path, 9)[0] == -signal.SIGKILL
    staging = tmp_path / ".sealing-r"
    kept = sorted(path.name for path in staging.iterdir())
    stamps = {path.name: path.stat().st_mtime_ns for path in staging.iterdir()}
    assert len(kept) >= 6
    # One that was noted is damaged meanwhile: it is not believed, and sealed again.
    damaged = bytearray((staging / kept[1]).read_bytes())
    damaged[40] ^= 1
    (staging / kept[1]).write_bytes(damaged)
    code, (written, release, *keys) = _resume(tmp_path, 0)
    assert code == 0
    manifest = load_release(tmp_path / "r").manifest
    assert len(manifest.parts) == len(keys) > int(written) >= len(manifest.parts) - len(kept) + 1
    for name in (kept[0], *kept[2:5]):
        assert (tmp_path / "r" / name).stat().st_mtime_ns == stamps[name]
    assert load_release(tmp_path / "r").digest == release
    assert sorted(e.name for e in tmp_path.iterdir()) == ["in.jsonl", "r"]
    by_key = {part.file: key for part in manifest.parts for key in keys if _fits(part, key)}
    sealed = Sealed(tmp_path / "r", Digest(release), {f: bytes.fromhex(k) for f, k in by_key.items()}, manifest)
    assert [record["q"] for record in sealed.open().records()] == [f"question {n}" for n in range(1_500)]


def _fits(part: PartFile, key: str) -> bool:
    return key_commitment(bytes.fromhex(key), part.aad) == part.commitment


def test_another_input_begins_anew(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", [{"q": f"question {n}"} for n in range(1_500)])
    assert _resume(tmp_path, 9)[0] == -signal.SIGKILL
    write_lines(tmp_path / "in.jsonl", [{"q": f"Question {n}"} for n in range(1_500)])
    code, (written, *_) = _resume(tmp_path, 0)
    assert (code, int(written)) == (0, len(load_release(tmp_path / "r").manifest.parts))
    assert sorted(e.name for e in tmp_path.iterdir()) == ["in.jsonl", "r"]
