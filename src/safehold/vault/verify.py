"""Check a release folder without any key: signatures, hashes, sizes, nothing missing, nothing extra.

A carrier, an auditor or the lab's own storage can run this: it reads ciphertext and public facts alone. What
it cannot tell is that the contents are what they should be; the supplier's signature is the claim of that.

Types carry trust. ``Release`` is what a folder *says*: well formed, and nothing more. Only ``verify_release``
makes a ``VerifiedRelease``.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from safehold.model.errors import NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import Digest, sha256_digest
from safehold.vault.disk import storage_failed, sync_folder
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
from safehold.vault.pieces import PIECE, Asked, PartColumns, altered_part, checked_ranges, whole_part

__all__ = [
    "PartGuard",
    "PartPlaces",
    "Release",
    "VerifiedRelease",
    "check_columns",
    "check_part",
    "check_sidecar",
    "check_size",
    "countersign",
    "expect_release",
    "load_release",
    "verify_release",
]

_MAX_ENVELOPE_BYTES: Final = MAX_MANIFEST_BYTES * 3 // 2


class Release(msgspec.Struct, frozen=True):
    """A release as its folder describes it; its signatures and parts are *not* checked."""

    folder: Path
    digest: Digest
    manifest: Manifest
    envelope: Envelope


class VerifiedRelease(msgspec.Struct, frozen=True):
    """A release whose manifest and part files were checked, and by whose keys (``signers``).

    ``unknown_signers`` are keys that signed too but were not given: nothing is known of those signatures.
    """

    release: Release
    files: int
    size: int
    signers: tuple[str, ...]
    unknown_signers: tuple[str, ...]


def load_release(folder: Path) -> Release:
    """Read what is in ``folder``, checking its form alone.

    Raises ``NotFound`` (``vault.release_missing``), ``VerificationFailed`` (``vault.manifest_missing``,
    ``vault.manifest_altered``), ``InputInvalid`` (``vault.manifest_version``) or ``StorageFailed``.
    """
    if not folder.is_dir():
        raise NotFound("vault.release_missing", f"there is no release in {folder}", "check the path")
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            data = file.read(_MAX_ENVELOPE_BYTES + 1)
    except FileNotFoundError as error:
        raise VerificationFailed(
            "vault.manifest_missing", f"{folder} holds no {MANIFEST_FILE}", "fetch the release again"
        ) from error
    except OSError as error:
        raise storage_failed(error, str(folder / MANIFEST_FILE)) from error
    if len(data) > _MAX_ENVELOPE_BYTES:
        raise VerificationFailed("vault.manifest_altered", f"{MANIFEST_FILE} exceeds {_MAX_ENVELOPE_BYTES:,} bytes")
    envelope = parse_envelope(data)
    body = envelope.body
    return Release(folder, release_digest(body), parse_manifest(body), envelope)


def expect_release(release: Release, expected: Digest) -> Release:
    """Return ``release`` if it is the one expected, else raise ``VerificationFailed`` (``vault.other_release``).

    ``expected`` comes from the ledger. Without it a whole, validly signed older release could be put in place.
    """
    if release.digest != expected:
        raise VerificationFailed(
            "vault.other_release",
            f"the manifest in {release.folder} is of another release: {release.digest}, expected {expected}",
            "fetch the release again, or name the one that lies there",
        )
    return release


def verify_release(
    folder: Path, supplier: Verifier, others: Sequence[Verifier] = (), expected: Digest | None = None
) -> VerifiedRelease:
    """Check all that can be checked without keys.

    ``supplier`` must have signed; each of ``others`` (the lab's countersignature) must have signed too.
    ``expected`` is the digest that the ledger holds. Raises as ``load_release``, and ``VerificationFailed``:
    ``vault.manifest_unsigned``, ``vault.manifest_signature``, ``vault.other_release``, ``vault.extra_file``,
    ``vault.part_missing``, ``vault.part_truncated``, ``vault.part_altered``.
    """
    release = load_release(folder)
    known = [check_signature(release.envelope, verifier).keyid for verifier in (supplier, *others)]
    if expected is not None:
        expect_release(release, expected)
    _check_names(release)
    for part in release.manifest.parts:
        check_part(folder, part)
    for sidecar in release.manifest.sidecars:
        check_sidecar(folder, sidecar)
    unknown = tuple(s.keyid for s in release.envelope.signatures if s.keyid not in known)
    return VerifiedRelease(release, len(release.manifest.parts), release.manifest.size, tuple(known), unknown)


def _check_names(release: Release) -> None:
    expected = {part.file for part in release.manifest.parts} | {MANIFEST_FILE}
    expected |= {sidecar.name for sidecar in release.manifest.sidecars}
    try:
        found = set(os.listdir(release.folder))
    except OSError as error:
        raise storage_failed(error, str(release.folder)) from error
    for name in _first(found - expected):
        raise VerificationFailed(
            "vault.extra_file",
            f"{release.folder} holds {name!r}, which the manifest does not list",
            "remove it; a release holds what its manifest lists and nothing else",
        )
    for name in _first(expected - found):
        raise _missing(name)


def _first(names: Iterable[str]) -> list[str]:
    return sorted(names)[:1]


def _missing(name: str) -> VerificationFailed:
    return VerificationFailed("vault.part_missing", f"the part {name} is missing", "fetch the release again")


def check_part(folder: Path, part: PartFile) -> Path:
    """Return the path of ``part`` if its size and SHA-256 are the manifest's.

    Raises ``VerificationFailed`` (``vault.part_missing``, ``vault.part_truncated``, ``vault.part_altered``) or
    ``StorageFailed``.
    """
    path = folder / part.file
    with _opened(path, part) as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    if digest != part.sha256:
        raise altered_part(part, "its SHA-256 is another")
    return path


def check_columns(folder: Path, asked: PartColumns) -> Path:
    """Return the path of the part file if every byte that its columns lie in is the one that was sealed (``pieces``).

    Raises as ``check_part``.
    """
    path = folder / asked.part.file
    held = memoryview(bytearray(max(PIECE, 0 if asked.part.tail is None else asked.part.tail.size)))
    with _opened(path, asked.part) as file:

        def read_at(start: int, length: int) -> memoryview:
            # Into the same memory each time: a new piece of it costs more than hashing what it holds.
            return held[: os.preadv(file.fileno(), [held[:length]], start)]

        for _ in checked_ranges(read_at, asked):
            pass
    return path


def check_size(folder: Path, part: PartFile) -> PartFile:
    """Return ``part`` if it is a file of the manifest's size; raises as ``check_part``."""
    path = os.path.join(folder, part.file)  # a Path would cost more than the look itself, and parts are many
    try:
        _right_size(part, os.lstat(path))
    except FileNotFoundError as error:
        raise _missing(part.file) from error
    except OSError as error:
        raise storage_failed(error, path) from error
    return part


@contextmanager
def _opened(path: Path, part: PartFile) -> Iterator[io.BufferedReader]:
    try:
        _right_size(part, os.lstat(path))
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            _right_size(part, os.fstat(file.fileno()))
            yield file
    except FileNotFoundError as error:
        raise _missing(part.file) from error
    except OSError as error:
        raise storage_failed(error, str(path)) from error


def _right_size(part: PartFile, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise altered_part(part, "it is no regular file")
    if found.st_size < part.size:
        raise VerificationFailed(
            "vault.part_truncated",
            f"the part {part.file} has {found.st_size:,} of {part.size:,} bytes",
            "fetch the release again",
        )
    if found.st_size > part.size:
        raise altered_part(part, f"it has {found.st_size - part.size:,} bytes too many")


class PartPlaces(Protocol):
    """Where the checked part files of a release are had from: its folder, or a store (``spool``).

    Whoever asks for some columns of a file may read these alone.
    """

    def start(self, parts: Iterable[Asked]) -> None:
        """These will be read soon: begin with what takes long."""

    def wait(self, parts: Sequence[Asked]) -> None:
        """Return once all of these are what the manifest says; raises as ``check_part``."""

    def place(self, part: Asked) -> Path:
        """Where the file lies now, for opening at once; that it was checked is what ``wait`` says."""


class PartGuard:
    """Hashes part files in another thread while Arrow decrypts, each file once; no record leaves a part before ``wait``.

    hashlib gives up the interpreter's lock, so a second core carries this and opening costs little more than reading.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, "verify")
        self._checks: dict[tuple[str, tuple[str, ...] | None], Future[Path]] = {}

    def start(self, parts: Iterable[Asked]) -> None:
        """Begin with these, in the background."""
        for part in parts:
            self._begin(part)

    def _begin(self, asked: Asked) -> Future[Path]:
        name = whole_part(asked).file
        known = self._checks.get((name, None))
        if known is None and isinstance(asked, PartColumns):
            known = self._checks.get((name, asked.names))
            if known is None:
                known = self._checks[name, asked.names] = self._pool.submit(check_columns, self._folder, asked)
        elif known is None:
            known = self._checks[name, None] = self._pool.submit(check_part, self._folder, whole_part(asked))
        return known

    def wait(self, parts: Sequence[Asked]) -> None:
        """Return once all of these are what the manifest says; raises as ``check_part``."""
        for check in [self._begin(part) for part in parts]:
            check.result()

    def place(self, part: Asked) -> Path:
        """See ``PartPlaces``."""
        return self._folder / whole_part(part).file


def check_sidecar(folder: Path, sidecar: Sidecar) -> Path:
    """Return the path of ``sidecar`` if its bytes are those that the manifest names.

    Raises ``VerificationFailed`` (``vault.part_missing``, ``vault.sidecar_altered``) or ``StorageFailed``.
    """
    path = folder / sidecar.name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(sidecar.size + 1)
    except FileNotFoundError as error:
        raise _missing(sidecar.name) from error
    except OSError as error:
        raise storage_failed(error, str(path)) from error
    if sha256_digest(data) != sidecar.sha256:
        raise VerificationFailed(
            "vault.sidecar_altered", f"{sidecar.name} is not the one that was signed", "fetch the release again"
        )
    return path


def countersign(folder: Path, signer: Signer) -> Release:
    """Add a signature to the manifest in ``folder``; the release's digest stays what it is.

    The caller verifies first: a signature says that one has. Raises as ``load_release``, and ``StorageFailed``.
    """
    temporary = folder.with_name(f".signing-{folder.name}-{os.urandom(6).hex()}")
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_failed(error, str(folder)) from error
    try:
        # Two countersigners at once: the second reads what the first has written.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        release = load_release(folder)
        envelope = sign(release.envelope.body, signer, release.envelope.signatures)
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(envelope.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, folder / MANIFEST_FILE)
        sync_folder(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageFailed(
            "vault.countersign", f"the manifest in {folder} was not signed: {error.strerror}"
        ) from error
    finally:
        os.close(descriptor)
    return msgspec.structs.replace(release, envelope=envelope)
