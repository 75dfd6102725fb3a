"""What the command line asks of a backup and is told about it; ``app`` does the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

__all__ = ["BackupReport", "BackupWish", "Progress", "RestoreWish"]

Progress = Callable[[str], None]
"""Takes a line about long work."""


class BackupWish(msgspec.Struct, frozen=True, kw_only=True):
    """What to put into the backup in ``folder``: private ``keys``, sealed ``releases``. ``dry_run``: write nothing."""

    folder: Path
    keys: bool
    releases: bool
    dry_run: bool
    progress: Progress


class RestoreWish(msgspec.Struct, frozen=True, kw_only=True):
    """Restore the backup in ``folder`` to the new home ``home``.

    ``keys``: a folder with the private keys, for a backup that holds none. ``verifier``: the ledger's verifier line as
    someone else kept it, or None for the backup's own.
    """

    folder: Path
    home: Path
    keys: Path | None
    verifier: str | None
    progress: Progress


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """A backup: the ledger's ``size`` and ``root`` (hex), when it was ``taken`` (µs UTC), and what is in it.

    ``bytes`` counts all files, ``written`` the ones that this run copied. ``missing`` are the releases of the ledger
    whose folders were not there to be copied; it is empty where releases were not asked for.
    """

    folder: str
    verifier: str
    size: int
    root: str
    taken: int
    keys: bool
    releases: bool
    files: int
    bytes: int
    written: int
    missing: tuple[str, ...]
