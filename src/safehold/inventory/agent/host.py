"""The host's own contents: what lies beside its Python environments and matters on the day.

The same form as an environment's contents, with further lists: ``environments`` that were found, ``credentials`` in
reach, ``cached`` and ``locked`` versions, ``startup``, ``traces`` of indicators and the paths ``looked`` for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from safehold.inventory.agent.base import shown
from safehold.inventory.agent.credentials import find_credentials
from safehold.inventory.agent.machine import Machine
from safehold.inventory.agent.places import Place
from safehold.inventory.agent.sources import find_cached, find_locked
from safehold.inventory.agent.startup import find_startup, find_traces

__all__ = ["EMPTY", "HostWish", "sweep_host"]

EMPTY: tuple[str, ...] = ("altered", "distributions", "hooks", "missing", "pyc", "skipped", "unowned")
"""The lists that every contents have."""


class HostWish(NamedTuple):
    """Where to look: folders of projects (lockfiles, ``.env``), further caches, indicator paths."""

    projects: tuple[bytes, ...] = ()
    caches: tuple[bytes, ...] = ()
    indicators: tuple[bytes, ...] = ()


def sweep_host(machine: Machine, places: list[Place], wish: HostWish) -> dict[str, Any]:
    """The contents of the host. What could not be read is ``skipped``."""
    traces, looked = find_traces(machine, wish.indicators)
    found: dict[str, Any] = {name: [] for name in EMPTY}
    found |= {
        "cached": find_cached(machine, wish.caches),
        "credentials": find_credentials(machine, wish.projects),
        "environments": [{"kind": one.kind, "name": one.name, "path": machine.shown(one.site)} for one in places],
        "locked": find_locked(machine, wish.projects),
        "looked": looked,
        "startup": find_startup(machine),
        "traces": traces,
    }
    for project in wish.projects:
        if not machine.is_folder(project):
            machine.skip(project, "not-there")
    found["skipped"] = [{"path": path, "reason": reason} for path, reason in sorted(machine.skipped)]
    found["skipped"] += [] if wish.indicators else [{"path": shown(b"indicators"), "reason": "none-given"}]
    return found
