"""The rooms are described three times; this holds the three together.

``docs/architecture.md`` has a table whose header starts with ``| room | may import |``; ``pyproject.toml`` has one
import contract a room and one home contract an outside library (the table ``| library | homes |``); ``src/safehold``
has the folders. Page and contracts must say the same, and each folder must have a contract. That the source keeps
the contracts is for ``lint-imports`` to say.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tools.source import Finding

__all__ = ["PAGE", "contracts", "find", "folders", "table"]

PAGE = "docs/architecture.md"
_QUOTED = re.compile(r"`([\w.]+)/?`")


def table(text: str, first: str, second: str) -> dict[str, tuple[str, ...]]:
    """The rows of the Markdown table whose header starts with these two columns; names in backticks count."""
    rows: dict[str, tuple[str, ...]] = {}
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[:2] == [first, second]:
            inside = True
        elif inside and (name := _QUOTED.search(cells[0])):
            rows[name[1]] = tuple(sorted(_QUOTED.findall(cells[1])))
    return rows


def contracts(text: str, kind: str) -> dict[str, tuple[str, ...]]:
    """The contracts of one kind (``room`` or ``home``) in a pyproject.toml."""
    key, values = {"room": ("room", "may_import"), "home": ("library", "homes")}[kind]
    listed = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return {contract[key]: tuple(sorted(contract[values])) for contract in listed if contract["type"] == kind}


def folders(root: Path) -> set[str]:
    """The rooms that exist, and modules that lie beside them."""
    package = root / "src" / "safehold"
    rooms = {path.parent.name for path in package.glob("*/*.py")}
    return rooms | {path.stem for path in package.glob("*.py") if path.stem != "__init__"}


def find(root: Path) -> list[Finding]:
    """Where page, contracts and folders differ."""
    page = (root / PAGE).read_text(encoding="utf-8")
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    found = []
    for kind, header in (("room", ("room", "may import")), ("home", ("library", "homes"))):
        said, held = table(page, *header), contracts(project, kind)
        found += [
            Finding(PAGE, 1, f"{kind} {name}: the page says {said.get(name)}, the contract {held.get(name)}")
            for name in sorted(said.keys() | held.keys())
            if said.get(name) != held.get(name)
        ]
    missing = sorted(folders(root) - contracts(project, "room").keys())
    found += [Finding(f"src/safehold/{room}", 1, "a room that no import contract names") for room in missing]
    for room, allowed in contracts(project, "room").items():
        unknown = sorted(set(allowed) - contracts(project, "room").keys())
        found += [Finding("pyproject.toml", 1, f"{room} may import {name}, which is no room") for name in unknown]
    return found
