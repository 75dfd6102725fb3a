"""One sweep of one site folder: its distributions, hooks, and every file against what RECORD says of it.

Nothing of the environment is imported, run or unmarshalled. What could not be looked at is ``skipped``: unknown, never
clean. The contents hold no time, host or absolute path, and depend on nothing but the files.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import stat
import time
from collections.abc import Container
from typing import Any

from safehold.inventory.agent import compiled
from safehold.inventory.agent.base import normal, pack_stat, read_blocks, shown, unpack_stat
from safehold.inventory.agent.memory import CODES, HASHES, HEADERS, Memory

__all__ = ["METADATA_BYTES", "SITE_FOLDER", "Site", "Wish", "head_fields", "hook_kind", "pth_lines"]

METADATA_BYTES = 1 << 20
_MAX_FILES = 1_000_000
_RECORD_BYTES = 32 << 20
_BLIND = ("not-regular", "symbolic-link", "too-many-files", "unreadable")
_MAX_LISTED = 120_000  # files; so many still fit into a message
# Two changes within one tick of the file system's clock leave one stat: so a stat this fresh is not remembered.
_SETTLED_NS = 2_000_000_000
SITE_FOLDER = re.compile(rb"(?:(.+?)(?:/local)?/lib(?:64)?/python[^/]*|.*)/(?:site|dist)-packages", re.DOTALL)
"""A site folder by its path; the group is the environment's root."""
_HOOK = re.compile(rb"[^/]*\.pth|(?:\.\./)?(sitecustomize|usercustomize)(?:\.[^/]*|/__init__\.[^/]*)?", re.DOTALL)
_CACHE = re.compile(rb"(.*/)?__pycache__/([^/]*?)(?:\.[^/.]*(?:\.opt-[^/.]*)?)?\.pyc", re.DOTALL)
_BESIDE = tuple(
    name + end for name in (b"../sitecustomize", b"../usercustomize") for end in (b".py", b".pyc", b"/__init__.py")
)


class Wish:
    """How to sweep: hash no file above ``hash_limit`` bytes; compare compiled code for at most ``code`` seconds."""

    def __init__(self, hash_limit: int = 2 << 30, code: float = 0.0) -> None:
        self.hash_limit = hash_limit
        self.code = code


def hook_kind(path: bytes) -> str:
    """``pth``, ``sitecustomize``, ``usercustomize``, or nothing where Python would not read it at start."""
    if path.endswith(b".pth") and b"/" not in path:
        return "pth"
    found = _HOOK.fullmatch(path) if b"customize" in path else None
    return found.group(1).decode() if found and found.group(1) else ""


def pth_lines(raw: bytes) -> tuple[int, int]:
    """Of a ``.pth`` file: how many lines import, how many add folders.

    site.py reads UTF-8 or the locale's encoding and splits at more than newlines: this is the widest view of what a
    line is.
    """
    text = re.sub(rb"\A\xef\xbb\xbf|\xe2\x80[\xa8\xa9]", b"\n", raw).decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    imports = sum(line.startswith(("import ", "import\t")) for line in lines)
    return imports, len(lines) - imports


def head_fields(head: bytes) -> dict[bytes, list[bytes]]:
    """The header fields of METADATA by lower-case name, each with its values in order."""
    fields: dict[bytes, list[bytes]] = {}
    for line in head.splitlines():
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip())
    return fields


def _source_of(path: bytes) -> bytes:
    """The source that a compiled file was made of, as Python would look for it."""
    cache = _CACHE.fullmatch(path)
    return (cache.group(1) or b"") + cache.group(2) + b".py" if cache else path[:-1]


def _is_listed(path: bytes, listed: tuple[Container[bytes], ...]) -> bool:
    """Whether a file is listed by RECORD or as a hook, or is a cache, which Python itself makes."""
    return any(path in one for one in listed) or bool(path.endswith(b".pyc") and _CACHE.fullmatch(path))


class Site:
    """One sweep of one site folder; paths are bytes relative to it."""

    def __init__(self, root: bytes, site: bytes, memory: Memory, wish: Wish) -> None:
        self.root, self.site, self.memory, self.wish = root, site, memory, wish
        self.files: dict[bytes, bytes] = {}  # path → packed stat
        self.folders: set[bytes] = set()
        self.listings: dict[bytes, bytes] = {}  # folder → digest of its files' names and stats
        self.unseen: set[bytes] = set()
        self.blind: dict[bytes, str] = {}  # what the stat alone shows that cannot be looked at
        self.skipped: set[tuple[str, str]] = set()
        self.owners: dict[bytes, str] = {}
        self.fresh: tuple[dict[bytes, bytes], ...] = ({}, {}, {})
        self.unsettled: dict[tuple[int, bytes], bytes] = {}
        self.extras: set[bytes] = set()
        self.started = time.time_ns()
        self.altered: list[Any] = []
        self.missing: list[Any] = []
        self.pycs: list[Any] = []
        self.unchecked: list[bytes] = []
        self.pending = False

    # --- the stat of everything -----------------------------------------------------------------

    def listing(self, extras: tuple[bytes, ...]) -> bytes:
        """The digest of every path and stat, and nothing else: much less work than a sweep."""
        self.extras = set(extras)
        self.walk(keep=False)
        for path in extras:
            self.see(path, os.path.join(self.site, path))
        return self.listed()

    def listed(self) -> bytes:
        """The digest of what was seen so far: each folder's own, what lies outside the site folder, what was skipped."""
        digest = hashlib.sha256()
        for folder in sorted(self.listings):
            digest.update(folder + b"\0" + self.listings[folder])
        for path in sorted(self.extras.union(_BESIDE)):
            digest.update(path + b"\0" + self.files.get(path, b""))
        digest.update(repr(sorted(self.blind.items())).encode())
        try:
            digest.update(pack_stat(os.lstat(self.root + b"/pyvenv.cfg")))
        except OSError:
            digest.update(b"no pyvenv.cfg")
        return digest.digest()

    def walk(self, keep: bool = True) -> None:
        """Take the stat of every file below the site folder, and of the hooks beside it; ``keep`` it, or a digest alone."""
        stack, count, pack = [b""], 0, pack_stat
        while stack and count < _MAX_FILES:
            folder = stack.pop()
            rows = []
            try:
                with os.scandir(self.site + b"/" + folder) as entries:
                    for entry in entries:
                        name = entry.name
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(folder + name + b"/")
                        elif entry.is_file(follow_symlinks=False):
                            packed = pack(entry.stat(follow_symlinks=False))
                            rows.append(name + packed)
                            if keep:
                                self.files[folder + name] = packed
                        else:
                            self.see(folder + name, entry.path)
            except OSError:
                self.cannot(folder[:-1] or b".", "unreadable")
            rows.sort()
            count += len(rows)
            if folder:
                self.folders.add(folder[:-1])
            self.listings[folder] = hashlib.sha256(b"".join(rows)).digest()
        if stack:
            self.skip(b".", "too-many-files")
        for path in _BESIDE if SITE_FOLDER.fullmatch(self.site) else ():
            self.see(path, self.site + b"/" + path)  # beside the standard library they run as well

    def see(self, path: bytes, full: bytes) -> None:
        """Take one path's stat; what is no regular file is skipped."""
        try:
            status = os.lstat(full)
        except (OSError, ValueError) as error:
            return None if isinstance(error, FileNotFoundError) else self.cannot(path, "unreadable")
        if stat.S_ISREG(status.st_mode):
            self.files[path] = pack_stat(status)
        elif not stat.S_ISDIR(status.st_mode):
            self.cannot(path, "symbolic-link" if stat.S_ISLNK(status.st_mode) else "not-regular")
        return None

    def cannot(self, path: bytes, reason: str) -> None:
        """Say that this cannot be looked at, which its stat shows already: so it is part of the listing."""
        self.blind[path] = reason
        self.skip(path, reason)

    def skip(self, path: bytes, reason: str) -> None:
        """Say that this was not looked at."""
        self.skipped.add((shown(path), reason))
        if reason in _BLIND:
            self.unseen.add(path)

    # --- contents -------------------------------------------------------------------------------

    def sweep(self) -> dict[str, Any]:
        """The contents of the environment."""
        self.walk()
        metadata = [path for path in (*self.folders, *self.files) if path.endswith((b".dist-info", b".egg-info"))]
        distributions = [self.distribution(folder) for folder in sorted(metadata) if b"/" not in folder]
        hooks = {path for path in (*self.files, *self.unseen) if hook_kind(path)}
        seen = [self.hook(path) for path in sorted(hooks)]
        for path in self.files:
            if path.endswith(b".pyc"):
                self.pyc(path)
        self.check_code()
        listed = (self.owners, hooks)  # no set arithmetic: each step of it would copy tens of thousands
        unowned = [self.item(path) for path in sorted(path for path in self.files if not _is_listed(path, listed))]
        if sum(len(one["files"]) for one in distributions) > _MAX_LISTED:
            self.skip(b".", "file-lists-left-out")
            distributions = [dict(one, files=[]) for one in distributions]
        return {
            "altered": sorted(self.altered, key=str), "distributions": distributions, "hooks": seen,
            "missing": sorted(self.missing, key=str), "pyc": sorted(self.pycs, key=str), "unowned": unowned,
            "skipped": [{"path": path, "reason": reason} for path, reason in sorted(self.skipped)],
        }  # fmt: skip

    def size(self, path: bytes) -> int:
        """A file's size by its stat; 0 for what is none."""
        return unpack_stat(self.files[path])[0] if path in self.files else 0

    def item(self, path: bytes, **more: Any) -> dict[str, Any]:
        """A file as the contents list it."""
        return dict(path=shown(path), sha256=self.sha256(path), size=self.size(path), **more)

    def content(self, path: bytes, limit: int, hashed: bool = False) -> bytes | None:
        """The first ``limit`` bytes of a file, or its hash; None, and listed as skipped, where it cannot be read."""
        stamp = self.files.get(path)
        if stamp is None:
            return None
        if hashed and unpack_stat(stamp)[0] > limit:
            self.skip(path, "too-large")
            return None
        try:
            blocks = read_blocks(self.site + b"/" + path, limit + hashed, stamp)
            if not hashed:
                return b"".join(blocks)
            digest = hashlib.sha256()
            for block in blocks:
                digest.update(block)
            return digest.digest()
        except OSError as error:
            self.skip(path, "unreadable" if error.errno else str(error.strerror))
        return None

    def recall(self, kind: int, path: bytes) -> bytes | None:
        """What is known of a file as it is now; None: ask the file."""
        known = self.fresh[kind].get(path) or self.unsettled.get((kind, path))
        if known is not None:
            return known[32:]
        entry = self.memory.known[kind].get(path)
        if entry is not None and entry[:32] == self.files[path]:
            self.fresh[kind][path] = entry
            return entry[32:]
        return None

    def learn(self, kind: int, path: bytes, value: bytes, *others: bytes) -> None:
        """Remember it beyond this sweep, unless the file (or another stat) changed so lately that it may not tell."""
        stamp = self.files[path]
        if value and max(unpack_stat(one)[2] for one in (stamp, *others)) < self.started - _SETTLED_NS:
            self.fresh[kind][path] = stamp + value
        else:
            self.unsettled[kind, path] = stamp + value

    def sha256(self, path: bytes) -> str:
        """The file's hash in hex, remembered while its stat stays the same; empty: unknown."""
        if path not in self.files:
            return ""
        found = self.recall(HASHES, path)
        if found is None:
            found = self.content(path, self.wish.hash_limit, hashed=True) or b""
            self.learn(HASHES, path, found)
        return found.hex()

    def distribution(self, folder: bytes) -> dict[str, Any]:
        """One metadata folder (or file) as the contents list it."""
        named, _, versioned = folder.rpartition(b".")[0].partition(b"-")
        paths = (folder + b"/METADATA", folder + b"/PKG-INFO", folder)
        where = next((path for path in paths if path in self.files), paths[0])
        raw = self.content(where, METADATA_BYTES)
        head = re.split(rb"\r?\n\r?\n", raw or b"", maxsplit=1)
        if raw is None or (len(head) == 1 and len(raw) == METADATA_BYTES):
            self.skip(where, "no-metadata" if raw is None else "too-large")
        fields = head_fields(head[0])
        name, version = fields.get(b"name", [named])[0], fields.get(b"version", [versioned.partition(b"-py")[0]])[0]
        requires = (re.match(rb"[A-Za-z0-9._-]+", value) for value in fields.get(b"requires-dist", []))
        origin, origin_hash = self.origin(folder)
        record, files = self.record(folder, normal(name))
        return {
            "files": files, "folder": shown(folder), "name": normal(name), "origin": origin, "origin_hash": origin_hash,
            "installer": shown((self.content(folder + b"/INSTALLER", 100) or b"").strip()), "raw_name": shown(name),
            "record": record, "requested": folder + b"/REQUESTED" in self.files, "version": shown(version),
            "requires": sorted({normal(match.group()) for match in requires if match}),
        }  # fmt: skip

    def origin(self, folder: bytes) -> tuple[str, str]:
        """What kind of source direct_url.json (PEP 610) names, and its hash. Never the URL: it may hold a password."""
        raw = self.content(folder + b"/direct_url.json", 64 << 10)
        try:
            plain = json.loads(raw.decode()) if raw is not None else {}
            kind = next((name for name in ("archive_info", "vcs_info", "dir_info") if name in plain), "")
            told = plain.get(kind, {})
            if told.get("editable"):
                self.skip(folder, "editable")
            text = (told.get("hashes") or {}).get("sha256") or told.get("hash") or told.get("commit_id") or ""
            found = re.fullmatch("(?:sha256=)?([0-9A-Fa-f]{40,64})", text)
            return kind.partition("_")[0], found.group(1).lower() if found else ""
        except (ValueError, AttributeError, TypeError, RecursionError):
            self.skip(folder + b"/direct_url.json", "bad-form")
            return "", ""

    def record(self, folder: bytes, owner: str) -> tuple[str, list[list[str]]]:
        """Check RECORD row by row: ``checked``, ``absent`` or ``unreadable``, and (path, hash) as found."""
        where = folder + b"/RECORD"
        raw = self.content(where, _RECORD_BYTES + 1)
        if raw is None:
            self.skip(where, "no-record")
            return "absent", []
        try:
            rows = list(csv.reader(io.StringIO(raw.decode("utf-8", "surrogateescape"), newline="")))
        except csv.Error:
            rows = []
        if not rows or len(raw) > _RECORD_BYTES:
            self.skip(where, "bad-form")
            return "unreadable", []
        files: dict[str, str] = {}
        for row in rows:
            path = self.place(row[0].encode("utf-8", "surrogateescape")) if row and row[0] else None
            if path is not None:
                self.owners.setdefault(path, owner)
                found = self.check(path, row[1] if len(row) > 1 else "", path == where)
                if found:
                    files[shown(path)] = found
        return "checked", sorted([path, found] for path, found in files.items())

    def check(self, path: bytes, claim: str, excused: bool) -> str:
        """Compare one row with its file; return the file's hash, or nothing where there is none to list."""
        cache = path.endswith(b".pyc") and _CACHE.fullmatch(path)
        if path not in self.files:
            above = path.split(b"/", 64)
            hidden = {b".", *(b"/".join(above[: count + 1]) for count in range(len(above)))} & self.unseen
            if not cache and path not in self.folders and not hidden:  # hidden is unknown, not missing
                self.missing.append({"path": shown(path), "owner": self.owners[path]})
            return ""
        if cache and not claim:
            return ""
        found = self.sha256(path)
        if not claim.startswith("sha256=") and not excused:
            self.skip(path, "hash-algorithm" if claim else "no-hash")
        elif found and claim and claim[7:] != base64.urlsafe_b64encode(bytes.fromhex(found)).decode().rstrip("="):
            self.altered.append(self.item(path, expected=shown(claim[7:99].encode()), owner=self.owners[path]))
        return found

    def place(self, named: bytes) -> bytes | None:
        """A path of RECORD relative to the site folder; None, and listed, where it leaves the environment.

        RECORD is the attacker's text: what it names outside, or behind a link, is not opened, or its hash would leak.
        """
        if b"/." not in named and b"//" not in named and named[:1] not in b"./":
            return named
        full = os.path.normpath(os.path.join(self.site, named))
        if full.startswith(self.site + b"/"):
            return full[len(self.site) + 1 :]
        above = os.path.dirname(full)
        while above.startswith(self.root + b"/") and not os.path.islink(above):
            above = os.path.dirname(above)
        if above != self.root or b"\0" in full:
            self.skip(named, "outside")
            return None
        path = os.path.relpath(full, self.site)
        if len(path) < 4096:
            self.extras.add(path)
        self.see(path, full)
        return path

    def hook(self, path: bytes) -> dict[str, Any]:
        """Something that Python reads at every start. What cannot be read in full is taken to run."""
        kind, adds, runs = hook_kind(path), 0, True
        if kind == "pth":
            raw = self.content(path, METADATA_BYTES + 1)
            imports, adds = pth_lines(raw or b"")
            runs = raw is None or len(raw) > METADATA_BYTES or imports > 0
            if adds:
                self.skip(path, "adds-folders")
        return self.item(path, adds=adds, kind=kind, owner=self.owners.get(path, ""), runs=runs)

    # --- compiled files -------------------------------------------------------------------------

    def pyc(self, path: bytes) -> None:
        """Compare a compiled file's header (PEP 552) with its source."""
        cache, source = _CACHE.fullmatch(path), _source_of(path)
        header = self.recall(HEADERS, path)
        if header is None:
            header = self.content(path, 16) or b""
            self.learn(HEADERS, path, header)
        if source not in self.files:
            problem = "no-source" if cache else "sourceless"
        else:
            size, mtime, _, _ = unpack_stat(self.files[source])
            stamp = ((size & 0xFFFFFFFF) << 32 | mtime // 1_000_000_000 & 0xFFFFFFFF).to_bytes(8, "little")
            problem = "hash-based" if header[4:5] in (b"\1", b"\3") else "source-differs"
            problem = "" if header[4:] == bytes(4) + stamp else problem
        if not problem and cache:
            problem = self.recalled_code(path, source)
        if problem:
            self.pycs.append({"path": shown(path), "problem": problem, "sha256": self.sha256(path)})

    def recalled_code(self, path: bytes, source: bytes) -> str:
        """``code-differs`` if that is known of this pair; a pair of which nothing is known waits for ``check_code``."""
        known = self.recall(CODES, path)
        if known is None or known[1:] != self.files[source]:
            self.fresh[CODES].pop(path, None)
            self.unchecked.append(path)
            return ""
        return "code-differs" if known[:1] == compiled.DIFFERS else ""

    def check_code(self) -> None:
        """Compare code with source for as long as the wish says; what is left is said to be unchecked."""
        paths = [path for path in self.unchecked if self.comparable(path)]
        left = len(self.unchecked) - len(paths)
        pairs = [(path, _source_of(path)) for path in paths] if self.wish.code else []
        verdicts = compiled.compare(self.site, pairs, self.wish.code)
        for (path, source), verdict in zip(pairs, verdicts):
            if verdict == compiled.DIFFERS:
                self.pycs.append({"path": shown(path), "problem": "code-differs", "sha256": self.sha256(path)})
            elif verdict == compiled.UNKNOWN:
                self.skip(path, "code-unchecked")
            if verdict != compiled.UNKNOWN:
                # Known while both stay as they are: the source's stat stands in the value.
                self.learn(CODES, path, verdict + self.files[source], self.files[source])
        self.pending = len(verdicts) < len(paths)
        if left or self.pending:
            self.skip(b".", "code-unchecked")

    def comparable(self, path: bytes) -> bool:
        """Whether the Python that runs here compiles to the same form: the magic number of the header says so."""
        header = self.recall(HEADERS, path) or b""
        return header[:4] == compiled.MAGIC
