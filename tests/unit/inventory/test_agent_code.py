"""Compiled code against its source, without unmarshalling anything."""

from __future__ import annotations

import json
import marshal
import os
import py_compile
import random
import sysconfig
from pathlib import Path
from types import CodeType

import pytest

from safehold.inventory import agent
from safehold.inventory.agent import compiled, site
from tests.inventory_kit import Environment, reasons

SOURCE = '"""A text."""\nimport os\n\n\ndef f(a, *, b={"x", "y", "z"} and 1):\n    return [c for c in (1, 2.5, None) if c in {"p", "q"}], a\n\n\nclass C:\n    big = 123456789012345678901234567890\n    neg = -5, 1j, b"bytes", ..., "ü\\ud800"\n'


def _environment(tmp_path: Path) -> tuple[Environment, Path]:
    environment = Environment(tmp_path / "venv")
    environment.install("tool", "1", {"tool/__init__.py": SOURCE})
    return environment, environment.site / "tool/__init__.py"


def _swap(cache: Path, code: CodeType | bytes) -> None:
    """Other code under the header that was there: what its writer would do."""
    header = cache.read_bytes()[:16]
    cache.write_bytes(header + (code if isinstance(code, bytes) else marshal.dumps(code)))


def _problems(environment: Environment) -> list[tuple[str, str]]:
    found = environment.sweep(wish=agent.Wish(code=60.0))
    assert (".", "code-unchecked") not in reasons(found)
    return [(one["path"].rpartition("/")[2], one["problem"]) for one in found["pyc"]]


@pytest.mark.parametrize("optimize", [0, 1, 2])
def test_an_honest_cache_is_the_same_at_every_level(tmp_path: Path, optimize: int) -> None:
    environment, source = _environment(tmp_path)
    py_compile.compile(str(source), optimize=optimize)
    assert _problems(environment) == []


def test_a_cache_compiled_elsewhere_is_the_same(tmp_path: Path) -> None:
    environment, source = _environment(tmp_path)
    py_compile.compile(str(source), dfile="/another/place.py")
    assert _problems(environment) == []


def test_code_altered_under_a_good_header_is_found(tmp_path: Path) -> None:
    environment, source = _environment(tmp_path)
    cache = Path(py_compile.compile(str(source)))
    _swap(cache, compile(SOURCE.replace("2.5", "2.6"), str(source), "exec"))
    assert reasons(environment.sweep()) == {(".", "code-unchecked")}, "a sweep without it says so"
    assert _problems(environment) == [(cache.name, "code-differs")]


@pytest.mark.parametrize(
    "data", [b"", b"\xe3", b"c", b"[\xff\xff\xff\x7f", b"(" * 5000, b"r\0\0\0\0", b"N" + b"N", os.urandom(500)]
)
def test_what_marshal_would_choke_on_is_different_and_harmless(tmp_path: Path, data: bytes) -> None:
    environment, source = _environment(tmp_path)
    cache = Path(py_compile.compile(str(source)))
    _swap(cache, data)
    assert _problems(environment) == [(cache.name, "code-differs")]


def test_references_that_double_at_every_step_cost_nothing() -> None:
    # Two hundred tuples, each of the one before twice: written out as values they would be 2^199 long.
    twice = [2 * (b"r" + number.to_bytes(4, "little")) for number in range(199)]
    steps = [b"\xdb\0\0\0\0", *(b"\xa8\2\0\0\0" + one for one in twice)]
    assert len(compiled.digest(b"[" + len(steps).to_bytes(4, "little") + b"".join(steps))) == 20
    with pytest.raises(ValueError, match="holds itself"):
        compiled.digest(b"\xdb\1\0\0\0r\0\0\0\0")


def test_a_source_that_kills_its_compiler_is_unknown_and_the_next_is_compared(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    deep = "x = " + "(" * 50_000 + ")" * 50_000 + "\n"
    environment.install("tool", "1", {"a_deep.py": deep, "b_fine.py": "A = 1\n"})
    for name in ("a_deep", "b_fine"):
        source = environment.site / f"{name}.py"
        honest = compile("A = 1\n", str(source), "exec", dont_inherit=True)
        status = source.stat()
        stamp = int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
        (environment.site / "__pycache__").mkdir(exist_ok=True)
        cache = environment.site / f"__pycache__/{name}.cpython-{sysconfig.get_config_var('py_version_nodot')}.pyc"
        cache.write_bytes(compiled.MAGIC + bytes(4) + stamp + marshal.dumps(honest))
    found = environment.sweep(wish=agent.Wish(code=60.0))
    assert found["pyc"] == []
    assert [path.partition(".")[0] for path, reason in reasons(found) if reason == "code-unchecked"] == [
        "__pycache__/a_deep"
    ]


def test_a_child_that_dies_costs_one_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def child(_site: bytes, chunk: list[tuple[bytes, bytes]]) -> bytes:
        calls.append(len(chunk))
        return b"==" if len(calls) == 1 else b"=" * len(chunk)

    monkeypatch.setattr(compiled, "_child", child)
    assert compiled.compare(b"/x", [(b"a", b"b")] * 5, 60.0) == [b"=", b"=", b"?", b"=", b"="]
    assert compiled.compare(b"/x", [(b"a", b"b")] * 5, 0.0) == []


def test_another_pythons_caches_are_unchecked_and_that_is_said(tmp_path: Path) -> None:
    environment, source = _environment(tmp_path)
    cache = Path(py_compile.compile(str(source)))
    cache.write_bytes(b"\x00\x0c\r\n" + cache.read_bytes()[4:])
    found = environment.sweep(wish=agent.Wish(code=60.0))
    assert reasons(found) == {(".", "code-unchecked")}


def test_verdicts_are_remembered_while_both_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_SETTLED_NS", 0)
    environment, source = _environment(tmp_path)
    cache = Path(py_compile.compile(str(source)))
    memory, asked = agent.Memory(), []
    real = compiled.compare
    monkeypatch.setattr(
        compiled, "compare", lambda where, pairs, seconds: asked.append(len(pairs)) or real(where, pairs, seconds)
    )
    for _ in range(2):
        assert environment.sweep(memory=memory, wish=agent.Wish(code=60.0))["pyc"] == []
    _swap(cache, compile("A = 2\n", str(source), "exec"))
    assert [one["problem"] for one in environment.sweep(memory=memory, wish=agent.Wish(code=60.0))["pyc"]] == [
        "code-differs"
    ]
    assert asked == [1, 0, 1]


def test_the_standard_librarys_modules_all_agree() -> None:
    """Real code: marshal's own bytes of many modules, with the sharing of objects taken out and put in again."""
    folder = Path(sysconfig.get_path("stdlib"))
    names = sorted(folder.glob("*.py"))
    chosen = random.Random(7).sample(names, 40)
    for path in chosen:
        source = path.read_bytes()
        code = compile(source, str(path), "exec", dont_inherit=True)
        shared = marshal.dumps(code)
        plain = marshal.dumps(code, 2)  # version 2 has no references at all
        assert compiled.digest(shared) == compiled.digest(plain), path.name
        assert compiled.verdict(marshal.dumps(marshal.loads(shared)), source, "elsewhere", 0) == compiled.SAME
        assert compiled.verdict(shared, source + b"\nA_NEW_NAME = 1\n", str(path), 0) == compiled.DIFFERS
    assert json.dumps(len(chosen)) == "40"
