"""The agent as one file: its sources and nothing else, the same bytes each time, and it runs alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from safehold.inventory import agent
from safehold.inventory.agent_file import agent_archive, agent_sources, write_agent
from safehold.model.errors import StorageFailed
from tests.inventory_kit import HOST, Environment


def test_the_archive_holds_the_sources_byte_for_byte() -> None:
    folder = Path(agent.__file__).parent
    with zipfile.ZipFile(io.BytesIO(agent_archive())) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    inside = {name.rpartition("/")[2]: data for name, data in held.items() if "/agent/" in name}
    assert inside == {path.name: path.read_bytes() for path in folder.glob("*.py")}
    assert held == agent_sources()
    assert [name for name, data in held.items() if "/agent/" not in name and data] == ["__main__.py"]


def test_it_is_built_the_same_in_another_process_and_place(tmp_path: Path) -> None:
    code = "import sys,hashlib; from safehold.inventory.agent_file import agent_archive as a; print(hashlib.sha256(a()).hexdigest())"
    known = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=known
    )
    assert done.stdout.strip() == hashlib.sha256(agent_archive()).hexdigest()


def test_it_runs_alone_and_finds_what_the_sources_find(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("tool", "1", {"tool.py": "A = 1\n"})
    path = write_agent(tmp_path / "agent.pyz")
    assert os.access(path, os.X_OK)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), str(environment.root), "--host", HOST], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["inventory"] == agent.contents_digest(environment.sweep())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot be written"):
        write_agent(tmp_path / "none" / "agent.pyz")
