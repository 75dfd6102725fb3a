"""Threads that decode to the same type for the first time at once: one of them makes it ready, and none crashes.

Runs in a process of its own, since what goes wrong here ends the process. Without ``resolved`` it does so within seconds.
"""

from __future__ import annotations

import subprocess
import sys

_RACE = """
import sys, threading
import msgspec
from safehold.model.encoding import resolved

sys.setswitchinterval(1e-6)

def race():
    inner = msgspec.defstruct("Inner", [(f"a{n}", int | None) for n in range(12)])
    outer = msgspec.defstruct("Outer", [("x", list[inner]), *[(f"b{n}", dict[str, list[int]] | None, None) for n in range(12)]])
    data = msgspec.json.encode({"x": [{f"a{n}": n for n in range(12)}], "b3": {"q": [1]}})
    gate, seen = threading.Barrier(4), []

    def work():
        gate.wait()
        seen.append(msgspec.json.decode(data, type=resolved(outer)).x[0].a11)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [11] * 4, seen

for _ in range(400):
    race()
print("kept")
"""


def test_a_type_is_made_ready_by_one_thread():
    done = subprocess.run([sys.executable, "-c", _RACE], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr[-2000:]
