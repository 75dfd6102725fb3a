"""Environments made of harmless files for the tests of the inventory: metadata, texts, and a comment for a hook."""

from __future__ import annotations

import atexit
import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safehold.inventory import agent
from safehold.inventory.agent_file import write_agent

AGENT = write_agent(Path(tempfile.mkdtemp(prefix="safehold-agent-")) / "agent.pyz")
atexit.register(shutil.rmtree, AGENT.parent, ignore_errors=True)
HOST = "quill-works/ci-1"


def run_agent(*arguments: Any, python: str = sys.executable) -> subprocess.CompletedProcess[bytes]:
    """The agent as hosts run it: isolated, without site."""
    command = [python, "-I", "-S", str(AGENT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120)


class Environment:
    """A folder in the shape of a virtual environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "lib" / "python3.11" / "site-packages"
        self.site.mkdir(parents=True)
        (root / "bin").mkdir()
        (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\ninclude-system-site-packages = false\n")

    def write(self, path: str, data: bytes | str = b"") -> Path:
        file = self.site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return file

    def install(self, name: str, version: str, files: dict[str, str] | None = None, **metadata: str) -> Path:
        """A distribution with RECORD as pip writes it; ``metadata`` adds header lines and files of the metadata folder."""
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        requires = metadata.pop("requires", "").split()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        head += "".join(f"Requires-Dist: {one} >=1\n" for one in requires)
        written = dict(files or {}) | {f"{folder}/METADATA": head + "\nA text.\nName: not-a-header\n"}
        written |= {f"{folder}/{path}": text for path, text in ({"INSTALLER": "pip\n"} | metadata).items()}
        rows = [[path, record_hash(text.encode()), str(len(text.encode()))] for path, text in written.items()]
        for path, text in written.items():
            self.write(path, text)
        self.write_record(folder, [*rows, [f"{folder}/RECORD", "", ""]])
        return self.site / folder

    def write_record(self, folder: str, rows: list[list[str]]) -> None:
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator="\n").writerows(rows)
        self.write(f"{folder}/RECORD", stream.getvalue().encode("utf-8", "surrogateescape"))

    def sweep(self, **options: Any) -> dict[str, Any]:
        return agent.sweep(os.fsencode(self.root), **options)


def record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def reasons(contents: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["path"], one["reason"]) for one in contents["skipped"]}


def paths(contents: dict[str, Any], name: str) -> list[str]:
    return [one["path"] for one in contents[name]]
