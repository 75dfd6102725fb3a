"""Exposure against its slow twin: 2,000 random histories of fixed seeds, and new ones; no difference is allowed.

Run: ``python bench/twin.py [--histories 2000] [--new 200]``. Each history is told to a real ledger and asked twice: now, and
as of an earlier time. The twin reads the list of entries, without SQL and without spans (``tests/exposure_twin_kit.py``).
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.exposure_twin_kit import differences
from tests.ledger_kit import memory_folder

__all__ = ["main"]


def main() -> int:
    """Play the histories; 1 if an answer differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--new", type=int, default=200)
    given = parser.parse_args()
    started, found = time.process_time(), list[str]()
    fresh = secrets.randbelow(2**40) + 2**32
    for seed in (*range(given.histories), *range(fresh, fresh + given.new)):
        with memory_folder() as folder:
            found += differences(seed, folder)
    took = time.process_time() - started
    print(f"{given.histories:,} histories of fixed seeds and {given.new:,} new ones (from {fresh}): {took:.0f} s CPU")
    print(f"  answers that differ from the slow twin's: {len(found)}")
    print("\n".join(f"  {one}" for one in found[:20]), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
