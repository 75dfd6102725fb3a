"""Public names: each module says what it offers, and offers what it says.

A module with more than a docstring has a literal ``__all__``; what is listed is bound in the module, and every
function, class and constant without a leading underscore is listed. That public things have docstrings is ruff's
part (rules D100 to D104).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tools.source import Finding, Function, Module, read_modules

__all__ = ["check", "find"]


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at module level, those under ``if`` and ``try`` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            handlers = [inner for handler in getattr(node, "handlers", []) for inner in handler.body]
            yield from _statements([*node.body, *node.orelse, *handlers])


def _defined(tree: ast.Module) -> dict[str, int]:
    names = {}
    for node in _statements(tree.body):
        if isinstance(node, Function | ast.ClassDef):
            names[node.name] = node.lineno
        for target in _targets(node):
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    names[name.id] = node.lineno
    return names


def _imported(tree: ast.Module) -> set[str]:
    imports = [node for node in _statements(tree.body) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name.split(".")[0] for node in imports for alias in node.names}


def _listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in _targets(node)):
            value = getattr(node, "value", None)
            try:
                return [str(name) for name in ast.literal_eval(value or "")]
            except (ValueError, TypeError, SyntaxError):
                return None
    return None


def check(module: Module) -> list[Finding]:
    """Findings for one module."""
    if not ast.get_docstring(module.tree):
        return [module.at(1, "no docstring that says what the module promises")]
    if len(module.tree.body) == 1:
        return []
    listed = _listed(module.tree)
    if listed is None:
        return [module.at(1, "no literal `__all__`")]
    defined = _defined(module.tree)
    known = defined.keys() | _imported(module.tree)
    found = [
        module.at(1, f"`__all__` lists {name}, which the module does not have") for name in listed if name not in known
    ]
    found += [
        module.at(line, f"{name} is public and not in `__all__`")
        for name, line in defined.items()
        if not name.startswith("_") and name not in listed and name != "TYPE_CHECKING"
    ]
    return found


def find(root: Path) -> list[Finding]:
    """Findings over the package and the tools."""
    return [finding for module in read_modules(root, "src", "tools") for finding in check(module)]
