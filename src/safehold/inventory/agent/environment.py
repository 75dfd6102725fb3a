"""An environment at three depths: a glance, a look, a sweep.

* ``glance``: which distributions there are and which hooks would run: the site folder's own list, nothing below it.
  Milliseconds, so it can be taken every second.
* ``look``: the stat of every file. While no path and no stat changed since the last sweep, its inventory still holds.
* ``sweep``: the contents, by reading what changed (or everything, with an empty memory).
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from typing import Any

from safehold.inventory.agent.base import AgentError, contents_digest, normal, read_bytes, shown
from safehold.inventory.agent.memory import Memory
from safehold.inventory.agent.site import METADATA_BYTES, SITE_FOLDER, Site, Wish, head_fields, hook_kind, pth_lines

__all__ = ["find_site", "glance", "interpreter", "look", "sweep"]

_HEAD_BYTES = 4096


def find_site(folder: bytes) -> tuple[bytes, bytes]:
    """The environment's root and its one site folder, given either of them. Raises ``AgentError``."""
    folder = os.path.realpath(folder)
    known, base = SITE_FOLDER.fullmatch(folder), glob.escape(folder)
    if os.path.isdir(folder) and (known or glob.glob(base + b"/*.dist-info") or glob.glob(base + b"/*.egg-info")):
        return (known and known.group(1)) or folder, folder
    patterns = (b"/lib*/python*/site-packages", b"/lib*/python*/dist-packages", b"/local/lib/python*/dist-packages")
    found = {os.path.realpath(name) for tail in patterns for name in glob.glob(base + tail)}
    if len(found) != 1:
        raise AgentError(2, f"{shown(folder)}: not one site-packages folder, but {sorted(map(shown, found))}")
    return folder, found.pop()


def interpreter(folder: bytes) -> dict[str, Any]:
    """What the environment's pyvenv.cfg says of its interpreter, and the name of its site folder."""
    root, site = find_site(folder)
    try:
        text = read_bytes(root + b"/pyvenv.cfg", 1 << 16)
    except OSError:
        text = b""
    pairs = {line.partition(b"=")[0].strip().lower(): line.partition(b"=")[2].strip() for line in text.splitlines()}
    version, system = pairs.get(b"version", b"")[:64], pairs.get(b"include-system-site-packages", b"").lower()
    return {"site": shown(os.path.relpath(site, root)), "system_packages": system == b"true", "version": shown(version)}


def glance(folder: bytes) -> dict[str, Any]:
    """The distributions and the start-up hooks of an environment, by its site folder alone. Raises ``AgentError``.

    ``distributions``: folder, name and version as METADATA says, so that a renamed folder shows. ``hooks``: path, kind,
    hash and whether it runs code. What could not be read is ``skipped``.
    """
    site = find_site(folder)[1]
    distributions, hooks, skipped = [], [], []
    try:
        with os.scandir(site) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return {"distributions": [], "hooks": [], "skipped": [{"path": ".", "reason": "unreadable"}]}
    for name in sorted(names):
        if name.endswith((b".dist-info", b".egg-info")):
            distributions.append(_distribution(site, name))
        elif name.endswith(b".pth") or name.startswith((b"sitecustomize", b"usercustomize")):
            hooks += _hooks(site, name)
    for name in (b"../sitecustomize.py", b"../usercustomize.py"):
        hooks += _hooks(site, name) if os.path.lexists(site + b"/" + name) else []
    skipped = [{"path": one["path"], "reason": "unreadable"} for one in hooks if not one["sha256"]]
    return {"distributions": distributions, "hooks": hooks, "skipped": skipped}


def _distribution(site: bytes, folder: bytes) -> dict[str, str]:
    named, _, versioned = folder.rpartition(b".")[0].partition(b"-")
    descriptor, raw = -1, b""
    for inner in (b"/METADATA", b"/PKG-INFO", b""):
        try:  # by hand, and not read_bytes: three system calls each, for hundreds of them
            descriptor = os.open(site + b"/" + folder + inner, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            raw = os.read(descriptor, _HEAD_BYTES)
        except OSError:
            continue
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            descriptor = -1
        break
    fields = head_fields(re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0])
    name, version = fields.get(b"name", [named])[0], fields.get(b"version", [versioned.partition(b"-py")[0]])[0]
    return {"folder": shown(folder), "name": normal(name), "version": shown(version)}


def _hooks(site: bytes, name: bytes) -> list[dict[str, Any]]:
    path = site + b"/" + name
    if os.path.isdir(path):
        inner = sorted(os.listdir(path)) if not os.path.islink(path) else []
        return [one for file in inner for one in _hooks(site, name + b"/" + file) if file.startswith(b"__init__.")]
    kind = hook_kind(name)
    if not kind:
        return []
    try:
        raw = read_bytes(path, METADATA_BYTES + 1)
        runs = kind != "pth" or len(raw) > METADATA_BYTES or pth_lines(raw)[0] > 0
        return [{"kind": kind, "path": shown(name), "runs": runs, "sha256": hashlib.sha256(raw).hexdigest()}]
    except OSError:
        return [{"kind": kind, "path": shown(name), "runs": True, "sha256": ""}]


def look(folder: bytes, memory: Memory) -> str | None:
    """The inventory's digest of the last sweep, if no path and no stat differs since; None: sweep."""
    if not memory.listing:
        return None
    site = Site(*find_site(folder), memory, Wish())
    return memory.inventory if site.listing(memory.extras) == memory.listing else None


def sweep(folder: bytes, memory: Memory | None = None, wish: Wish | None = None) -> dict[str, Any]:
    """The contents of an environment: sorted lists that depend on nothing but its files. Raises ``AgentError``.

    ``memory`` is read and then replaced in place; an empty one makes a full hash.
    """
    memory = Memory() if memory is None else memory
    site = Site(*find_site(folder), memory, wish or Wish())
    if interpreter(folder)["system_packages"]:
        site.skip(b"pyvenv.cfg", "system-packages")
    contents = site.sweep()
    memory.replace(site.fresh)
    memory.extras, memory.pending = tuple(sorted(site.extras)), site.pending
    # One file too fresh to be trusted by its stat, and the next look must be a sweep.
    memory.listing, memory.inventory = (b"" if site.unsettled else site.listed()), contents_digest(contents)
    return contents
