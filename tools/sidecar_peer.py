"""The real libraries of Croissant and OpenLineage, beside the environment and not in it, to check sidecars with.

``mlcroissant`` needs a package that exists as source alone, so it cannot be in the hash-locked environment. It goes into
``.peers/sidecars``; tests that need it run it as another process, and are skipped where it is not there.

Run: ``python -m tools.sidecar_peer``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["main", "python"]

_PEER = Path(__file__).resolve().parents[1] / ".peers" / "sidecars"
_PACKAGES = ("mlcroissant==1.1.1", "openlineage-python==1.54.0")


def python() -> Path | None:
    """The interpreter that has the libraries, or None."""
    found = _PEER / "bin" / "python"
    return found if (_PEER / "ready").is_file() else None


def main() -> int:
    """Entry point: make the environment if it is not there; 0 if it is there afterwards."""
    if python() is None:
        try:
            subprocess.run([sys.executable, "-m", "venv", str(_PEER)], check=True)
            subprocess.run([str(_PEER / "bin" / "pip"), "install", "-q", *_PACKAGES], check=True)
            (_PEER / "ready").touch()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"sidecars: the libraries are not here: {error}", file=sys.stderr)
            return 1
    print("sidecars: ready", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
