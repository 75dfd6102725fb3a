"""Proofs that one record belongs to a release: made by who has its keys, checked by anyone, offline, without a key.

A proof is a JSON file: the signed manifest, the place of the record (part, and record in it), and for each column group
that it shows the record's bytes, their salt and the path to ``rows_root`` (``vault.row_digests``). With the receipt of the
release's entry it also says that the ledger named this release. Groups that it does not show stay closed, and no other
record is told of.

What a check means, in its order: 1 form and sizes · 2 the manifest is one, of the release expected · 3 signatures · 4 receipt:
the ledger has an entry that seals this very release · 5 the part and its digests are in the manifest · 6 the record belongs:
one of the release's runs covers its place · 7 each group's path leads to its root · 8 the bytes are values of its columns.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from safehold.assembly.row_tree import row_path
from safehold.ledger.note import NoteVerifier
from safehold.ledger.policy import Policy
from safehold.ledger.proof import verify_inclusion
from safehold.ledger.receipt import VerifiedEntry, verify_receipt
from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.model.statements import ReleaseSealed, decode
from safehold.vault.envelope import Envelope, Verifier, check_signature, parse_envelope
from safehold.vault.fields import record_of
from safehold.vault.manifest import Field, Manifest, PartFile, Run, parse_manifest, release_digest
from safehold.vault.open import OpenedRelease
from safehold.vault.row_digests import SALT_BYTES, row_entries, row_entry, row_salts
from safehold.vault.row_form import decode_row, rows_of

__all__ = [
    "MAX_PROOF_BYTES",
    "Found",
    "ProofTerms",
    "ProvenRecord",
    "exact_form",
    "find_record",
    "make_proof",
    "verify_proof",
]

MAX_PROOF_BYTES: Final = 128 * 1024 * 1024
_FORM: Final = "safehold record proof v1"


class _Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column group of a proof; everything in base64."""

    row: str
    salt: str
    path: tuple[str, ...]


class _Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    form: str
    manifest: Envelope
    part: int
    record: int
    groups: dict[str, _Shown]
    receipt: str | None


class Found(msgspec.Struct, frozen=True):
    """Where a record is: in which part, at which place in it, at which place of the release (from 0).

    ``others`` more records of the release are equal in what was asked for.
    """

    part: int
    record: int
    place: int
    others: int


class ProvenRecord(msgspec.Struct, frozen=True):
    """A record that was proven to be at ``place`` of a release: made by ``verify_proof`` and by nothing else.

    ``values`` are its members in the groups shown; ``closed`` the groups that are not. ``entry`` is the ledger's, None
    where no receipt was checked. ``signers`` are the fingerprints of the keys that were given and hold.
    """

    release: Digest
    manifest: Manifest
    place: int
    values: Mapping[str, Any]
    groups: tuple[str, ...]
    closed: tuple[str, ...]
    entry: VerifiedEntry | None
    signers: tuple[str, ...]


class ProofTerms(msgspec.Struct, frozen=True):
    """What whoever checks a proof knows already; each that is given must hold."""

    digest: Digest | None = None
    signers: Sequence[Verifier] = ()
    ledger: NoteVerifier | None = None
    policy: Policy | None = None


def find_record(
    opened: OpenedRelease, wanted: Mapping[str, Any], progress: Callable[[int], None] | None = None
) -> Found:
    """The first record whose members include ``wanted``; ``progress`` gets the records looked at.

    Raises ``InputInvalid`` (``vault.column_unknown``, ``assembly.nothing_wanted``) and ``NotFound``
    (``assembly.record_absent``).
    """
    if not wanted:
        raise InputInvalid("assembly.nothing_wanted", "no member of the record is named", "give one column at least")
    names = {column.name for column in opened.columns}
    for name in wanted:
        if name not in names:
            raise InputInvalid(
                "vault.column_unknown",
                f"there is no open column {name[:80]!r}",
                f"the open columns are: {', '.join(sorted(names)[:12])}",
            )
    chosen = [column for column in opened.columns if column.name in wanted]
    sought = exact_form({column.name: wanted[column.name] for column in chosen})
    first: Found | None = None
    others = done = 0
    for run in opened.manifest.sequence():
        at = run.first
        for batch in opened.run_batches(run, [column.name for column in chosen]):
            columns = [batch.column(place).to_pylist() for place in range(len(chosen))]
            for offset, values in enumerate(zip(*columns, strict=True)):
                if exact_form(record_of(values, chosen)) != sought:
                    continue
                if first is None:
                    first = Found(run.part, at + offset, done + offset, 0)
                else:
                    others += 1
            at += batch.num_rows
            done += batch.num_rows
            if progress is not None:
                progress(done)
    if first is None:
        raise NotFound(
            "assembly.record_absent",
            f"none of the {done:,} records of {opened.manifest.dataset}@{opened.manifest.version} is this one",
            "compare its members with a record of the release: numbers and texts must be the same",
        )
    return msgspec.structs.replace(first, others=others)


def exact_form(value: Any) -> str:
    """A text of a value: tells 1 from 1.0 from true; the order of members means nothing."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name!r}:{exact_form(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(exact_form, value)) + "]"
    return repr(value)


def make_proof(
    opened: OpenedRelease, keys: Mapping[str, bytes], envelope: Envelope, found: Found, receipt: bytes | None
) -> bytes:
    """The proof for a record in all open column groups that are tables.

    Raises ``NotFound`` (``assembly.no_row_digests``) where the part was sealed without digests of its records, and what
    reading the part raises.
    """
    shown = dict[str, _Shown]()
    for file in opened.manifest.parts:
        group = next((one for one in opened.groups if one.name == file.group), None)
        if file.part != found.part or group is None or file.group in opened.manifest.chunked:
            continue
        if file.rows_root is None:
            raise NotFound(
                "assembly.no_row_digests",
                f"{opened.manifest.dataset}@{opened.manifest.version} holds no digests of its records",
                "seal the next version with --row-digests: unchanged parts stay and get theirs",
            )
        rows = list(rows_of(opened.run_batches(Run(file.part, 0, file.rows), group.columns), group.columns))
        entries = row_entries(rows, keys[file.file], file.aad)
        salt = row_salts(keys[file.file], file.aad)(found.record)
        path = tuple(map(_text, row_path(entries, found.record)))
        shown[file.group] = _Shown(_text(rows[found.record]), _text(salt), path)
    proof = _Proof(_FORM, envelope, found.part, found.record, shown, None if receipt is None else _text(receipt))
    return canonical_bytes(proof)


def verify_proof(data: bytes, terms: ProofTerms) -> ProvenRecord:
    """The record that ``data`` proves; see the module for the order of the checks.

    Raises ``VerificationFailed``: ``assembly.proof_form``, ``assembly.proof_release``, ``assembly.proof_receipt``,
    ``assembly.proof_part``, ``assembly.proof_not_in_release``, ``assembly.proof_record``, ``vault.row_form``, and what the
    checks of envelope, manifest, signature and receipt raise.
    """
    proof = _parse(data)  # 1
    body = proof.manifest.body
    manifest, release = parse_manifest(body), release_digest(body)  # 2
    if terms.digest is not None and terms.digest != release:
        raise VerificationFailed(
            "assembly.proof_release", f"the proof is of {release}, not of {terms.digest}", "ask for a proof of that one"
        )
    signers = tuple(check_signature(proof.manifest, signer).keyid for signer in terms.signers)  # 3
    entry = _checked_receipt(proof, release, terms)  # 4
    files = _files(proof, manifest)  # 5
    place = _place(proof, manifest)  # 6
    values = dict[str, Any]()
    for name, shown in proof.groups.items():
        values |= _checked_group(files[name], shown, proof.record, _columns(manifest, name))  # 7, 8
    order = [column.name for column in manifest.columns if column.name in values]
    return ProvenRecord(
        release=release,
        manifest=manifest,
        place=place,
        values={name: values[name] for name in order},
        groups=tuple(group.name for group in manifest.groups if group.name in proof.groups),
        closed=tuple(group.name for group in manifest.groups if group.name not in proof.groups),
        entry=entry,
        signers=signers,
    )


def _parse(data: bytes) -> _Proof:
    if len(data) > MAX_PROOF_BYTES:
        raise _malformed("it is larger than 128 MiB")
    try:
        proof = msgspec.json.decode(data, type=resolved(_Proof))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(str(error)[:200]) from error
    if proof.form != _FORM or not proof.groups or len(proof.groups) > 1024 or min(proof.part, proof.record) < 0:
        raise _malformed("it is of another form, or shows nothing")
    parse_envelope(proof.manifest.encode())  # its own checks: type, number and form of the signatures
    return proof


def _checked_receipt(proof: _Proof, release: Digest, terms: ProofTerms) -> VerifiedEntry | None:
    if terms.ledger is None:
        return None
    if proof.receipt is None:
        raise VerificationFailed(
            "assembly.proof_receipt",
            "the proof holds no receipt of the release's entry",
            "check it without --verifier, or ask for one with its receipt",
        )
    entry = verify_receipt(_bytes(proof.receipt), terms.ledger, terms.policy)
    try:
        statement = decode(entry.body)
    except SafeholdError as error:
        raise _other_entry(entry.index) from error
    if not isinstance(statement, ReleaseSealed) or statement.release != release:
        raise _other_entry(entry.index)
    return entry


def _other_entry(index: int) -> VerificationFailed:
    return VerificationFailed(
        "assembly.proof_receipt", f"entry {index} of the ledger does not seal this release", "ask for the proof anew"
    )


def _files(proof: _Proof, manifest: Manifest) -> dict[str, PartFile]:
    files = {file.group: file for file in manifest.parts if file.part == proof.part}
    for name in proof.groups:
        file = files.get(name)  # type: ignore[call-overload]  # a name that is no group is found in no part
        if file is None or file.rows_root is None or name in manifest.chunked:
            raise VerificationFailed(
                "assembly.proof_part",
                f"the manifest holds no digests of records for {name[:64]!r} of part {proof.part}",
                "ask for the proof anew",
            )
    return {str(group): file for group, file in files.items()}


def _place(proof: _Proof, manifest: Manifest) -> int:
    """The place of the record in the release."""
    before = 0
    for run in manifest.sequence():
        if run.part == proof.part and run.first <= proof.record < run.first + run.rows:
            return before + proof.record - run.first
        before += run.rows
    raise VerificationFailed(
        "assembly.proof_not_in_release",
        f"record {proof.record} of part {proof.part} does not belong to this release: it was removed or replaced",
        "ask for a proof by the release that holds it",
    )


def _columns(manifest: Manifest, name: str) -> list[Field]:
    columns = {column.name: column for column in manifest.columns}
    group = next(one for one in manifest.groups if one.name == name)
    return [columns[column] for column in group.columns]


def _checked_group(file: PartFile, shown: _Shown, place: int, columns: Sequence[Field]) -> dict[str, Any]:
    salt, row = _bytes(shown.salt), _bytes(shown.row)
    if (
        len(salt) != SALT_BYTES
    ):  # of one length: else a longer one could be hashed first and stand for another (RFC 2104)
        raise _malformed("a salt has another length")
    root = bytes.fromhex(str(file.rows_root).removeprefix("sha256:"))
    try:
        verify_inclusion(row_entry(salt, row), place, file.rows, [_bytes(one) for one in shown.path], root)
    except VerificationFailed as error:
        raise VerificationFailed(
            "assembly.proof_record",
            f"this is not record {place} of {file.file}: its digest does not lead to the one that was signed",
            "ask for the proof anew",
        ) from error
    return record_of(decode_row(row, columns), columns)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("its base64 is broken") from error
    if base64.b64encode(data).decode() != text:
        raise _malformed("its base64 is not in the one usual form")
    return data


def _malformed(reason: str) -> VerificationFailed:
    return VerificationFailed("assembly.proof_form", f"this is no proof of a record: {reason}", "ask for it anew")
