"""Sweeps of a replayed clock: the agent itself, once for each moment given, in one isolated process.

Run as ``python3 -I -S replay.py AGENT TIMES ARGUMENT…``: TIMES are RFC 3339 moments joined by commas; a ``!`` after one says
that the agent confirms there what it saw since its last word, as it does every ten minutes in life. Standard library
alone, like the agent: nothing in the environment that is swept can run here.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]

_NEVER = "1000000000"


def main(arguments: list[str]) -> int:
    """Sweep at each moment. Returns the agent's first exit code that is not 0."""
    agent_file, times, *rest = arguments
    sys.path.insert(0, agent_file)
    program = importlib.import_module("safehold.inventory.agent.program")
    for moment in times.split(","):
        confirm = "0" if moment.endswith("!") else _NEVER
        code: int = program.main([*rest, "--at", moment.rstrip("!"), "--confirm-every", confirm])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
