"""Stores that fail: tried again or refused, and never a half-published release."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safehold.model.errors import Conflict, NotFound, SafeholdError, StorageFailed
from safehold.vault.seal import SealOptions
from safehold.vault.store import Store, parse_location
from safehold.vault.store_probe import open_store, probe_store
from safehold.vault.store_s3 import StoreLimits
from safehold.vault.stored_release import fetch_release, load_stored, publish_folder, verify_stored
from tests.cli_kit import fill, small_disk
from tests.object_store_kit import access, fresh_store, fresh_url, server
from tests.store_proxy_kit import Asked, Fault, broken, careless_server
from tests.vault_kit import SUPPLIER, Sealed, outcome, seal, write_lines

ROOT = Path(__file__).parents[3]
RECORDS = [{"question": f"How much is {n} + {n}?", "answer": str(n + n)} for n in range(400)]
OPTIONS = SealOptions(part_rows=60, cut_key=b"k" * 32)
PATIENT = StoreLimits(retries=6, retry_seconds=60, read_seconds=3, request_seconds=20, first_pause=0.01)
IMPATIENT = StoreLimits(retries=1, retry_seconds=20, read_seconds=0.5, request_seconds=5, first_pause=0.01)
PIECES = StoreLimits(retries=3, retry_seconds=60, read_seconds=10, request_seconds=60, first_pause=0.01, piece=5 << 20)


def _now() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    path = tmp_path / "in.jsonl"
    write_lines(path, RECORDS)
    return seal(path, tmp_path / "r", options=OPTIONS)


def _through(endpoint: str, limits: StoreLimits = IMPATIENT) -> Store:
    return open_store(parse_location(fresh_url()), access(endpoint), limits)


def _direct(store: Store) -> Store:
    return open_store(store.location, access(server()))


def _now_and_then(act: str) -> Fault:
    """Four times, never twice in a row."""
    return lambda asked: act if asked.number in {1, 6, 11, 16} else ""


@pytest.mark.parametrize("act", ["500", "503", "reset", "lose", "cut", "stall"])
def test_a_fault_now_and_then_is_tried_again(sealed: Sealed, tmp_path: Path, act: str) -> None:
    with broken(server(), _now_and_then(act)) as proxy:
        store = _through(proxy.endpoint, PATIENT)
        stored = publish_folder(sealed.folder, store, _now())
        fetch_release(stored, tmp_path / "fetched")
        verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)
        assert len(proxy.done) >= 3
    verify_stored(_direct(store), "1", SUPPLIER.public, expected=sealed.release)


@pytest.mark.parametrize("act", ["500", "507", "reset", "stall"])
def test_a_store_that_stays_down_is_refused_and_nothing_is_published(sealed: Sealed, act: str) -> None:
    with broken(server(), lambda asked: act if asked.method in ("PUT", "POST") else "") as proxy:
        store = _through(proxy.endpoint)
        with pytest.raises(StorageFailed) as failed:
            publish_folder(sealed.folder, store, _now())
        assert failed.value.code == "vault.store_failed"
        assert failed.value.hint
        assert "test-key-id" not in str(failed.value)
        assert len(proxy.done) <= 12 * (IMPATIENT.retries + 1)  # it gives up
    with pytest.raises(NotFound):
        load_stored(_direct(store), "1")
    publish_folder(sealed.folder, _direct(store), _now())
    verify_stored(_direct(store), "1", SUPPLIER.public, expected=sealed.release)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_store_that_goes_down_on_the_way_leaves_nothing_half_published(sealed: Sealed, share: float) -> None:
    """Whatever write is the first to fail, for good: no release, and the next run goes on."""
    step = int(share * len(sealed.manifest.parts))
    writes: list[Asked] = []

    def fault(asked: Asked) -> str:
        if asked.method == "PUT":
            writes.append(asked)
        return "500" if len(writes) > step else ""

    with broken(server(), fault) as proxy:
        store = _through(proxy.endpoint)
        with pytest.raises(StorageFailed):
            publish_folder(sealed.folder, store, _now())
    direct = _direct(store)
    assert outcome(lambda: load_stored(direct, "1"))[1] == "vault.release_missing"
    publish_folder(sealed.folder, direct, _now())
    verify_stored(direct, "1", SUPPLIER.public, expected=sealed.release)


def test_a_lost_answer_is_no_lost_write() -> None:
    """The write was done, the answer was not heard, the second try is told that it is there: it was ours."""
    lost: list[Asked] = []

    def fault(asked: Asked) -> str:
        if asked.method == "PUT" and asked.path not in {one.path for one in lost}:
            lost.append(asked)
            return "lose"
        return ""

    with broken(server(), fault) as proxy:
        store = _through(proxy.endpoint, PATIENT)
        tag = store.create("manifest.json", b"mine")
        assert _direct(store).read("manifest.json", 9) == (b"mine", tag)
        lost.clear()
        newer = store.replace("manifest.json", b"newer", tag)
        assert _direct(store).read("manifest.json", 9) == (b"newer", newer)
        with pytest.raises(Conflict):
            store.replace("manifest.json", b"stale", tag)
        _direct(store).create("theirs", b"theirs")
        lost.clear()
        with pytest.raises(Conflict):
            store.create("theirs", b"not mine")


@pytest.mark.parametrize("act", ["500", "reset", "lose"])
@pytest.mark.parametrize("which", ["piece", "end"])
def test_a_multipart_upload_with_a_lost_piece_or_end(tmp_path: Path, act: str, which: str) -> None:
    """One fault: it is tried again. For good: it is refused, and no reader sees an object."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 11)

    def hit(asked: Asked) -> bool:
        piece = asked.method == "PUT" and "partNumber=2" in asked.path
        end = asked.method == "POST" and "uploadId=" in asked.path
        return piece if which == "piece" else end

    times: list[Asked] = []

    def once(asked: Asked) -> str:
        if hit(asked):
            times.append(asked)
            return act if len(times) == 1 else ""
        return ""

    with broken(server(), once) as proxy:
        store = _through(proxy.endpoint, PIECES)
        store.upload("parts/large", path)
        assert len(times) >= 1
    assert _direct(store).read_range("parts/large", 0, 40 << 20) == path.read_bytes()
    if act == "lose" and which == "end":
        return  # the end was reached each time: the object is there, and rightly
    with broken(server(), lambda asked: act if hit(asked) else "") as proxy:
        store = _through(proxy.endpoint, PIECES)
        with pytest.raises(SafeholdError):
            store.upload("parts/large", path)
    assert list(_direct(store).list()) == []


@pytest.mark.parametrize("honours", [(), ("create",), ("replace",)])
def test_a_store_that_ignores_conditions_is_refused(honours: tuple[str, ...]) -> None:
    with careless_server(*honours) as endpoint:
        with pytest.raises(StorageFailed) as refused:
            probe_store(_through(endpoint))
        assert refused.value.code == "vault.store_unsafe"


def test_the_stand_in_that_honours_both_passes() -> None:
    """So what refused the others is the condition that they ignore, and not the stand-in."""
    with careless_server("create", "replace") as endpoint:
        store = _through(endpoint)
        assert probe_store(store) is store


def test_nobody_there() -> None:
    with broken(server(), lambda asked: "") as proxy:
        endpoint = proxy.endpoint
    with pytest.raises(StorageFailed) as failed:
        probe_store(_through(endpoint))
    assert failed.value.code == "vault.store_failed"


def test_a_full_disk_under_a_folder(sealed: Sealed, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as disk:
        store = open_store(parse_location(str(disk / "store")), access(""))
        filling = fill(disk)
        with pytest.raises(StorageFailed) as full:
            publish_folder(sealed.folder, store, _now())
        assert full.value.code == "vault.disk_full"
        assert list(store.list()) == []
        filling.unlink()
        publish_folder(sealed.folder, store, _now())
        verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)


def test_a_publisher_into_a_folder_killed_at_each_step(sealed: Sealed, tmp_path: Path) -> None:
    """Killed for real before each rename, link and sync: nothing or the whole, and the next run ends it."""
    for deadly in range(1, 150):
        store = fresh_store("folder", tmp_path / str(deadly))
        child = os.fork()
        if child == 0:
            _die_at(deadly, sealed, store)
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        assert ended in {0, -signal.SIGKILL}
        found, code = outcome(lambda store=store: load_stored(store, "1"))  # type: ignore[misc]  # bound to this turn
        assert (found is not None) or code == "vault.release_missing"
        if found is not None:
            verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)
        publish_folder(sealed.folder, store, _now())
        verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)
        if ended == 0:
            assert deadly > 12
            return
    pytest.fail("it never came to its end")


def _die_at(deadly: int, sealed: Sealed, store: Store) -> None:
    calls = 0

    def counted(real):  # type: ignore[no-untyped-def]  # any call of the system
        def call(*args, **more):  # type: ignore[no-untyped-def]  # any call of the system
            nonlocal calls
            calls += 1
            if calls == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for name in ("fsync", "rename", "mkdir", "link"):
        setattr(os, name, counted(getattr(os, name)))
    try:
        publish_folder(sealed.folder, store, _now())
    finally:
        os._exit(0)


PUBLISHER = """
import sys, time
from pathlib import Path
from safehold.vault.store import parse_location
from safehold.vault.store_probe import open_store
from safehold.vault.stored_release import publish_folder
from tests.object_store_kit import access
store = open_store(parse_location(sys.argv[2]), access(sys.argv[3]))
publish_folder(Path(sys.argv[1]), store, time.time_ns() // 1000)
"""


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_publisher_into_a_bucket_killed_while_it_writes(sealed: Sealed, share: float) -> None:
    """Killed as a write arrives, of a part or of the manifest: the server has it, and nobody hears of it."""
    deadly = int(share * (len(sealed.manifest.parts) + len(sealed.manifest.sidecars)))
    process: list[subprocess.Popen[bytes]] = []
    writes: list[Asked] = []

    def fault(asked: Asked) -> str:
        if asked.method == "PUT":
            writes.append(asked)
            if len(writes) == deadly + 1:
                process[0].kill()
                return "lose"
        return ""

    url = fresh_url()
    with broken(server(), fault) as proxy:
        arguments = [sys.executable, "-c", PUBLISHER, str(sealed.folder), url, proxy.endpoint]
        process.append(subprocess.Popen(arguments, cwd=ROOT, env=os.environ | {"PYTHONPATH": "src:."}))
        assert process[0].wait(60) == -signal.SIGKILL
    store = open_store(parse_location(url), access(server()))
    found, code = outcome(lambda: load_stored(store, "1"))
    assert code == "vault.release_missing" if share < 1 else found is not None
    publish_folder(sealed.folder, store, _now())
    verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)
