"""The picture, the contracts and the source say the same; and the contracts can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import rooms

ROOT = Path(__file__).resolve().parents[2]

PROJECT = """
[tool.importlinter]
root_package = "safehold"
include_external_packages = true
contract_types = ["room: tools.contracts.RoomContract", "home: tools.contracts.HomeContract"]
[[tool.importlinter.contracts]]
name = "model"
type = "room"
room = "model"
may_import = []
[[tool.importlinter.contracts]]
name = "ledger"
type = "room"
room = "ledger"
may_import = ["model"]
[[tool.importlinter.contracts]]
name = "not there yet"
type = "room"
room = "console"
may_import = ["model"]
[[tool.importlinter.contracts]]
name = "apsw"
type = "home"
library = "apsw"
homes = ["ledger"]
"""
PAGE = """
| room | may import | what |
|---|---|---|
| `model/` | – | |
| `ledger/` | `model` | |
| `console/` | `model` | |

| library | homes |
|---|---|
| `apsw` | `ledger` |
"""


@pytest.fixture
def house(tmp_path):
    def make(files):
        written = {"pyproject.toml": PROJECT, "docs/architecture.md": PAGE, "src/safehold/__init__.py": ""}
        for room in ("model", "ledger"):
            written[f"src/safehold/{room}/__init__.py"] = ""
        for name, text in {**written, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return make


def lint(root):
    program = str(Path(sys.executable).parent / "lint-imports")
    environment = {"PYTHONPATH": f"{root / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [program, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_a_house_that_keeps_its_contracts_passes(house):
    root = house(
        {"src/safehold/ledger/log.py": "import apsw\nfrom safehold.model import ids\n", "src/safehold/model/ids.py": ""}
    )
    done = lint(root)
    assert done.returncode == 0, done.stdout
    assert "4 kept, 0 broken" in done.stdout
    assert rooms.find(root) == []


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("model/ids.py", "import safehold.ledger\n", "safehold.model.ids imports safehold.ledger (line 1)"),
        ("model/ids.py", "def f():\n    import safehold.ledger\n", "(line 2)"),
        (
            "model/ids.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import safehold.ledger\n",
            "(line 3)",
        ),
        ("model/ids.py", "import apsw\n", "safehold.model.ids imports apsw"),
        ("ledger/log.py", "from safehold.model import _bytes\n", "imports safehold.model._bytes"),
    ],
)
def test_a_breach_is_found_and_named(house, path, text, words):
    root = house({f"src/safehold/{path}": text, "src/safehold/model/_bytes.py": ""})
    done = lint(root)
    assert done.returncode == 1
    assert words in " ".join(done.stdout.split())


def test_a_room_without_a_contract_is_found(house):
    root = house({"src/safehold/vault/__init__.py": ""})
    assert [finding.what for finding in rooms.find(root)] == ["a room that no import contract names"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| `ledger/` | `model` |", "| `ledger/` | – |"),
        ("| `console/` | `model` | |\n", ""),
        ("| `apsw` | `ledger` |", "| `apsw` | `model` |"),
    ],
)
def test_a_page_that_differs_from_the_contracts_is_found(house, old, new):
    assert old in PAGE
    assert len(rooms.find(house({"docs/architecture.md": PAGE.replace(old, new)}))) == 1


def test_the_auditors_path_loads_ledger_and_model_alone():
    names = sorted(
        f"safehold.{path.parent.name}.{path.stem}"
        for room in ("ledger", "model")
        for path in (ROOT / "src" / "safehold" / room).glob("[!_]*.py")
    )
    assert len(names) > 5
    program = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({'.'.join(n.split('.')[:2]) for n in sys.modules if n.startswith('safehold')})))"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["safehold", "safehold.ledger", "safehold.model"]
