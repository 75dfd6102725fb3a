"""The repository keeps the house rules: the same checks as `make check`, each a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import check

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", check.OWN)
def test_the_repository_keeps(name):
    assert [str(finding) for finding in check.OWN[name](ROOT)] == []


def test_the_rooms_import_only_what_their_contracts_allow():
    program = str(Path(sys.executable).parent / "lint-imports")
    done = subprocess.run([program, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert ", 0 broken" in done.stdout


def test_each_ignored_rule_has_its_reason():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line == "ignore = [")
    end = lines.index("]", start)
    assert end - start > 10
    assert [line for line in lines[start + 1 : end] if "  # " not in line and " # " not in line] == []


def test_core_in_is_what_the_project_declares():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = (ROOT / "requirements" / "core.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("#")] == project["dependencies"]


def test_serve_in_is_the_extra_that_the_project_declares():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = (ROOT / "requirements" / "serve.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if line[0] not in "#-"] == project["optional-dependencies"]["serve"]


def test_ci_runs_check_and_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make --keep-going check test" in script.read_text(encoding="utf-8")
