"""A real PyTorch for tests and measurements, beside the environment and not in it.

The wheels of the package index bring gigabytes of GPU libraries. Debian's ``python3-torch`` is built for the processor
alone: its packages are fetched by apt and unpacked below ``.peers/torch``, nothing is installed, nothing is changed in
the system. Where that cannot be done, tests with torch are skipped and say so.

Run: ``python -m tools.torch_peer`` (needs apt-get and dpkg, and for the fetching of lists perhaps root).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["environment", "main", "works"]

_ROOT = Path(__file__).resolve().parents[1]
_PEER = _ROOT / ".peers" / "torch"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "usr/lib/aarch64-linux-gnu")
_MODULES = ("torch", "functorch")


def environment() -> dict[str, str]:
    """What a process must find in its environment to import torch from here; not inherited by anything else."""
    found = _PEER / "unpacked"
    libraries = [str(found / name) for name in _LIBRARIES]
    libraries += [str(found / name / kind) for name in _LIBRARIES[:1] for kind in ("blas", "lapack")]
    return {"LD_LIBRARY_PATH": ":".join(libraries), "TORCH_PEER": str(_PEER / "modules")}


def works(python: str = sys.executable) -> str | None:
    """Why torch cannot be imported by ``python`` with ``environment``, or None if it can."""
    if not (_PEER / "modules" / "torch").exists():
        return "Debian's torch is not unpacked here: python -m tools.torch_peer"
    known = environment()
    done = subprocess.run(
        [python, "-W", "ignore", "-c", "import torch.utils.data"],
        env=os.environ | known | {"PYTHONPATH": known["TORCH_PEER"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"torch cannot be imported: {done.stderr.strip()[-200:]}"


def _unpack() -> None:
    packages, unpacked, modules = (_PEER / name for name in ("packages", "unpacked", "modules"))
    for folder in (packages / "partial", unpacked, modules):
        folder.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--download-only", "--reinstall"]
    subprocess.run([*fetch, "-o", f"Dir::Cache::archives={packages}", "python3-torch"], check=True)
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True)
        package.unlink()
    for name in _MODULES:
        (modules / name).unlink(missing_ok=True)
        (modules / name).symlink_to(unpacked / "usr/lib/python3/dist-packages" / name)


def main() -> int:
    """Entry point: 0 if torch can be imported afterwards; what failed is said, and nothing else depends on it."""
    if works() is not None:
        try:
            _unpack()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"torch: not unpacked: {error}", file=sys.stderr)
    reason = works()
    print(reason or "torch: ready", file=sys.stderr)
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
