"""Write ``docs/reference/commands.md`` from the command line itself: verbs, arguments, options, an example each.

The page is written anew by ``make docs``; a check compares it with what the source says. Every command must have a
help text and an example that begins with the words that call it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from safehold.cli.root import VERBS, cli
from tools.source import Finding

__all__ = ["PAGE", "commands", "examples", "find", "main", "render"]

PAGE = "docs/reference/commands.md"
_EXAMPLE = "Example: "
_HEAD = """# Commands

<!-- Written by `make docs` from the source; do not edit. -->

`safehold [OPTIONS] VERB …`. `--json` and `--debug` may stand anywhere. The exit codes are in
[exit-codes.md](exit-codes.md), the environment in [settings.md](settings.md), the errors in [errors.md](errors.md).
"""


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command and group below ``command`` with the words that call it, in the order of ``--help``."""
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            yield " ".join((*path, name)), found
            yield from commands(found, (*path, name))


def examples(command: click.Command) -> list[str]:
    """The examples in a command's epilog, without the word before them."""
    lines = (command.epilog or "").splitlines()
    return [line.removeprefix(_EXAMPLE).strip() for line in lines if line.startswith(_EXAMPLE)]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") or "–"


def _names(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        shown = parameter.name.upper() if parameter.name else ""
        return f"`{shown}`" + (" …" if parameter.nargs == -1 else "")
    names = [*parameter.opts, *parameter.secondary_opts]
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    return ", ".join(f"`{name}`" for name in names) + ("" if flag else f" `{_value(parameter)}`")


def _value(parameter: click.Parameter) -> str:
    """What stands after an option, in capitals as in ``--help``; the choices where there are some."""
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    if isinstance(parameter.type, click.IntRange):
        return "INTEGER"
    return parameter.type.name.upper()


def _notes(parameter: click.Parameter) -> str:
    notes = [parameter.help] if isinstance(parameter, click.Option) and parameter.help else []
    if parameter.required and isinstance(parameter, click.Option):
        notes.append("Required.")
    if isinstance(parameter, click.Option) and parameter.show_default is True and not parameter.is_flag:
        notes.append(f"Default: `{parameter.default}`.")
    if isinstance(parameter, click.Option) and parameter.is_flag and parameter.secondary_opts:
        chosen = parameter.opts[0] if parameter.default else parameter.secondary_opts[0]
        notes.append(f"Default: `{chosen}`.")
    return _cell(" ".join(notes))


def _table(command: click.Command) -> list[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if not options:
        return []
    rows = [f"| {_names(parameter).replace('|', chr(92) + '|')} | {_notes(parameter)} |" for parameter in options]
    return ["", "| option | meaning |", "|---|---|", *rows]


def _section(path: str, command: click.Command) -> list[str]:
    depth = "##" + "#" * path.count(" ")
    lines = ["", f"{depth} {path}", ""]
    if isinstance(command, click.Group):
        return [*lines, inspect.cleandoc(command.help or "")]
    arguments = [
        (parameter.name or "").upper() + ("…" if parameter.nargs == -1 else "")
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    options = ["[OPTIONS]"] if any(isinstance(parameter, click.Option) for parameter in command.params) else []
    usage = " ".join(["safehold", path, *arguments, *options])
    lines += [f"    {usage}", "", inspect.cleandoc(command.help or "")]
    lines += _table(command)
    for example in examples(command):
        lines += ["", "Example:", "", f"    {example}"]
    return lines


def render() -> str:
    """The page, in Markdown."""
    lines = [_HEAD.rstrip(), "", "| option | meaning |", "|---|---|"]
    lines += [
        f"| {_names(parameter)} | {_notes(parameter)} |"
        for parameter in cli.params
        if isinstance(parameter, click.Option)
    ]
    lines += ["", "| verb | what it does |", "|---|---|"]
    lines += [f"| [{verb}](#{verb}) | {text} |" for verb, (_, text) in VERBS.items()]
    for path, command in commands():
        lines += _section(path, command)
    return "\n".join(lines) + "\n"


def _check() -> Iterator[Finding]:
    for path, command in commands():
        if not (command.help or "").strip():
            yield Finding(PAGE, 1, f"`{path}` has no help text")
        if isinstance(command, click.Group):
            continue
        if not examples(command):
            yield Finding(PAGE, 1, f"`{path}` has no example: give it an epilog that begins with {_EXAMPLE!r}")
        for example in examples(command):
            if f" {path} " not in f" {example} ":
                yield Finding(PAGE, 1, f"the example of `{path}` is of another command: {example}")
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.help and parameter.name != "help":
                yield Finding(PAGE, 1, f"`{path}`: {parameter.opts[0]} has no help text")


def find(root: Path) -> list[Finding]:
    """What is wrong with the commands, and whether the committed page is what the source says."""
    findings = list(_check())
    page = root / PAGE
    if not page.is_file() or page.read_text(encoding="utf-8") != render():
        findings.append(Finding(PAGE, 1, "not what the source says: run `make docs`"))
    return findings


def main(arguments: list[str]) -> int:
    """Entry point."""
    root = Path(__file__).resolve().parent.parent
    if "--write" in arguments:
        (root / PAGE).write_text(render(), encoding="utf-8")
    findings = find(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
