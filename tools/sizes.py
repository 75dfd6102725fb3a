"""Size limits: what a reader can hold in the head at once. Suppressions must say why.

A module has at most 500 lines, a function 60 (its docstring included), a call 6 parameters: keyword-only ones
count, ``self`` and ``cls`` do not, nor do ``*args`` and ``**kwargs``. The callback of a click command is excepted
from the last: its parameters are the command's options, which no one passes by hand.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

from tools.source import Finding, Function, Module, functions, read_modules

__all__ = ["MAX_FUNCTION", "MAX_MODULE", "MAX_PARAMETERS", "check_sizes", "check_suppressions", "find"]

MAX_MODULE = 500
MAX_FUNCTION = 60
MAX_PARAMETERS = 6

_SUPPRESSION = re.compile(
    r"#\s*(noqa|type:\s*ignore)(?P<codes>(?:\[[\w\-, ]+\])|(?::\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*))?(?P<why>.*)"
)
_MIN_REASON = 8  # letters: enough for two words


def _parameters(function: Function) -> int:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_command(function: Function) -> bool:
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute | ast.Name) and ast.unparse(target).split(".")[-1] in {"command", "group"}:
            return True
    return False


def check_sizes(module: Module, *, functions_too: bool = True) -> list[Finding]:
    """Findings for one module; for tests, only its length counts."""
    found = []
    if module.lines > MAX_MODULE:
        found.append(module.at(1, f"{module.lines} lines; a module has at most {MAX_MODULE}"))
    for function in functions(module.tree) if functions_too else ():
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > MAX_FUNCTION:
            found.append(
                module.at(function, f"{function.name} has {length} lines; a function has at most {MAX_FUNCTION}")
            )
        count = _parameters(function)
        if count > MAX_PARAMETERS and not _is_command(function):
            found.append(
                module.at(
                    function, f"{function.name} takes {count} parameters; at most {MAX_PARAMETERS}: use a frozen struct"
                )
            )
    return found


def check_suppressions(module: Module) -> list[Finding]:
    """A ``noqa`` or ``type: ignore`` names its codes, and a reason follows on the same line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type != tokenize.COMMENT:
            continue
        for match in _SUPPRESSION.finditer(token.string):
            kind = match["codes"]
            # Where two stand on one line, the reason stands once, at the end.
            why = re.sub(r"#\s*(noqa:\s*[\w, ]+?|type:\s*ignore\[[\w\-, ]+\])(?=\s|$)", "", match["why"])
            if not kind:
                found.append(module.at(token.start[0], f"a bare `{match[1]}`: name the codes"))
            elif len(re.sub(r"[^A-Za-z]", "", why)) < _MIN_REASON:
                found.append(module.at(token.start[0], f"`{match[1]}` without a reason on the same line"))
    return found


def find(root: Path) -> list[Finding]:
    """Findings over the repository."""
    found = []
    for module in read_modules(root, "src", "tools", "bench"):
        found += check_sizes(module) + check_suppressions(module)
    for module in read_modules(root, "tests"):
        found += check_sizes(module, functions_too=False) + check_suppressions(module)
    return found
