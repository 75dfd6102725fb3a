"""Write ``docs/reference/errors.md`` from the source: every code that a user can meet, where and with what words.

A code is the literal first argument where an error of the tree in ``safehold.model.errors`` is made. A function may
take it as a parameter named ``code`` and pass it on: then its callers hold the literals. Anything else is a finding,
since a code that no one can look up is no code. One code has one class.

    python -m tools.error_reference            says whether the page is what the source says
    python -m tools.error_reference --write    writes it
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.source import Finding, Function, Module, read_modules

__all__ = ["PAGE", "ErrorCode", "Reference", "collect", "find", "main", "render"]

PAGE = "docs/reference/errors.md"
_ROOT = "SafeholdError"
_CODE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_NESTING = 4  # how many functions a code may be handed through


@dataclass(frozen=True, order=True)
class ErrorCode:
    """One place where a code is given: code, class, the words as templates, module."""

    code: str
    error: str
    message: str
    hint: str
    module: str


@dataclass(frozen=True)
class _Site:
    """A call that makes an error, or that hands a code to a function which does."""

    module: Module
    call: ast.Call
    within: tuple[Function, ...]
    code: ast.expr | None
    error: str
    message: str
    hint: str


@dataclass
class Reference:
    """All codes, the classes with their exit codes, and what could not be read."""

    codes: set[ErrorCode] = field(default_factory=set)
    classes: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _class_tree(modules: list[Module]) -> tuple[dict[str, int], dict[str, ast.ClassDef]]:
    """Every class below the root of the tree with its exit code, and its definition."""
    definitions = {n.name: n for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)}
    classes: dict[str, int] = {}

    def exit_code(name: str) -> int | None:
        node = definitions.get(name)
        if node is None:
            return None
        for statement in node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if any(_name(target) == "exit_code" for target in targets) and isinstance(statement.value.value, int):
                    return statement.value.value
        inherited = (exit_code(_name(base)) for base in node.bases)
        return next((code for code in inherited if code is not None), None)

    def below(name: str) -> bool:
        node = definitions.get(name)
        return name == _ROOT or (node is not None and any(below(_name(base)) for base in node.bases))

    for name in definitions:
        if below(name):
            classes[name] = exit_code(name) or 1
    return classes, {name: definitions[name] for name in classes}


def _signature(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """The parameters with which a class is made: its own, or those of the nearest class above that has some."""
    node = classes.get(name)
    if node is None:
        return []
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return _parameters(inner)
    return next((found for base in node.bases if (found := _signature(_name(base), classes))), [])


def _parameters(function: Function) -> list[str]:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    named = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    if named is not None:
        return named
    return call.args[position] if position < len(call.args) else None


def _named(call: ast.Call, names: list[str], name: str) -> ast.expr | None:
    return _argument(call, names.index(name), name) if name in names else None


def _calls(tree: ast.AST, within: tuple[ast.AST, ...] = ()) -> Iterator[tuple[ast.Call, tuple[ast.AST, ...]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, within
        inside = (*within, node) if isinstance(node, Function | ast.ClassDef) else within
        yield from _calls(node, inside)


def _text(node: ast.expr | None) -> str:
    """The words of a message with ``{placeholders}`` for what is only known later."""
    match node:
        case None:
            return ""
        case ast.Constant(value=value):
            return "" if value is None else str(value)
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.FormattedValue(value=value):
            return "{" + _placeholder(value) + "}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(text for text in (_text(body), _text(orelse)) if text)
        case _:
            return "{" + _placeholder(node) + "}"


def _placeholder(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower()
        case ast.Subscript(value=value) | ast.Call(func=ast.Attribute(value=value, attr="join" | "decode" | "strip")):
            return _placeholder(value)
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return "count of " + _placeholder(inner)
        case ast.Call(args=[inner, *_]):
            return _placeholder(inner)
        case _:
            return "…"


def _literals(node: ast.expr | None) -> list[str] | None:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=body, orelse=orelse):
            first, second = _literals(body), _literals(orelse)
            return first + second if first and second else None
    return None


def _sites(modules: list[Module], classes: dict[str, ast.ClassDef]) -> Iterator[_Site]:
    for module in modules:
        for call, within in _calls(module.tree):
            inside = tuple(node for node in within if isinstance(node, Function))
            name = _name(call.func)
            owner = next((node.name for node in reversed(within) if isinstance(node, ast.ClassDef)), "")
            if name == "__init__" and owner in classes and ast.unparse(call.func) == "super().__init__":
                name, made = owner, next((_name(base) for base in classes[owner].bases), "")
            else:
                made = name
            names = _signature(made, classes)
            if "code" not in names:  # another class; or one that fixes its own code
                continue
            code, message, hint = (_named(call, names, part) for part in ("code", "message", "hint"))
            if not (isinstance(code, ast.Attribute) and code.attr == "code"):  # else it hands on a caught error's code
                yield _Site(module, call, inside, code, name, _text(message), _text(hint))


def _callers(modules: list[Module], site: _Site, function: Function, parameter: str) -> Iterator[_Site]:
    """Calls of a function that hands its parameter on as a code: they hold the literal."""
    position = _parameters(function).index(parameter)
    places = [site.module] if function.name.startswith("_") else modules
    for module in places:
        for call, within in _calls(module.tree):
            if _name(call.func) == function.name:
                inside = tuple(node for node in within if isinstance(node, Function))
                code = _argument(call, position, parameter)
                if code is None:
                    defaults = dict(
                        zip(reversed(_parameters(function)), reversed(function.args.defaults), strict=False)
                    )
                    code = defaults.get(parameter)
                words = (_filled(site.message, call, function), _filled(site.hint, call, function))
                yield _Site(module, call, inside, code, site.error, *words)


def _filled(words: str, call: ast.Call, function: Function) -> str:
    """The words with what the caller says in place of the function's parameters, where it is text."""
    for position, name in enumerate(_parameters(function)):
        given = _argument(call, position, name)
        if isinstance(given, ast.JoinedStr) or (isinstance(given, ast.Constant) and isinstance(given.value, str)):
            words = words.replace("{" + name.strip("_").lower() + "}", _text(given))
    return words


def collect(modules: list[Module]) -> Reference:
    """Read all codes from parsed modules."""
    reference = Reference()
    reference.classes, definitions = _class_tree(modules)
    waiting = [(site, 0) for site in _sites(modules, definitions)]
    seen: set[tuple[int, str]] = set()
    while waiting:
        site, depth = waiting.pop()
        codes = _literals(site.code)
        if codes is not None:
            for code in codes:
                if not _CODE.fullmatch(code):
                    reference.findings.append(site.module.at(site.call, f"{code!r} is not of the form room.reason"))
                reference.codes.add(ErrorCode(code, site.error, site.message, site.hint, site.module.name))
            continue
        parameter = site.code.id if isinstance(site.code, ast.Name) else ""
        function = next((f for f in reversed(site.within) if parameter in _parameters(f)), None)
        if function is None or depth >= _NESTING:
            reference.findings.append(site.module.at(site.call, f"the code of {site.error} is not a literal"))
        elif function.name != "__init__" and (id(function), site.error + str(site.call.lineno)) not in seen:
            seen.add((id(function), site.error + str(site.call.lineno)))
            waiting += [(caller, depth + 1) for caller in _callers(modules, site, function, parameter)]
    for code in sorted({entry.code for entry in reference.codes}):
        kinds = sorted({entry.error for entry in reference.codes if entry.code == code})
        if len(kinds) > 1:
            reference.findings.append(
                Finding("src", 1, f"{code} is given by {' and '.join(kinds)}: one code, one class")
            )
    return reference


def _cell(texts: list[str]) -> str:
    shown = [text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for text in texts if text]
    return "<br>".join(dict.fromkeys(shown)) or "–"


def render(reference: Reference) -> str:
    """The page, in Markdown."""
    lines = [
        "# Errors",
        "",
        "<!-- Written by `make docs` from the source; do not edit. -->",
        "",
        "Every failure has a code, a message and mostly a hint. `safehold` prints them in one line and ends with the",
        "exit code of the error's class. Words in `{braces}` are filled in.",
        "",
        "| class | exit code |",
        "|---|---|",
    ]
    used = {entry.error for entry in reference.codes} | {_ROOT}
    ranked = sorted((code, name) for name, code in reference.classes.items() if name in used)
    lines += [f"| `{name}` | {code} |" for code, name in ranked]
    codes = sorted({entry.code for entry in reference.codes})
    room = ""
    for code in codes:
        if code.split(".")[0] != room:
            room = code.split(".")[0]
            lines += [
                "",
                f"## {room}",
                "",
                "| code | class | message | what to do | given by |",
                "|---|---|---|---|---|",
            ]
        entries = sorted(entry for entry in reference.codes if entry.code == code)
        classes = _cell([f"`{entry.error}`" for entry in entries])
        modules = _cell(sorted(f"`{entry.module.removeprefix('safehold.')}`" for entry in entries))
        words = _cell([entry.message for entry in entries]), _cell([entry.hint for entry in entries])
        lines.append(f"| `{code}` | {classes} | {words[0]} | {words[1]} | {modules} |")
    return "\n".join(lines) + "\n"


def find(root: Path) -> list[Finding]:
    """What is wrong with the codes, and whether the committed page is what the source says."""
    reference = collect(read_modules(root, "src"))
    page = root / PAGE
    if not page.is_file() or page.read_text(encoding="utf-8") != render(reference):
        reference.findings.append(Finding(PAGE, 1, "not what the source says: run `make docs`"))
    return reference.findings


def main(arguments: list[str]) -> int:
    """Entry point."""
    root = Path(__file__).resolve().parent.parent
    if "--write" in arguments:
        page = root / PAGE
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render(collect(read_modules(root, "src"))), encoding="utf-8")
    findings = find(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
