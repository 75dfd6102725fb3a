"""Each house check finds what it is for, and lets pass what is right."""

from __future__ import annotations

import ast

import pytest

from tests.inventory_kit import Environment
from tools import changelog, committed, decoding, edges, exports, own_environment, sizes, words
from tools.source import parse


def module(text, path="src/safehold/state/fold.py"):
    return parse(path, text)


def said(findings):
    return [finding.what for finding in findings]


# --- sizes


def test_a_module_of_501_lines_is_too_long_and_of_500_is_not():
    assert said(sizes.check_sizes(module("x = 1\n" * 501))) == ["501 lines; a module has at most 500"]
    assert sizes.check_sizes(module("x = 1\n" * 500)) == []


def test_a_function_of_61_lines_is_too_long_and_of_60_is_not():
    assert len(sizes.check_sizes(module("def f():\n" + "    x = 1\n" * 60))) == 1
    assert sizes.check_sizes(module("def f():\n" + "    x = 1\n" * 59)) == []


@pytest.mark.parametrize("signature", ["a, b, c, d, e, f, g", "a, b, c, *, d, e, f, g", "self, a, b, c, d, e, f, g"])
def test_seven_parameters_are_too_many_by_keyword_too(signature):
    assert len(sizes.check_sizes(module(f"def f({signature}): ...\n"))) == 1


@pytest.mark.parametrize(
    "text", ["def f(self, a, b, c, d, e, g, *r, **k): ...\n", "@main.command()\ndef f(a, b, c, d, e, g, h): ...\n"]
)
def test_self_stars_and_click_callbacks_are_not_counted(text):
    assert sizes.check_sizes(module(text)) == []


NOQA, IGNORE = "# no" + "qa", "# type: " + "ignore"


@pytest.mark.parametrize(
    "line",
    [
        NOQA,
        f"{NOQA}: E501",
        f"{NOQA}: E501, S101",
        IGNORE,
        f"{IGNORE}[misc]",
        f"{IGNORE}[misc]  {NOQA}: E501",
        f"{NOQA}: E501 - ok",
    ],
)
def test_a_suppression_without_code_or_reason_is_found(line):
    assert sizes.check_suppressions(module(f"x = 1  {line}\n"))


@pytest.mark.parametrize(
    "line",
    [
        f"{NOQA}: BLE001 - every failure is a refusal",
        f"{IGNORE}[misc]  # the stub is wrong here",
        f"{NOQA}: E501, S101 - a long word",
    ],
)
def test_a_suppression_with_code_and_reason_passes(line):
    assert sizes.check_suppressions(module(f"x = 1  {line}\n")) == []


def test_a_suppression_in_a_string_is_no_suppression():
    assert sizes.check_suppressions(module(f'x = "{NOQA}"\n')) == []


# --- public names


@pytest.mark.parametrize(
    ("text", "words_said"),
    [
        ("x = 1\n", "no docstring"),
        ('"""D."""\nimport os\n', "no literal `__all__`"),
        ('"""D."""\n__all__ = [n for n in dir()]\n', "no literal `__all__`"),
        ('"""D."""\n__all__ = ["gone"]\n', "lists gone"),
        ('"""D."""\n__all__ = []\ndef shown(): ...\n', "shown is public"),
        ('"""D."""\n__all__ = []\nif True:\n    LIMIT = 3\n', "LIMIT is public"),
    ],
)
def test_what_a_module_offers_is_listed(text, words_said):
    (found,) = exports.check(module(text))
    assert words_said in found.what


def test_a_module_that_offers_what_it_lists_passes():
    assert exports.check(module('"""D."""\n')) == []
    assert exports.check(module('"""D."""\nfrom a import b\n__all__ = ["C", "b"]\nclass C: ...\n_x = 1\n')) == []


# --- edges


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ['A']\n",
        "import os\nos.getenv('A')\n",
        "from os import environ\n",
        "Path.home()\n",
        "p.expanduser()\n",
        "option(envvar='A')\n",
    ],
)
def test_the_environment_is_read_in_app_alone(text):
    assert edges.check_environment(module(text))
    assert edges.check_environment(module(text, "src/safehold/app/settings.py")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import safehold.ledger.log",
        "from safehold.ledger import log",
        "import_module('safehold.ledger')",
        "importlib.import_module(name)",
    ],
)
def test_no_function_imports_safehold_except_in_the_command_line(line):
    assert edges.check_late_imports(module(f"def f():\n    {line}\n"))
    assert edges.check_late_imports(module(f"def f():\n    {line}\n", "src/safehold/cli/verbs.py")) == []
    assert edges.check_late_imports(module("def f():\n    import pyarrow\n")) == []


def test_only_declared_libraries_are_imported():
    libraries = {"msgspec"}
    assert edges.check_imports(module("import msgspec, json\nfrom safehold.model import ids\n"), libraries) == []
    assert said(edges.check_imports(module("import requests\n"), libraries)) == [
        "imports requests, which is no core dependency"
    ]
    assert said(edges.check_imports(module("from . import x\n"), libraries)) == [
        "a relative import: write the whole name"
    ]
    assert edges.check_imports(module("import json\n", "src/safehold/__init__.py"), libraries)


# --- words

PAGE = (
    "| word | meaning | not |\n|---|---|---|\n| party | an organisation | tenant, end user |\n| hold | a stop | – |\n"
)


def test_banned_words_are_found_in_names_and_prose():
    banned = words.banned(PAGE)
    assert banned == {"tenant": "party", "end user": "party"}
    for text in ("The tenant is", "Tenants", "tenant_id = 1", "TenantId", "the end users", "END_USER"):
        assert words.check_text("x", text, banned), text
    for text in ("a party", "lieutenant", "tenantless", "tenant  # words: OSV calls it so"):
        assert not words.check_text("x", text, banned), text


def test_names_that_say_nothing_are_found():
    assert said(words.check_names("src/safehold/a/key_utils.py", ast.parse("class KeyManager: ..."))) == [
        "key_utils says nothing: name what it does",
        "KeyManager says nothing: name what it does",
    ]
    assert words.check_names("src/safehold/a/keys.py", ast.parse("class Keys: ...")) == []


# --- committed files


@pytest.mark.parametrize(
    "text",
    [
        "see /wo" + "rk/main/x",
        "https://py" + "pi.org/simple",
        "--index" + "-url https://a",
        "-----BEGIN OPENSSH PRIV" + "ATE KEY-----",
        "/opt/wh" + "eels/a.whl",
    ],
)
def test_what_must_not_be_committed_is_found(text):
    assert committed.check("a.md", f"first\n{text}\n".encode())[0].line == 2


def test_ordinary_text_and_binary_pass_and_large_files_do_not():
    assert committed.check("a.md", b"docs/work/a.md and ../shared/data and /tmp/x\n") == []
    assert committed.check("a.bin", b"\0" * 100) == []
    assert len(committed.check("a.bin", b"\0" * (committed.MAX_BYTES + 1))) == 1


# --- changelog


def test_fragments_have_a_name_and_a_form():
    assert changelog.check("full-disk.fixed.md", "ledger: A full disk is survived.\n") == []
    for name, text in (
        ("x.md", "ledger: A.\n"),
        ("x.new.md", "ledger: A.\n"),
        ("x.fixed.md", "A.\n"),
        ("x.fixed.md", "ledger: a"),
    ):
        assert changelog.check(name, text), (name, text)


# --- our own environment


@pytest.mark.parametrize(
    ("plant", "said_of_it"),
    [
        (lambda made: made.write("own.pth", "import sys\n"), "own.pth:1: is read at every start of Python"),
        (lambda made: made.write("quiet.py", "B = 1\n"), "quiet.py:1: is not as its distribution delivered it"),
        (lambda made: (made.site / "quiet.py").unlink(), "quiet.py:1: of quiet-tool is missing"),
        (lambda made: made.write("more.py", ""), "more.py:1: belongs to no distribution"),
        (lambda made: made.write("loose.pyc", b"x" * 20), "loose.pyc:1: is compiled code that cannot be trusted"),
        (lambda made: (made.site / "a.py").symlink_to("quiet.py"), "a.py:1: was not looked at: symbolic-link"),
        (lambda made: made.install("other", "1"), "other-1.dist-info:1: other 1 is not what requirements/ lock"),
    ],
)
def test_our_own_environment_holds_what_is_locked_and_nothing_else(tmp_path, plant, said_of_it):
    made = Environment(tmp_path / "venv")
    made.install("quiet-tool", "1.0", {"quiet.py": "A = 1\n"})
    made.write("safehold-src.pth", "/somewhere/src\n")
    assert own_environment.judge(made.sweep(), {("quiet-tool", "1.0")}) == []
    plant(made)
    found = [str(one) for one in own_environment.judge(made.sweep(), {("quiet-tool", "1.0")})]
    assert any(said_of_it in one for one in found), found


def test_an_environment_that_is_not_there_is_not_clean(tmp_path):
    (one,) = own_environment.find(tmp_path)
    assert "is unknown" in one.what


# --- decoding


@pytest.mark.parametrize(
    "line",
    ["msgspec.json.decode(b, type=Form)", "msgspec.convert(b, list[Form])", "msgspec.msgpack.Decoder(Form)"],
)
def test_a_type_that_is_decoded_to_inside_a_function_is_resolved(line):
    assert len(decoding.check_decoding(module(f"def f(b):\n    return {line}\n"))) == 1
    ready = line.replace("list[Form]", "resolved(list[Form])").replace("type=Form", "type=resolved(Form)")
    ready = ready.replace("(Form)", "(resolved(Form))").replace("resolved(resolved(Form))", "resolved(Form)")
    assert decoding.check_decoding(module(f"def f(b):\n    return {ready}\n")) == []
    assert decoding.check_decoding(module(f"_decoder = {line}\n")) == []


def test_plain_types_and_untyped_decoding_need_nothing():
    text = "def f(b):\n    return msgspec.json.decode(b), msgspec.json.decode(b, type=dict[str, list[int]])\n"
    assert decoding.check_decoding(module(text)) == []
