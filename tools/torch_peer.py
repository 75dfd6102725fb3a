"""A real PyTorch for tests and measurements, beside the environment and not in it.

First the wheel that is built for the processor alone: ``torch`` with the local version ``+cpu``, some 190 MB. Under that
name the package index has none, so it comes from a folder or an index that this machine's pip is told of, or not at all:
the gigabytes of GPU libraries that ``torch`` alone would bring are never fetched. It goes into ``.peers/torch/wheel``.

Else Debian's ``python3-torch`` (1.13), also without GPU libraries: its packages are fetched by apt and unpacked below
``.peers/torch``, nothing is installed, nothing is changed in the system. Where neither can be had, tests with torch are
skipped and say so.

Run: ``python -m tools.torch_peer`` (for Debian's it needs apt-get and dpkg, and for the fetching of lists perhaps root);
``--wheel`` tries the wheel alone and never fails, as ``make test`` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.peers import make_pinned

__all__ = ["environment", "main", "works"]

_ROOT = Path(__file__).resolve().parents[1]
_PEER = _ROOT / ".peers" / "torch"
_WHEEL = "torch==2.13.0+cpu"
_SECONDS = 300  # from a folder it takes some twenty
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "usr/lib/aarch64-linux-gnu")
_MODULES = ("torch", "functorch")


def environment() -> dict[str, str]:
    """What a process must find in its environment to import torch from here; not inherited by anything else.

    ``TORCH_PEER`` is the folder of modules that goes behind this environment's own on the path.
    """
    wheel = _wheel()
    if wheel is not None:
        return {"TORCH_PEER": str(wheel)}
    found = _PEER / "unpacked"
    libraries = [str(found / name) for name in _LIBRARIES]
    libraries += [str(found / name / kind) for name in _LIBRARIES[:1] for kind in ("blas", "lapack")]
    return {"LD_LIBRARY_PATH": ":".join(libraries), "TORCH_PEER": str(_PEER / "modules")}


def works(python: str = sys.executable) -> str | None:
    """Why torch cannot be imported by ``python`` with ``environment``, or None if it can."""
    if _wheel() is None and not (_PEER / "modules" / "torch").exists():
        return f"no torch below .peers: {_WHEEL} is in no folder or index of this machine's pip, and Debian's is not unpacked (python -m tools.torch_peer)"
    known = environment()
    code = "import sys; sys.path.append(sys.argv[1]); import torch.utils.data"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, known["TORCH_PEER"]],
        env=os.environ | known,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"torch cannot be imported: {done.stderr.strip()[-200:]}"


def _wheel() -> Path | None:
    """The folder of modules that the wheel was installed into for this Python, or None."""
    modules = _PEER / "wheel" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    return modules if (modules / "torch").is_dir() and (_PEER / "wheel" / "made-from.txt").is_file() else None


def _install() -> str | None:
    """Install the wheel; return None, or why it is not here."""
    try:
        make_pinned(_PEER / "wheel", [_WHEEL], ["--only-binary", ":all:"], _SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


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


def main(arguments: list[str]) -> int:
    """Entry point: 0 if torch can be imported afterwards; what failed is said, and nothing else depends on it."""
    only = "--wheel" in arguments
    problem = None if _wheel() else _install()
    if problem is not None:
        print(f"torch: no {_WHEEL} here: {problem}", file=sys.stderr)
    if problem is not None and not only and works() is not None:
        try:
            _unpack()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"torch: not unpacked: {error}", file=sys.stderr)
    reason = works()
    print(f"torch: {reason or 'ready'}", file=sys.stderr)
    return 0 if reason is None or only else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
