"""Write ``requirements/core.txt``, ``serve.txt`` and ``dev.txt`` from their ``.in`` files, with the hashes of every platform's files.

Versions stay as they are unless ``--upgrade`` is given, and then only to files that are at least a week old: most
malicious releases are found within days. The files name no index: where packages come from is the installing
machine's affair, and the hashes hold whatever the source.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["FORBIDDEN", "compile_lock", "main"]

FORBIDDEN = re.compile(r"^\s*--(?!hash=)|://|find-links|index-url|trusted-host|file:", re.MULTILINE)
"""What a lock file must not hold: any option but ``--hash``, and anything that names a place."""

_HEADER = "# Written by `make lock` from requirements/{name}.in; do not edit.\n"


def compile_lock(root: Path, name: str, *, upgrade: bool = False) -> str:
    """Resolve ``requirements/NAME.in`` for every platform from Python 3.11 on, and return the lock file's text.

    Raises ``RuntimeError`` when the resolver fails or when its output names a place.
    """
    folder = root / "requirements"
    target = folder / f"{name}.txt"
    command = [
        *("uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"),
        *("--no-header", "--no-annotate", "--no-config", "--no-emit-index-url", "--no-emit-find-links"),
        *("--output-file", target.name),
        *(("--upgrade", "--exclude-newer", "7 days") if upgrade else ()),
        f"{name}.in",
    ]
    # A machine's own places must not decide what is locked.
    places = ("UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX")
    environment = {key: value for key, value in os.environ.items() if key not in places}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    before = target.read_text(encoding="utf-8") if target.exists() else None
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    if before is not None:
        target.write_text(before, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{name}.in has no solution: {done.stderr.strip()}")
    if FORBIDDEN.search(text):
        raise RuntimeError(f"the lock of {name}.in names a place; nothing was written")
    return _HEADER.format(name=name) + text.removeprefix(_HEADER.format(name=name))


def main(arguments: list[str]) -> int:
    """Entry point; ``--upgrade`` moves to the latest versions that are a week old."""
    root = Path(__file__).resolve().parent.parent
    for name in ("core", "serve", "dev"):  # each is constrained by those before: this order
        try:
            text = compile_lock(root, name, upgrade="--upgrade" in arguments)
        except RuntimeError as error:
            print(f"lock: {error}", file=sys.stderr)
            return 1
        (root / "requirements" / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"requirements/{name}.txt: {len(re.findall(r'^[a-z0-9]', text, re.MULTILINE))} distributions")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
