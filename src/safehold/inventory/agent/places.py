"""Where a host keeps Python environments: the system's, virtual ones, conda's, pipx's, uv's, pyenv's, and users' own.

Each site folder is an environment of its own with a stable name. Nothing is run to find them.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from safehold.inventory.agent.base import shown
from safehold.inventory.agent.machine import Machine

__all__ = ["Place", "find_places", "place_name"]

_ROOTS = (b"/srv", b"/opt", b"/app", b"/var/lib", b"/usr/local")
_AVOID = frozenset({b"node_modules", b"__pycache__", b".git", b"site-packages", b"dist-packages", b"proc", b"sys"})
_DEPTH = 4
_CONDA = (b"miniconda3", b"anaconda3", b"miniforge3", b"mambaforge", b"micromamba", b".conda")
_LIBRARY = re.compile(rb"(?:python|pypy)[0-9.]*t?")


class Place(NamedTuple):
    """An environment: a name for messages, what made it, and its site folder (without the machine's root)."""

    name: str
    kind: str
    site: bytes


def place_name(site: bytes) -> str:
    """A name for an environment that stays the same as long as its path does."""
    parts = [part for part in site.split(b"/") if not _LIBRARY.fullmatch(part)]
    plain = [
        part for part in parts if part not in (b"", b"lib", b"lib64", b"local", b"site-packages", b"dist-packages")
    ]
    slug = re.sub("[^a-z0-9-]+", "-", shown(plain[-1] if plain else b"system").lower()).strip("-")[:40].strip("-")
    return f"{slug or 'env'}-{hashlib.sha256(site).hexdigest()[:8]}"


def find_places(machine: Machine, roots: tuple[bytes, ...] = ()) -> list[Place]:
    """All environments, by path; ``roots`` are further folders to look in for virtual ones."""
    found: dict[bytes, str] = {}
    for prefix in (b"/usr", b"/usr/local"):
        _add(machine, prefix, "system", found)
    for home in machine.homes:
        _add(machine, home + b"/.local", "user", found)
        for folder, kind in (
            (b"/.local/pipx/venvs", "pipx"),
            (b"/.local/share/pipx/venvs", "pipx"),
            (b"/.local/share/uv/tools", "uv-tool"),
            (b"/.local/share/uv/python", "uv-python"),
            (b"/.pyenv/versions", "pyenv"),
        ):
            for name in machine.names(home + folder):
                _add(machine, home + folder + b"/" + name, kind, found)
        for name in _CONDA:
            _conda(machine, home + b"/" + name, found)
    for prefix in (b"/opt/conda", b"/opt/miniconda3"):
        _conda(machine, prefix, found)
    for root in (*machine.homes, *_ROOTS, *roots):
        for folder, files in machine.walk(root, _DEPTH, _AVOID):
            if b"pyvenv.cfg" in files:
                _add(machine, folder, "venv", found)
    return [Place(place_name(site), kind, site) for site, kind in sorted(found.items())]


def _conda(machine: Machine, prefix: bytes, found: dict[bytes, str]) -> None:
    for folder in (prefix, *(prefix + b"/envs/" + name for name in machine.names(prefix + b"/envs"))):
        if machine.is_folder(folder + b"/conda-meta"):
            _add(machine, folder, "conda", found)


def _add(machine: Machine, prefix: bytes, kind: str, found: dict[bytes, str]) -> None:
    """The site folders of a prefix, each once however many ways lead to it."""
    for library in (prefix + b"/lib", prefix + b"/lib64", prefix + b"/local/lib"):
        if not machine.is_folder(library):
            continue
        for name in machine.names(library):
            for site in (b"site-packages", b"dist-packages") if _LIBRARY.fullmatch(name) else ():
                path = library + b"/" + name + b"/" + site
                if machine.is_folder(path) and os.path.realpath(machine.root + path) == os.path.abspath(
                    machine.root + path
                ):
                    found.setdefault(path, kind)
