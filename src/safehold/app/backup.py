"""Backups: a consistent copy of a home in a folder, taken while others append.

**Order, and what a crash means.** All but the releases is copied into ``.next`` first; then ``backup.json`` of an
earlier backup is removed, the files take their names, their folders are synced, and the new ``backup.json`` follows last.
Before the removal the earlier backup stands untouched; after it there is none until the last step, and restoring
refuses a folder without ``backup.json``. Running the same command again begins with a fresh ``.next``.

**Consistent.** The ledger is copied first, then the wrapped keys, then segments and releases that the copied ledger names: keys
and parts are kept before the entry that names them is written, so what the copied ledger names is there to be copied.

A sealed part never changes: one that is there with the hash that its manifest says stays as it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from safehold.app.backup_form import (
    BACKUP_FILE,
    BackupFile,
    CopiedFile,
    altered,
    copy_file,
    hash_file,
    load_backup_file,
    signed,
    sync_tree,
    write_failed,
)
from safehold.cli.backup_port import BackupReport, BackupWish, Progress
from safehold.ledger.copy import copy_ledger, open_copy
from safehold.ledger.disk import sync_folder
from safehold.ledger.export import SEGMENTS_FOLDER, write_file
from safehold.ledger.fsck import check_ledger
from safehold.ledger.keys import SigningKey
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.ledger.segments.form import file_name
from safehold.ledger.segments.verified import segment_of
from safehold.ledger.storage import Entry, View
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.model.statements import ReleaseSealed, decode
from safehold.state.invariants import check_order
from safehold.state.segments import sealed_segments
from safehold.vault.keystore import KeyStore
from safehold.vault.manifest import MANIFEST_FILE
from safehold.vault.verify import expect_release, load_release

__all__ = ["BackupSource", "back_up", "report_of", "verify_backup"]

_NEXT: Final = ".next"
_PLAIN: Final = ("home.json", "kek.json", "people.json")
_KEYS: Final = "keys"
_RELEASES: Final = "releases"
_BATCH: Final = 2048


class BackupSource(msgspec.Struct, frozen=True):
    """The home to copy: its folder, its ledger's line and key, and the clock (µs UTC)."""

    home: Path
    verifier: NoteVerifier
    signer: SigningKey
    clock: Callable[[], int]


def back_up(source: BackupSource, wish: BackupWish) -> BackupReport:
    """Make or renew the backup of a home.

    Raises ``InputInvalid`` (``app.backup_inside``), ``Conflict`` (``app.backup_folder``, ``app.backup_other``,
    ``app.backup_newer``, ``app.backup_busy``), ``VerificationFailed`` for a release that is not what was sealed, or
    ``StorageFailed``.
    """
    if wish.folder.resolve().is_relative_to(source.home.resolve()):
        raise InputInvalid(
            "app.backup_inside", f"{wish.folder} lies inside the home", "choose a folder on another disk"
        )
    try:
        if wish.dry_run:
            return _foresee(source, wish)
        with _held(wish.folder):
            return _fill(source, wish)
    except OSError as error:
        raise write_failed(error, wish.folder) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, ours alone, and with a mark in it that it is a backup's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("app.backup_busy", f"another process writes a backup to {folder}", "wait for it") from error
        names = set(os.listdir(folder))
        if names and not names & {BACKUP_FILE, _NEXT}:
            raise Conflict(
                "app.backup_folder", f"{folder} is not empty and holds no backup", "choose a new or an empty folder"
            )
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _fill(source: BackupSource, wish: BackupWish) -> BackupReport:
    folder, stage = wish.folder, wish.folder / _NEXT
    earlier = _earlier(folder, source.verifier)
    stage.mkdir(mode=0o700, exist_ok=True)
    for left in stage.iterdir():  # of a run that died; the stage itself stays: it says that this folder is a backup's
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    taken = source.clock()
    copied = list(_copy_small(source, wish, stage))
    with open_copy(stage / "ledger.db") as view:
        head = open_checkpoint(view.checkpoint() or b"", source.verifier)
        if earlier is not None and earlier.size > head.size:
            raise Conflict(
                "app.backup_newer",
                f"the backup in {folder} holds {earlier.size} entries, this home {head.size}",
                "choose another folder: the newer backup is not replaced by an older ledger",
            )
        sealed = list(_sealed(view)) if wish.releases else []
        segments = sealed_segments(view)
    carried = _Segments(source.home, folder)
    carried.copy(segments)
    releases, missing = _Releases(source.home, folder, wish.progress), list[str]()
    for name, digest in sealed:
        if not releases.copy(name, digest):
            missing.append(name)
    sync_tree(stage)
    (folder / BACKUP_FILE).unlink(missing_ok=True)
    sync_folder(folder)  # from here on there is no backup in this folder, until the last step
    _take_places(stage, folder, [one.path for one in copied])
    for name in (*releases.changed, *carried.changed):  # a manifest with a further signature, a segment written again
        os.replace(folder / f"{name}.new", folder / name)
    sync_tree(folder)
    file = BackupFile(
        verifier=source.verifier.text,
        size=head.size,
        root=head.root.hex(),
        note=head.note.decode(),
        taken=taken,
        keys=wish.keys,
        releases=wish.releases,
        missing=tuple(missing),
        files=tuple(sorted([*copied, *releases.files, *carried.files], key=lambda one: one.path)),
    )
    # Written in the stage, so that a crash leaves its temporary file where the next run clears it; then one rename.
    write_file(stage / BACKUP_FILE, canonical_bytes(signed(file, source.signer)))
    os.replace(stage / BACKUP_FILE, folder / BACKUP_FILE)
    sync_folder(folder)
    shutil.rmtree(stage, ignore_errors=True)
    return report_of(folder, file, len(copied) + releases.written + carried.written)


def _earlier(folder: Path, verifier: NoteVerifier) -> BackupFile | None:
    """The finished backup that is there. One of another ledger is not ours to replace, a damaged one is."""
    try:
        file = load_backup_file(folder)
    except (NotFound, VerificationFailed):
        return None
    if file.verifier != verifier.text:
        raise Conflict(
            "app.backup_other", f"{folder} holds the backup of another ledger, {file.verifier[:80]}", "choose another"
        )
    return file


def _copy_small(source: BackupSource, wish: BackupWish, stage: Path) -> Iterator[CopiedFile]:
    """Everything but the releases, into the stage; the ledger first."""

    def pages(done: int, total: int) -> None:
        wish.progress(f"ledger: {done:,} of {total:,} pages")

    copy_ledger(source.home / "ledger.db", stage / "ledger.db", pages)
    yield _durable(stage, "ledger.db")
    if (source.home / "keys.db").exists():
        with KeyStore(source.home / "keys.db") as store:
            store.copy_to(stage / "keys.db")
        yield _durable(stage, "keys.db")
    for name in _small_files(source.home, keys=wish.keys):
        size, digest = copy_file(source.home / name, stage / name)
        yield CopiedFile(path=name, size=size, sha256=digest)


def _durable(stage: Path, name: str) -> CopiedFile:
    os.chmod(stage / name, 0o600)
    descriptor = os.open(stage / name, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    size, digest = hash_file(stage / name)
    return CopiedFile(path=name, size=size, sha256=digest)


def _small_files(home: Path, *, keys: bool) -> list[str]:
    names = [name for name in _PLAIN if (home / name).exists()]
    if keys:
        found = (path for path in (home / _KEYS).rglob("*") if path.is_file() and not path.name.startswith("."))
        names += sorted(path.relative_to(home).as_posix() for path in found)
    return names


def _take_places(stage: Path, folder: Path, names: list[str]) -> None:
    """Give the staged files their names; what an earlier backup had and this one has not goes."""
    for name in names:
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(stage / name, folder / name)
    old = [path for path in (folder / _KEYS).rglob("*") if path.is_file()]
    old += [folder / name for name in (*_PLAIN, "keys.db")]
    for path in old:
        if path.relative_to(folder).as_posix() not in names:
            path.unlink(missing_ok=True)


def _sealed(view: View) -> Iterator[tuple[str, Digest]]:
    for entry in _entries(view):
        if isinstance(entry.statement, ReleaseSealed):
            yield f"{entry.statement.dataset}/{entry.statement.version}", entry.statement.release


def _entries(view: View) -> Iterator[Entry]:
    for begin in range(0, view.size(), _BATCH):
        for offset, body in enumerate(view.bodies(begin, begin + _BATCH)):
            yield Entry(begin + offset, body, decode(body))


class _Releases:
    """Copies sealed releases part by part; parts that are there and equal stay."""

    def __init__(self, home: Path, folder: Path, progress: Progress) -> None:
        self._home = home / _RELEASES
        self._folder = folder / _RELEASES
        self._progress = progress
        self.files: list[CopiedFile] = []
        self.changed: list[str] = []
        self.written = 0

    def copy(self, name: str, digest: Digest) -> bool:
        """Copy one release; False if its folder is not in the home."""
        source, target = self._home / name, self._folder / name
        if not source.is_dir():
            return False
        release = expect_release(load_release(source), digest)
        for number, part in enumerate(release.manifest.parts):
            expected = CopiedFile(
                path=f"{_RELEASES}/{name}/{part.file}", size=part.size, sha256=part.sha256.removeprefix("sha256:")
            )
            if not _is(target / part.file, expected):
                copy_file(source / part.file, target / part.file, expected)
                self.written += 1
            self.files.append(expected)
            if number % 64 == 0:
                self._progress(f"{name}: part {number + 1} of {len(release.manifest.parts)}")
        self._copy_manifest(name, source / MANIFEST_FILE, target / MANIFEST_FILE)
        return True

    def _copy_manifest(self, name: str, source: Path, target: Path) -> None:
        """A manifest may get a further signature: the old one stays under its name while the old backup stands."""
        path = f"{_RELEASES}/{name}/{MANIFEST_FILE}"
        size, digest = hash_file(source)
        file = CopiedFile(path=path, size=size, sha256=digest)
        if not _is(target, file):
            replacing = target.exists()
            copy_file(source, target.with_name(f"{target.name}.new") if replacing else target, file)
            self.written += 1
            if replacing:
                self.changed.append(path)
        self.files.append(file)


class _Segments:
    """Copies the segments that match their entries. One that does not is left out: it can be written again from them."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        self.files: list[CopiedFile] = []
        self.changed: list[str] = []
        self.written = 0

    def copy(self, sealed: Sequence[Entry]) -> None:
        """Copy all that the copied ledger names; those that are there and equal stay."""
        for segment in map(segment_of, sealed):
            name = f"{SEGMENTS_FOLDER}/{file_name(segment.table, segment.begin, segment.end)}"
            file = CopiedFile(path=name, size=segment.size, sha256=segment.digest.removeprefix("sha256:"))
            target = self._folder / name
            if not _is(self._home / name, file):
                continue
            if not _is(target, file):
                replacing = target.exists()
                copy_file(self._home / name, target.with_name(f"{target.name}.new") if replacing else target, file)
                self.written += 1
                if replacing:
                    self.changed.append(name)
            self.files.append(file)


def _is(path: Path, expected: CopiedFile) -> bool:
    try:
        return path.stat().st_size == expected.size and hash_file(path) == (expected.size, expected.sha256)
    except OSError:
        return False


def _foresee(source: BackupSource, wish: BackupWish) -> BackupReport:
    """What a backup would copy, without writing: sizes are those of the files now."""
    _earlier(wish.folder, source.verifier)
    from_home = [source.home / name for name in ("ledger.db", *_small_files(source.home, keys=wish.keys))]
    from_home += [path for path in (source.home / "keys.db",) if path.exists()]
    if wish.releases and (source.home / _RELEASES).is_dir():
        from_home += sorted(path for path in (source.home / _RELEASES).rglob("*") if path.is_file())
    if (source.home / SEGMENTS_FOLDER).is_dir():
        from_home += sorted((source.home / SEGMENTS_FOLDER).glob("*.parquet"))
    sizes = [path.stat().st_size for path in from_home]
    return BackupReport(
        folder=str(wish.folder),
        verifier=source.verifier.text,
        size=0,
        root="",
        taken=source.clock(),
        keys=wish.keys,
        releases=wish.releases,
        files=len(sizes),
        bytes=sum(sizes),
        written=0,
        missing=(),
    )


def verify_backup(folder: Path, line: str | None, progress: Progress) -> BackupFile:
    """Check a backup whole: every file's hash, the ledger in it, its checkpoint, its order; return what it says.

    ``line`` is the verifier line as someone else kept it; without it the backup is sound in itself, and no more.
    Raises ``NotFound`` (``app.no_backup``) or ``VerificationFailed`` (``app.backup_altered``, ``app.backup_missing``,
    ``app.backup_verifier``, ``app.backup_ledger``).
    """
    file = load_backup_file(folder)
    verifier = NoteVerifier.parse(file.verifier)
    if line is not None and NoteVerifier.parse(line) != verifier:
        raise VerificationFailed(
            "app.backup_verifier", f"the backup is of another ledger, {file.verifier}", "is this the right folder?"
        )
    for number, one in enumerate(file.files):
        if number % 64 == 0:
            progress(f"file {number + 1} of {len(file.files)}")
        try:
            found = hash_file(folder / one.path)
        except FileNotFoundError as error:
            raise VerificationFailed(
                "app.backup_missing", f"{one.path} is missing in the backup", "restore from another backup"
            ) from error
        except OSError as error:
            raise altered(one.path, error.strerror or "it cannot be read") from error
        if found != (one.size, one.sha256):
            raise altered(one.path, "its SHA-256 is another")
    progress("ledger")
    _check_copy(folder / "ledger.db", file, verifier)
    return file


def _check_copy(path: Path, file: BackupFile, verifier: NoteVerifier) -> Checkpoint:
    with open_copy(path) as view:
        try:
            head = open_checkpoint(view.checkpoint() or b"", verifier)
        except SafeholdError as error:
            raise _unsound(error.message) from error
        if (head.size, head.root.hex(), head.note.decode()) != (file.size, file.root, file.note):
            raise _unsound("its newest checkpoint is not the one that backup.json names")
        problems = check_ledger(view, verifier)
        if not any(problem.code.startswith("fsck.entry") for problem in problems):
            problems += check_order(_entries(view))
    if problems:
        first = problems[0]
        raise _unsound(f"{len(problems)} problems, the first: {first.code} {first.where}: {first.message}")
    return head


def _unsound(why: str) -> VerificationFailed:
    return VerificationFailed(
        "app.backup_ledger",
        f"the ledger in the backup does not hold: {why}",
        "run `safehold fsck` on the home that it was taken of, and restore from another backup",
    )


def report_of(folder: Path, file: BackupFile, written: int) -> BackupReport:
    """What to tell about a backup."""
    return BackupReport(
        folder=str(folder),
        verifier=file.verifier,
        size=file.size,
        root=file.root,
        taken=file.taken,
        keys=file.keys,
        releases=file.releases,
        files=len(file.files),
        bytes=sum(one.size for one in file.files),
        written=written,
        missing=file.missing,
    )
