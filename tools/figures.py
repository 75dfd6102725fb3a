"""Figures with limits: how many distributions core and server need, and how long ``safehold --help`` takes.

The counts are of what requirements/core.txt and serve.txt install on this machine. The time is the best of several runs, since
that is what the program needs when the machine does nothing else; the median is printed beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from packaging.markers import Marker

__all__ = ["HELP_SECONDS", "MAX_DISTRIBUTIONS", "MAX_SERVING", "distributions", "help_times", "main"]

MAX_DISTRIBUTIONS = 18
MAX_SERVING = 30
HELP_SECONDS = 0.3
_RUNS = 9


def distributions(lock: str) -> list[str]:
    """Names in a lock file whose marker holds on this machine."""
    names = []
    for line in lock.splitlines():
        requirement, _, marker = line.rstrip(" \\").partition(" ; ")
        name, pinned, _ = requirement.partition("==")
        if pinned and not line.startswith((" ", "#")) and (not marker or Marker(marker).evaluate()):
            names.append(name)
    return names


def help_times(launcher: Path, runs: int = _RUNS) -> list[float]:
    """Seconds of wall clock that ``safehold --help`` took, run by run. Raises ``RuntimeError`` when it fails."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        done = subprocess.run([str(launcher), "--help"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        times.append(time.perf_counter() - started)
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no words"])[-1]
            raise RuntimeError(f"safehold --help ended with {done.returncode}: {last}")
    return times


def main() -> int:
    """Print both figures; 1 if one is over its limit."""
    root = Path(__file__).resolve().parent.parent
    names = distributions((root / "requirements" / "core.txt").read_text(encoding="utf-8"))
    print(f"core distributions: {len(names)} (at most {MAX_DISTRIBUTIONS})")
    more = set(distributions((root / "requirements" / "serve.txt").read_text(encoding="utf-8"))) - set(names)
    print(f"distributions to serve: {len(names) + len(more)} (at most {MAX_SERVING})")
    too_many = len(names) > MAX_DISTRIBUTIONS or len(names) + len(more) > MAX_SERVING
    try:
        times = help_times(root / ".venv" / "bin" / "safehold")
    except (RuntimeError, OSError) as error:
        print(f"safehold --help: not measured: {error}")
        return 1
    best, median = min(times), statistics.median(times)
    print(f"safehold --help: {best:.3f} s best, {median:.3f} s median of {len(times)} (at most {HELP_SECONDS} s best)")
    return 1 if too_many or best > HELP_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
