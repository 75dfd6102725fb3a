"""The agent: lists what a Python environment holds and would run at start, without running any of it.

One file, standard library alone, Python 3.9 or later, POSIX. Run as ``python3 -I -S agent.py``: isolated and without
``site``, so that no start-up hook runs inside it. It imports and unmarshals nothing of the environment, opens regular
files alone and never through a symbolic link, and bounds what it reads. What it could not look at is ``skipped``:
*unknown*, never clean. Contents hold no time, host or absolute path. The formats: ``docs/spec/inventory.md``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import datetime as dt
import fcntl
import glob
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = [
    "CONFIRMATION_FORMAT", "MAX_MESSAGE_BYTES", "NAMESPACE", "REPORT_FORMAT", "AgentError", "advance", "canonical",
    "contents_digest", "interpreter", "main", "microseconds", "report", "shown", "sweep",
]  # fmt: skip

REPORT_FORMAT = "safehold-inventory-report-v1"
CONFIRMATION_FORMAT = "safehold-inventory-confirmation-v1"
NAMESPACE = "safehold-inventory"
MAX_MESSAGE_BYTES = 16 << 20
_MAX_FILES = 1_000_000
_METADATA_BYTES = 1 << 20
_RECORD_BYTES = 32 << 20
_BLIND = ("not-regular", "symbolic-link", "too-many-files", "unreadable")
_MAX_LISTED = 120_000  # files; so many still fit into a message
# Two changes within one tick of the file system's clock leave one stat: so a stat this fresh is not remembered.
_SETTLED_NS = 2_000_000_000
# Control characters, the backslash that we escape with, characters that reorder or hide text, undecodable bytes.
_ODD = re.compile("[\0-\x1f\\\\\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_SITE = re.compile(rb"(?:(.+?)(?:/local)?/lib(?:64)?/python[^/]*|.*)/(?:site|dist)-packages", re.DOTALL)
_HOOK = re.compile(rb"[^/]*\.pth|(?:\.\./)?(sitecustomize|usercustomize)(?:\.[^/]*|/__init__\.[^/]*)?", re.DOTALL)
_CACHE = re.compile(rb"(.*/)?__pycache__/([^/.]*)[^/]*\.pyc", re.DOTALL)
_EXITS = """Exit codes: 0 swept; 2 wrong use or no environment; 3 too large to report; 4 not signed; 5 not read or not
written; 7 another sweep is running. After any but 0, nothing is claimed about this moment: it is unknown."""


class AgentError(Exception):
    """Why there is no message: ``args`` are an exit code (as ``--help`` lists them) and a text for a person."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of JSON data without fractions: the same as ``safehold.model.encoding`` makes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def contents_digest(contents: dict[str, Any]) -> str:
    """The inventory digest: ``sha256:`` and the hash of the canonical contents."""
    return "sha256:" + hashlib.sha256(canonical(contents)).hexdigest()


def shown(raw: bytes) -> str:
    r"""Any bytes as safe text, reversibly: UTF-8 as it is, all else, and the backslash, as ``\xNN``."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return _ODD.sub(lambda odd: "".join(f"\\x{byte:02x}" for byte in odd[0].encode("utf-8", "surrogateescape")), text)


def microseconds(text: str) -> int:
    """A time with its offset (``2026-03-24T10:39:00Z``) as µs since 1970 UTC; ``ValueError`` for anything else."""
    moment = dt.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset: 2026-03-24T10:39:00Z")
    return (moment - dt.datetime.fromtimestamp(0, moment.tzinfo)) // dt.timedelta(microseconds=1)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _read(path: bytes, limit: int, stamp: str = "") -> Iterator[bytes]:
    """At most ``limit`` bytes of a regular file; ``OSError`` number 0 carries our own reason as its text."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not-regular")
        block = b"-"
        while block and limit > 0 and _stamp(status) == (stamp or _stamp(status)):
            block = os.read(descriptor, min(status.st_size + 1, 1 << 20, limit))
            limit -= len(block)
            yield block
        if stamp and _stamp(os.fstat(descriptor)) != stamp:
            raise OSError(0, "changed-while-read")
    finally:
        os.close(descriptor)


def _normal(name: bytes) -> str:
    return shown(re.sub(rb"[-_.]+", b"-", name).lower())  # PEP 503; bytes lower ASCII alone, on every Python


class _Site:
    """One sweep of one site folder; paths are bytes relative to it."""

    def __init__(self, root: bytes, site: bytes, cache: dict[str, str], hash_limit: int) -> None:
        self.root, self.site, self.cache, self.hash_limit = root, site, cache, hash_limit
        self.files: dict[bytes, tuple[int, int, str]] = {}  # path → size, mtime (seconds), stamp
        self.folders: set[bytes] = set()
        self.unseen: set[bytes] = set()
        self.skipped: set[tuple[str, str]] = set()
        self.owners: dict[bytes, str] = {}
        self.known: dict[str, str] = {}
        self.fresh: dict[str, str] = {}
        self.started = time.time_ns()
        self.altered, self.missing, self.pycs = [], [], []  # type: list[Any], list[Any], list[Any]

    def sweep(self) -> dict[str, Any]:
        self.walk()
        for name in (b"../sitecustomize", b"../usercustomize") if _SITE.fullmatch(self.site) else ():
            for end in (b".py", b".pyc", b"/__init__.py"):  # beside the standard library they run as well
                self.see(name + end, self.site + b"/" + name + end)
        metadata = [path for path in (*self.folders, *self.files) if path.endswith((b".dist-info", b".egg-info"))]
        distributions = [self.distribution(folder) for folder in sorted(metadata) if b"/" not in folder]
        hooks = {path for path in (*self.files, *self.unseen) if _HOOK.fullmatch(path)}
        seen = [self.hook(path) for path in sorted(hooks)]
        caches = {path for path in self.files if path.endswith(b".pyc") and self.pyc(path)}
        unowned = [self.item(path) for path in sorted(self.files.keys() - self.owners.keys() - hooks - caches)]
        if sum(len(one["files"]) for one in distributions) > _MAX_LISTED:
            self.skip(b".", "file-lists-left-out")
            distributions = [dict(one, files=[]) for one in distributions]
        return {
            "altered": sorted(self.altered, key=str), "distributions": distributions, "hooks": seen,
            "missing": sorted(self.missing, key=str), "pyc": sorted(self.pycs, key=str), "unowned": unowned,
            "skipped": [{"path": path, "reason": reason} for path, reason in sorted(self.skipped)],
        }  # fmt: skip

    def item(self, path: bytes, **more: Any) -> dict[str, Any]:
        return dict(path=shown(path), sha256=self.sha256(path), size=self.files.get(path, (0,))[0], **more)

    def skip(self, path: bytes, reason: str) -> None:
        self.skipped.add((shown(path), reason))
        if reason in _BLIND:
            self.unseen.add(path)

    def walk(self) -> None:
        stack = [b""]
        while stack and len(self.files) < _MAX_FILES:
            folder = stack.pop()
            try:
                with os.scandir(self.site + b"/" + folder) as entries:
                    for entry in entries:
                        path = folder + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            self.folders.add(path)
                            stack.append(path + b"/")
                        else:
                            self.see(path, entry.path)
            except OSError:
                self.skip(folder[:-1] or b".", "unreadable")
        if stack:
            self.skip(b".", "too-many-files")

    def see(self, path: bytes, full: bytes) -> None:
        try:
            status = os.lstat(full)
        except (OSError, ValueError) as error:
            return None if isinstance(error, FileNotFoundError) else self.skip(path, "unreadable")
        if stat.S_ISREG(status.st_mode):
            self.files[path] = (status.st_size, status.st_mtime_ns // 1_000_000_000, _stamp(status))
        elif not stat.S_ISDIR(status.st_mode):
            self.skip(path, "symbolic-link" if stat.S_ISLNK(status.st_mode) else "not-regular")
        return None

    def content(self, path: bytes, limit: int, hashed: bool = False) -> bytes | None:
        """The first ``limit`` bytes of a file, or its hash; None, and listed as skipped, where it cannot be read."""
        size, _, stamp = self.files.get(path, (0, 0, ""))
        if hashed and size > limit:
            self.skip(path, "too-large")
        elif stamp:
            try:
                digest, blocks = hashlib.sha256(), []
                for block in _read(self.site + b"/" + path, limit + hashed, stamp):
                    digest.update(block) if hashed else blocks.append(block)
                return digest.digest() if hashed else b"".join(blocks)
            except OSError as error:
                self.skip(path, "unreadable" if error.errno else str(error.strerror))
        return None

    def sha256(self, path: bytes, header: bool = False) -> str:
        """The file's hash (or first 16 bytes) in hex, cached while its stat stays the same; empty: unknown."""
        key = shown(path) + ("\n" if header else "")
        if path in self.files and key not in self.known:
            stamp = self.files[path][2] + "="
            entry = str(self.cache.get(key))
            settled = entry.startswith(stamp)
            if not settled:
                entry = stamp + (self.content(path, 16 if header else self.hash_limit, not header) or b"").hex()
                settled = not entry.endswith("=") and int(stamp.split(":")[2]) < self.started - _SETTLED_NS
            if settled:
                self.fresh[key] = entry
            self.known[key] = entry[len(stamp) :]
        return self.known.get(key, "")

    def distribution(self, folder: bytes) -> dict[str, Any]:
        named, _, versioned = folder.rpartition(b".")[0].partition(b"-")
        paths = (folder + b"/METADATA", folder + b"/PKG-INFO", folder)
        where = next((path for path in paths if path in self.files), paths[0])
        raw = self.content(where, _METADATA_BYTES)
        head = re.split(rb"\r?\n\r?\n", raw or b"", maxsplit=1)
        if raw is None or (len(head) == 1 and len(raw) == _METADATA_BYTES):
            self.skip(where, "no-metadata" if raw is None else "too-large")
        fields: dict[bytes, list[bytes]] = {}
        for line in head[0].splitlines():
            fields.setdefault(line.partition(b":")[0].lower(), []).append(line.partition(b":")[2].strip())
        name, version = fields.get(b"name", [named])[0], fields.get(b"version", [versioned.partition(b"-py")[0]])[0]
        requires = (re.match(rb"[A-Za-z0-9._-]+", value) for value in fields.get(b"requires-dist", []))
        origin, origin_hash = self.origin(folder)
        record, files = self.record(folder, _normal(name))
        return {
            "files": files, "folder": shown(folder), "name": _normal(name), "origin": origin, "origin_hash": origin_hash,
            "installer": shown((self.content(folder + b"/INSTALLER", 100) or b"").strip()), "raw_name": shown(name),
            "record": record, "requested": folder + b"/REQUESTED" in self.files, "version": shown(version),
            "requires": sorted({_normal(match.group()) for match in requires if match}),
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
                files[shown(path)] = self.check(path, row[1] if len(row) > 1 else "", path == where)
        return "checked", sorted([path, found] for path, found in files.items() if found)

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
        self.see(path, full)
        return path

    def hook(self, path: bytes) -> dict[str, Any]:
        kind = "pth" if path.endswith(b".pth") else "usercustomize" if b"usercustomize" in path else "sitecustomize"
        adds, runs = 0, True
        if kind == "pth":
            # site.py reads UTF-8 or the locale's encoding and splits at more than newlines: this is the widest view of
            # what a line is. What cannot be read in full is taken to run.
            raw = self.content(path, _METADATA_BYTES + 1)
            text = re.sub(rb"\A\xef\xbb\xbf|\xe2\x80[\xa8\xa9]", b"\n", raw or b"").decode("latin-1")
            lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
            imports = [line for line in lines if line.startswith(("import ", "import\t"))]
            runs = raw is None or len(raw) > _METADATA_BYTES or bool(imports)
            adds = len(lines) - len(imports)
            if adds:
                self.skip(path, "adds-folders")
        return self.item(path, adds=adds, kind=kind, owner=self.owners.get(path, ""), runs=runs)

    def pyc(self, path: bytes) -> bool:
        """Compare a compiled file's header (PEP 552) with its source; True for a cache, which Python itself makes."""
        cache = _CACHE.fullmatch(path)
        source = (cache.group(1) or b"") + cache.group(2) + b".py" if cache else path[:-1]
        header = bytes.fromhex(self.sha256(path, header=True))
        size, mtime, _ = self.files.get(source, (0, 0, ""))
        stamp = ((size & 0xFFFFFFFF) << 32 | mtime & 0xFFFFFFFF).to_bytes(8, "little")
        problem = "hash-based" if header[4:5] in (b"\1", b"\3") else "source-differs"
        problem = "" if header[4:] == bytes(4) + stamp else problem
        if source not in self.files:
            problem = "no-source" if cache else "sourceless"
        if problem:
            self.pycs.append({"path": shown(path), "problem": problem, "sha256": self.sha256(path)})
        return bool(cache)


def _find(folder: bytes) -> tuple[bytes, bytes]:
    """The environment's root and its one site folder, given either of them."""
    folder = os.path.realpath(folder)
    known, base = _SITE.fullmatch(folder), glob.escape(folder)
    if os.path.isdir(folder) and (known or glob.glob(base + b"/*.dist-info") or glob.glob(base + b"/*.egg-info")):
        return (known and known.group(1)) or folder, folder
    patterns = (b"/lib*/python*/site-packages", b"/lib*/python*/dist-packages", b"/local/lib/python*/dist-packages")
    found = {os.path.realpath(name) for tail in patterns for name in glob.glob(base + tail)}
    if len(found) != 1:
        raise AgentError(2, f"{shown(folder)}: not one site-packages folder, but {sorted(map(shown, found))}")
    return folder, found.pop()


def interpreter(folder: bytes) -> dict[str, Any]:
    """What the environment's pyvenv.cfg says of its interpreter, and the name of its site folder."""
    root, site = _find(folder)
    try:
        text = b"".join(_read(root + b"/pyvenv.cfg", 1 << 16))
    except OSError:
        text = b""
    pairs = {line.partition(b"=")[0].strip().lower(): line.partition(b"=")[2].strip() for line in text.splitlines()}
    version, system = pairs.get(b"version", b"")[:64], pairs.get(b"include-system-site-packages", b"").lower()
    return {"site": shown(os.path.relpath(site, root)), "system_packages": system == b"true", "version": shown(version)}


def sweep(folder: bytes, cache: dict[str, str] | None = None, hash_limit: int = 2 << 30) -> dict[str, Any]:
    """The contents of an environment: sorted lists that depend on nothing but its files. Raises ``AgentError``.

    ``cache`` (path → stat and hash) is read and then replaced in place; an empty one makes a full hash. A file of
    more than ``hash_limit`` bytes is not hashed, and listed under ``skipped``.
    """
    site = _Site(*_find(folder), {} if cache is None else cache, hash_limit)
    if interpreter(folder)["system_packages"]:
        site.skip(b"pyvenv.cfg", "system-packages")
    contents = site.sweep()
    site.cache.clear()
    site.cache.update(site.fresh)
    return contents


def report(folder: bytes, contents: dict[str, Any], **said: Any) -> dict[str, Any]:
    """A report message; ``said`` are its host, environment, clock, observed (µs) and full."""
    said.update(agent={"python": sys.version.split()[0], "version": "1"}, format=REPORT_FORMAT)
    return dict(said, contents=contents, interpreter=interpreter(folder), inventory=contents_digest(contents))


def advance(state: dict[str, Any], inventory: str, observed: int, every: int) -> tuple[Any, bool, dict[str, Any]]:
    """What a sweep means: (a confirmation or None, whether to report, the next state). Pure; times in µs.

    A clock that went back starts anew: no interval is claimed across it.
    """
    same = state.get("inventory") == inventory and observed >= state["until"]
    if same:
        gap = max(state["largest_gap"], observed - state["until"])
        state = dict(state, largest_gap=gap, sweeps=state["sweeps"] + 1, until=observed)
    due = state.get("sweeps", 0) > 1 and (not same or observed - state["since"] >= every)
    told = {name: state[name] for name in ("inventory", "largest_gap", "since", "sweeps", "until")} if due else None
    if due or not same:
        state = {"inventory": inventory, "largest_gap": 0, "since": observed, "sweeps": 1, "until": observed}
    return told, not same, state


def _write(path: str, data: bytes) -> None:
    """Durable and whole, or not there: temporary file, fsync, rename, fsync of the folder."""
    with open(os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def _load(path: str) -> dict[str, Any]:
    """A state or cache file. An absent or damaged one is empty: then all is hashed and reported anew."""
    try:
        plain = json.loads(b"".join(_read(os.fsencode(path), 1 << 30)))
        return plain if isinstance(plain, dict) else {}
    except (FileNotFoundError, ValueError, RecursionError):
        return {}


def _send(path: str, message: dict[str, Any], key: str | None) -> None:
    """A message as a file of the spool; its signature first, so that no reader sees it without one."""
    data = canonical(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise AgentError(3, "the contents are too large for a message: this environment stays unknown")
    if key is not None:
        command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key]
        # No prompt, and no PATH of the caller's: an active environment could bring an ssh-keygen of its own.
        known = {"PATH": os.defpath, "SSH_ASKPASS_REQUIRE": "never", "SSH_AUTH_SOCK": os.getenv("SSH_AUTH_SOCK", "")}
        done = subprocess.run(command, input=data, capture_output=True, env=known, timeout=60, check=False)
        if done.returncode:
            raise AgentError(4, f"ssh-keygen did not sign: {done.stderr.decode(errors='replace').strip()}")
        _write(path[:-5] + ".sig", done.stdout)
    _write(path, data)


def _run(given: argparse.Namespace) -> None:
    folder, observed = os.fsencode(given.folder), time.time_ns() // 1000 if given.at is None else given.at
    name = given.name or "env-" + hashlib.sha256(os.path.realpath(folder)).hexdigest()[:12]
    said = {"clock": "system" if given.at is None else "given", "environment": name, "host": given.host}
    if given.spool is None or given.stdout:
        told = report(folder, sweep(folder, None, given.hash_limit), full=True, observed=observed, **said)
        sys.stdout.buffer.write(canonical(told) + b"\n")
        return
    spool = os.path.abspath(given.spool)
    os.makedirs(spool, 0o700, exist_ok=True)
    with open(spool + "/.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state, cache = _load(spool + "/.state"), {} if given.full else _load(spool + "/.cache")
        state = state if {"environment", "host", "number", *advance({}, "", 0, 0)[2]} == state.keys() else {}
        if (state.get("host", given.host), state.get("environment", name)) != (given.host, name):
            raise AgentError(2, f"{spool} belongs to another host or environment: give each its own --spool")
        full, before = not cache, dict(cache)
        contents = sweep(folder, cache, given.hash_limit)
        told, changed, after = advance(state, contents_digest(contents), observed, given.confirm_every * 1_000_000)
        messages = [] if told is None else [dict(told, format=CONFIRMATION_FORMAT, **said)]
        if changed:
            messages.append(report(folder, contents, full=full, observed=observed, **said))
        number = max([state.get("number", 0), *(int(file[:-5]) for file in os.listdir(spool) if file[-5:] == ".json")])
        for message in messages:
            number += 1
            _send(f"{spool}/{number:08d}.json", message, given.key)
        # The commit point: a crash before it sends these messages again, under new numbers.
        _write(spool + "/.state", canonical(dict(after, environment=name, host=given.host, number=number)))
        if cache != before:
            _write(spool + "/.cache", canonical(cache))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="agent.py", description=__doc__.splitlines()[0], epilog=_EXITS)
    add = parser.add_argument
    add("folder", help="a virtual environment, a prefix, or a site-packages folder")
    add("--host", required=True, help="the host's id: PARTY/NAME")
    add("--name", help="the environment's name on this host (default: derived from its path)")
    add("--spool", help="a folder for messages and state; a message is written when something changed")
    add("--stdout", action="store_true", help="print one report and keep no state (the default without --spool)")
    add("--key", help="sign with this SSH key, by ssh-keygen (default: leave the messages unsigned)")
    add("--at", type=microseconds, help="say that it was seen at this time: 2026-03-24T10:39:00Z")
    add("--confirm-every", type=int, default=600, metavar="SECONDS", help="while nothing changes (default: 600)")
    add("--once", dest="confirm_every", action="store_const", const=0, help="confirm in every run")
    add("--full", action="store_true", help="hash every file again, whatever its stat says")
    add("--hash-limit", type=int, default=2 << 30, metavar="BYTES", help="hash no larger file (default: 2 GiB)")
    try:
        _run(parser.parse_args(arguments))
        return 0
    except AgentError as error:
        code, text = int(error.args[0]), str(error.args[1])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        code, text = (7, "another sweep is running") if isinstance(error, BlockingIOError) else (5, str(error))
    print(f"agent.py: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
