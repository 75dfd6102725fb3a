"""Make the environment of another implementation, which needs a later Python than Safehold: ``.peers/tlog``.

Its packages are hash-locked in ``requirements/peers-tlog.txt`` and installed as wheels alone. Without Python 3.12 or later there is
none, and the tests that need it are skipped and say so.

``make_pinned`` makes the environments of peers that tests and measurements alone need: versions are pinned, and nothing of
them is ever on the path of Safehold's own environment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["find_python", "main", "make", "make_pinned"]

_PYTHONS = ("python3.12", "python3.13", "python3.14", "python3")


def find_python() -> str | None:
    """The first Python on the path that is 3.12 or later and runs."""
    for name in _PYTHONS:
        found = shutil.which(name)
        check = "import sys; sys.exit(sys.version_info < (3, 12))"
        if found and subprocess.run([found, "-I", "-c", check], capture_output=True, check=False).returncode == 0:
            return found
    return None


def make(root: Path, given: str | None = None) -> Path | None:
    """Make ``.peers/tlog`` below ``root`` unless it is there; return its interpreter, or None without a Python for it."""
    lock, venv = root / "requirements" / "peers-tlog.txt", root / ".peers" / "tlog"
    stamp, python = venv / "made-from.txt", venv / "bin" / "python"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return python
    found = given or find_python()
    if found is None:
        return None
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([found, "-I", "-m", "venv", str(venv)], check=True)
    install = ["install", "--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(lock)]
    subprocess.run([str(python), "-I", "-m", "pip", "-qq", "--disable-pip-version-check", *install], check=True)
    stamp.write_bytes(lock.read_bytes())
    return python


def make_pinned(folder: Path, packages: Sequence[str], options: Sequence[str] = (), seconds: int = 600) -> Path:
    """An environment in ``folder`` with ``packages`` (``name==version``), made unless it is there; its interpreter.

    It is made with the Python that runs this. A folder that was half made, or of other versions, is made anew.
    Raises ``OSError``, or ``subprocess.SubprocessError`` with what pip said last.
    """
    stamp, python = folder / "made-from.txt", folder / "bin" / "python"
    wanted = "\n".join([f"python {sys.version_info[0]}.{sys.version_info[1]}", *packages, ""])
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-I", "-m", "venv", str(folder)], check=True, capture_output=True)
    install = ["install", "--retries", "1", *options, *packages]
    command = [str(python), "-I", "-m", "pip", "-q", "--disable-pip-version-check", *install]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise subprocess.SubprocessError(done.stderr.strip().rpartition("\n")[2] or "pip failed")
    stamp.write_text(wanted, "utf-8")
    return python


def main(arguments: list[str]) -> int:
    """Entry point: 0 if the environment is there. ``arguments`` may name the Python to make it with."""
    python = make(Path(__file__).resolve().parent.parent, arguments[0] if arguments and arguments[0] else None)
    if python is None:
        print("interop: there is no Python 3.12 or later on the path: make interop PEER_PYTHON=FILE", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
