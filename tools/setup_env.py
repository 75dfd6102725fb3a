"""Make ``.venv`` from the hash-locked requirements, or find that it is already right.

Run as ``python3 tools/setup_env.py core|serve|dev`` by the Makefile; standard library only. The rules:

* A stamp inside ``.venv`` holds a digest of all that the environment depends on: lock file, interpreter, folder.
  Equal stamp: nothing is done. Another stamp, or none: it is made anew.
* The stamp is written last. Whatever is killed half-way leaves no stamp, so the next run starts over; what pip
  had fetched is in its cache.
* Nothing is built here: ``--only-binary`` refuses source archives, since a build would fetch build tools that no
  hash covers. Safehold itself is put on the path by one ``.pth`` line and one launcher (docs/adr/0001).
* Two runs at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["SetupFailed", "ensure", "main", "stamp_of"]

_LAYOUT = "1"  # raise it when what this file makes changes
_LAUNCHER = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys
from safehold.app.main import main
sys.exit(main())
"""
# Settings that would send pip's work elsewhere than .venv.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_NO_DEPS")


class SetupFailed(Exception):
    """The environment could not be made; the message says why and what to do."""


def stamp_of(root: Path, lock: str) -> str:
    """Digest of what an environment made from ``requirements/LOCK.txt`` depends on."""
    digest = hashlib.sha256()
    for part in (_LAYOUT, sys.version, sys.base_prefix, str(root)):
        digest.update(part.encode() + b"\0")
    digest.update((root / "requirements" / f"{lock}.txt").read_bytes())
    return digest.hexdigest()


def _run(venv: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    command = [str(venv / "bin" / "python"), "-I", "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SetupFailed(
            "the locked packages could not be installed (see pip's words above).\n"
            "Is a package index reachable? Run the same command again: what was fetched is kept."
        )


def _install(root: Path, venv: Path, lock: str) -> None:
    _run(
        venv,
        *("install", "--require-hashes", "--only-binary", ":all:", "--no-deps"),
        *("-r", str(root / "requirements" / f"{lock}.txt")),
    )


def _make_core(root: Path, venv: Path) -> None:
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    shutil.rmtree(venv, ignore_errors=True)
    # In a shell where .venv is activated, `python3` is the one just removed: make it with the one below.
    python = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run([python, "-I", "-m", "venv", str(venv)], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SetupFailed("python could not make a virtual environment (see its words above).")
    _install(root, venv, "core")
    if sys.version_info < (3, 12):
        # venv brings setuptools on 3.11 only; with it comes a start-up hook that nobody asked for.
        _run(venv, "uninstall", "-y", "setuptools")
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(venv), "platbase": str(venv)}))
    (site / "safehold-src.pth").write_text(f"{root / 'src'}\n", encoding="utf-8")
    launcher = venv / "bin" / "safehold"
    launcher.write_text(_LAUNCHER.format(python=venv / "bin" / "python"), encoding="utf-8")
    launcher.chmod(0o755)


def _works(venv: Path) -> bool:
    """Whether the environment's interpreter still runs (the one it links to may be gone)."""
    try:
        done = subprocess.run(
            [str(venv / "bin" / "python"), "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _read(stamp: Path) -> str:
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else ""


def ensure(root: Path, kind: str) -> list[str]:
    """Make ``.venv`` fit for ``kind``: ``core``, ``serve`` (core and the server), ``dev`` (all); return what was done."""
    venv = root / ".venv"
    core, dev, begun = venv / ".core-stamp", venv / ".dev-stamp", venv / ".dev-begun"
    done: list[str] = []
    with (root / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = stamp_of(root, "dev")
        # A dev install that was cut short or is of another lock file cannot be mended by adding to it.
        spoilt = kind == "dev" and (begun.exists() or _read(dev) not in {"", wanted})
        if spoilt or _read(core) != stamp_of(root, "core") or not _works(venv):
            print("making .venv from requirements/core.txt ...", flush=True)
            _make_core(root, venv)
            core.write_text(stamp_of(root, "core"), encoding="utf-8")
            done.append("core")
        serve = venv / ".serve-stamp"
        if kind == "serve" and _read(dev) != wanted and _read(serve) != stamp_of(root, "serve"):
            print("adding requirements/serve.txt to .venv ...", flush=True)
            _install(root, venv, "serve")
            serve.write_text(stamp_of(root, "serve"), encoding="utf-8")
            done.append("serve")
        if kind == "dev" and _read(dev) != wanted:
            print("adding requirements/dev.txt to .venv ...", flush=True)
            begun.touch()
            _install(root, venv, "dev")
            dev.write_text(wanted, encoding="utf-8")
            begun.unlink()
            done.append("dev")
    return done


def main(arguments: list[str]) -> int:
    """Entry point: ``core``, ``serve`` or ``dev``."""
    if arguments not in (["core"], ["serve"], ["dev"]):
        print("usage: python3 tools/setup_env.py core|serve|dev", file=sys.stderr)
        return 2
    try:
        ensure(Path(__file__).resolve().parent.parent, arguments[0])
    except SetupFailed as failure:
        print(f"set-up: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: stopped; run the same command again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
