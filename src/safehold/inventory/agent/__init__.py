"""The agent: lists what a host's Python environments hold and would run at start, without running any of it.

Standard library alone, Python 3.9 or later, POSIX. Built into one file (``safehold agent file agent.pyz``) and run as
``python3 -I -S agent.pyz``: isolated and without ``site``, so that no start-up hook runs inside it. It imports and
unmarshals nothing of the environment, opens regular files alone and never through a symbolic link, and bounds what it
reads. What it could not look at is ``skipped``: *unknown*, never clean. The formats: ``docs/spec/inventory.md``.
"""

from __future__ import annotations

from safehold.inventory.agent.base import (
    CONFIRMATION_FORMAT,
    HOST_ENVIRONMENT,
    MAX_MESSAGE_BYTES,
    NAMESPACE,
    REPORT_FORMAT,
    AgentError,
    canonical,
    contents_digest,
    microseconds,
    shown,
)
from safehold.inventory.agent.environment import glance, interpreter, look, sweep
from safehold.inventory.agent.memory import Memory
from safehold.inventory.agent.program import main
from safehold.inventory.agent.site import Wish
from safehold.inventory.agent.spool import advance, report

__all__ = [
    "CONFIRMATION_FORMAT",
    "HOST_ENVIRONMENT",
    "MAX_MESSAGE_BYTES",
    "NAMESPACE",
    "REPORT_FORMAT",
    "AgentError",
    "Memory",
    "Wish",
    "advance",
    "canonical",
    "contents_digest",
    "glance",
    "interpreter",
    "look",
    "main",
    "microseconds",
    "report",
    "shown",
    "sweep",
]
