"""Install Debian's chromium for the browser tests where that is possible; never fail.

The tests that need a browser skip without one, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["browser", "install", "main", "may_install"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 600


def browser() -> str | None:
    """Path of a chromium on this machine, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def may_install() -> list[str] | None:
    """What to put before ``apt-get``, or None if this user may not install."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def install(prefix: list[str], package: str = "chromium") -> str | None:
    """Install a package of Debian; return None, or why it could not be done."""
    steps = (
        ["apt-get", "update", "-q"],
        [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-q",
            "-y",
            "--no-install-recommends",
            package,
        ],
    )
    try:
        for step in steps:
            done = subprocess.run(
                [*prefix, *step],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode:
                words = done.stderr.strip().splitlines()
                return words[-1] if words else "apt-get failed"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def main() -> int:
    """Install chromium if it is absent and this user may; say what happened; always 0."""
    if browser():
        return 0
    prefix = may_install()
    if prefix is None:
        print("chromium: not here, and cannot be installed by this user; browser tests skip.")
        print("chromium: as root on Debian: apt-get install chromium")
        return 0
    print("chromium: installing Debian's package for the browser tests ...", flush=True)
    problem = install(prefix)
    if problem or not browser():
        print(f"chromium: could not be installed ({problem or 'not found afterwards'}); browser tests skip.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
