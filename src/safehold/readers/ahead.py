"""Items made in a thread ahead of their use: Arrow decrypts and decodes the next block while Python works on this one.

Order and errors are those of the items: an error comes when the items before it have been taken, a hold too. About
``depth`` items wait; whoever stops taking ends the thread. It is a daemon: one that hangs in a store keeps no process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Final, TypeVar

__all__ = ["read_ahead"]

_Item = TypeVar("_Item")
_LEAVE_SECONDS: Final = 5.0


class _End:
    """Ends the items: ``error`` None says that there are no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(items: Iterator[_Item], depth: int = 2) -> Generator[_Item, None, None]:
    """The ``items``, made in a thread; raises what making them raises. Close it, or take all, to end the thread."""
    made: SimpleQueue[_Item | _End] = SimpleQueue()
    room = threading.Semaphore(depth)
    left = threading.Event()

    def make() -> None:
        try:
            for item in items:
                made.put(item)
                room.acquire()
                if left.is_set():
                    return
            made.put(_End(None))
        except BaseException as error:  # noqa: BLE001 - re-raised where the items are taken
            made.put(_End(error))

    thread = threading.Thread(target=make, daemon=True, name="read-ahead")
    thread.start()
    try:
        while not isinstance(one := made.get(), _End):
            room.release()
            yield one
        if one.error is not None:
            raise one.error
    finally:
        left.set()
        room.release()
        thread.join(_LEAVE_SECONDS)
