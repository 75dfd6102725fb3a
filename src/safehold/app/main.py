"""The entry point: reads the environment, hands the CLI its settings and a way to open a home."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from typing import TYPE_CHECKING, cast

from safehold.app.settings import Settings, read_settings
from safehold.cli.context import Session
from safehold.cli.root import run

if TYPE_CHECKING:
    from safehold.cli.context import HomeFactory
    from safehold.vault.store import Store

__all__ = ["main"]


def _factory() -> HomeFactory:
    # Late, so that `--help` does not pay for the ledger, the vault and their libraries.
    return cast("HomeFactory", importlib.import_module("safehold.app.wiring").HomeFactory())


def _open_store(location: str, settings: Settings) -> Store:
    # Late as well: few verbs reach for a store.
    return cast("Store", importlib.import_module("safehold.app.stores").open_location(location, settings))


def main() -> None:
    """Run the command line; leaves with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal of another encoding cannot show must not stop a verb
            stream.reconfigure(errors="backslashreplace")
    settings = read_settings(os.environ)
    session = Session(
        home=settings.home,
        passphrase=settings.passphrase,
        passphrase_file=settings.passphrase_file,
        factory=_factory,
        clock=lambda: time.time_ns() // 1000,
        open_store=lambda location: _open_store(location, settings),
        ssh_agent=settings.ssh_agent,
    )
    sys.exit(run(sys.argv[1:], session))
