"""The demo's records: thousands of real texts, or the file that the user names.

Without a file: the documentation strings of Python's own standard library, read from its source (parsed, not run).
Each is a text that people wrote and others checked, with its module and name.
"""

from __future__ import annotations

import ast
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from safehold.model.errors import InputInvalid, NotFound, StorageFailed

__all__ = ["check_records", "python_texts", "take_records", "write_slice"]

_ENOUGH: Final = 4000
_SKIPPED: Final = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "turtledemo"})


def python_texts() -> Iterator[dict[str, str]]:
    """Documentation strings of the standard library: module, name, text; the same ones on every run of a Python."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = 0
    for path in _sources(root):
        if found >= _ENOUGH:
            return
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in _named(tree):
            text = ast.get_docstring(node)
            if text and _is_text(text):
                found += 1
                yield {"module": module, "name": node.name, "text": text}


def _sources(root: Path) -> Iterator[Path]:
    """Source files below ``root`` in a fixed order; what others installed there is not even looked at."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(set(below) - _SKIPPED)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _named(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes of a module, and of its classes."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _named(child)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def take_records(given: Path | None, folder: Path) -> Path:
    """The JSONL file to work with: the user's own, or one made of Python's texts.

    Raises what ``check_records`` raises, or ``InputInvalid`` (``cli.demo_records_few``).
    """
    if given is not None:
        return check_records(given, folder)
    path = folder / "python-texts.jsonl"
    try:
        with path.open("w", encoding="utf-8") as file:
            count = sum(file.write(json.dumps(record) + "\n") > 0 for record in python_texts())
    except OSError as error:
        raise StorageFailed("cli.write", f"{path} cannot be written: {error.strerror}", "free some space") from error
    if count == 0:
        raise InputInvalid(
            "cli.demo_records_few", "this Python has no source to take texts from", "name a file: --records FILE.jsonl"
        )
    return path


def check_records(given: Path, folder: Path) -> Path:
    """The user's file, outside of the folder that the demo is about to replace.

    Raises ``NotFound`` (``cli.demo_records``) or ``InputInvalid`` (``cli.demo_records_form``,
    ``cli.demo_records_inside``).
    """
    if not given.is_file():
        raise NotFound("cli.demo_records", f"there are no records at {given}", "name a JSONL file")
    if given.suffix.lower() not in {".jsonl", ".ndjson"}:
        raise InputInvalid(
            "cli.demo_records_form",
            f"{given.name} is no JSONL file by its name",
            "the demo cuts smaller files from it line by line: give one record a line, in a file named .jsonl",
        )
    path = given.resolve()
    if path.is_relative_to(folder.resolve()):
        raise InputInvalid(
            "cli.demo_records_inside",
            f"{given} lies in {folder}, which the demo replaces",
            "copy it elsewhere, or name another --folder",
        )
    return path


def write_slice(source: Path, target: Path, begin: int, end: int) -> Path:
    """Copy lines ``begin`` … ``end`` - 1 of a JSONL file; the last lines if there are fewer."""
    with source.open("rb") as lines:
        every = lines.readlines()
    chosen = every[begin:end] or every[-max(1, min(len(every), end - begin)) :]
    target.write_bytes(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in chosen))
    return target
