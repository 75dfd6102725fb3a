"""What no committed file holds: paths of one machine, hosts of package registries, private keys, large files.

A file that is committed is read everywhere and for years. Where packages come from is the affair of the machine
that installs them; the lock files hold hashes.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tools.source import Finding

__all__ = ["MAX_BYTES", "check", "committed_files", "find"]

MAX_BYTES = 1_000_000
# Written in two parts, so that this file does not find itself.
_PATTERNS = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|opt/wheels|opt/pypi[\w-]*|root/\.pyenv|tmp/(?:plan|t))/"),
    "a registry's host": re.compile(
        r"(?:pypi\.o" r"rg|pythonh" r"osted\.org|registry\.npm" r"js\.org|deb\.deb" r"ian\.org|proxy\.gol" r"ang\.org)"
    ),
    "a package source": re.compile(r"(?m)^\s*--(?:extra-)?index" r"-url|^\s*--find" r"-links|^\s*--trusted" r"-host"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIV" r"ATE KEY-----"),
}


def committed_files(root: Path) -> list[Path]:
    """What git holds or would take; outside a clone, every file that is not set-up."""
    if (root / ".git").exists():
        listing = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0")
        return [path for name in names if name and (path := root / name).is_file()]
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(_is_left_over(part) for part in path.relative_to(root).parts)
    ]


def _is_left_over(part: str) -> bool:
    return part == "__pycache__" or (part.startswith(".") and part not in {".ci", ".gitignore"})


def check(path: str, data: bytes) -> list[Finding]:
    """Findings for one file. Binary files are looked at for their size only."""
    found = [Finding(path, 1, f"{len(data)} bytes; at most {MAX_BYTES}")] if len(data) > MAX_BYTES else []
    if b"\0" in data[:8000]:
        return found
    text = data.decode("utf-8", errors="replace")
    for what, pattern in _PATTERNS.items():
        found += [
            Finding(path, text.count("\n", 0, match.start()) + 1, f"{what}: {match[0].strip()}")
            for match in pattern.finditer(text)
        ]
    return found


def find(root: Path) -> list[Finding]:
    """Findings over what is or would be committed."""
    return [
        finding
        for path in committed_files(root)
        for finding in check(path.relative_to(root).as_posix(), path.read_bytes())
    ]
