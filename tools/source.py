"""Python files read once and parsed, and what a check says about them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finding", "Function", "Module", "functions", "parse", "read_modules"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Finding:
    """One breach of a house rule."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Module:
    """A parsed file. ``path`` is relative to the repository, ``name`` dotted: ``safehold.ledger.log``."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the name after ``safehold``; empty elsewhere and for the package root."""
        package, _, rest = self.name.partition(".")
        return rest.partition(".")[0] if package == "safehold" else ""

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self.text.count("\n") + (not self.text.endswith("\n"))

    def at(self, node: ast.AST | int, what: str) -> Finding:
        """A finding at a node or line of this file."""
        return Finding(self.path, node if isinstance(node, int) else getattr(node, "lineno", 1), what)


def parse(path: str, text: str) -> Module:
    """A module from its path relative to the repository and its text."""
    parts = list(Path(path).with_suffix("").parts)
    if parts[0] == "src":
        parts = parts[1:]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return Module(path, ".".join(parts), text, ast.parse(text, path))


def read_modules(root: Path, *folders: str) -> list[Module]:
    """Every Python file below the folders, in order of path."""
    return [
        parse(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method in a tree, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))
