"""Safehold's own agent over Safehold's own ``.venv``: what was installed is what was locked, and nothing else would run.

The agent runs as hosts run it: one built file, isolated, without ``site``. Compiled code is not compared here: that takes
minutes for a whole environment.
"""

from __future__ import annotations

import ensurepip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safehold.inventory.agent_file import write_agent
from tools.source import Finding

__all__ = ["find", "judge", "locked"]

_SOURCES = "safehold-src.pth"
"""Made by ``tools/setup_env.py``: names our source folder, runs nothing."""
_TOLD = {"code-unchecked", "no-hash"}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def locked(root: Path) -> set[tuple[str, str]]:
    """Name and version of all that ``requirements/*.txt`` lock, and of the pip that Python itself brings."""
    pins = [pin for path in (root / "requirements").glob("*.txt") for pin in _PIN.findall(path.read_text("utf-8"))]
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in (*pins, ("pip", ensurepip.version()))}


def judge(contents: dict[str, Any], pins: set[tuple[str, str]]) -> list[Finding]:
    """What one sweep found that a clean set-up does not have."""
    odd = [(one["path"], "is not as its distribution delivered it") for one in contents["altered"]]
    odd += [(one["path"], f"of {one['owner']} is missing") for one in contents["missing"]]
    odd += [(one["path"], f"is compiled code that cannot be trusted: {one['problem']}") for one in contents["pyc"]]
    odd += [(one["path"], "belongs to no distribution") for one in contents["unowned"]]
    odd += [
        (one["path"], "is read at every start of Python")
        for one in contents["hooks"]
        if one["path"] != _SOURCES or one["runs"]
    ]
    odd += [
        (one["path"], f"was not looked at: {one['reason']}")
        for one in contents["skipped"]
        if one["reason"] not in _TOLD and (one["path"], one["reason"]) != (_SOURCES, "adds-folders")
    ]
    odd += [
        (one["folder"], f"{one['name']} {one['version']} is not what requirements/ lock")
        for one in contents["distributions"]
        if (one["name"], one["version"]) not in pins
    ]
    return [Finding(f".venv: {path}", 1, text) for path, text in odd]


def find(root: Path) -> list[Finding]:
    """The findings for this checkout's ``.venv``; one finding where the agent cannot say."""
    with tempfile.TemporaryDirectory() as folder:
        agent = write_agent(Path(folder) / "agent.pyz")
        command = [
            sys.executable,
            "-I",
            "-S",
            str(agent),
            str(root / ".venv"),
            "--host",
            "safehold/checkout",
            "--stdout",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [Finding(".venv", 1, f"is unknown: {done.stderr.strip()}")]
    return judge(json.loads(done.stdout)["contents"], locked(root))
