"""10,000 mutated requests to the served broker: each is answered by a 4xx with our code, and no key leaves.

Run: ``python bench/fuzz_serve.py [--requests 10000] [--seed 1]``. The mutations are those of tests/mutated_kit.py: token,
body, signature, headers, path and length of a request that is good. The application and the broker behind it are the real
ones, in this process. Ends with 1, and prints the request's kind and answer, at the first that is answered otherwise.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.broker_kit import make_world  # noqa: E402 - the tests' kits lie beside this folder
from tests.mutated_kit import Mutator, is_answered_well, schema_cases  # noqa: E402 - the path is set above
from tests.serve_kit import Place  # noqa: E402 - the path is set above

__all__ = ["main"]


def main() -> int:
    """Send them; 0 if all were refused as they must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    codes = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", (ROOT / "docs/reference/errors.md").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        place = Place(world, singly=0)
        mutator = Mutator(place, random.Random(given.seed))  # noqa: S311 - a seed makes a run repeatable; no secret
        asked, seen, began = len(world.part_keys.asked), Counter[str](), time.perf_counter()
        for number in range(given.requests):
            name, said = mutator.mutated()
            if not is_answered_well(said, codes):
                print(f"request {number} ({name}, seed {given.seed}) was answered: {said}")
                return 1
            seen[f"{said.status} {said.document['code']}"] += 1
        made = 0
        for name, said in schema_cases(place, 60):
            made += 1
            if said.status >= 500 or (said.status == 200 and name.startswith("POST")):
                print(f"{name} of the OpenAPI document was answered: {said}")
                return 1
        took = time.perf_counter() - began
        leaked = len(world.part_keys.asked) - asked
        world.close()
    print(f"{given.requests:,} mutated requests and {made} of schemathesis in {took:.0f} s, seed {given.seed}")
    print(f"answered otherwise than 4xx with our code: 0; keys unwrapped: {leaked}; codes met: {len(seen)}")
    for code, count in seen.most_common(8):
        print(f"  {count:6} {code}")
    return 1 if leaked else 0


if __name__ == "__main__":
    sys.exit(main())
