"""What people keep data with in place of a sealed release, for ``bench/copies.py``: age, zstd, restic and DVC below ``.peers``.

``pyrage``, ``zstandard`` and ``orjson`` go into ``.peers/age``, DVC into ``.peers/dvc``, each an environment of its own with
pinned versions. DVC needs a package that exists as source alone, so these cannot be locked by hash. Debian's ``age``, ``zstd``
and ``restic`` are taken from the path, or downloaded by apt and unpacked below ``.peers/debian``: nothing is installed.

Run: ``python -m tools.copy_peers``, half a minute the first time.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.chromium import may_install
from tools.peers import make_pinned

__all__ = ["dvc", "main", "modules", "program"]

_PEERS: Final = Path(__file__).resolve().parents[1] / ".peers"
_MODULES: Final = ("pyrage==1.4.0", "zstandard==0.25.0", "orjson==3.13.0")
_DVC: Final = ("dvc==3.67.1",)
_DEBIAN: Final = ("age", "zstd", "restic")


def modules() -> Path | str:
    """The folder of pyrage, zstandard and orjson, to put behind this environment's own on the path; else why not."""
    try:
        python = make_pinned(_PEERS / "age", _MODULES, ["--only-binary", ":all:"])
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return python.parents[1] / "lib" / version / "site-packages"


def dvc() -> Path | str:
    """DVC's program, or why it is not here."""
    try:
        return make_pinned(_PEERS / "dvc", _DVC).with_name("dvc")
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


def program(name: str) -> Path | str:
    """A program of one of Debian's packages, from the path or unpacked here, or why it is not here."""
    unpacked = _PEERS / "debian" / "unpacked"
    found = shutil.which(name) or shutil.which(name, path=str(unpacked / "usr" / "bin"))
    if found:
        return Path(found)
    problem = _unpack(name, unpacked)
    found = shutil.which(name, path=str(unpacked / "usr" / "bin"))
    return Path(found) if found else problem or f"Debian's {name} has no program of that name"


def _unpack(package: str, unpacked: Path) -> str | None:
    """Download a package of Debian and unpack it; None, or why it could not be done."""
    packages = unpacked.with_name("packages")
    try:
        packages.mkdir(parents=True, exist_ok=True)
        if _download(package, packages):
            prefix = may_install()
            if prefix is not None:  # the lists of packages may never have been fetched here
                subprocess.run([*prefix, "apt-get", "update", "-q"], capture_output=True, timeout=120, check=False)
            problem = _download(package, packages)
            if problem:
                return problem
        for file in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(file), str(unpacked)], check=True, capture_output=True)
            file.unlink()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def _download(package: str, folder: Path) -> str | None:
    done = subprocess.run(
        ["apt-get", "download", "-q", package], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return (done.stderr.strip().rpartition("\n")[2] or "apt-get failed") if done.returncode else None


def main() -> int:
    """Entry point: 0 if all are here; what is not is said, and the bench says it again."""
    found = {"pyrage, zstandard, orjson": modules(), "dvc": dvc()} | {name: program(name) for name in _DEBIAN}
    for name, one in found.items():
        print(f"{name}: {'ready' if isinstance(one, Path) else one}", file=sys.stderr)
    return 0 if all(isinstance(one, Path) for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
