"""Releases in a store: published in one step, verified without keys, fetched for opening.

::

    STORE/PARTY/DATASET/          the location of a dataset in a store
      parts/<64 hex digits>       sealed part files, named by the SHA-256 of their bytes
      VERSION/manifest.json       the signed manifest of a release

**Publishing is one conditional write.** Parts go first. Their names are their digests, so no sealer can write over
another's, and a part that two releases share lies there once. Then the manifest is *created*: of two sealers of one
version one wins, the other is refused and has left parts that no manifest names. Before that write there is no release,
after it a whole one.

**What a crash means.** Before the manifest: nothing is published. Run it again: parts that are there are kept. What nobody
names is found by ``find_orphans`` and removed by ``remove_orphans`` once it is a day old; a younger one may belong to a
sealer at work. A part that is there already and named by no manifest is uploaded again when it is half that old, so
that no cleaner takes it from under a publisher.

A fetched release is an ordinary release folder, with every part's size and SHA-256 checked as it came.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from safehold.model.errors import Conflict, NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import DatasetId, Digest
from safehold.vault.disk import new_file, storage_failed, write_new
from safehold.vault.envelope import Envelope, Signer, Verifier, check_signature, parse_envelope, sign
from safehold.vault.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    PartFile,
    Sidecar,
    parse_manifest,
    release_digest,
)
from safehold.vault.pieces import PartColumns, checked_ranges
from safehold.vault.store import Store, StoredObject
from safehold.vault.verify import load_release

__all__ = [
    "ORPHAN_AGE",
    "StoredRelease",
    "VerifiedStored",
    "countersign_stored",
    "expect_stored",
    "fetch_columns",
    "fetch_part",
    "fetch_release",
    "find_orphans",
    "has_part",
    "load_stored",
    "publish_folder",
    "publish_manifest",
    "put_part",
    "release_location",
    "remove_orphans",
    "verify_stored",
]

ORPHAN_AGE: Final = 24 * 3600 * 1_000_000
"""µs: a part without a manifest that is younger may belong to a sealer at work."""

_PARTS: Final = "parts"
_PART_RE: Final = re.compile(r"parts/[0-9a-f]{64}")
_MANIFEST_RE: Final = re.compile(r"[1-9][0-9]{0,8}/manifest\.json")
_MAX_ENVELOPE_BYTES: Final = MAX_MANIFEST_BYTES * 3 // 2
_WINDOW: Final = 8 << 20
_AT_ONCE: Final = 4
_SIGN_TRIES: Final = 16

_Watch = Callable[[int], None]
"""Called with the bytes that have passed, again and again."""


class StoredRelease(msgspec.Struct, frozen=True):
    """A release as its store describes it; signatures and parts are *not* checked."""

    store: Store
    version: str
    digest: Digest
    manifest: Manifest
    envelope: Envelope
    tag: str

    @property
    def location(self) -> str:
        """Its URL, without secrets."""
        return self.store.location.below(self.version).url


class VerifiedStored(msgspec.Struct, frozen=True):
    """A stored release whose signatures and parts were checked; as ``verify.VerifiedRelease``."""

    release: StoredRelease
    files: int
    size: int
    signers: tuple[str, ...]
    unknown_signers: tuple[str, ...]


def release_location(dataset: DatasetId) -> str:
    """Where a dataset lies in a store: its id is a plain name already."""
    return str(dataset)


class _Stored(msgspec.Struct, frozen=True):
    """A file of a release, as it lies in the store under its digest: a part, or a sidecar."""

    file: str
    sha256: Digest
    size: int

    @property
    def name(self) -> str:
        return f"{_PARTS}/{self.sha256.removeprefix('sha256:')}"


def _stored(one: PartFile | Sidecar) -> _Stored:
    return _Stored(one.file if isinstance(one, PartFile) else one.name, one.sha256, one.size)


def _files(manifest: Manifest, groups: Sequence[str] | None = None) -> list[_Stored]:
    return [*map(_stored, manifest.files(groups)), *map(_stored, manifest.sidecars)]


def load_stored(store: Store, version: str) -> StoredRelease:
    """Read the manifest of ``version``; its form is checked, and nothing else.

    Raises ``NotFound`` (``vault.release_missing``), ``VerificationFailed`` (``vault.manifest_altered``),
    ``InputInvalid`` (``vault.manifest_version``) or what the store raises.
    """
    try:
        data, tag = store.read(f"{version}/{MANIFEST_FILE}", _MAX_ENVELOPE_BYTES + 1)
    except NotFound as error:
        raise NotFound(
            "vault.release_missing", f"there is no release in {store.location.below(version).url}", "check the location"
        ) from error
    if len(data) > _MAX_ENVELOPE_BYTES:
        raise VerificationFailed("vault.manifest_altered", f"{MANIFEST_FILE} exceeds {_MAX_ENVELOPE_BYTES:,} bytes")
    envelope = parse_envelope(data)
    body = envelope.body
    return StoredRelease(store, version, release_digest(body), parse_manifest(body), envelope, tag)


def publish_folder(folder: Path, store: Store, now: int, watch: _Watch | None = None) -> StoredRelease:
    """Put the release in ``folder`` into the store; one that lies there already is left as it is. ``now`` is µs UTC.

    Raises ``Conflict`` (``vault.release_exists``) if another release of that version lies there, what ``load_release``
    and the store raise, and ``StorageFailed`` (``vault.store_lost``) if a part is not there after it was written.
    """
    release = load_release(folder)
    version = str(release.manifest.version)
    if _lies_there(store, version, release.digest) is None:
        _upload_parts(folder, release.manifest, store, now, watch)
        try:
            # The commit point: before it there is no release in the store, after it there is a whole one.
            store.create(f"{version}/{MANIFEST_FILE}", release.envelope.encode())
        except Conflict:
            _lies_there(store, version, release.digest)
    return load_stored(store, version)


def _lies_there(store: Store, version: str, digest: Digest) -> StoredRelease | None:
    """The release if it lies in the store, None if none does; raises if another one has its name."""
    try:
        found = load_stored(store, version)
    except NotFound:
        return None
    if found.digest != digest:
        raise Conflict(
            "vault.release_exists",
            f"another release lies in {found.location}: {found.digest}",
            "a release never changes: name another store, or seal the next version",
        )
    return found


def _upload_parts(folder: Path, manifest: Manifest, store: Store, now: int, watch: _Watch | None) -> None:
    present = {one.name: one for one in store.list(_PARTS)}
    named = _named(store) if present else set()
    done = 0
    for part in _files(manifest):
        name = part.name
        there = present.get(name)
        # What is named by a manifest, or young enough for clocks that differ by hours, no cleaner removes.
        safe = there is not None and (name in named or there.modified > now - ORPHAN_AGE // 2)
        if there is None or there.size != part.size or not safe:
            store.upload(name, folder / part.file)
            _has(store, part)
        done += part.size
        if watch is not None:
            watch(done)


def _versions(store: Store) -> Iterator[str]:
    for one in store.list():
        if _MANIFEST_RE.fullmatch(one.name):
            yield one.name.partition("/")[0]


def _named(store: Store) -> set[str]:
    return {one.name for version in _versions(store) for one in _files(load_stored(store, version).manifest)}


def find_orphans(store: Store, now: int, age: int = ORPHAN_AGE) -> list[StoredObject]:
    """Parts of a dataset's store that no manifest names and that are older than ``age`` (µs) at ``now``.

    A manifest that cannot be read stops this: what it names is not known. Raises as ``load_stored``.
    """
    parts = [one for one in store.list(_PARTS) if _PART_RE.fullmatch(one.name) and one.modified < now - age]
    # Manifests after parts: one that is published in between is seen.
    named = _named(store) if parts else set()
    return sorted((one for one in parts if one.name not in named), key=lambda one: one.name)


def remove_orphans(store: Store, orphans: Sequence[StoredObject]) -> int:
    """Remove what ``find_orphans`` found; returns the bytes. What is named by now is left."""
    named = _named(store) if orphans else set()
    removed = 0
    for one in orphans:
        if one.name not in named:
            store.delete(one.name)
            removed += one.size
    return removed


def verify_stored(
    store: Store, version: str, supplier: Verifier, others: Sequence[Verifier] = (), expected: Digest | None = None
) -> VerifiedStored:
    """Check all that can be checked without keys; every part is read. Raises as ``verify.verify_release``."""
    release = load_stored(store, version)
    known = [check_signature(release.envelope, verifier).keyid for verifier in (supplier, *others)]
    if expected is not None:
        expect_stored(release, expected)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda part: _read_part(release, part, None), _files(release.manifest)):
            pass
    unknown = tuple(one.keyid for one in release.envelope.signatures if one.keyid not in known)
    return VerifiedStored(release, len(release.manifest.parts), release.manifest.size, tuple(known), unknown)


def expect_stored(release: StoredRelease, expected: Digest) -> StoredRelease:
    """As ``verify.expect_release``."""
    if release.digest != expected:
        raise VerificationFailed(
            "vault.other_release",
            f"the manifest in {release.location} is of another release: {release.digest}, expected {expected}",
            "name the release that lies there, or ask who put it there",
        )
    return release


def fetch_release(release: StoredRelease, folder: Path, groups: Sequence[str] | None = None) -> Path:
    """Copy manifest and part files of ``groups`` (all if None) into a new release folder and return it.

    Each part has its manifest's size and SHA-256 when this returns. Raises ``VerificationFailed``
    (``vault.part_missing``, ``vault.part_truncated``, ``vault.part_altered``) or ``StorageFailed``; the folder then
    holds what had come until then, all of it ciphertext.
    """
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise storage_failed(error, str(folder)) from error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda part: _fetch(release, part, folder), _files(release.manifest, groups)):
            pass
    write_new(folder / MANIFEST_FILE, release.envelope.encode())
    return folder


def _fetch(release: StoredRelease, part: _Stored, folder: Path) -> None:
    with new_file(folder / part.file) as file:
        _read_part(release, part, file)


def fetch_part(release: StoredRelease, part: PartFile, folder: Path) -> Path:
    """Copy one part file into ``folder``, checked. Raises as ``fetch_release``."""
    _fetch(release, _stored(part), folder)
    return folder / part.file


def fetch_columns(release: StoredRelease, asked: PartColumns, folder: Path) -> Path:
    """Copy what holds some columns of a part into a new file of the part's size, with holes for the rest; each piece is checked.

    Raises as ``fetch_release``.
    """
    part = _stored(asked.part)
    # A name of its own: a file with holes never passes for the part.
    path = folder / f"{part.file}.{os.urandom(6).hex()}.columns"

    def read_at(start: int, length: int) -> bytes:
        try:
            return release.store.read_range(part.name, start, length)
        except NotFound as error:
            raise _part_missing(release, part) from error

    with new_file(path) as file:
        file.truncate(part.size)
        for start, data in checked_ranges(read_at, asked, _WINDOW):
            file.seek(start)
            file.write(data)
    return path


def put_part(store: Store, path: Path, part: PartFile) -> None:
    """Put one finished part file into the store; raises as ``publish_folder``."""
    name = _stored(part).name
    store.upload(name, path)
    has_part(store, part)


def has_part(store: Store, part: PartFile) -> None:
    """Raise ``StorageFailed`` (``vault.store_lost``) unless the part lies in the store with its size."""
    _has(store, _stored(part))


def _has(store: Store, one: _Stored) -> None:
    found = store.find(one.name)
    if found is None or found.size != one.size:
        raise StorageFailed(
            "vault.store_lost", f"{one.name} was written to {store.location.url} and is not there", "run it again"
        )


def publish_manifest(store: Store, envelope: Envelope) -> StoredRelease:
    """Publish a release whose parts were put into the store: the commit point, as in ``publish_folder``.

    Raises ``Conflict`` (``vault.release_exists``), ``StorageFailed`` (``vault.store_lost`` if a part has gone).
    """
    body = envelope.body
    manifest = parse_manifest(body)
    version = str(manifest.version)
    if _lies_there(store, version, release_digest(body)) is None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda part: has_part(store, part), manifest.parts):
                pass
        try:
            store.create(f"{version}/{MANIFEST_FILE}", envelope.encode())
        except Conflict:
            _lies_there(store, version, release_digest(body))
    return load_stored(store, version)


def _read_part(release: StoredRelease, part: _Stored, target: BinaryIO | None) -> None:
    """Read a part in windows, compare size and SHA-256, and write it to ``target`` if there is one."""
    hasher = hashlib.sha256()
    size = 0
    try:
        # One byte more than there should be: an object that has grown is as wrong as one that is cut.
        while data := release.store.read_range(part.name, size, min(_WINDOW, part.size + 1 - size)):
            hasher.update(data)
            if target is not None:
                target.write(data)
            size += len(data)
    except NotFound as error:
        raise _part_missing(release, part) from error
    if size < part.size:
        raise VerificationFailed(
            "vault.part_truncated",
            f"the part {part.file} has {size:,} of {part.size:,} bytes",
            "ask who keeps the store: it was published whole",
        )
    if size > part.size or "sha256:" + hasher.hexdigest() != part.sha256:
        raise VerificationFailed(
            "vault.part_altered",
            f"the part {part.file} is not the one that was sealed: its bytes are others",
            "ask who keeps the store",
        )


def _part_missing(release: StoredRelease, part: _Stored) -> VerificationFailed:
    return VerificationFailed(
        "vault.part_missing", f"the part {part.file} is missing in {release.location}", "ask who keeps the store"
    )


def countersign_stored(store: Store, version: str, signer: Signer) -> StoredRelease:
    """Add a signature to a stored manifest; the release's digest stays. The caller verifies first.

    Two at once: the store refuses the second, which reads what the first wrote and signs that.
    Raises as ``load_stored``, or ``Conflict`` (``vault.store_changed``) if others keep changing it.
    """
    for _ in range(_SIGN_TRIES):
        release = load_stored(store, version)
        envelope = sign(release.envelope.body, signer, release.envelope.signatures)
        try:
            tag = store.replace(f"{version}/{MANIFEST_FILE}", envelope.encode(), release.tag)
        except Conflict as error:
            if error.code != "vault.store_changed":
                raise
            continue
        return msgspec.structs.replace(release, envelope=envelope, tag=tag)
    raise Conflict("vault.store_changed", f"others keep changing {MANIFEST_FILE} of {version}", "try again")
