"""Install Debian's SoftHSM for the tests of keys in a PKCS#11 token where that is possible; never fail.

The tests that need a token skip without it, and say so.
"""

from __future__ import annotations

import shutil
import sys

from tools.chromium import install, may_install

__all__ = ["main"]


def main() -> int:
    """Install softhsm2 if it is absent and this user may; say what happened; always 0."""
    if shutil.which("softhsm2-util"):
        return 0
    prefix = may_install()
    if prefix is None:
        print("softhsm: not here, and cannot be installed by this user; its tests skip.")
        print("softhsm: as root on Debian: apt-get install softhsm2")
        return 0
    problem = install(prefix, "softhsm2")
    if problem or not shutil.which("softhsm2-util"):
        print(f"softhsm: could not be installed ({problem or 'not found afterwards'}); its tests skip.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
