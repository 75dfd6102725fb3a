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
import stat
import time
from typing import Any

from safehold.inventory.agent.base import AgentError, contents_digest, normal, read_bytes, shown
from safehold.inventory.agent.memory import Memory
from safehold.inventory.agent.site import METADATA_BYTES, SITE_FOLDER, Site, Wish, head_fields, hook_kind, pth_lines

__all__ = ["find_site", "glance", "interpreter", "look", "sweep"]

_HEAD_BYTES = 4096
_Remembered = tuple[str, tuple[int, int, int, int], Any]
"""Of a name: the file that was read for it, that file's change and modification time, size and inode, what it said."""
_SETTLED_NS = 2_000_000_000  # as for a sweep: what changed so lately is read again


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


def glance(folder: bytes, seen: dict[str, _Remembered] | None = None) -> dict[str, Any]:
    """The distributions and the start-up hooks of an environment, by its site folder alone. Raises ``AgentError``.

    ``distributions``: folder, name and version as METADATA says, so that a renamed folder shows. ``hooks``: path, kind,
    hash and whether it runs code. What could not be read is ``skipped``. ``seen`` remembers what a file said while its
    stat stays the same; it is changed in place.
    """
    site = find_site(folder)[1]
    seen = {} if seen is None else seen
    descriptor, found, fresh, named, at = -1, list[Any](), dict[str, _Remembered](), seen.get, os.stat
    try:
        descriptor = os.open(site, os.O_RDONLY | os.O_DIRECTORY)
        for name in (*sorted(os.listdir(descriptor)), "../sitecustomize.py", "../usercustomize.py"):
            known = named(name)
            if known is not None:
                try:
                    status = at(known[0], dir_fd=descriptor, follow_symlinks=False)
                except OSError:
                    known = None
                else:
                    if (status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino) != known[1]:
                        known = None
            if known is not None:
                fresh[name] = known
                found.append(known[2])
            elif name.endswith(_LISTED) or name.startswith(_CUSTOM):
                found += _met(descriptor, name, fresh)
    except OSError:
        return {"distributions": [], "hooks": [], "skipped": [{"path": ".", "reason": "unreadable"}]}
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    seen.clear()
    seen.update(fresh)
    hooks = [one for one in found if "kind" in one]
    return {
        "distributions": [one for one in found if "kind" not in one],
        "hooks": hooks,
        "skipped": [{"path": one["path"], "reason": "unreadable"} for one in hooks if not one["sha256"]],
    }


_LISTED = (".dist-info", ".egg-info", ".pth")
_CUSTOM = ("sitecustomize", "usercustomize", "../")


def _met(site: int, name: str, fresh: dict[str, _Remembered]) -> list[dict[str, Any]]:
    """What one name of the site folder is: a distribution, a hook, or nothing; remembered by the stat of what was read."""
    raw_name = os.fsencode(name)
    wheres: tuple[str, ...] = (name,)
    limit = METADATA_BYTES + 1
    if name.endswith(".dist-info"):
        wheres, limit = (name + "/METADATA",), _HEAD_BYTES
    elif name.endswith(".egg-info"):
        wheres, limit = (name + "/PKG-INFO", name), _HEAD_BYTES
    elif "/" not in name.lstrip("./") and not name.endswith((".pth", ".py", ".pyc", ".so")):
        wheres = (name + "/__init__.py",)  # a package of that name runs as well
    where, raw, status = wheres[0], None, None
    for one in wheres:
        raw, status = _read_at(site, one, limit)
        where = one
        if raw is not None:
            break
    if limit == _HEAD_BYTES:
        told: dict[str, Any] | None = _distribution(raw_name, raw or b"")
    else:
        there = raw is not None or name[0] != "." or _is_there(site, name)
        told = _hook(raw_name, raw) if there else None
    if told is None:
        return []
    if status is not None and status.st_ctime_ns < time.time_ns() - _SETTLED_NS:
        fresh[name] = where, (status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino), told
    return [told]


def _is_there(site: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=site, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _hook(name: bytes, raw: bytes | None) -> dict[str, Any] | None:
    kind = hook_kind(name)
    if not kind:
        return None
    runs = raw is None or kind != "pth" or len(raw) > METADATA_BYTES or pth_lines(raw)[0] > 0
    sha256 = "" if raw is None else hashlib.sha256(raw).hexdigest()
    return {"kind": kind, "path": shown(name), "runs": runs, "sha256": sha256}


def _read_at(site: int, where: str, limit: int) -> tuple[bytes | None, os.stat_result | None]:
    """The head of a regular file, and its stat as it was before; None where it cannot be read."""
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=site)
    except OSError:
        return None, None
    try:
        status = os.fstat(descriptor)
        return (os.read(descriptor, limit), status) if stat.S_ISREG(status.st_mode) else (None, None)
    except OSError:
        return None, None
    finally:
        os.close(descriptor)


def _distribution(folder: bytes, raw: bytes) -> dict[str, str]:
    named, _, versioned = folder.rpartition(b".")[0].partition(b"-")
    fields = head_fields(re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0])
    name, version = fields.get(b"name", [named])[0], fields.get(b"version", [versioned.partition(b"-py")[0]])[0]
    return {"folder": shown(folder), "name": normal(name), "version": shown(version)}


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
    if os.path.isdir(site.root + b"/conda-meta"):
        site.skip(b"../conda-meta", "conda-packages")  # what conda put there beside Python's distributions
    contents = site.sweep()
    memory.replace(site.fresh)
    memory.extras, memory.pending = tuple(sorted(site.extras)), site.pending
    # One file too fresh to be trusted by its stat, and the next look must be a sweep.
    memory.listing, memory.inventory = (b"" if site.unsettled else site.listed()), contents_digest(contents)
    return contents
