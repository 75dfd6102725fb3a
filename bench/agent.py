"""The agent over an environment of 44,000 files: cold full hash, stat alone, list and hooks. Figures are printed.

Run: ``python bench/agent.py [--files 44000]``. It makes the environment in a temporary folder and removes it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safehold.inventory import agent
from safehold.inventory.report import InventoryReport, parse_message
from safehold.model.contents import contents_items

__all__ = ["main"]

_PER_DISTRIBUTION = 220  # half sources, half compiled caches, as pip leaves them
_SOURCE_BYTES = 7_000


def _make(root: Path, files: int) -> None:
    """Distributions of generated text, each file in RECORD, each source with a cache of matching header."""
    site = root / "lib" / "python3.11" / "site-packages"
    for number in range(files // _PER_DISTRIBUTION):
        name = f"made_{number}"
        rows = []
        for at in range(_PER_DISTRIBUTION // 2):
            path = f"{name}/part_{at % 10}/module_{at}.py"
            text = (f"VALUE = {number * 1000 + at}\n" * (_SOURCE_BYTES // 16)).encode()
            file = site / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
            status = file.stat()
            header = (
                b"\xa7\r\r\n" + bytes(4) + int(status.st_mtime).to_bytes(4, "little") + len(text).to_bytes(4, "little")
            )
            cache = file.parent / "__pycache__" / f"module_{at}.cpython-311.pyc"
            cache.parent.mkdir(exist_ok=True)
            cache.write_bytes(header + text[:4000])
            digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
            rows += [f"{path},sha256={digest},{len(text)}", f"{cache.relative_to(site)},,"]
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n\n")
        (folder / "RECORD").write_text("\n".join([*rows, f"{folder.name}/METADATA,,", f"{folder.name}/RECORD,,", ""]))


def _timed(what: str, act: Callable[[], Any], times: int = 3) -> Any:
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = act()
        best = min(best, time.perf_counter() - start)
    print(f"{what:<44} {best * 1000:8.1f} ms (best of {times})")
    return result


def main() -> None:
    """Make, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=44_000)
    files = parser.parse_args().files
    root = Path(tempfile.mkdtemp(prefix="safehold-bench-"))
    try:
        _make(root, files)
        time.sleep(2.1)  # so that every stat is settled and may be remembered
        folder = os.fsencode(root)
        cache = agent.Memory()
        print(f"{sum(len(names) for _, _, names in os.walk(root)):,} files")
        _timed("full hash, nothing remembered", lambda: agent.sweep(folder), times=2)
        contents = agent.sweep(folder, cache)
        again = _timed("list, hooks and stat, all remembered", lambda: agent.sweep(folder, cache))
        assert again == contents, "the cache must not change what is found"
        _timed("digest of the contents", lambda: agent.contents_digest(contents))
        said = {"clock": "given", "environment": "bench", "full": True, "host": "north-lab/bench", "observed": 1}
        message = agent.canonical(agent.report(folder, contents, **said))
        print(f"{'message':<44} {len(message) / 1e6:8.2f} MB")
        parsed = _timed("receiving it: parse and digest", lambda: parse_message(message))
        assert isinstance(parsed, InventoryReport)
        _timed("reading its items", lambda: contents_items(agent.canonical(contents), files=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{'peak memory of this process':<44} {peak:8.0f} MB")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
