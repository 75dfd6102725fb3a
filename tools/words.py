"""One word for one thing: the glossary's last column lists the words that are not used for it.

``docs/glossary.md`` has a table ``| word | meaning | not |``. The check reads the third column and looks for those
words in source, documents and messages; in names it looks inside ``camelCase`` and ``snake_case``. It also refuses
class and module names that say nothing (Manager, Helper, Utils). A line that must quote a foreign word ends with
``words: REASON`` in a comment.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tools.source import Finding, read_modules

__all__ = ["GLOSSARY", "banned", "check_names", "check_text", "find", "glossary_rows"]

GLOSSARY = "docs/glossary.md"
_EMPTY_NAMES = re.compile(r"(Manager|Helpers?|Utils?|Utilities|Handler|Misc|Common|Stuff)$", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_EXEMPT = re.compile(r"words: \w")
_DOCUMENTS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/**/*.md", "changelog.d/*.md")


def glossary_rows(text: str) -> list[tuple[str, str, str]]:
    """Rows ``(word, meaning, not)`` of the glossary's tables."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(line) <= set("|-: ") and cells[0] != "word":
            rows.append((cells[0], cells[1], cells[2]))
    return rows


def banned(text: str) -> dict[str, str]:
    """Each banned word, in lower case, and the word to use."""
    return {
        other.strip().lower(): word
        for word, _, others in glossary_rows(text)
        for other in others.split(",")
        if other.strip(" –")
    }


def check_text(path: str, text: str, words: dict[str, str]) -> list[Finding]:
    """Banned words in a text, in the singular or with an s."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if _EXEMPT.search(line):
            continue
        said = " ".join(word.lower() for word in _WORD.findall(line))
        found += [
            Finding(path, number, f"says {other!r}; the word is {word!r}")
            for other, word in words.items()
            if re.search(rf"\b{re.escape(other)}s?\b", said)
        ]
    return found


def check_names(path: str, tree: ast.Module) -> list[Finding]:
    """Class and module names that say nothing."""
    stem = Path(path).stem
    found = [Finding(path, 1, f"{stem} says nothing: name what it does")] if _EMPTY_NAMES.search(stem) else []
    return found + [
        Finding(path, node.lineno, f"{node.name} says nothing: name what it does")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and _EMPTY_NAMES.search(node.name)
    ]


def find(root: Path) -> list[Finding]:
    """Findings over package and documents."""
    words = banned((root / GLOSSARY).read_text(encoding="utf-8"))
    found = []
    for module in read_modules(root, "src"):
        found += check_text(module.path, module.text, words) + check_names(module.path, module.tree)
    for pattern in _DOCUMENTS:
        for page in sorted(root.glob(pattern)):
            name = page.relative_to(root).as_posix()
            if name != GLOSSARY:
                found += check_text(name, page.read_text(encoding="utf-8"), words)
    return found
