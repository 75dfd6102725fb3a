"""Whether compiled code is what its source compiles to: a cache with a good header can hold any code.

Both are hostile. So nothing is unmarshalled: ``digest`` reads the marshal format itself and hashes what it means (file
names and the sharing of equal objects left out, since they differ between honest compilations). And nothing is
compiled in the agent: a child process, bounded in memory and time, compiles and compares; where it dies, the pair at
hand is *unknown* and the next child goes on behind it. The child is this module, given as text; it imports nothing else.
Only the form of the running Python can be compared, which its magic number tells.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import resource
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence

__all__ = ["DIFFERS", "MAGIC", "SAME", "UNKNOWN", "compare", "digest", "main", "verdict"]

SAME, DIFFERS, UNKNOWN = b"=", b"!", b"?"
MAGIC = importlib.util.MAGIC_NUMBER
_CHUNK = 64  # pairs given to a child at once
_LIMIT = 16 << 20
_MEMORY = 1 << 30
_PAIR_SECONDS = 20.0
_DEPTH = 200
# Fields of a code object in the order in which marshal writes them: L is a number, a letter else says nothing but order.
_CODE = "LLLLLOOOOOXOOLOO" if sys.version_info >= (3, 11) else "LLLLLLOOOOOOXOLO"


class _Reader:
    """Reads one marshalled value into a digest. Raises ``ValueError`` or ``IndexError`` for what is none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.seen: list[bytes] = []

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little", signed=size > 1)

    def value(self, depth: int = 0) -> bytes:
        if depth > _DEPTH:
            raise ValueError("it is too deep")
        code = self.take(1)[0]
        kind, place = chr(code & 0x7F), len(self.seen)
        if kind == "r":
            found = self.seen[self.number()]
            if not found:
                raise ValueError("it holds itself")
            return found
        if code & 0x80:
            self.seen.append(b"")  # reserved at the beginning, as marshal does
        found = self.plain(kind) or self.compound(kind, depth + 1)
        if code & 0x80:
            self.seen[place] = found
        return found

    def plain(self, kind: str) -> bytes:
        """Constants, numbers and texts; empty for the rest."""
        if kind in "NFTS.0":
            return _hash(b"constant " + kind.encode())
        if kind in "iI":
            return _hash(b"int %x" % self.number(4 if kind == "i" else 8))
        if kind == "l":
            size = self.number()
            digits = [self.number(2) & 0x7FFF for _ in range(abs(size))]
            whole = sum(digit << 15 * place for place, digit in enumerate(digits))
            return _hash(b"int %x" % (-whole if size < 0 else whole))
        if kind in "gy":
            return _hash(kind.encode() + self.take(8 if kind == "g" else 16))
        if kind == "s":
            return _hash(b"bytes " + self.take(self.number()))
        if kind in "utaA":
            return _hash(b"text " + self.take(self.number()))
        if kind in "zZ":
            return _hash(b"text " + self.take(self.number(1)))
        return b""

    def compound(self, kind: str, depth: int) -> bytes:
        if kind in "()[<>":
            count = self.number(1) if kind == ")" else self.number()
            if not 0 <= count <= len(self.data):
                raise ValueError("it is longer than its file")
            members = [self.value(depth) for _ in range(count)]
            if kind in "<>":
                members.sort()  # a set has no order, and its own depends on the process
            return _hash(b"members " + kind.replace(")", "(").encode() + b"".join(members))
        if kind == ":":
            return _hash(b"slice " + self.value(depth) + self.value(depth) + self.value(depth))
        if kind != "c":
            raise ValueError("an unknown kind of value")
        parts = []
        for field in _CODE:
            if field == "L":
                parts.append(self.take(4))
                continue
            found = self.value(depth)
            parts.append(b"" if field == "X" else found)  # X: the file's name, which moves with the environment
        return _hash(b"code " + b"".join(parts))


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=20).digest()


def digest(data: bytes) -> bytes:
    """What marshalled data means, as a digest. Raises ``ValueError`` for what is not one marshalled value."""
    reader = _Reader(data)
    try:
        found = reader.value()
    except (IndexError, RecursionError) as error:
        raise ValueError("it is not what marshal writes") from error
    if reader.at != len(data):
        raise ValueError("there are bytes behind its end")
    return found


def verdict(code: bytes, source: bytes, name: str, optimize: int) -> bytes:
    """Whether ``code`` (a cache's bytes behind its header) is what ``source`` compiles to here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=optimize))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return UNKNOWN  # a cache of what does not compile: made by another Python, or before the source was altered
    if wanted == code:
        return SAME
    try:
        return SAME if digest(wanted) == digest(code) else DIFFERS
    except ValueError:
        return DIFFERS


def compare(site: bytes, pairs: Sequence[tuple[bytes, bytes]], seconds: float) -> list[bytes]:
    """A verdict for each pair (compiled, source) that there was time for, in order."""
    verdicts: list[bytes] = []
    end = time.monotonic() + seconds
    while len(verdicts) < len(pairs) and time.monotonic() < end:
        chunk = pairs[len(verdicts) : len(verdicts) + _CHUNK]
        found = _child(site, chunk)
        verdicts += [found[place : place + 1] for place in range(len(found))]
        if len(found) < len(chunk):
            verdicts.append(UNKNOWN)  # at this one the child died
    return verdicts


def _child(site: bytes, chunk: Sequence[tuple[bytes, bytes]]) -> bytes:
    loader = globals()["__loader__"]
    text = loader.get_source(__name__) if __name__ != "__main__" else ""
    names = b"".join(site + b"/" + name + b"\0" for pair in chunk for name in pair)
    command = [sys.executable, "-I", "-S", "-c", text]
    try:
        done = subprocess.run(
            command,
            input=names,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PAIR_SECONDS + len(chunk),
            check=False,
        )
        found = done.stdout
    except subprocess.TimeoutExpired as error:
        found = error.stdout or b""
    return found[: len(chunk)] if not found.strip(SAME + DIFFERS + UNKNOWN) else b""


def _read(path: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not-regular")
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise OSError(0, "too-large")
    return data


def main() -> None:
    """The child: pairs of paths on stdin, each ended by a zero byte; one verdict a pair on stdout, at once."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    names = sys.stdin.buffer.read().split(b"\0")[:-1]
    for path, source in zip(names[::2], names[1::2]):
        level = 2 if path.endswith(b".opt-2.pyc") else 1 if path.endswith(b".opt-1.pyc") else 0
        try:
            found = verdict(_read(path)[16:], _read(source), os.fsdecode(source), level)
        except OSError:
            found = UNKNOWN
        sys.stdout.buffer.write(found)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
