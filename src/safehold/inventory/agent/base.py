"""What all parts of the agent share: its error, canonical bytes, safe text, careful reading and durable writing.

Files are opened with ``O_NOFOLLOW`` and ``O_NONBLOCK`` and looked at again after opening, so that a link, a FIFO or a
device that took a file's place is never read. What is read is bounded by the caller.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import Any

__all__ = [
    "CONFIRMATION_FORMAT",
    "HOST_ENVIRONMENT",
    "MAX_MESSAGE_BYTES",
    "NAMESPACE",
    "REPORT_FORMAT",
    "AgentError",
    "canonical",
    "contents_blocks",
    "contents_digest",
    "load_json",
    "microseconds",
    "normal",
    "pack_stat",
    "read_blocks",
    "read_bytes",
    "safe_text",
    "shown",
    "unpack_stat",
    "write_durable",
]

REPORT_FORMAT = "safehold-inventory-report-v1"
CONFIRMATION_FORMAT = "safehold-inventory-confirmation-v1"
NAMESPACE = "safehold-inventory"
HOST_ENVIRONMENT = "host"
"""The name under which the host itself reports: what lies beside its Python environments."""
MAX_MESSAGE_BYTES = 16 << 20

# Control characters, the backslash that we escape with, characters that reorder or hide text, undecodable bytes.
_ODD = re.compile("[\0-\x1f\\\\\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_STAT = struct.Struct("<4Q")
_WHOLE = 0xFFFFFFFFFFFFFFFF


class AgentError(Exception):
    """Why there is no message: ``args`` are an exit code (as ``--help`` lists them) and a text for a person."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of JSON data without fractions: the same as ``safehold.model.encoding`` makes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def contents_blocks(contents: dict[str, Any]) -> Iterator[bytes]:
    """The canonical bytes of contents, item by item: one large ``dumps`` takes several times their size."""
    before = b"{"
    for name in sorted(contents):
        yield before + canonical(name) + b":["
        for place, item in enumerate(contents[name]):
            yield b"," + canonical(item) if place else canonical(item)
        before = b"],"
    yield b"]}" if contents else b"{}"


def contents_digest(contents: dict[str, Any]) -> str:
    """The inventory digest: ``sha256:`` and the hash of the canonical contents."""
    digest = hashlib.sha256()
    for block in contents_blocks(contents):
        digest.update(block)
    return "sha256:" + digest.hexdigest()


def shown(raw: bytes) -> str:
    r"""Any bytes as safe text, reversibly: UTF-8 as it is, all else, and the backslash, as ``\xNN``."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return _ODD.sub(lambda odd: "".join(f"\\x{byte:02x}" for byte in odd[0].encode("utf-8", "surrogateescape")), text)


def safe_text(value: object, limit: int = 200) -> str:
    """A text of somebody else's file, shown safely and cut; empty for what is no text."""
    return shown(value[:limit].encode("utf-8", "surrogatepass")) if isinstance(value, str) else ""


def microseconds(text: str) -> int:
    """A time with its offset (``2026-03-24T10:39:00Z``) as µs since 1970 UTC; ``ValueError`` for anything else."""
    moment = dt.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset: 2026-03-24T10:39:00Z")
    return (moment - dt.datetime.fromtimestamp(0, moment.tzinfo)) // dt.timedelta(microseconds=1)


def normal(name: bytes) -> str:
    """A distribution's name by PEP 503, shown safely; bytes lower ASCII alone, on every Python."""
    return shown(re.sub(rb"[-_.]+", b"-", name).lower())


def pack_stat(status: os.stat_result) -> bytes:
    """Size, modification time, change time (ns) and inode in 32 bytes: what tells a file from itself altered."""
    try:
        return _STAT.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    except struct.error:  # a time before 1970
        numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return _STAT.pack(*(number & _WHOLE for number in numbers))


def unpack_stat(packed: bytes) -> tuple[int, int, int, int]:
    """Size, modification time, change time and inode of ``pack_stat``."""
    size, modified, changed, inode = _STAT.unpack(packed)
    return size, modified - (modified >> 63 << 64), changed - (changed >> 63 << 64), inode


def read_blocks(path: bytes, limit: int, stamp: bytes = b"") -> Iterator[bytes]:
    """At most ``limit`` bytes of a regular file; ``OSError`` number 0 carries our own reason as its text."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not-regular")
        block = b"-"
        while block and limit > 0 and (not stamp or pack_stat(status) == stamp):
            block = os.read(descriptor, min(status.st_size + 1, 1 << 20, limit))
            limit -= len(block)
            yield block
        if stamp and pack_stat(os.fstat(descriptor)) != stamp:
            raise OSError(0, "changed-while-read")
    finally:
        os.close(descriptor)


def read_bytes(path: bytes, limit: int) -> bytes:
    """The first ``limit`` bytes of a regular file. Raises ``OSError``."""
    return b"".join(read_blocks(path, limit))


def write_durable(path: str, data: bytes | bytearray) -> None:
    """Durable and whole, or not there: temporary file, fsync, rename, fsync of the folder."""
    with open(os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def load_json(path: str) -> dict[str, Any]:
    """A file of our own. An absent or damaged one is empty: then all is looked at and reported anew."""
    try:
        plain = json.loads(read_bytes(os.fsencode(path), 1 << 28))
        return plain if isinstance(plain, dict) else {}
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
