"""The error reference reads codes from source in each way that the source may give them."""

from __future__ import annotations

import pytest

from tools import error_reference
from tools.source import parse

TREE = """
class SafeholdError(Exception):
    exit_code = 1
    def __init__(self, code, message, hint=""): ...
class Refused(SafeholdError):
    exit_code = 3
class Denial(Refused):
    def __init__(self, step, code, message, hint=""):
        super().__init__(code, message, hint)
class Full(SafeholdError):
    exit_code = 5
    def __init__(self):
        super().__init__("disk.full", "no room", "make room")
"""


def collect(text):
    return error_reference.collect(
        [parse("src/safehold/model/errors.py", TREE), parse("src/safehold/state/a.py", text)]
    )


def codes(text):
    reference = collect(text)
    assert reference.findings == []
    return {(entry.code, entry.error, entry.message, entry.hint) for entry in reference.codes} - {
        ("disk.full", "Full", "no room", "make room")
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('raise Refused("a.b", "no", "ask")', ("a.b", "Refused", "no", "ask")),
        ('raise errors.Refused(code="a.b", message="no")', ("a.b", "Refused", "no", "")),
        (
            'raise Refused("a.b", f"{item.name!r} has {len(rows)} " + "rows")',
            ("a.b", "Refused", "{name} has {count of rows} rows", ""),
        ),
        ('raise Denial(7, "a.b", "no")', ("a.b", "Denial", "no", "")),
        ('def f(code): raise Refused(code, "no")\nf("a.b")', ("a.b", "Refused", "no", "")),
        (
            'def f(x, code, what): raise Refused(code, f"no {what}")\nf(1, "a.b", "way")',
            ("a.b", "Refused", "no way", ""),
        ),
        ('def f(code="a.b"): raise Refused(code, "no")\nf()', ("a.b", "Refused", "no", "")),
        ('def f(code): raise Refused(code, "no")\ndef g(code): f(code)\ng("a.b")', ("a.b", "Refused", "no", "")),
        (
            'class C:\n  def f(self, code): raise Refused(code, "no")\n  def g(self): self.f("a.b")',
            ("a.b", "Refused", "no", ""),
        ),
    ],
)
def test_a_code_is_read(text, expected):
    assert codes(text) == {expected}


def test_both_sides_of_a_choice_are_read():
    assert {code for code, *_ in codes('raise Refused("a.b" if x else "a.c", "no")')} == {"a.b", "a.c"}


def test_a_code_handed_on_from_a_caught_error_is_no_new_code():
    assert codes("raise Refused(error.code, error.message)") == set()


def test_a_class_that_fixes_its_code_is_read_once():
    assert {entry.code for entry in collect("raise Full()").codes} == {"disk.full"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('raise Refused(CODES[3], "no")', "not a literal"),
        ('code = "a.b"\nraise Refused(code, "no")', "not a literal"),
        ('raise Refused("Nope", "no")', "not of the form"),
        ('raise Refused("a.b", "no")\nraise SafeholdError("a.b", "no")', "one code, one class"),
    ],
)
def test_a_code_that_no_one_can_look_up_is_found(text, words):
    (finding,) = collect(text).findings
    assert words in finding.what


def test_the_page_holds_every_code_with_its_class_and_exit_code():
    page = error_reference.render(collect('raise Denial(7, "a.b", "x | <y>", "ask")'))
    assert "| `Denial` | 3 |" in page
    assert "| `a.b` | `Denial` | x \\| &lt;y> | ask | `state.a` |" in page


def test_a_page_that_is_not_what_the_source_says_is_found(tmp_path):
    source = tmp_path / "src" / "safehold" / "model" / "errors.py"
    source.parent.mkdir(parents=True)
    source.write_text(TREE, encoding="utf-8")
    assert len(error_reference.find(tmp_path)) == 1
    page = tmp_path / error_reference.PAGE
    page.parent.mkdir(parents=True)
    from tools.source import read_modules

    page.write_text(error_reference.render(error_reference.collect(read_modules(tmp_path, "src"))), encoding="utf-8")
    assert error_reference.find(tmp_path) == []
