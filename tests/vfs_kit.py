"""A file system below SQLite that remembers every write and sync, can fail at the Nth, and can lose its power.

``Disk`` is an ``apsw`` VFS over the real one. ``images`` plays its record back up to random moments and keeps what a
disk would: all bytes that were synced, and of the rest some 512-byte sectors and not others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from safehold.ledger.sqlite import SqliteStore

SECTOR = 512


class Fault:
    """Fail at one operation, or at it and all that follow. ``error`` is raised; half of a write gets through."""

    def __init__(self, error: type[apsw.Error], at: int, *, lasting: bool = False, syncs_only: bool = False) -> None:
        self.error, self.at, self.lasting, self.syncs_only = error, at, lasting, syncs_only
        self.seen = self.failed = 0

    def check(self, operation: str) -> bool:
        """Whether this operation, the next one, fails."""
        if self.syncs_only and operation != "sync":
            return False
        self.seen += 1
        if self.seen == self.at or (self.lasting and self.seen > self.at):
            self.failed += 1
            return True
        return False


class Disk(apsw.VFS):
    """The recording VFS. ``record`` holds ("write", file, offset, bytes), ("sync", file) … and ("ack", number)."""

    def __init__(self, name: str) -> None:
        self.vfs_name = name
        self.record: list[tuple[Any, ...]] = []
        self.fault: Fault | None = None
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - apsw's name
        return _File(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        super().xDelete(name, syncdir)
        self.record.append(("delete", Path(name).name))

    def ack(self, number: int) -> None:
        """From here on ``number`` entries are acknowledged."""
        self.record.append(("ack", number))

    def fails(self, operation: str) -> bool:
        return self.fault is not None and self.fault.check(operation)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        if self.disk.fails("write"):
            half = bytes(data[: len(data) // 2])
            if half:
                super().xWrite(half, offset)
                self.disk.record.append(("write", self.name, offset, half))
            assert self.disk.fault is not None
            raise self.disk.fault.error("injected")
        super().xWrite(data, offset)
        self.disk.record.append(("write", self.name, offset, bytes(data)))

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        if self.disk.fails("sync"):
            assert self.disk.fault is not None
            raise self.disk.fault.error("injected")
        super().xSync(flags)
        self.disk.record.append(("sync", self.name))

    def xTruncate(self, size: int) -> None:  # noqa: N802 - apsw's name
        super().xTruncate(size)
        self.disk.record.append(("truncate", self.name, size))


class DiskStore(SqliteStore):
    """A store on a ``Disk``, with SQLite's own knobs for the prover to turn. Checkpoints often, so that they are cut too."""

    def __init__(self, path: Path, disk: Disk, *, synchronous: int = 2, autocheckpoint: int = 100) -> None:
        self._knobs = (synchronous, autocheckpoint)
        super().__init__(path, vfs=disk.vfs_name)

    def reopen(self) -> None:
        super().reopen()
        assert self._writer is not None
        assert self._writer.pragma("synchronous") == 2, "the store itself asks for FULL"
        self._writer.pragma("synchronous", self._knobs[0])
        self._writer.pragma("wal_autocheckpoint", self._knobs[1])


@contextmanager
def disk(name: str) -> Iterator[Disk]:
    """A disk for the length of the block."""
    made = Disk(name)
    try:
        yield made
    finally:
        made.unregister()


class _Content:
    """What one file holds: for sure, and as written since."""

    def __init__(self) -> None:
        self.synced: bytearray | None = None
        self.pending: list[tuple[Any, ...]] = []

    def sync(self) -> None:
        content = self.synced if self.synced is not None else bytearray()
        for change in self.pending:
            _apply(content, change)
        self.synced, self.pending = content, []

    def after_cut(self, chance: random.Random, kept: float) -> bytes | None:
        """The file as a power cut leaves it; ``kept`` is the share of unsynced sectors that reached the disk."""
        if self.synced is None and not self.pending:
            return None
        content = bytearray(self.synced or b"")
        for change in self.pending:
            if change[0] != "write":
                if chance.random() < kept:
                    _apply(content, change)
                continue
            _, _, offset, data = change
            begin = 0
            while begin < len(data):
                end = min(len(data), begin + SECTOR - (offset + begin) % SECTOR)
                if chance.random() < kept:
                    _apply(content, ("write", "", offset + begin, data[begin:end]))
                begin = end
        return bytes(content)


def _apply(content: bytearray, change: tuple[Any, ...]) -> None:
    if change[0] == "truncate":
        del content[change[2] :]
        return
    _, _, offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def images(record: list[tuple[Any, ...]], count: int, chance: random.Random) -> Iterator[tuple[int, dict[str, bytes]]]:
    """``count`` states that a power cut could have left, with the number of entries acknowledged before each.

    Half of the cuts fall just before or after an acknowledgement, where it matters most.
    """
    acks = [at for at, operation in enumerate(record) if operation[0] == "ack"]
    near = [max(0, min(len(record), chance.choice(acks) + chance.choice((0, 1, 1, 2)))) for _ in range(count // 2)]
    cuts = sorted(near + [chance.randrange(len(record) + 1) for _ in range(count - len(near))])
    files: dict[str, _Content] = {}
    acknowledged = position = 0
    for cut in cuts:
        for operation in record[position:cut]:
            match operation[0]:
                case "ack":
                    acknowledged = operation[1]
                case "sync":
                    files.setdefault(operation[1], _Content()).sync()
                case "delete":
                    files.pop(operation[1], None)
                case _:
                    files.setdefault(operation[1], _Content()).pending.append(operation)
        position = max(position, cut)
        kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        left = {name: content.after_cut(chance, kept) for name, content in files.items()}
        yield acknowledged, {name: data for name, data in left.items() if data is not None}


def as_written(record: list[tuple[Any, ...]]) -> dict[str, bytes]:
    """The files with every byte that was ever written to them: a crash of the process, or a lucky power cut."""
    files: dict[str, _Content] = {}
    for operation in record:
        if operation[0] == "delete":
            files.pop(operation[1], None)
        elif operation[0] in {"write", "truncate"}:
            files.setdefault(operation[1], _Content()).pending.append(operation)
    for content in files.values():
        content.sync()
    return {name: bytes(content.synced or b"") for name, content in files.items()}
