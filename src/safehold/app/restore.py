"""Restoring: a new home out of a backup, read-only until someone answers for what may be missing at its end.

The backup is verified whole before a byte is written. The files go to a staging folder beside the new home, each
checked again by its hash as it is copied, and the staging folder is renamed: the home is there entirely or not at
all, and never in the place of another one. A killed run leaves the staging folder; the next run empties it first.

``restored.json`` in the home says that nobody has answered yet. It goes after the answer, the entry
``ledger.restored``, is durable; a crash in between leaves a read-only home, and accepting again ends it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from safehold.app.backup import report_of, verify_backup
from safehold.app.backup_form import BackupFile, copy_file, load_backup_file, sync_tree, write_failed
from safehold.cli.backup_port import BackupReport, RestoreWish
from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.keys import SigningKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import NoteVerifier
from safehold.ledger.restored import compare_checkpoint
from safehold.ledger.storage import Entry, View
from safehold.model.encoding import resolved
from safehold.model.errors import Conflict, InputInvalid, StorageFailed, VerificationFailed
from safehold.model.ids import KeyId
from safehold.model.statements import LedgerRestored, decode

__all__ = ["Answer", "Mark", "accept_restored", "read_mark", "restore"]

_MARK: Final = "restored.json"
_KEYS: Final = "keys"
_MAX_REASON: Final = 2000


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What ``restored.json`` says: the head that was restored, and when the backup was ``taken`` (µs UTC)."""

    form: Literal["safehold-restored-v1"] = "safehold-restored-v1"
    size: int
    root: str
    taken: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Who lets a restored home go on, when (µs UTC), and on what: a ``reason``, a checkpoint ``note``, or both."""

    t: int
    by: KeyId
    reason: str
    note: bytes | None


def restore(wish: RestoreWish) -> BackupReport:
    """Verify a backup and make the home ``wish.home`` of it; that home starts read-only.

    Raises ``Conflict`` (``app.home_exists``, ``app.restore_busy``), what ``verify_backup`` raises,
    ``InputInvalid`` (``app.backup_without_keys``) or ``VerificationFailed`` (``app.restore_key``).
    """
    home = wish.home
    _refuse_existing(home)
    says = load_backup_file(wish.folder)
    if not says.keys and wish.keys is None:
        raise InputInvalid(
            "app.backup_without_keys",
            f"the backup in {wish.folder} was made without private keys",
            "name the folder that holds them, the `keys` of the home: --keys FOLDER",
        )
    file = verify_backup(wish.folder, wish.verifier, wish.progress)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with _staging(home) as staging:
            _copy_all(wish, file, staging)
            _refuse_existing(home)
            os.replace(staging, home)  # onto nothing or an empty folder: the system refuses any other
            sync_folder(home.parent)
    except OSError as error:
        raise write_failed(error, home) from error
    return report_of(home, file, len(file.files))


def _refuse_existing(home: Path) -> None:
    if os.path.lexists(home) and (not home.is_dir() or any(home.iterdir())):
        raise Conflict("app.home_exists", f"{home} is there already and is not empty", "choose another --home")


@contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """An empty folder beside the home, ours alone; gone afterwards unless it became the home."""
    staging = home.with_name(f".{home.name}.restoring")
    staging.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if staging.stat().st_ino != os.fstat(descriptor).st_ino:
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError) as error:
            raise Conflict("app.restore_busy", f"another process restores to {home}", "wait for it") from error
        try:
            _empty(staging)
            yield staging
        finally:
            with suppress(OSError):  # after the rename this name is nobody's, or another run's
                if staging.stat().st_ino == os.fstat(descriptor).st_ino:
                    shutil.rmtree(staging)
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _copy_all(wish: RestoreWish, file: BackupFile, staging: Path) -> None:
    for below in (_KEYS, f"{_KEYS}/parties", f"{_KEYS}/hosts", "releases"):
        (staging / below).mkdir(mode=0o700)
    for number, one in enumerate(file.files):
        copy_file(wish.folder / one.path, staging / one.path, one)
        if number % 64 == 0:
            wish.progress(f"restored file {number + 1} of {len(file.files)}")
    if wish.keys is not None and not file.keys:
        for path in sorted(path for path in wish.keys.rglob("*") if path.is_file()):
            copy_file(path, staging / _KEYS / path.relative_to(wish.keys))
    _check_key(staging / _KEYS / "ledger", NoteVerifier.parse(file.verifier))
    mark = Mark(size=file.size, root=file.root, taken=file.taken)
    write_file(staging / _MARK, msgspec.json.encode(mark))
    sync_tree(staging)


def _check_key(path: Path, verifier: NoteVerifier) -> None:
    if SigningKey.load(path).public != verifier.key:
        raise VerificationFailed(
            "app.restore_key", "the private key given is not the key of this ledger", "name another folder with --keys"
        )


def read_mark(home: Path) -> Mark | None:
    """The mark of a restored home that nobody has answered for, or None.

    Raises ``StorageFailed`` (``app.restore_mark``) where it cannot be read: then nothing may be appended either.
    """
    try:
        return msgspec.json.decode((home / _MARK).read_bytes(), type=resolved(Mark))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageFailed(
            "app.restore_mark", f"{home / _MARK} cannot be read", "restore the backup to a new home"
        ) from error


def accept_restored(home: Path, log: Log, answer: Answer) -> Entry:
    """Append the statement ``ledger.restored`` and let ``log`` go on; return its entry.

    With a checkpoint the restored head must hold all that it covers; without one there must be a reason. Raises
    ``Conflict`` (``app.not_restored``), ``InputInvalid`` (``app.restore_reason``), what ``compare_checkpoint`` raises, or
    what ``append`` raises; the home is then as read-only as before.
    """
    mark, refusal = read_mark(home), log.read_only
    if mark is None or refusal is None:
        raise Conflict("app.not_restored", f"{home} is not a restored home that waits", "there is nothing to accept")
    if refusal.code != "ledger.restored":  # the lock database knows more: no answer helps
        raise refusal
    if len(answer.reason) > _MAX_REASON or (answer.note is None and not answer.reason.strip()):
        raise InputInvalid(
            "app.restore_reason",
            f"an answer without a checkpoint needs a reason of 1 to {_MAX_REASON} characters",
            "say why it is right to go on: --reason 'the disk failed; the last export has the same size'",
        )
    with log.view() as view:
        known = None if answer.note is None else compare_checkpoint(view, log.verifier, answer.note)
    statement = LedgerRestored(
        t=answer.t,
        by=answer.by,
        size=mark.size,
        root=mark.root,
        taken=mark.taken,
        witnessed=None if known is None else known.size,
        reason=answer.reason,
    )
    log.resume(refusal)
    try:
        entries = log.append(lambda view: Draft(() if _answered(view, mark) else (statement,)))
        (home / _MARK).unlink(missing_ok=True)
        sync_folder(home)
    except OSError as error:
        log.refuse(refusal)
        raise write_failed(error, home / _MARK) from error
    except BaseException:  # re-raises: nothing was answered, or the mark is still there to be accepted again
        log.refuse(refusal)
        raise
    return entries[0] if entries else log.entry(mark.size)


def _answered(view: View, mark: Mark) -> bool:
    """Is the answer there already, of a run that died before it removed the mark?"""
    body = view.body(mark.size)
    if body is None:
        return False
    found = decode(body)
    if isinstance(found, LedgerRestored) and (found.size, found.root) == (mark.size, mark.root):
        return True
    raise Conflict(
        "app.restore_head", f"entry {mark.size} is not the answer of a restored ledger", "restore to a new home"
    )
