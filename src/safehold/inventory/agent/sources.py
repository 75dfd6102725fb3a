"""From where a version could come (again): lockfiles that ask for it, caches that can serve it.

Neither is installed, and neither runs; both bring a bad version back after it was removed. Names and versions are as the
file says them (ecosystem ``PyPI``, ``npm`` or ``conda``); the hashes are those that a lockfile demands, or of a cached file.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from safehold.inventory.agent.base import normal, read_blocks, safe_text, shown
from safehold.inventory.agent.machine import Machine

if sys.version_info >= (3, 11):
    import tomllib

__all__ = ["find_cached", "find_locked"]

_LOCK_BYTES = 32 << 20
_HASH_BYTES = 2 << 30
_TAIL = 64 << 10
_DEPTH = 4
_AVOID = frozenset({b"node_modules", b"site-packages", b"dist-packages", b".git", b"__pycache__", b".venv", b"venv"})
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*===?\s*([^\s;,#\\]+)")
_HASH = re.compile(r"sha256[:=]([0-9a-fA-F]{64})")
_INNER = re.compile(rb"([A-Za-z0-9._]+)-([^/\0-]+)\.dist-info/RECORD")
_WHEEL = re.compile(rb"([A-Za-z0-9._]+)-([^-/]+)(?:-[0-9][^-/]*)?-[^-/]+-[^-/]+-[^-/]+\.whl")

_Pins = Iterator[tuple[str, str, str, list[str]]]


def find_locked(machine: Machine, projects: tuple[bytes, ...]) -> list[dict[str, Any]]:
    """What the lockfiles below these folders ask for, sorted."""
    found = []
    for project in projects:
        for folder, files in machine.walk(project, _DEPTH, _AVOID):
            for name in files:
                reader = _reader(name)
                path = folder + b"/" + name
                found += [] if reader is None else [_locked(machine, path, pin) for pin in _pins(machine, path, reader)]
    return sorted(found, key=str)


def _locked(machine: Machine, path: bytes, pin: tuple[str, str, str, list[str]]) -> dict[str, Any]:
    ecosystem, name, version, hashes = pin
    return {
        "ecosystem": ecosystem,
        "hashes": sorted(set(hashes)),
        "name": name,
        "path": machine.shown(path),
        "version": version,
    }


def _reader(name: bytes) -> Any:
    if re.fullmatch(rb"[^/]*(?:requirements|constraints)[^/]*\.txt", name):
        return _requirements
    if name in {b"uv.lock", b"poetry.lock", b"pdm.lock", b"pylock.toml"}:
        return _toml
    return {b"package-lock.json": _npm, b"npm-shrinkwrap.json": _npm, b"Pipfile.lock": _pipfile}.get(name)


def _pins(machine: Machine, path: bytes, reader: Any) -> list[tuple[str, str, str, list[str]]]:
    text = machine.text(path, _LOCK_BYTES)
    if text is None:
        return []
    try:
        return list(reader(text))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        machine.skip(path, "no-toml-reader" if isinstance(error, _NoReaderError) else "bad-form")
        return []


class _NoReaderError(ValueError):
    """This Python has no reader of TOML (before 3.11)."""


def _python(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError("a package's name is no text")
    return normal(name[:200].encode("utf-8", "surrogatepass"))


def _requirements(text: str) -> _Pins:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        found = _PIN.match(line.strip())
        if found:
            yield (
                "PyPI",
                _python(found.group(1)),
                safe_text(found.group(2)),
                [one.lower() for one in _HASH.findall(line)],
            )


def _toml(text: str) -> _Pins:
    if sys.version_info < (3, 11):
        raise _NoReaderError
    plain = tomllib.loads(text)
    listed = [*plain.get("package", []), *plain.get("packages", [])]
    # poetry before 1.3 wrote the files of all packages apart.
    apart = plain.get("metadata", {}).get("files", {}) if isinstance(plain.get("metadata"), dict) else {}
    for one in listed:
        if isinstance(one.get("version"), str):
            files = [one.get(name) for name in ("files", "wheels", "sdist", "archive")] + [apart.get(one["name"])]
            yield (
                "PyPI",
                _python(one["name"]),
                safe_text(one["version"]),
                _HASH.findall(json.dumps(files, default=str))
                + (re.findall(r'"sha256": "([0-9a-f]{64})"', json.dumps(files, default=str))),
            )


def _pipfile(text: str) -> _Pins:
    plain = json.loads(text)
    for section in ("default", "develop"):
        for name, one in plain.get(section, {}).items():
            version = str(one.get("version", "")).lstrip("=")
            if version:
                yield "PyPI", _python(name), safe_text(version), _HASH.findall(json.dumps(one.get("hashes", [])))


def _npm(text: str) -> _Pins:
    plain = json.loads(text)
    for path, one in plain.get("packages", {}).items():
        name = one.get("name") or path.rpartition("node_modules/")[2]
        if path and isinstance(one.get("version"), str):
            yield "npm", safe_text(name), safe_text(one["version"]), []
    if not plain.get("packages"):
        yield from _npm_old(plain.get("dependencies", {}), 0)


def _npm_old(dependencies: dict[str, Any], depth: int) -> _Pins:
    for name, one in dependencies.items() if depth < 100 else ():
        yield "npm", safe_text(name), safe_text(one.get("version")), []
        yield from _npm_old(one.get("dependencies", {}), depth + 1)


# --- caches -----------------------------------------------------------------------------------------


def find_cached(machine: Machine, folders: tuple[bytes, ...] = ()) -> list[dict[str, str]]:
    """What the caches of pip, uv, pipx, conda and npm could serve, sorted; ``folders`` are further caches of pip or uv."""
    found: list[dict[str, str]] = []
    caches = [home + b"/.cache/" + name for home in machine.homes for name in (b"pip", b"uv", b"pipx", b"pypoetry")]
    for cache in (*caches, *folders):
        found += [one for reader in (_pip, _uv) for one in reader(machine, cache)]
    prefixes = [
        home + b"/" + name for home in machine.homes for name in (b"miniconda3", b"anaconda3", b"miniforge3", b".conda")
    ]
    for prefix in (*prefixes, b"/opt/conda"):
        found += _conda(machine, prefix + b"/pkgs")
    for home in machine.homes:
        found += _npm_cache(machine, home + b"/.npm/_cacache")
    return sorted({str(one): one for one in found}.values(), key=str)


def _cached(machine: Machine, path: bytes, package: tuple[str, str, str], sha256: str = "") -> dict[str, str]:
    ecosystem, name, version = package
    return {"ecosystem": ecosystem, "name": name, "path": machine.shown(path), "sha256": sha256, "version": version}


def _pip(machine: Machine, cache: bytes) -> Iterator[dict[str, str]]:
    """Wheels that were built here (by their names), and whole downloads: their name stands in the wheel's own list."""
    for folder, files in machine.walk(cache + b"/wheels", 6):
        for name in files:
            found = _WHEEL.fullmatch(name)
            if found:
                package = ("PyPI", normal(found.group(1)), shown(found.group(2)))
                yield _cached(machine, folder + b"/" + name, package, _sha256(machine, folder + b"/" + name))
    for kept in (b"/http-v2", b"/http"):
        for folder, files in machine.walk(cache + kept, 7):
            for name in files if kept == b"/http" else (one for one in files if one.endswith(b".body")):
                path = folder + b"/" + name
                inner = _inner(machine, path)
                if inner:
                    yield _cached(machine, path, ("PyPI", normal(inner[0]), shown(inner[1])), _sha256(machine, path))


def _inner(machine: Machine, path: bytes) -> tuple[bytes, bytes] | None:
    """Name and version of a wheel by its list of files, which stands at its end; nothing for what is no wheel."""
    tail, start = b"", b""
    try:
        for block in read_blocks(machine.root + path, _HASH_BYTES):
            start = start or block[:4]
            if start != b"PK\3\4":
                return None
            tail = (tail + block)[-_TAIL:]
    except OSError:
        machine.skip(path, "unreadable")
        return None
    found = _INNER.findall(tail)
    return found[-1] if found else None


def _sha256(machine: Machine, path: bytes) -> str:
    digest = hashlib.sha256()
    try:
        for block in read_blocks(machine.root + path, _HASH_BYTES):
            digest.update(block)
    except OSError:
        machine.skip(path, "unreadable")
        return ""
    return digest.hexdigest()


def _uv(machine: Machine, cache: bytes) -> Iterator[dict[str, str]]:
    """Unpacked wheels by their metadata folder, and the wheels that uv knows how to link again."""
    for name in machine.names(cache):
        if name.startswith(b"archive-v"):
            for one in machine.names(cache + b"/" + name):
                for inner in machine.match(cache + b"/" + name + b"/" + one, b"*.dist-info"):
                    package, _, version = inner.rpartition(b"/")[2][: -len(b".dist-info")].partition(b"-")
                    yield _cached(machine, inner, ("PyPI", normal(package), shown(version)))
        elif name.startswith(b"wheels-v"):
            for folder, files in machine.walk(cache + b"/" + name, 5):
                for file in files:
                    found = re.fullmatch(rb"([^-]+)-[^-]+-[^-]+-[^-]+\.(?:msgpack|http|rev|whl)", file)
                    if found:
                        package = folder.rpartition(b"/")[2]
                        yield _cached(machine, folder + b"/" + file, ("PyPI", normal(package), shown(found.group(1))))


def _conda(machine: Machine, folder: bytes) -> list[dict[str, str]]:
    found = []
    for name in machine.names(folder):
        parts = re.sub(rb"(?:\.conda|\.tar\.bz2)$", b"", name).rsplit(b"-", 2)
        if len(parts) == 3 and parts[1][:1].isdigit():
            found.append(_cached(machine, folder + b"/" + name, ("conda", shown(parts[0]), shown(parts[1]))))
    return found


def _npm_cache(machine: Machine, cache: bytes) -> list[dict[str, str]]:
    """Tarballs by the keys of the index (``…/NAME/-/FILE-VERSION.tgz``), which says where each came from."""
    found = []
    for folder, files in machine.walk(cache + b"/index-v5", 3):
        for name in files:
            path = folder + b"/" + name
            text = machine.text(path) or ""
            for package, version in re.findall(r"/((?:@[\w.-]+/)?[\w.-]+)/-/[\w.-]+?-(\d[\w.+-]*)\.tgz\"", text):
                found.append(_cached(machine, path, ("npm", safe_text(package), safe_text(version))))
    return found
