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

from safehold.inventory.agent.base import AgentError, contents_digest, normal, pack_stat, read_bytes, shown
from safehold.inventory.agent.memory import Memory
from safehold.inventory.agent.site import METADATA_BYTES, SITE_FOLDER, Site, Wish, head_fields, hook_kind, pth_lines

__all__ = ["find_site", "glance", "interpreter", "look", "sweep"]

_HEAD_BYTES = 4096
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


def glance(folder: bytes, seen: dict[bytes, tuple[bytes, Any]] | None = None) -> dict[str, Any]:
    """The distributions and the start-up hooks of an environment, by its site folder alone. Raises ``AgentError``.

    ``distributions``: folder, name and version as METADATA says, so that a renamed folder shows. ``hooks``: path, kind,
    hash and whether it runs code. What could not be read is ``skipped``. ``seen`` remembers what a file said while its
    stat stays the same; it is changed in place.
    """
    site = find_site(folder)[1]
    seen = {} if seen is None else seen
    descriptor = -1
    try:
        descriptor = os.open(site, os.O_RDONLY | os.O_DIRECTORY)
        names = sorted(map(os.fsencode, os.listdir(descriptor)))
        fresh: dict[bytes, tuple[bytes, Any]] = {}
        now = time.time_ns()
        found = [one for name in names if (one := _known(descriptor, name, (seen, fresh, now))) is not None]
        for name in (b"../sitecustomize.py", b"../usercustomize.py"):
            one = _known(descriptor, name, (seen, fresh, now))
            found += [] if one is None else [one]
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


_Notes = tuple[dict[bytes, tuple[bytes, Any]], dict[bytes, tuple[bytes, Any]], int]


def _known(site: int, name: bytes, notes: _Notes) -> dict[str, Any] | None:
    """What one name of the site folder is: a distribution, a hook, or nothing; from memory where its stat is the same."""
    if name.endswith(b".dist-info"):
        where = name + b"/METADATA"
    elif name.endswith(b".pth") or name.startswith((b"sitecustomize", b"usercustomize", b"../")):
        where = name
    elif name.endswith(b".egg-info"):
        where = name + b"/PKG-INFO"
    else:
        return None
    seen, fresh, now = notes
    try:
        status = os.stat(where, dir_fd=site, follow_symlinks=False)
    except NotADirectoryError:
        where = name  # an egg-info file
        status = os.stat(where, dir_fd=site, follow_symlinks=False)
    except OSError:
        return None if name.startswith(b"../") else _read_name(site, name, where)
    stamp = pack_stat(status)
    known = seen.get(name)
    if known is None or known[0] != stamp:
        known = (stamp, _read_name(site, name, where))
    if status.st_ctime_ns < now - _SETTLED_NS:
        fresh[name] = known
    found: dict[str, Any] | None = known[1]
    return found


def _read_name(site: int, name: bytes, where: bytes) -> dict[str, Any] | None:
    if name.endswith((b".dist-info", b".egg-info")):
        return _distribution(name, _read_at(site, where, _HEAD_BYTES) or b"")
    if b"/" not in name.lstrip(b"./") and not name.endswith((b".pth", b".py", b".pyc", b".so")):
        where = name + b"/__init__.py"  # a package of that name runs as well
    kind = hook_kind(name)
    if not kind:
        return None
    raw = _read_at(site, where, METADATA_BYTES + 1)
    runs = raw is None or kind != "pth" or len(raw) > METADATA_BYTES or pth_lines(raw)[0] > 0
    sha256 = "" if raw is None else hashlib.sha256(raw).hexdigest()
    return {"kind": kind, "path": shown(name), "runs": runs, "sha256": sha256}


def _read_at(site: int, where: bytes, limit: int) -> bytes | None:
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=site)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.read(descriptor, limit)
    except OSError:
        return None
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
    contents = site.sweep()
    memory.replace(site.fresh)
    memory.extras, memory.pending = tuple(sorted(site.extras)), site.pending
    # One file too fresh to be trusted by its stat, and the next look must be a sweep.
    memory.listing, memory.inventory = (b"" if site.unsettled else site.listed()), contents_digest(contents)
    return contents
