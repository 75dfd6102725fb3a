"""A real S3 server for the tests: SeaweedFS from its wheel, on loopback, started once for each run; and places for stores.

Where the wheel cannot start a server, the tests that need one are skipped and say why.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from safehold.vault.store import Store, parse_location
from safehold.vault.store_probe import open_store
from safehold.vault.store_s3 import S3Access, StoreLimits

WEED = Path(sys.executable).with_name("weed")
KEY_ID, SECRET = "test-key-id-4711", "test-secret-not-a-real-one-0815"
BUCKET = "safehold-test"
NUMBERS = count()
_LIBC = ctypes.CDLL(None)
QUICK: Final = StoreLimits(retries=3, retry_seconds=20, read_seconds=3, request_seconds=20, first_pause=0.02)


def free_ports(wanted: int) -> list[int]:
    """Ports that are free, and whose twin 10,000 above is: SeaweedFS takes that for gRPC."""
    found: list[int] = []
    while len(found) < wanted:
        with socket.socket() as one, socket.socket() as twin:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1] % 25_000 + 20_000
            if port in found or any(abs(port - other) == 10_000 for other in found):
                continue
            try:
                with socket.socket() as again:
                    again.bind(("127.0.0.1", port))
                    twin.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
    return found


def _die_with_parent() -> None:
    """A run that is killed runs nothing at its exit: the kernel then ends the server."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start_server(folder: Path) -> str:
    """Start SeaweedFS over ``folder`` and return its endpoint; it ends with this process."""
    master, volume, filer, s3 = free_ports(4)
    config = folder / "s3.json"
    identity = {"name": "t", "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]}  # fmt: skip
    config.write_text(json.dumps({"identities": [identity]}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(WEED), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
                f"-s3.port={s3}", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-volume.max=60",
                "-master.volumeSizeLimitMB=64",
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of the system and nothing of Python's
        )  # fmt: skip
    # It may take minutes to heed a SIGTERM: killed, by its own id.
    atexit.register(lambda: process.poll() is None and process.send_signal(signal.SIGKILL))
    _wait(f"http://127.0.0.1:{filer}/", process)
    made = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/{BUCKET}/", method="POST")
    urllib.request.urlopen(made, timeout=20).close()
    endpoint = f"http://127.0.0.1:{s3}"
    store = open_store(parse_location(f"s3://{BUCKET}/first"), access(endpoint))
    deadline = time.monotonic() + 60
    while True:
        try:
            store.create("ready", b"1")
        except Exception:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)  # polling another program, not an order of our own
        else:
            return endpoint


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return


def access(endpoint: str, secret: str = SECRET) -> S3Access:
    return S3Access(key_id=KEY_ID, secret=secret, endpoint=endpoint)


@cache
def _server() -> tuple[str | None, str]:
    """The endpoint, or None and why there is none."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None, prefix="safehold-s3-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        return start_server(folder), ""
    except Exception as error:  # noqa: BLE001 - whatever the wheel cannot do on this machine
        return None, f"no S3 server here: {type(error).__name__}: {error}"


def server() -> str:
    """The endpoint of the S3 server, or skip."""
    endpoint, why = _server()
    if endpoint is None:
        pytest.skip(why)
    return endpoint


def fresh_url() -> str:
    """An S3 location that nobody has used."""
    return f"s3://{BUCKET}/t{os.getpid()}-{next(NUMBERS)}"


def fresh_store(kind: str, folder: Path, endpoint: str | None = None, limits: StoreLimits = QUICK) -> Store:
    """An empty store of a kind, ``folder`` or ``s3``; ``endpoint`` None is the server of this run."""
    if kind == "folder":
        return open_store(parse_location(str(folder / "store")), S3Access())
    return open_store(parse_location(fresh_url()), access(endpoint or server()), limits)
