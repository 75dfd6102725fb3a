"""What the agent remembers of a sweep, so that the next one reads changed files alone.

Beside each file's path stand its stat and what was learnt from its bytes: the hash, a compiled file's header, and
whether compiled code is that of its source. A stat that differs makes all of it void. ``listing`` is the digest of every
path and stat of a whole sweep: while it stays, nothing needs to be asked again, and ``inventory`` still holds.
``pending``: compiled code is left that was not compared yet, though it could be.

On disk it is ``.memory`` (files) and ``.look`` (listing and inventory); a damaged one is empty. Who can write to them can
deceive the agent.
"""

from __future__ import annotations

import hashlib
import os
import struct

from safehold.inventory.agent.base import canonical, load_json, read_bytes, write_durable

__all__ = ["CODES", "HASHES", "HEADERS", "Memory"]

HASHES, HEADERS, CODES = 0, 1, 2
"""The three things that are remembered of a file, as places in ``Memory.known``."""
_MAGIC = b"safehold-agent-memory-2\n"
_RECORD = struct.Struct("<BHB")
_MAX_BYTES = 1 << 29


class Memory:
    """What is known of files, by kind and path: a stat and a value. An empty one makes a full hash."""

    def __init__(self) -> None:
        self.known: tuple[dict[bytes, bytes], ...] = ({}, {}, {})
        self.listing = b""
        self.inventory = ""
        self.extras: tuple[bytes, ...] = ()
        self.pending = False

    def __bool__(self) -> bool:
        return any(self.known)

    def distrust(self) -> None:
        """Make the next sweep read every file again. Verdicts on code stay: they would cost minutes, not seconds."""
        self.known, self.listing = ({}, {}, self.known[CODES]), b""

    def replace(self, known: tuple[dict[bytes, bytes], ...]) -> None:
        """Remember this and nothing else."""
        self.known = known

    def to_bytes(self) -> bytearray:
        """The bytes of what is known of files, with their hash in front."""
        data = bytearray(_MAGIC + bytes(32))
        for kind, table in enumerate(self.known):
            for path, value in table.items():
                data += _RECORD.pack(kind, len(path), len(value)) + path + value
        data[len(_MAGIC) : len(_MAGIC) + 32] = hashlib.sha256(memoryview(data)[len(_MAGIC) + 32 :]).digest()
        return data

    def save(self, folder: str) -> None:
        """Write both files, each durably and whole; either is right without the other."""
        write_durable(folder + "/.memory", self.to_bytes())
        extras = [path.hex() for path in self.extras]
        look = {"extras": extras, "inventory": self.inventory, "listing": self.listing.hex(), "pending": self.pending}
        write_durable(folder + "/.look", canonical(look))

    @classmethod
    def load(cls, folder: str) -> Memory:
        """Read both files; an absent or damaged one is empty."""
        memory = cls.load_look(folder)
        try:
            data = read_bytes(os.fsencode(folder) + b"/.memory", _MAX_BYTES)
        except FileNotFoundError:
            return memory
        at = len(_MAGIC) + 32
        if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(memoryview(data)[at:]).digest() != data[len(_MAGIC) : at]:
            return memory
        while at < len(data):
            kind, length, size = _RECORD.unpack_from(data, at)
            middle = at + _RECORD.size + length
            memory.known[kind][data[at + _RECORD.size : middle]] = data[middle : middle + size]
            at = middle + size
        return memory

    @classmethod
    def load_look(cls, folder: str) -> Memory:
        """What a look needs alone: a few hundred bytes."""
        memory, plain = cls(), load_json(folder + "/.look")
        try:
            extras = tuple(bytes.fromhex(path) for path in plain["extras"])
            memory.listing, memory.inventory = bytes.fromhex(plain["listing"]), str(plain["inventory"])
            memory.extras, memory.pending = extras, bool(plain["pending"])
        except (KeyError, TypeError, ValueError):
            pass
        return memory
