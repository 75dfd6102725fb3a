"""What comes in only at an edge: the environment, late imports, outside libraries.

* Only ``app`` reads environment variables and the home directory; the rooms get what they need by argument.
* A function does not import a module of safehold, since that is how cycles hide. ``cli`` and ``app`` may: there a
  verb is loaded when it is called, so that ``--help`` stays fast. Libraries may be imported late anywhere.
* What src/ imports is the standard library, safehold, or a declared dependency of the core or of an extra.
* The package root imports nothing, so that an auditor who imports ``safehold.ledger`` loads ledger and model alone.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tools.source import Finding, Module, functions, read_modules

__all__ = ["check_environment", "check_imports", "check_late_imports", "declared", "find"]

_ENVIRONMENT_READERS = {
    "app": "the one reader of settings",
    "inventory.agent": "a program of its own that runs on a foreign host, and names the credentials in reach there",
}
_LATE_IMPORTERS = {
    "cli": "a verb's module is loaded when the verb is called",
    "app": "the entry point loads the command line after its fast paths",
}
_READS = re.compile(r"os\.(environb?|getenvb?|putenv)|(os\.path|path)\.(expanduser|expandvars)|(pathlib\.)?Path\.home")
_OPTIONS = {"envvar", "auto_envvar_prefix"}
_IMPORT_NAMES = {"python-pkcs11": "pkcs11", "biscuit-python": "biscuit_auth"}


def _within(module: Module, places: dict[str, str]) -> bool:
    name = module.name.removeprefix("safehold.")
    return any(name == place or name.startswith(f"{place}.") for place in places)


def check_environment(module: Module) -> list[Finding]:
    """Reads of the environment outside its one reader."""
    if _within(module, _ENVIRONMENT_READERS):
        return []
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and (read := ast.unparse(node)) and _READS.fullmatch(read):
            found.append(module.at(node, f"{read}: only app/ reads the environment"))
        if isinstance(node, ast.Attribute) and node.attr == "expanduser":
            found.append(module.at(node, "expanduser: only app/ reads the environment"))
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names} & {"environ", "environb", "getenv", "getenvb", "putenv"}
            found += [module.at(node, f"os.{name}: only app/ reads the environment") for name in sorted(names)]
        if isinstance(node, ast.keyword) and node.arg in _OPTIONS:
            found.append(module.at(node.value, f"{node.arg}=: only app/ reads the environment"))
    return sorted(set(found))


def _imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            first = node.args[0] if node.args else None
            yield (
                node,
                first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "safehold.?",
            )


def check_late_imports(module: Module) -> list[Finding]:
    """Imports of safehold inside a function, or by a computed name."""
    if _within(module, _LATE_IMPORTERS):
        return []
    found = {
        module.at(node, f"imports {name} inside {function.name}: that hides a cycle; import it at the top")
        for function in functions(module.tree)
        for node, name in _imports(function)
        if name.split(".")[0] == "safehold"
    }
    return sorted(found)


def declared(root: Path) -> set[str]:
    """Import names of the dependencies that pyproject.toml declares: the core's, and those of the extras."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = [re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements]
    return {_IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def check_imports(module: Module, libraries: set[str]) -> list[Finding]:
    """Imports of what no one declared, relative imports, and any import by the package root."""
    found = []
    for node, name in _imports(module.tree):
        top = name.split(".")[0]
        if name.startswith("."):
            found.append(module.at(node, "a relative import: write the whole name"))
        elif module.name == "safehold":
            found.append(module.at(node, f"the package root imports {name}; it imports nothing"))
        elif top not in libraries and top != "safehold" and top not in sys.stdlib_module_names:
            found.append(module.at(node, f"imports {top}, which is no core dependency"))
    return found


def find(root: Path) -> list[Finding]:
    """Findings over the package."""
    libraries = declared(root)
    return [
        finding
        for module in read_modules(root, "src")
        for finding in (*check_environment(module), *check_late_imports(module), *check_imports(module, libraries))
    ]
