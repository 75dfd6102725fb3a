"""A desk for keys and parts: the process that speaks with the broker and the store answers for the workers it started.

A forked worker must not use its parent's connection or database. So it asks its parent, over a Unix socket in the abstract
namespace or a private folder, with a secret drawn for this desk (``multiprocessing``'s challenge). Keys cross from
memory to memory. What the parent's source raises, the worker raises. Parts that lie in a store are fetched by the parent
alone, once for all workers, which have neither its credentials nor its connections; they are told where the file lies.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from safehold.broker.client import KeyOrder, OpenedKeys
from safehold.broker.key_source import KeySource
from safehold.model.errors import SafeholdError, StorageFailed
from safehold.vault.pieces import Asked
from safehold.vault.spool import Spool

__all__ = ["AskedKeys", "AskedParts", "Carried", "KeyDesk"]


class Carried:
    """An error of ours on its way to another process: our errors have more parts than a pickled exception keeps."""

    def __init__(self, error: SafeholdError) -> None:
        self._kind = type(error)
        self._text = error.message
        self._parts = dict(error.__dict__)

    def remade(self) -> SafeholdError:
        """The same error again, without its cause."""
        error = self._kind.__new__(self._kind, self._text)
        error.__dict__.update(self._parts)
        return error


class AskedKeys:
    """A worker's ``KeySource``: asks the desk. One connection a question, so nothing is shared with other workers."""

    def __init__(self, address: Any, secret: bytes) -> None:
        self._address = address
        self._secret = secret

    def request(self, order: KeyOrder) -> OpenedKeys:
        """As the port."""
        keys: OpenedKeys = self._ask("request", order)
        return keys

    def check(self, order: KeyOrder) -> None:
        """As the port."""
        self._ask("check", order)

    def _ask(self, what: str, order: KeyOrder) -> Any:
        return _ask(self._address, self._secret, what, order)


class AskedParts:
    """A worker's ``PartPlaces``: asks the desk for parts of a release in a store; they lie in ``folder``."""

    def __init__(self, address: Any, secret: bytes, folder: Path) -> None:
        self.folder = folder
        self._address = address
        self._secret = secret

    def start(self, parts: Iterable[Asked]) -> None:
        """As the port."""
        _ask(self._address, self._secret, "start", list(parts))

    def wait(self, parts: Sequence[Asked]) -> None:
        """As the port."""
        _ask(self._address, self._secret, "wait", list(parts))

    def place(self, part: Asked) -> Path:
        """As the port."""
        place: Path = _ask(self._address, self._secret, "place", part)
        return place


def _ask(address: Any, secret: bytes, what: str, asked: Any) -> Any:
    try:
        with Client(address, authkey=secret) as connection:
            connection.send((what, asked))
            good, answer = connection.recv()
    except (OSError, EOFError) as error:
        raise StorageFailed(
            "readers.desk_gone", "the process that asks for keys does not answer", "start the workers again"
        ) from error
    if good:
        return answer
    raise answer.remade()


class KeyDesk:
    """Answers workers from ``source`` and ``spool`` in threads of its own, until closed."""

    def __init__(self, source: KeySource, spool: Spool | None = None) -> None:
        self._source = source
        self._spool = spool
        self._one = threading.Lock()  # a source of keys is asked by one thread at a time
        self._secret = secrets.token_bytes(32)
        self._listener = Listener(family="AF_UNIX", authkey=self._secret)
        self._closed = False
        threading.Thread(target=self._serve, name="safehold-key-desk", daemon=True).start()

    def for_worker(self) -> AskedKeys:
        """What a worker asks through."""
        return AskedKeys(self._listener.address, self._secret)

    def parts_for_worker(self, spool: Spool) -> AskedParts:
        """What a worker gets parts through."""
        return AskedParts(self._listener.address, self._secret, spool.folder)

    def _serve(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except Exception:  # noqa: BLE001, S112 - a stranger at the socket, or the end: refused either way
                continue
            # A thread each: a part that takes long must not keep another worker from its keys.
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: Connection[Any, Any]) -> None:
        with connection, suppress(OSError, EOFError):
            self._answer(connection)

    def _answer(self, connection: Connection[Any, Any]) -> None:
        what, asked = connection.recv()
        try:
            connection.send((True, self._answer_to(what, asked)))
        except SafeholdError as error:
            connection.send((False, Carried(error)))
        except Exception:  # noqa: BLE001 - refuses: a worker must not wait for ever for an answer that failed
            failed = StorageFailed("readers.desk", "the keys could not be asked for", "look at the process that asks")
            connection.send((False, Carried(failed)))

    def _answer_to(self, what: str, asked: Any) -> Any:
        if self._spool is not None and what == "start":
            return self._spool.start(asked)
        if self._spool is not None and what == "wait":
            return self._spool.wait(asked)
        if self._spool is not None and what == "place":
            return self._spool.place(asked)
        with self._one:
            return self._source.check(asked) if what == "check" else self._source.request(asked)

    def close(self) -> None:
        """Answer no more."""
        self._closed = True
        with suppress(OSError), suppress(Exception):
            Client(self._listener.address, authkey=self._secret).close()
        self._listener.close()
