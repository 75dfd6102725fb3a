"""The pages about the command line say what the source says: commands, settings, exit codes, examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from safehold.app import settings
from safehold.cli import root
from safehold.cli.context import Session
from safehold.cli.root import VERBS, cli
from safehold.model import errors
from tools import command_reference

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = dict(command_reference.commands())
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}


def parse(words):
    """Parse a command line to its end without running it; returns the words that called the command."""
    session = Session(home=Path("none"), passphrase=None, passphrase_file=None, factory=lambda: None, clock=lambda: 0)
    context = cli.make_context("safehold", words, obj=session)
    path = []
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path), context


@pytest.mark.parametrize("path", LEAVES)
def test_the_example_of_each_verb_parses(path):
    (example,) = command_reference.examples(LEAVES[path])
    program, *words = shlex.split(example)
    assert program == "safehold"
    assert parse(words)[0] == path


@pytest.mark.parametrize(
    "words",
    [["party", "add", "quill-works", "--roll", "lab"], ["party", "ad"], ["log", "show", "-1"], ["host", "add", "no-slash"]],
)  # fmt: skip
def test_a_wrong_example_would_be_found(words):
    with pytest.raises((click.UsageError, errors.InputInvalid)):
        parse(words)


@pytest.mark.parametrize("path", ["", *COMMANDS])
def test_help_of_each_command_is_short_and_has_its_example(path, capsys):
    session = Session(home=Path("none"), passphrase=None, passphrase_file=None, factory=lambda: None, clock=lambda: 0)
    assert root.run([*path.split(), "--help"], session) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"Usage: safehold {path}".strip() in said.out
    assert path in {"", *COMMANDS} - set(LEAVES) or "Example: safehold" in said.out


def test_the_table_of_verbs_says_what_each_verb_says():
    assert list(VERBS) == [path for path in COMMANDS if " " not in path]
    assert all(text.endswith(".") for _, text in VERBS.values())


def test_the_page_holds_every_command_and_option():
    page = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    for path, command in LEAVES.items():
        assert f"# {path}\n" in page
        for parameter in command.params:
            assert parameter.name.upper() in page or f"`{parameter.opts[0]}`" in page


def test_a_command_without_an_example_or_help_is_found(monkeypatch, tmp_path):
    wrong = click.Command("wrong", params=[click.Option(["--bare"])])
    other = click.Command("other", help="Help.", epilog="Example: safehold party list")
    monkeypatch.setattr(command_reference, "commands", lambda: iter([("wrong", wrong), ("other", other)]))
    found = [finding.what for finding in command_reference.find(tmp_path)]
    assert [next(word for word in ("help text", "example", "make docs") if word in what) for what in found] == [
        "help text", "example", "help text", "example", "make docs",
    ]  # fmt: skip


def _rows(page):
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in page.splitlines() if line[:2] == "| "
    ]


def test_the_settings_are_the_same_in_code_docstring_and_page():
    page = {name.strip("`"): words for name, words in _rows((REFERENCE / "settings.md").read_text())[1:]}
    told = re.findall(r"^((?:SAFEHOLD|AWS|SSH)_\w+)\s+(.+)$", settings.__doc__, re.MULTILINE)
    assert {name: words.replace("``", "`") for name, words in told} == page
    assert set(page) == set(settings.SETTINGS)
    source = (ROOT / "src/safehold/app/settings.py").read_text()
    assert set(re.findall(r'environment\.get\("(\w+)"', source)) == set(settings.SETTINGS)


def test_settings_are_read_and_empty_ones_are_not_set():
    empty = settings.read_settings(dict.fromkeys(settings.SETTINGS, ""))
    assert empty == settings.read_settings({})
    assert (empty.home, empty.passphrase, empty.passphrase_file) == (Path("safehold-home"), None, None)
    full = settings.read_settings({name: name.lower() for name in settings.SETTINGS})
    assert str(full.home) == "safehold_home"
    assert (full.passphrase, str(full.passphrase_file)) == ("safehold_passphrase", "safehold_passphrase_file")


def test_the_exit_codes_are_the_same_in_code_docstring_and_page():
    page = [
        (int(code), name.strip("`"), words)
        for code, name, words in _rows((REFERENCE / "exit-codes.md").read_text())[1:]
    ]
    told = {
        name: (int(code), words)
        for name, code, words in re.findall(r"^ ?(\w+) +(\d) {2}(.+)$", errors.__doc__, re.MULTILINE)
    }
    classes = {name: getattr(errors, name).exit_code for name in errors.__all__}
    assert {name: code for code, name, _ in page if name != "–"} == classes
    assert {name: code for name, (code, _) in told.items()} == classes
    for _, name, words in page:
        assert name == "–" or words.startswith(told[name][1])
    assert [code for code, name, _ in page if name == "–"] == [0, 130]
    for code in {code for code, _, _ in page}:
        assert re.search(rf"\b{code} ", root.__doc__), code
