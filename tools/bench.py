"""Run every script in ``bench/`` and say plainly which failed.

A script prints its own figures, and exits with another code than 0 when it could not measure or when what it
measured was wrong. One that fails does not stop the others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["main", "run"]


def run(folder: Path) -> list[str]:
    """Run ``folder/*.py`` one after the other; return the names of those that failed."""
    failed = []
    for script in sorted(folder.glob("*.py")):
        if script.name.startswith("_"):
            continue
        print(f"== {script.name}", flush=True)
        done = subprocess.run([sys.executable, str(script)], stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            print(f"== {script.name} FAILED with exit code {done.returncode}", flush=True)
            failed.append(script.name)
    return failed


def main() -> int:
    """Entry point: 0 if there was something to run and all of it succeeded."""
    folder = Path(__file__).resolve().parent.parent / "bench"
    if not any(folder.glob("[!_]*.py")):
        print("bench: there is nothing to measure in bench/", file=sys.stderr)
        return 1
    failed = run(folder)
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
