"""What a host runs by itself, beside Python's own hooks: units of systemd, lines of cron, autostart; and traces.

A trace is a path that an advisory names (an indicator) and that exists here. Which paths were looked for stands beside
it: absence is only said of those. Of a trace only its kind is told, never a hash: the list of paths comes from outside,
and must not become a way to learn what is in a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from safehold.inventory.agent.base import shown
from safehold.inventory.agent.machine import Machine

__all__ = ["find_startup", "find_traces"]

_MAX_TRACES = 5_000
_HOME = (
    ("systemd-unit", b"/.config/systemd/user", 2),
    ("autostart", b"/.config/autostart", 0),
)
_SYSTEM = (
    ("systemd-unit", b"/etc/systemd/system", 2),
    ("systemd-unit", b"/etc/systemd/user", 2),
    ("cron", b"/etc/cron.hourly", 0),
    ("cron", b"/etc/cron.daily", 0),
    ("cron", b"/etc/cron.weekly", 0),
    ("cron", b"/etc/cron.monthly", 0),
)
_SHELL = (b".bashrc", b".bash_profile", b".profile", b".zshrc", b".zshenv", b".zprofile", b".pythonrc", b".xprofile")
_TABLES = (b"/var/spool/cron/crontabs", b"/var/spool/cron", b"/etc/cron.d")


def find_startup(machine: Machine) -> list[dict[str, str]]:
    """Files with their hash, and cron's lines with a keyed digest (a line may hold a secret), sorted by path."""
    found = [one for kind, folder, depth in _SYSTEM for one in _files(machine, kind, folder, depth)]
    for home in machine.homes:
        found += [one for kind, folder, depth in _HOME for one in _files(machine, kind, home + folder, depth)]
        for name in _SHELL:
            found += _file(machine, "shell", home + b"/" + name)
    tables = [path for folder in _TABLES for path in machine.match(folder, b"*") if machine.kind(path) == "file"]
    for path in (b"/etc/crontab", *tables):
        found += _lines(machine, path)
    return sorted(found, key=lambda one: (one["path"], one["kind"]))


def _files(machine: Machine, kind: str, folder: bytes, depth: int) -> Iterator[dict[str, str]]:
    for at, files in machine.walk(folder, depth):
        for name in files:
            yield from _file(machine, kind, at + b"/" + name)


def _file(machine: Machine, kind: str, path: bytes) -> Iterator[dict[str, str]]:
    data = machine.read(path) if machine.kind(path) == "file" else None
    if data is not None:
        yield {"kind": kind, "path": machine.shown(path), "sha256": hashlib.sha256(data).hexdigest()}


def _lines(machine: Machine, path: bytes) -> Iterator[dict[str, str]]:
    data = machine.read(path, 1 << 20) or b""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith(b"#"):
            where = f"{machine.shown(path)}:{number}"
            yield {"kind": "cron-line", "path": where, "sha256": machine.digest(b"cron", line.strip())}


def find_traces(machine: Machine, paths: tuple[bytes, ...]) -> tuple[list[dict[str, str]], list[str]]:
    """The indicator paths that exist here (a leading ``~`` stands for every home), and all that were looked for."""
    traces, looked = [], sorted({path for path in paths if path[:1] in (b"/", b"~")})[:_MAX_TRACES]
    for path in looked:
        places = [home + path[1:] for home in machine.homes] if path.startswith(b"~/") else [path]
        kinds = {machine.kind(place) for place in places if b"\0" not in place} - {""}
        traces += [{"kind": kind, "path": shown(path)} for kind in sorted(kinds)]
    return traces, [shown(path) for path in looked]
