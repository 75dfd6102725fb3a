"""The form of a changelog fragment: ``changelog.d/NAME.KIND.md``, one change each.

KIND is added, changed, fixed, removed or security. The text starts with the area and a colon, tells a user in
whole sentences what is different now, and ends with a full stop.
"""

from __future__ import annotations

import re
from pathlib import Path

from tools.source import Finding

__all__ = ["KINDS", "check", "find"]

KINDS = ("added", "changed", "fixed", "removed", "security")
_NAME = re.compile(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(KINDS)})\.md")
_TEXT = re.compile(r"[a-z][a-z0-9_, /-]*: \S.*\.\n", re.DOTALL)
_MAX_LINE = 120


def check(name: str, text: str) -> list[Finding]:
    """Findings for one fragment."""
    path = f"changelog.d/{name}"
    found = []
    if not _NAME.fullmatch(name):
        found.append(Finding(path, 1, f"the name is NAME.KIND.md, KIND one of {', '.join(KINDS)}"))
    if not _TEXT.fullmatch(text):
        found.append(Finding(path, 1, "the text is `area: What is different now.` and ends with one line break"))
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _MAX_LINE:
            found.append(Finding(path, number, f"{len(line)} characters in a line; at most {_MAX_LINE}"))
    return found


def find(root: Path) -> list[Finding]:
    """Findings over all fragments."""
    return [
        finding
        for path in sorted((root / "changelog.d").glob("*"))
        if path.name != "README.md"
        for finding in check(path.name, path.read_text(encoding="utf-8"))
    ]
