"""Where a store of either kind lives, and how to break its next commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from safehold.ledger.postgres import PostgresStore
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.storage import Store
from tests import postgres_kit


class Place:
    """One place for a store of either kind; every store opened there is closed in the end."""

    origin: str

    def __init__(self) -> None:
        self.opened: list[Store] = []

    def open(self, patience: float = 20.0) -> Store:
        store = self._make(patience)
        self.opened.append(store)
        return store

    def _make(self, patience: float) -> Store:
        raise NotImplementedError

    def break_commit(self, store: Store, *, kept: bool) -> None:
        """Let the next commit of ``store`` fail: after it happened (``kept``) or before."""
        raise NotImplementedError


class SqlitePlace(Place):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.origin = "sqlite.example/one"

    def _make(self, patience: float) -> Store:
        return SqliteStore(self.folder / "ledger.db")

    def break_commit(self, store: Store, *, kept: bool) -> None:
        assert isinstance(store, SqliteStore)
        real = store._writer

        class Breaking:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def execute(self, sql: str, *rest: Any) -> Any:
                assert real is not None
                if sql != "COMMIT":
                    return real.execute(sql, *rest)
                if kept:
                    real.execute(sql)
                raise apsw.IOError("the disk is gone")

        store._writer = Breaking()  # type: ignore[assignment]  # stands in for a connection


class PostgresPlace(Place):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.url = postgres_kit.new_schema()
        self.origin = postgres_kit.fresh_origin()

    def _make(self, patience: float) -> Store:
        return PostgresStore(self.url, self.origin, patience=patience)

    def break_commit(self, store: Store, *, kept: bool) -> None:
        assert isinstance(store, PostgresStore)
        assert store.lead()
        writer = store._writer
        assert writer is not None
        real = writer.execute

        def breaking(sql: Any, *rest: Any, **more: Any) -> Any:
            if sql != "COMMIT":
                return real(sql, *rest, **more)
            if kept:
                real(sql)
            postgres_kit.end_session(writer)
            return real("COMMIT")  # on a connection that the server has ended

        writer.execute = breaking  # type: ignore[method-assign]  # of this one connection
