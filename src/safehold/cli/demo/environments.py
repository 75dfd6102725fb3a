"""The demo's hosts: real folders with the metadata of distributions, as an installer leaves them.

Nothing in them does anything. ``litellm`` is a name, a version and an empty module; the start-up file that 1.82.8
brought with it is a stand-in with one harmless line.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["CLEAN", "CLEAN_LITELLM", "STAND_IN", "Installed", "install", "make_environment", "uninstall"]

_SITE: Final = Path("lib") / "python3.11" / "site-packages"
_HARMLESS: Final = "import sys  # a harmless stand-in: the real file ran at every start of Python\n"


class Installed(msgspec.Struct, frozen=True):
    """A distribution to install: what it requires, whether a person asked for it, and further files."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    requested: bool = False
    files: tuple[tuple[str, str], ...] = ()


CLEAN: Final = (
    Installed("openai", "1.68.2", ("httpx", "pydantic")),
    Installed("httpx", "0.28.1", ("certifi",)),
    Installed("certifi", "2026.2.25"),
    Installed("pydantic", "2.10.6"),
)
CLEAN_LITELLM: Final = Installed("litellm", "1.82.6", ("openai", "httpx"))
STAND_IN: Final = Installed("litellm", "1.82.8", ("openai", "httpx"), files=(("litellm_init.pth", _HARMLESS),))


def make_environment(folder: Path, distributions: Sequence[Installed]) -> Path:
    """A virtual environment's folder with these distributions; returns it."""
    (folder / _SITE).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("version = 3.11.7\ninclude-system-site-packages = false\n", encoding="utf-8")
    for one in distributions:
        install(folder, one)
    return folder


def install(folder: Path, one: Installed) -> None:
    """Write a distribution as an installer would: modules, METADATA, INSTALLER, RECORD."""
    site = folder / _SITE
    info = f"{one.name}-{one.version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {one.name}\nVersion: {one.version}\n"
    metadata += "".join(f"Requires-Dist: {name}\n" for name in one.requires)
    files = {
        f"{one.name}/__init__.py": f'"""A stand-in for {one.name}: no code."""\n',
        f"{info}/METADATA": metadata,
        f"{info}/INSTALLER": "pip\n",
        **dict(one.files),
    }
    if one.requested:
        files[f"{info}/REQUESTED"] = ""
    rows = []
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(text.encode())}\n")
    (site / info / "RECORD").write_text("".join(rows) + f"{info}/RECORD,,\n", encoding="utf-8")


def uninstall(folder: Path, one: Installed) -> None:
    """Remove a distribution with all its files."""
    site = folder / _SITE
    for name, _ in one.files:
        (site / name).unlink(missing_ok=True)
    shutil.rmtree(site / one.name, ignore_errors=True)
    shutil.rmtree(site / f"{one.name}-{one.version}.dist-info", ignore_errors=True)
