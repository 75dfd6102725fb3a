"""Seal files that are no tables, byte for byte: images, logs, archives, whatever lies in a folder.

A release of files has two column groups. ``content`` holds their bytes, in the chunk container (``chunks``). ``names`` is a
sealed table, one row a piece: path, size of the file, where in the file the piece begins, its length and SHA-256, and
where in the part's container it lies. So names are as protected as contents, and a grant can give either alone. All
else is as for tables: keys, AAD, commitments, manifest.

Files are laid one after the other; a part ends when it is full, and a large file goes on in the next. What lies where
follows from the listing alone, and so a run that died is gone on with:

1. take the lock; compare the plan with the journal's;
2. each part: write both files, fsync, hand them on (``keep``), then write a line to the journal: what the manifest will say
   of them, and their keys, **wrapped**. fsync. The line is the commit point of the part;
3. sign the manifest, write its digest to the journal. The caller keeps the keys, publishes, records;
4. ``finished``: remove the journal.

What a crash means: the parts before it are kept, with keys that only the key-encryption key opens; the part it broke is
sealed again under new keys. Nothing is published before the manifest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec
import pyarrow as pa

from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import Conflict, InputInvalid, SafeholdError
from safehold.model.ids import Digest, GroupName, party_of, sha256_digest
from safehold.vault.chunks import ChunkWriter
from safehold.vault.disk import FolderLock, storage_failed, sync_folder, write_new
from safehold.vault.envelope import Envelope, Signer, sign
from safehold.vault.fields import describe
from safehold.vault.file_tree import FileTree, FoundFile
from safehold.vault.hashed_file import HashedFile
from safehold.vault.manifest import (
    FILE_TYPE,
    MANIFEST_FILE,
    ColumnGroup,
    Field,
    Manifest,
    PartFile,
    RecordId,
    SourceFile,
    manifest_bytes,
    part_file_name,
    release_digest,
)
from safehold.vault.parquet_form import part_writer
from safehold.vault.part_keys import aad_text, check_key, key_commitment, new_part_key
from safehold.vault.seal import ReleaseSpec

__all__ = [
    "CONTENT",
    "NAMES",
    "NAMES_SCHEMA",
    "FileSeal",
    "KeyWrap",
    "Piece",
    "SealedFiles",
    "plan_parts",
    "publish_staging",
]

NAMES: Final = GroupName("names")
CONTENT: Final = GroupName("content")
NAMES_SCHEMA: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)
_PART_BYTES: Final = 64 << 20
_PART_PIECES: Final = 4096
_LEVEL: Final = 3


class KeyWrap(Protocol):
    """What keeps keys of finished parts safe on disk: the key-encryption key."""

    def wrap(self, key: bytes) -> bytes:
        """The key, wrapped."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key. Raises ``VerificationFailed`` (``vault.unwrap``)."""
        ...


class Piece(msgspec.Struct, frozen=True):
    """A stretch of a file, the unit of a row in ``names``."""

    file: FoundFile
    at: int
    length: int


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line of the journal: the plan first, then a part each, then the release."""

    plan: str | None = None
    files: tuple[PartFile, ...] | None = None
    keys: dict[str, str] | None = None
    pieces: str | None = None
    release: str | None = None


class SealedFiles(msgspec.Struct, frozen=True):
    """A sealed release of files whose parts were handed on, its manifest not yet published."""

    manifest: Manifest
    release: Digest
    envelope: Envelope
    keys: Mapping[str, bytes]


def plan_parts(files: Sequence[FoundFile], part_bytes: int = _PART_BYTES) -> list[list[Piece]]:
    """What goes into which part: files in order, none left out, an empty one as a piece of no bytes."""
    parts: list[list[Piece]] = [[]]
    room = part_bytes
    for file in files:
        at = 0
        while True:
            if not room or len(parts[-1]) == _PART_PIECES:
                parts.append([])
                room = part_bytes
            length = min(room, file.size - at)
            parts[-1].append(Piece(file, at, length))
            at, room = at + length, room - length
            if at == file.size:
                break
    return parts


_Keep = Callable[[Path, PartFile], None]
"""What to do with a finished, durable part file: leave it in the staging folder, or put it into a store."""

_Held = Callable[[Path, PartFile], None]
"""Raise if a part file that an earlier run finished is not where ``Keep`` put it."""


class FileSeal:
    """The sealing of one tree as one release. ``staging`` is the folder in which it works, beside the final one."""

    def __init__(
        self, tree: FileTree, spec: ReleaseSpec, staging: Path, wrap: KeyWrap, part_bytes: int = _PART_BYTES
    ) -> None:
        """Take the lock. Raises ``Conflict`` (``vault.busy``), ``InputInvalid`` (``vault.files_*``)."""
        self.staging = staging
        self._tree, self._spec, self._wrap = tree, spec, wrap
        self._journal = staging.with_name(f"{staging.name}.journal")
        if part_bytes < 1:
            raise InputInvalid("vault.seal_options", "a part has at least one byte")
        try:
            staging.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_failed(error, str(staging)) from error
        self._lock = FolderLock(staging.with_name(f"{staging.name}.lock"), str(staging))
        try:
            self.files = tree.files()
            self.parts = plan_parts(self.files, part_bytes)
            facts = [[file.path, file.size, file.state] for file in self.files]
            about = [spec.dataset, spec.version, part_bytes, tree.location.url]
            self._plan = sha256_digest(canonical_bytes([about, facts]))
            self._done: list[_Line] = []
        except BaseException:
            self._lock.release()
            raise

    def published_before(self) -> Digest | None:
        """The release that an earlier run of this very plan had sealed whole; it may be published already."""
        lines = self._lines()
        if len(lines) < 2 or lines[0].plan != self._plan or lines[-1].release is None:
            return None
        return Digest(lines[-1].release)

    def resume(self, held: _Held) -> int:
        """Read the journal; returns how many parts of an earlier run are kept. What is not is removed."""
        lines = self._lines()
        if not lines or lines[0].plan != self._plan:
            self._begin_anew()
            return 0
        for line in lines[1:]:
            if line.files is None:
                break
            try:
                self._check(line, held)
            except (SafeholdError, OSError):
                break
            self._done.append(line)
        self._rewrite_journal()
        return len(self._done)

    def seal(self, signer: Signer, keep: _Keep, progress: Callable[[int, int], None] | None = None) -> SealedFiles:
        """Seal what is not sealed yet, then sign. ``progress`` gets bytes done and in all.

        Raises what reading the tree, ``keep`` and the disk raise; then what was done stays for the next run.
        """
        total = sum(file.size for file in self.files)
        done = sum(piece.length for part in self.parts[: len(self._done)] for piece in part)
        for number in range(len(self._done), len(self.parts)):
            line = self._seal_part(number, keep)
            self._append(line)
            self._done.append(line)
            done += sum(piece.length for piece in self.parts[number])
            if progress is not None:
                progress(done, total)
        sealed = self._signed(signer)
        self._append(_Line(release=sealed.release))
        return sealed

    def finished(self) -> None:
        """The release is published and recorded: remove what only a next run would need."""
        with suppress(OSError):
            self._journal.unlink(missing_ok=True)
        shutil.rmtree(self.staging, ignore_errors=True)

    def release_lock(self) -> None:
        """Give the lock back; a second call does nothing."""
        self._lock.release()

    def _lines(self) -> list[_Line]:
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_failed(error, str(self._journal)) from error
        lines = []
        for text in data.split(b"\n")[:-1]:  # what has no line end was being written when its writer died
            try:
                lines.append(msgspec.json.decode(text, type=resolved(_Line)))
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
        return lines

    def _begin_anew(self) -> None:
        """Another plan, or none: keys in the journal open nothing that anyone will publish."""
        try:
            self._journal.unlink(missing_ok=True)
            shutil.rmtree(self.staging, ignore_errors=True)
            self.staging.mkdir(mode=0o700, exist_ok=True)
            self._append(_Line(plan=self._plan))
        except OSError as error:
            raise storage_failed(error, str(self.staging)) from error

    def _rewrite_journal(self) -> None:
        """The journal with the lines that still hold, and the staging folder with nothing else."""
        known = {file.file for line in self._done for file in line.files or ()}
        fresh = self._journal.with_name(f"{self._journal.name}.new")
        try:
            self.staging.mkdir(mode=0o700, exist_ok=True)
            for path in self.staging.iterdir():
                if path.name not in known:
                    path.unlink()
            fresh.unlink(missing_ok=True)
            lines = [_Line(plan=self._plan), *self._done]
            write_new(fresh, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            os.rename(fresh, self._journal)
            sync_folder(self._journal.parent)
        except OSError as error:
            raise storage_failed(error, str(self._journal)) from error

    def _append(self, line: _Line) -> None:
        try:
            descriptor = os.open(self._journal, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(line) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._journal.parent)
        except OSError as error:
            raise storage_failed(error, str(self._journal)) from error

    def _check(self, line: _Line, held: _Held) -> None:
        for file in line.files or ():
            self._key(line, file)
            held(self.staging / file.file, file)

    def _key(self, line: _Line, file: PartFile) -> bytes:
        wrapped = bytes.fromhex((line.keys or {}).get(file.file, ""))
        return check_key(self._wrap.unwrap(wrapped), file.aad, file.commitment, file.file)

    def _seal_part(self, number: int, keep: _Keep) -> _Line:
        pieces = self.parts[number]
        content = _PartSink(self.staging, self._spec, number, CONTENT)
        hashes = self._write_content(content, pieces)
        files = [self._write_names(number, pieces, hashes), content.finish(len(pieces))]
        made = [file for file, _ in files]
        for file in made:
            keep(self.staging / file.file, file)
        keys = {file.file: self._wrap.wrap(key).hex() for file, key in files}
        return _Line(files=tuple(made), keys=keys, pieces=sha256_digest(canonical_bytes(hashes)))

    def _write_content(self, sink: _PartSink, pieces: Sequence[Piece]) -> list[str]:
        hashes = []
        try:
            writer = ChunkWriter(sink.file, sink.key, sink.aad)
            for piece in pieces:
                hasher = hashlib.sha256()
                for data in self._tree.read(piece.file, piece.at, piece.length):
                    hasher.update(data)
                    writer.write(data)
                hashes.append("sha256:" + hasher.hexdigest())
            writer.finish()
        except OSError as error:
            sink.file.drop()
            raise storage_failed(error, str(self.staging)) from error
        except BaseException:
            sink.file.drop()
            raise
        return hashes

    def _write_names(self, number: int, pieces: Sequence[Piece], hashes: Sequence[str]) -> tuple[PartFile, bytes]:
        offset, rows = 0, []
        for piece, digest in zip(pieces, hashes, strict=True):
            rows.append((piece.file.path, piece.file.size, piece.at, piece.length, digest, offset))
            offset += piece.length
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), NAMES_SCHEMA, strict=True)
        ]
        sink = _PartSink(self.staging, self._spec, number, NAMES)
        try:
            writer = part_writer(sink.file, NAMES_SCHEMA, _LEVEL, sink.key, sink.aad)
            writer.write_table(pa.Table.from_arrays(columns, schema=NAMES_SCHEMA))
            sink.file.begin_tail()
            writer.close()
        except OSError as error:
            sink.file.drop()
            raise storage_failed(error, str(self.staging)) from error
        return sink.finish(len(pieces))

    def _signed(self, signer: Signer) -> SealedFiles:
        spec = self._spec
        facts = [[file.path, file.size] for file in self.files]
        listing = sha256_digest(canonical_bytes([facts, [line.pieces for line in self._done]]))
        names = tuple(describe(NAMES_SCHEMA))
        content = Field(
            name="content", type=FILE_TYPE, nullable=False, omit=False, integers=False, json=False, fields=()
        )
        source = SourceFile(
            name="files",
            format="files",
            sha256=listing,
            size=sum(file.size for file in self.files),
            rows=len(self.files),
            style=None,
        )
        rows = sum(len(part) for part in self.parts)
        manifest = Manifest(
            dataset=spec.dataset,
            version=spec.version,
            party=party_of(spec.dataset),
            customer=spec.customer,
            order=spec.order,
            host=spec.host,
            parent=spec.parent,
            classification=spec.classification,
            purposes=spec.purposes,
            people=spec.people,
            sources=(source,),
            columns=(*names, content),
            groups=(
                ColumnGroup(name=NAMES, columns=tuple(NAMES_SCHEMA.names)),
                ColumnGroup(name=CONTENT, columns=("content",)),
            ),
            record_id=RecordId(rule="record", column=None),
            compression=f"zstd:{_LEVEL}",
            rows=rows,
            part_rows=max(len(part) for part in self.parts),
            parts=tuple(file for line in self._done for file in line.files or ()),
            runs=(),
            sidecars=(),
        )
        body = manifest_bytes(manifest)
        keys = {file.file: self._key(line, file) for line in self._done for file in line.files or ()}
        return SealedFiles(manifest, release_digest(body), sign(body, signer), keys)


class _PartSink:
    """One part file while it is written, with its key."""

    def __init__(self, folder: Path, spec: ReleaseSpec, number: int, group: GroupName) -> None:
        self._spec, self._number, self._group = spec, number, group
        chunked = group == CONTENT
        self.name = part_file_name(spec.version, number, group, "chunks" if chunked else "parquet")
        self.key = new_part_key()
        self.aad = aad_text(party_of(spec.dataset), spec.dataset, spec.version, number, group)
        try:
            (folder / self.name).unlink(missing_ok=True)  # the lock is ours: its writer died
            self.file = HashedFile(folder / self.name, pieces=not chunked)
        except OSError as error:
            raise storage_failed(error, str(folder / self.name)) from error

    def finish(self, rows: int) -> tuple[PartFile, bytes]:
        try:
            self.file.finish()
        except OSError as error:
            self.file.drop()
            raise storage_failed(error, self.name) from error
        made = PartFile(
            sealed=self._spec.version,
            part=self._number,
            group=self._group,
            file=self.name,
            sha256=self.file.sha256,
            size=self.file.size,
            rows=rows,
            commitment=key_commitment(self.key, self.aad),
            aad=self.aad,
            tag="",
            rows_root=None,
            tail=self.file.tail,
        )
        return made, self.key


def publish_staging(seal: FileSeal, sealed: SealedFiles, folder: Path) -> Path:
    """Write the manifest beside the parts in the staging folder and give it its final name: the commit point.

    Raises ``Conflict`` (``vault.release_exists``) or ``StorageFailed``.
    """
    if os.path.lexists(folder):
        raise Conflict(
            "vault.release_exists", f"{folder} exists already", "a release never changes: seal the next version"
        )
    manifest = seal.staging / MANIFEST_FILE
    try:
        manifest.unlink(missing_ok=True)
        write_new(manifest, sealed.envelope.encode())
        sync_folder(seal.staging)
        os.rename(seal.staging, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_failed(error, str(folder)) from error
    return folder
