"""``make check``: every rule that needs no test run. All steps run even when one fails; the last line sums up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools import (
    changelog,
    command_reference,
    committed,
    decoding,
    edges,
    error_reference,
    exports,
    own_environment,
    rooms,
    sizes,
    words,
)
from tools.source import Finding

__all__ = ["OWN", "PROGRAMS", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("src", "tools", "tests", "bench")

PROGRAMS: dict[str, tuple[str, ...]] = {
    "format": ("ruff", "format", "--check", "--quiet"),
    "lint": ("ruff", "check", "--quiet", "--output-format", "concise"),
    "types": ("mypy", "--no-error-summary"),
    "rooms (imports)": ("lint-imports", "--no-cache", "--no-logo"),
    "figures": (sys.executable, "-m", "tools.figures"),
}
"""Programs that judge the source, by the name that is printed."""

OWN: dict[str, Callable[[Path], list[Finding]]] = {
    "rooms (page)": rooms.find,
    "sizes": sizes.find,
    "public names": exports.find,
    "edges": edges.find,
    "decoding": decoding.find,
    "error codes": error_reference.find,
    "commands": command_reference.find,
    "words": words.find,
    "committed files": committed.find,
    "changelog": changelog.find,
    "own environment": own_environment.find,
}
"""The house's own checks."""


def _program(command: tuple[str, ...]) -> tuple[bool, str]:
    name, *arguments = command
    path = name if "/" in name else str(Path(sys.executable).parent / name)
    if name == "ruff":
        arguments += [folder for folder in _FOLDERS if (_ROOT / folder).is_dir()]
    done = subprocess.run(
        [path, *arguments], cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def _own(find: Callable[[Path], list[Finding]]) -> tuple[bool, str]:
    findings = find(_ROOT)
    return not findings, "\n".join(map(str, findings))


def main() -> int:
    """Run all steps; 1 if any failed."""
    failed = []
    steps: dict[str, Callable[[], tuple[bool, str]]] = {name: partial(_own, find) for name, find in OWN.items()}
    steps |= {name: partial(_program, command) for name, command in PROGRAMS.items()}
    for name, step in steps.items():
        started = time.perf_counter()
        kept, said = step()
        print(f"{'ok  ' if kept else 'FAIL'} {name:<16} {time.perf_counter() - started:5.1f} s", flush=True)
        if said and (not kept or name == "figures"):
            print("\n".join(f"     {line}" for line in said.splitlines()), flush=True)
        if not kept:
            failed.append(name)
    print(
        f"check: {len(steps) - len(failed)} of {len(steps)} kept" + (f"; broken: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
