"""What a process gives up before it serves: being read, leaving a core file, starting programs, reaching the network.

The first two hold against other processes of the same user, since the kernel enforces them. The others are audit hooks
of the interpreter: they stop Python code, such as a dependency that begins to talk, and not code that was compiled to
go around them.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import socket
import sys
from collections.abc import Collection
from typing import Any, Final

from safehold.model.errors import Refused

__all__ = ["end_with_parent", "forbid_programs", "forbid_reading", "only_connect"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PROGRAMS: Final = frozenset(
    {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn"}
)


def forbid_reading() -> None:
    """No core files, and no other process of this user may read this one's memory (root may)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def end_with_parent() -> None:
    """Be asked to end (SIGTERM) when the process that started this one ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def forbid_programs() -> None:
    """From now on Python code in this process starts no other program. Raises ``Refused`` (``serve.no_programs``) there."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PROGRAMS:
            raise Refused("serve.no_programs", f"this process starts no programs ({event})")

    sys.addaudithook(hook)


def only_connect(ports: Collection[int]) -> None:
    """From now on Python code here connects to Unix sockets and to these TCP ports alone; ``Refused`` (``serve.no_network``).

    The ports are those of the key-encryption service that the operator named; mostly there are none.
    """
    allowed = frozenset(ports)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.sendto"):
            return
        connection, address = arguments[0], arguments[1]
        if connection.family == socket.AF_UNIX or (isinstance(address, tuple) and address[1] in allowed):
            return
        raise Refused(
            "serve.no_network",
            "this process does not reach out to the network",
            "where it needs a key service, allow its port: serve --kms-port",
        )

    sys.addaudithook(hook)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        raise Refused("serve.prctl", f"the system refused option {option} of prctl", "run on Linux")
