"""A host's file system as the agent may look at it: bounded, through no link, each refusal said.

``root`` stands before every path, so that a side-car container sees its host under ``/host``. A home folder is shown as
``~`` where it is the only one; where there are several, as ``~`` and a keyed digest of its name, since that names a
person. ``key`` makes digests of names and secrets: with the same key on several hosts, the same credential has the same
id there, and without the key nobody can guess a short one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import os
import stat
from collections.abc import Iterator

from safehold.inventory.agent.base import read_bytes, shown

__all__ = ["Machine"]

_MAX_LISTED = 20_000
_FILE_BYTES = 4 << 20


class Machine:
    """One host's files. ``homes`` are folders; without, those of root and of ``/home``."""

    def __init__(self, root: bytes = b"", key: bytes = b"", homes: tuple[bytes, ...] = ()) -> None:
        self.root, self.key = root.rstrip(b"/"), key
        self.skipped: set[tuple[str, str]] = set()
        self.homes = homes or self._homes()

    def _homes(self) -> tuple[bytes, ...]:
        found = [b"/home/" + name for name in self.names(b"/home")]
        return tuple(home for home in (b"/root", *found) if self.is_folder(home))

    def digest(self, *parts: bytes) -> str:
        """A keyed digest in hex of values that must not be told."""
        mac = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8, "big") + part)
        return mac.hexdigest()

    def shown(self, path: bytes) -> str:
        """A path for the report."""
        for home in self.homes:
            if path == home or path.startswith(home + b"/"):
                name = "~" if len(self.homes) == 1 else "~" + self.digest(b"home", home)[:8]
                return name + shown(path[len(home) :])
        return shown(path)

    def skip(self, path: bytes, reason: str) -> None:
        """Say that this was not looked at."""
        self.skipped.add((self.shown(path), reason))

    def read(self, path: bytes, limit: int = _FILE_BYTES) -> bytes | None:
        """A regular file's bytes; None where it is absent, or, and then it is said, cannot be read whole."""
        try:
            data = read_bytes(self.root + path, limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            link = error.errno and os.path.islink(self.root + path)
            self.skip(path, "symbolic-link" if link else "unreadable" if error.errno else str(error.strerror))
            return None
        if len(data) > limit:
            self.skip(path, "too-large")
            return None
        return data

    def text(self, path: bytes, limit: int = _FILE_BYTES) -> str | None:
        """A file as text; bytes that are no UTF-8 are kept as surrogates."""
        data = self.read(path, limit)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def names(self, folder: bytes) -> list[bytes]:
        """The names in a folder, sorted; none where it is absent. One that is a link is not followed."""
        try:
            if os.path.islink(self.root + folder):
                self.skip(folder, "symbolic-link")
                return []
            found = sorted(os.listdir(self.root + folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            self.skip(folder, "unreadable")
            return []
        if len(found) > _MAX_LISTED:
            self.skip(folder, "too-many-files")
        return found[:_MAX_LISTED]

    def match(self, folder: bytes, pattern: bytes) -> list[bytes]:
        """The full paths of the names in a folder that match a shell pattern."""
        return [folder + b"/" + name for name in self.names(folder) if fnmatch.fnmatchcase(name, pattern)]

    def is_folder(self, path: bytes) -> bool:
        """Whether a folder, and no link to one, is there."""
        return self.kind(path) == "folder"

    def kind(self, path: bytes) -> str:
        """``file``, ``folder``, ``link`` or ``other``; empty where nothing is; ``unknown`` where it cannot be told."""
        try:
            mode = os.lstat(self.root + path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, ValueError):
            return "unknown"
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link"))
        return next((name for test, name in kinds if test(mode)), "other")

    def walk(
        self, folder: bytes, depth: int, avoid: frozenset[bytes] = frozenset()
    ) -> Iterator[tuple[bytes, list[bytes]]]:
        """Folders to a depth with the names of their files; links are not followed, and at most so many are listed."""
        stack, seen = [(folder, depth)], 0
        while stack:
            at, left = stack.pop()
            files, below = [], []
            for name in self.names(at):
                kind = self.kind(at + b"/" + name)
                if kind == "folder" and name not in avoid:
                    below.append((at + b"/" + name, left - 1))
                elif kind == "file":
                    files.append(name)
            seen += len(files) + len(below)
            if seen > _MAX_LISTED * 10:
                self.skip(folder, "too-many-files")
                return
            yield at, files
            stack += reversed(below) if left > 0 else []
