"""Types that are decoded to inside a function go through ``resolved``: threads that do so first, together, would crash."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.source import Finding, Module, functions, read_modules

__all__ = ["check_decoding", "find"]

_PLACE = {
    "msgspec.json.decode": 1,
    "msgspec.msgpack.decode": 1,
    "msgspec.convert": 1,
    "msgspec.json.Decoder": 0,
    "msgspec.msgpack.Decoder": 0,
}
_PLAIN = frozenset({"Any", "bool", "bytes", "dict", "float", "int", "list", "msgspec", "str", "tuple"})


def check_decoding(module: Module) -> list[Finding]:
    """Calls inside functions that decode to a type that is neither plain nor ``resolved``."""
    found = {
        module.at(call, f"decodes to {ast.unparse(kind)} as it is: write resolved({ast.unparse(kind)})")
        for function in functions(module.tree)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and (kind := _kind_of(call)) is not None and not _is_ready(kind)
    }
    return sorted(found)


def _kind_of(call: ast.Call) -> ast.expr | None:
    place = _PLACE.get(ast.unparse(call.func))
    if place is None:
        return None
    named = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
    return named[0] if named else next(iter(call.args[place : place + 1]), None)


def _is_ready(kind: ast.expr) -> bool:
    if isinstance(kind, ast.Call):
        return ast.unparse(kind.func) == "resolved"
    return all(node.id in _PLAIN for node in ast.walk(kind) if isinstance(node, ast.Name))


def find(root: Path) -> list[Finding]:
    """Findings over the package; ``resolved`` itself is where it is done."""
    return [
        finding
        for module in read_modules(root, "src")
        if module.name != "safehold.model.encoding"
        for finding in check_decoding(module)
    ]
