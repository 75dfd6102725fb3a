"""What the command line asks of the server and is told about it; ``app`` does the work."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["ServeWish", "Served"]


class ServeWish(msgspec.Struct, frozen=True, kw_only=True):
    """Serve on ``host`` and ``port``; ``certificate`` and ``key`` are PEM files; ``publish`` shows entries to everyone.

    ``elsewhere`` are URLs of other brokers of this ledger; ``kms_ports`` the TCP ports that the vault process may reach.
    """

    host: str
    port: int
    certificate: Path | None
    key: Path | None
    publish: bool
    elsewhere: tuple[str, ...]
    kms_ports: tuple[int, ...]


class Served(msgspec.Struct, frozen=True):
    """Where it is reached, and the ids of its two processes."""

    url: str
    vault: int
    front: int
