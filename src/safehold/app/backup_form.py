"""``backup.json``: what a backup holds, signed by the ledger's key, and the copying of files by their hash.

The file is canonical JSON and carries an SSHSIG signature, in a namespace of its own, over the same document with
an empty signature. So a changed byte in any file of a backup is found, ``backup.json`` itself not excepted.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.keys import SigningKey
from safehold.ledger.note import NoteVerifier
from safehold.ledger.sshsig import sign, verify
from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, StorageFailed, VerificationFailed

__all__ = [
    "BACKUP_FILE",
    "BackupFile",
    "CopiedFile",
    "altered",
    "copy_file",
    "hash_file",
    "load_backup_file",
    "signed",
    "sync_tree",
    "write_failed",
]

BACKUP_FILE: Final = "backup.json"
_NAMESPACE: Final = "safehold-backup"
_MAX_BYTES: Final = 256 << 20
_BLOCK: Final = 1 << 20
_PATH: Final = re.compile(r"(?!\.\.?(/|$))[^/\x00-\x1f\x7f\\]{1,255}(/(?!\.\.?(/|$))[^/\x00-\x1f\x7f\\]{1,255}){0,8}")


class CopiedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the backup: its ``path`` inside the folder, ``size`` in bytes and ``sha256`` (hex)."""

    path: str
    size: int
    sha256: str


class BackupFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup says of itself. ``note`` is the ledger's newest checkpoint in it, ``taken`` its time (µs UTC)."""

    form: Literal["safehold-backup-v1"] = "safehold-backup-v1"
    verifier: str
    size: int
    root: str
    note: str
    taken: int
    keys: bool
    releases: bool
    missing: tuple[str, ...]
    files: tuple[CopiedFile, ...]
    signature: str = ""


def signed(file: BackupFile, signer: SigningKey) -> BackupFile:
    """``file`` with the ledger's signature over everything else in it."""
    bare = msgspec.structs.replace(file, signature="")
    return msgspec.structs.replace(file, signature=sign(signer, canonical_bytes(bare), _NAMESPACE))


def load_backup_file(folder: Path) -> BackupFile:
    """Read and check ``backup.json``: its form, its paths, and that its own key signed it.

    Raises ``NotFound`` (``app.no_backup``), ``InputInvalid`` (``app.backup_form``) or ``VerificationFailed``
    (``app.backup_altered``).
    """
    path = folder / BACKUP_FILE
    try:
        with path.open("rb") as opened:
            data = opened.read(_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            "app.no_backup",
            f"{folder} holds no finished backup: there is no {BACKUP_FILE}",
            "a backup that was interrupted is none: run `safehold backup` again to finish it",
        ) from error
    except OSError as error:
        raise write_failed(error, path) from error
    try:
        form = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("form", msgspec.Raw())
        if bytes(form).startswith(b'"safehold-backup-') and bytes(form) != b'"safehold-backup-v1"':
            raise InputInvalid(
                "app.backup_form", f"{path} is of another form, {form!r:.60}", "use the Safehold that made it"
            )
        file = msgspec.json.decode(data, type=resolved(BackupFile))
        verifier = NoteVerifier.parse(file.verifier)
        if canonical_bytes(file) != data or not all(_PATH.fullmatch(one.path) for one in file.files):
            raise altered(BACKUP_FILE, "it is not in the form in which it was written")
        bare = canonical_bytes(msgspec.structs.replace(file, signature=""))
        verify(file.signature, bare, _NAMESPACE, verifier.key)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise altered(BACKUP_FILE, "it cannot be read") from error
    except SafeholdError as error:
        if error.code.startswith("app."):
            raise
        raise altered(BACKUP_FILE, error.message) from error
    return file


def copy_file(source: Path, target: Path, expected: CopiedFile | None = None) -> tuple[int, str]:
    """Copy ``source`` to ``target`` (mode 0600), durably and under a temporary name first; size and SHA-256 (hex).

    The hash is of the bytes as they were copied. With ``expected``, raises ``VerificationFailed``
    (``app.backup_altered``) for any others, and then leaves nothing. Raises ``OSError``.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.copying")
    digest, size = hashlib.sha256(), 0
    try:
        with (
            os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as writing,
            os.fdopen(_open_regular(source), "rb") as reading,
        ):
            while block := reading.read(_BLOCK):
                digest.update(block)
                size += len(block)
                writing.write(block)
            writing.flush()
            os.fsync(writing.fileno())
        if expected is not None and (size, digest.hexdigest()) != (expected.size, expected.sha256):
            raise altered(expected.path, "its SHA-256 is another")
        os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()


def hash_file(path: Path) -> tuple[int, str]:
    """Size and SHA-256 (hex) of a regular file. Raises ``OSError``."""
    with os.fdopen(_open_regular(path), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, digest


def _open_regular(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "it is no regular file", str(path))
    return descriptor


def sync_tree(folder: Path) -> None:
    """Make every name below ``folder`` durable. Raises ``OSError``."""
    for below in _folders(folder):
        sync_folder(below)


def _folders(folder: Path) -> Iterator[Path]:
    for below, _, _ in os.walk(folder, topdown=False):
        yield Path(below)


def altered(path: str, why: str) -> VerificationFailed:
    """The error of a file in a backup that is not what was put there."""
    return VerificationFailed(
        "app.backup_altered",
        f"{path} in the backup is not what was put there: {why}",
        "restore from another backup, and keep this one as evidence",
    )


def write_failed(error: OSError, path: Path) -> StorageFailed:
    """What a failure of the disk means for a backup: nothing is broken, and the command can be run again."""
    return StorageFailed(
        "app.backup_storage",
        f"{error.filename or path}: {error.strerror or error}",
        "check the disk, whether it is full, and the folder's owner; then run the same command again",
    )
