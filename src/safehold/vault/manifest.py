"""What a release says of itself. The digest of these bytes *is* the release.

An in-toto Statement v1 (https://github.com/in-toto/attestation, spec/v1/statement.md) in canonical form: its
subjects are the part files with the SHA-256 of their ciphertext, its predicate is ``Manifest``. Every byte is
covered by the supplier's signature (``envelope``) and by the release's digest, which the ledger holds.

Reading is strict: one canonical form, no unknown field, every id parsed, every part named once, nothing that
could be a path. A predicate type from the future is named as such, not half understood.

The manifest is public to whoever holds the release: it names columns, counts and input files, never values.
Manifests of versions 1 and 2 are read too (``manifest_older``), version 1 told by ``numbered``; none is written any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from safehold.model.encoding import canonical_bytes, decode_canonical, resolved, typed_bytes
from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.model.ids import (
    DatasetId,
    Digest,
    GroupName,
    HostId,
    PartyId,
    Purpose,
    parse_dataset_id,
    parse_digest,
    parse_group_name,
    parse_host_id,
    parse_party_id,
    parse_purpose,
    party_of,
    sha256_digest,
)
from safehold.model.statements import SubjectCount
from safehold.vault.manifest_older import PREDICATE_TYPE_V1, PREDICATE_TYPE_V2, upgraded
from safehold.vault.part_keys import aad_text

__all__ = [
    "FILE_TYPE",
    "MANIFEST_FILE",
    "MAX_MANIFEST_BYTES",
    "MAX_TAIL_BYTES",
    "PREDICATE_TYPE",
    "ROW_COLUMN",
    "ColumnGroup",
    "Field",
    "Manifest",
    "PartFile",
    "RecordId",
    "Run",
    "Sidecar",
    "SourceFile",
    "Tail",
    "TextStyle",
    "manifest_bytes",
    "parse_manifest",
    "part_file_name",
    "release_digest",
    "walk_fields",
]

MANIFEST_FILE: Final = "manifest.json"
PREDICATE_TYPE: Final = "urn:safehold:release:v3"
FILE_TYPE: Final = "file"
"""The type of the one column of a group whose part files are chunk containers and no tables (``chunks``)."""

MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
ROW_COLUMN: Final = "_safehold_row"
"""The hidden column of the part files of version 1: the record's place in the input, from 0."""

_OLDER: Final = frozenset({PREDICATE_TYPE_V1, PREDICATE_TYPE_V2})
MAX_TAIL_BYTES: Final = 64 * 1024 * 1024
"""A reader holds a tail in memory. A part file with a longer one (millions of pages) is given none and is read whole."""

_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_FILE_RE: Final = re.compile(r"[1-9][0-9]{0,8}-[0-9]{5}-[a-z0-9][a-z0-9._-]{0,63}\.(parquet|chunks)")
_TAG_RE: Final = re.compile(r"[0-9a-f]{16}|")
_SIDECAR_RE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\.(json|jsonld)")
_MAX_RUNS: Final = 1_000_000
_MAX_DEPTH: Final = 28
"""Of nested columns. Canonical bytes end at 64 levels, and a field takes two."""

_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Name = Annotated[str, Meta(min_length=1, max_length=1024)]
_Short = Annotated[str, Meta(max_length=256)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All fields given, none unknown."""


class TextStyle(_Strict, frozen=True, kw_only=True):
    """How a text file was written, where one style fits every line: then ``open`` gives the same bytes back."""

    form: Literal["json", "json-compact", "json-utf8", "json-utf8-compact", "csv", "csv-quoted"]
    crlf: bool
    last_line_ends: bool


class SourceFile(_Strict, frozen=True, kw_only=True):
    """An input file as it was read: base name, format, SHA-256 and size in bytes, records, style if it had one."""

    name: _Name
    format: Literal["jsonl", "csv", "parquet", "arrow", "batches", "files"]
    sha256: Digest
    size: _Count
    rows: _Count
    style: TextStyle | None


class Field(_Strict, frozen=True, kw_only=True):
    """A column, or a member of a nested one.

    ``type`` is ``list``, ``struct``, ``map`` (sealed as a list of structs of its two fields, key and value), or Arrow's own
    name of any other type. Three rules restore what Arrow cannot hold: ``omit`` says that a null here stands for a
    member that was absent, ``integers`` that a whole number here was written as an integer, and ``json`` that the
    text here is the JSON of a value, because the values of this place have no one Arrow type.
    """

    name: Annotated[str, Meta(max_length=1024)]
    type: Annotated[str, Meta(min_length=1, max_length=1024)]
    nullable: bool
    omit: bool
    integers: bool
    json: bool
    fields: tuple[Field, ...]


class ColumnGroup(_Strict, frozen=True, kw_only=True):
    """Columns that share one key a part."""

    name: GroupName
    columns: tuple[str, ...]


class RecordId(_Strict, frozen=True, kw_only=True):
    """What tells where a part ends: the value of ``column``, or the shape of the whole record; see ``cut``."""

    rule: Literal["column", "record"]
    column: str | None


class Tail(_Strict, frozen=True, kw_only=True):
    """The last ``size`` bytes of a part file and their SHA-256: digests of its pieces, and its footer (``pieces``)."""

    size: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    sha256: Digest


class PartFile(_Strict, frozen=True, kw_only=True):
    """One encrypted Parquet file: a part of one column group. ``sha256`` and ``size`` are of the ciphertext.

    ``sealed`` is the version in which the file was made; a later release that holds the same records names the same
    file. ``tag`` tells the next sealing, which knows the dataset's secret, where to look for them; it may be empty.
    ``rows_root`` is the root of the digests of its records (``rows``), or null where none were made. ``tail``: what lets
    some columns be checked alone; null in chunk containers, and in files that were sealed before version 3.
    """

    sealed: Annotated[int, Meta(ge=1, le=999_999_999)]
    part: Annotated[int, Meta(ge=0, le=99_999)]
    group: GroupName
    file: str
    sha256: Digest
    size: _Count
    rows: _Count
    commitment: Digest
    aad: str
    tag: str
    rows_root: Digest | None
    tail: Tail | None


class Run(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """``rows`` records of one part, from its record ``first`` on."""

    part: Annotated[int, Meta(ge=0, le=99_999)]
    first: _Count
    rows: Annotated[int, Meta(ge=1, le=2**53 - 1)]


class Sidecar(_Strict, frozen=True, kw_only=True):
    """A file for other tools beside the parts: public, and bound by its digest. ``name`` is that of the file."""

    name: str
    sha256: Digest
    size: _Count


class Manifest(_Strict, frozen=True, kw_only=True):
    """The predicate: all that a release says of itself. ``parent`` is the release that this one replaces.

    ``runs`` is the order of the records, where it is not simply every part whole, one after the other. Records of a
    part that no run names do not belong to this release. ``part_rows``: about how many records a part was given.
    """

    dataset: DatasetId
    version: Annotated[int, Meta(ge=1, le=999_999_999)]
    party: PartyId
    customer: PartyId
    order: _Short | None
    host: HostId | None
    parent: Digest | None
    classification: Annotated[str, Meta(min_length=1, max_length=256)]
    purposes: tuple[Purpose, ...]
    people: tuple[SubjectCount, ...]
    sources: tuple[SourceFile, ...]
    columns: tuple[Field, ...]
    groups: tuple[ColumnGroup, ...]
    record_id: RecordId
    compression: _Short
    rows: _Count
    part_rows: _Count
    parts: tuple[PartFile, ...]
    runs: tuple[Run, ...]
    sidecars: tuple[Sidecar, ...]

    @property
    def numbered(self) -> bool:
        """Whether it is of version 1: its part files hold the places of their records and must be merged."""
        return not _FILE_RE.fullmatch(self.parts[0].file)

    @property
    def chunked(self) -> frozenset[str]:
        """The groups whose part files are chunk containers: those of a single column of the type ``file``."""
        files = {column.name for column in self.columns if column.type == FILE_TYPE}
        return frozenset(group.name for group in self.groups if files & set(group.columns))

    def sequence(self) -> tuple[Run, ...]:
        """The order of the records, always spelled out. Not for version 1, whose parts must be merged."""
        if self.runs:
            return self.runs
        rows = {part.part: part.rows for part in self.parts}
        return tuple(Run(number, 0, count) for number, count in rows.items())

    @property
    def size(self) -> int:
        """Sum of the ciphertext bytes of all part files."""
        return sum(part.size for part in self.parts)

    def files(self, groups: Iterable[str] | None = None) -> tuple[PartFile, ...]:
        """The part files of ``groups`` (all if None), ordered by part, then as the groups stand here."""
        wanted = {group.name for group in self.groups} if groups is None else set(groups)
        return tuple(part for part in self.parts if part.group in wanted)


class _Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    digest: dict[str, str]


class _Statement(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"type_": "_type", "predicate_type": "predicateType"},
):
    type_: str
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: Manifest


def part_file_name(sealed: int, part: int, group: GroupName, form: Literal["parquet", "chunks"] = "parquet") -> str:
    """The name of a part file: version that made it, number, column group; never anything from the data."""
    return f"{sealed}-{part:05d}-{group}.{form}"


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the in-toto Statement in canonical form, checked as a reader will check it.

    Raises ``InputInvalid`` (``model.*``, ``id.*``, ``vault.manifest_size``) or ``VerificationFailed``
    (``vault.manifest_altered``) for what no reader would accept.
    """
    subjects = tuple(_Subject(part.file, {"sha256": part.sha256.removeprefix("sha256:")}) for part in manifest.parts)
    body = canonical_bytes(_Statement(_STATEMENT_TYPE, subjects, PREDICATE_TYPE, manifest))
    parse_manifest(body)
    return body


def release_digest(body: bytes) -> Digest:
    """The identity of a release: SHA-256 of its manifest's payload, whoever signed it."""
    return sha256_digest(body)


def parse_manifest(body: bytes) -> Manifest:
    """Return the manifest in ``body``.

    Raises ``InputInvalid`` (``vault.manifest_size``, ``vault.manifest_version``) or ``VerificationFailed``
    (``vault.manifest_altered``) for anything that ``manifest_bytes`` would not have written.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise InputInvalid(
            "vault.manifest_size",
            f"a manifest of {len(body):,} bytes exceeds {MAX_MANIFEST_BYTES:,}",
            "use larger parts",
        )
    known = _parse_known(body)
    if known is not None:
        _check_statement(known, first=False)
        return known.predicate
    try:
        plain: Any = decode_canonical(body)
        kind = plain.get("predicateType") if isinstance(plain, dict) else None
        if isinstance(kind, str) and kind not in (PREDICATE_TYPE, *_OLDER):
            raise InputInvalid(
                "vault.manifest_version",
                f"this manifest is of a kind that is not known here: {kind[:80]!r}",
                "open it with a newer Safehold",
            )
        if isinstance(kind, str) and kind in _OLDER:
            plain = plain | {"predicate": upgraded(kind, plain.get("predicate"))}
        statement = msgspec.convert(plain, resolved(_Statement))
    except msgspec.ValidationError as error:
        raise _altered(str(error)) from error
    except InputInvalid as error:
        if error.code.startswith("model."):
            raise _altered(error.message) from error
        raise
    _check_statement(statement, first=kind == PREDICATE_TYPE_V1)
    return statement.predicate


def _parse_known(body: bytes) -> _Statement | None:
    """The statement if its type gives back these very bytes: then they are canonical. None: the long way says what is wrong.

    Several times as fast, and a manifest may name 10,000 parts.
    """
    try:
        statement = _decoder().decode(body)
        return statement if statement.predicate_type == PREDICATE_TYPE and typed_bytes(statement) == body else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@cache
def _decoder() -> msgspec.json.Decoder[_Statement]:
    return msgspec.json.Decoder(resolved(_Statement))


def _altered(reason: str) -> VerificationFailed:
    return VerificationFailed("vault.manifest_altered", f"the manifest is not well formed: {reason}")


def _check_statement(statement: _Statement, *, first: bool) -> None:
    manifest = statement.predicate
    if statement.type_ != _STATEMENT_TYPE:
        raise _altered("it is no in-toto Statement v1")
    expected = [(part.file, {"sha256": part.sha256.removeprefix("sha256:")}) for part in manifest.parts]
    if [(subject.name, subject.digest) for subject in statement.subject] != expected:
        raise _altered("its subjects are not its part files")
    _check_ids(manifest)
    _check_columns(manifest)
    _check_parts(manifest, first=first)
    if first:
        _check_rows(manifest, [Run(number, 0, rows) for number, rows in _rows_of(manifest).items() if rows])
    else:
        _check_rows(manifest, manifest.sequence())
    _check_sidecars(manifest)


def _check_ids(manifest: Manifest) -> None:
    try:
        parse_dataset_id(manifest.dataset)
        parse_party_id(manifest.party)
        parse_party_id(manifest.customer)
        _each(parse_purpose, manifest.purposes)
        _each(parse_host_id, [manifest.host] if manifest.host is not None else [])
        _each(parse_digest, [manifest.parent] if manifest.parent is not None else [])
        _each(parse_digest, (source.sha256 for source in manifest.sources))
        _each(parse_group_name, (group.name for group in manifest.groups))
        for part in manifest.parts:
            parse_digest(part.sha256)
            parse_digest(part.commitment)
        _each(parse_digest, (part.rows_root for part in manifest.parts if part.rows_root is not None))
        _each(parse_digest, (part.tail.sha256 for part in manifest.parts if part.tail is not None))
        _each(parse_digest, (sidecar.sha256 for sidecar in manifest.sidecars))
    except InputInvalid as error:
        raise _altered(error.message) from error
    if party_of(manifest.dataset) != manifest.party:
        raise _altered("its dataset belongs to another party")
    if any(person.count < 0 for person in manifest.people):
        raise _altered("a count of people is below zero")
    if any("/" in source.name or "\x00" in source.name for source in manifest.sources):
        raise _altered("a source's name is a path")


def _each(parse: Callable[[str], object], texts: Iterable[str]) -> None:
    for text in texts:
        parse(text)


def _check_columns(manifest: Manifest) -> None:
    names = [column.name for column in manifest.columns]
    grouped = [column for group in manifest.groups for column in group.columns]
    if not names or len(set(names)) != len(names):
        raise _altered("it has no columns, or one twice")
    if sorted(grouped) != sorted(names) or not all(group.columns for group in manifest.groups):
        raise _altered("a column is not in exactly one group, or a group is empty")
    if len({group.name for group in manifest.groups}) != len(manifest.groups):
        raise _altered("a group is named twice")
    if any(len(group.columns) > 1 for group in manifest.groups if group.name in manifest.chunked):
        raise _altered("a group of files has further columns")
    if (manifest.record_id.rule == "column") != (manifest.record_id.column in names):
        raise _altered("its record id is no column")
    for field, depth in walk_fields(manifest.columns):
        if depth > _MAX_DEPTH or bool(field.fields) != (field.type in {"list", "struct", "map"}):
            raise _altered(f"column {field.name[:80]!r} is too deep or has the wrong members")
        if field.type == "list" and len(field.fields) != 1:
            raise _altered(f"list {field.name[:80]!r} has not one kind of element")
        if field.type == FILE_TYPE and depth:
            raise _altered(f"file {field.name[:80]!r} is no column of its own")
        if field.type == "map" and len(field.fields) != 2:
            raise _altered(f"map {field.name[:80]!r} has not a key and a value")


def walk_fields(fields: tuple[Field, ...], depth: int = 0) -> Iterable[tuple[Field, int]]:
    """All fields, nested ones after their parent, with their depth from 0."""
    for field in fields:
        yield field, depth
        yield from walk_fields(field.fields, depth + 1)


def _check_parts(manifest: Manifest, *, first: bool) -> None:
    order = {group.name: place for place, group in enumerate(manifest.groups)}
    places = [(part.part, order.get(part.group, -1)) for part in manifest.parts]
    if any(place < 0 for _, place in places):
        raise _altered("a part file is of a group that is not listed")
    if not places or places != sorted(set(places)) or len(places) != len({part for part, _ in places}) * len(order):
        raise _altered("part files are missing, listed twice or out of order")
    chunked = manifest.chunked
    for part in manifest.parts:
        name = f"{part.part:05d}-{part.group}.parquet"
        if not first:
            name = part_file_name(part.sealed, part.part, part.group, "chunks" if part.group in chunked else "parquet")
        if part.file != name or not (first or _FILE_RE.fullmatch(part.file)):
            raise _altered(f"a part file is named {part.file[:80]!r}")
        if part.sealed > manifest.version or not _TAG_RE.fullmatch(part.tag):
            raise _altered(f"{part.file} is of a later version, or its tag is none")
        if part.aad != aad_text(manifest.party, manifest.dataset, part.sealed, part.part, part.group):
            raise _altered(f"{part.file} is bound to another place")
        if part.tail is not None and (part.tail.size > min(part.size, MAX_TAIL_BYTES) or part.group in chunked):
            raise _altered(f"{part.file} cannot have such a tail")
    rows = _rows_of(manifest)
    if any(rows[part.part] != part.rows for part in manifest.parts):
        raise _altered("the files of a part differ in rows")


def _rows_of(manifest: Manifest) -> dict[int, int]:
    return {part.part: part.rows for part in manifest.parts}


def _check_rows(manifest: Manifest, order: Sequence[Run]) -> None:
    rows = _rows_of(manifest)
    if len(order) > _MAX_RUNS or any(run.first + run.rows > rows.get(run.part, 0) for run in order):
        raise _altered("a run names records that its part does not have")
    if sum(run.rows for run in order) != manifest.rows or not manifest.rows:
        raise _altered("its parts do not add up to its rows")
    if {run.part for run in order} != rows.keys():
        raise _altered("a part belongs to it without a record")
    last: dict[int, int] = {}
    for run in order:
        # Within a part the order never turns back: so no record comes twice, and a part is read in one pass.
        if run.first < last.get(run.part, 0):
            raise _altered("a record stands twice in its order, or before its place")
        last[run.part] = run.first + run.rows


def _check_sidecars(manifest: Manifest) -> None:
    names = [sidecar.name for sidecar in manifest.sidecars]
    if names != sorted(set(names)) or not all(_SIDECAR_RE.fullmatch(name) for name in names):
        raise _altered("a sidecar is named twice, out of order, or like no sidecar")
    if MANIFEST_FILE in names:
        raise _altered("a sidecar is named like the manifest")
