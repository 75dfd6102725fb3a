"""Signed bundles of advisories: a list of files by digest, numbered by its source, signed by the source's SSH key.

A bundle is a folder, or the same behind a URL: ``bundle.json`` (canonical: form, source, number, time, files), its SSHSIG
signature ``bundle.json.sig`` in the namespace ``safehold-advisories``, and ``files/HEX.json`` by SHA-256. Nothing of it is
parsed before the signature by the key that is trusted for its source has been checked; each file's bytes are those that
the list names. The number only grows: whoever keeps back what a source said later, by an older bundle, is found out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec

from safehold.inventory.advisories import MAX_ADVISORY_BYTES, AdvisoryReading, parse_advisory, read_advisories
from safehold.inventory.documents import AdvisoryDocument
from safehold.ledger import sshsig
from safehold.ledger.export import write_file
from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.source import Source
from safehold.model.encoding import canonical_bytes, decode_canonical, resolved
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import Digest, sha256_digest

__all__ = ["NAMESPACE", "Bundle", "BundleFile", "check_source", "make_bundle", "open_bundle", "read_bundle"]

NAMESPACE: Final = "safehold-advisories"
_FORM: Final = "safehold-advisories-v1"
_LIST: Final = "bundle.json"
_MAX_LIST_BYTES: Final = 32 << 20
_MAX_SIGNATURE_BYTES: Final = 4_096
_SOURCE: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class BundleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One advisory: its digest, and the name that it is called by if it has no id of its own."""

    digest: Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
    name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]{1,127}\Z")]


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a source lists at one time (µs UTC). ``number`` grows from bundle to bundle."""

    files: tuple[BundleFile, ...]
    form: str
    made: Annotated[int, msgspec.Meta(ge=0)]
    number: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    source: str

    @property
    def digest(self) -> Digest:
        """What tells two bundles of one number apart."""
        return sha256_digest(canonical_bytes(self))


def check_source(source: str) -> str:
    """Return ``source`` if it is a usable name. Raises ``InputInvalid`` (``inventory.bundle_source``)."""
    if not _SOURCE.fullmatch(source):
        raise InputInvalid(
            "inventory.bundle_source", f"{source[:80]!r} is no name of a source", "lower-case letters, digits and - . _"
        )
    return source


def open_bundle(tree: Source, trusted: Mapping[str, PublicKey]) -> Bundle:
    """The list of a bundle, signed by the key that is ``trusted`` for its source (key by source).

    Raises ``NotFound`` (``inventory.bundle_missing``), ``VerificationFailed`` (``inventory.bundle_unsigned``,
    ``inventory.bundle_key``), ``InputInvalid`` (``inventory.bundle_form``) and what ``tree`` raises.
    """
    data = tree.read(_LIST, _MAX_LIST_BYTES)
    if data is None:
        raise NotFound(
            "inventory.bundle_missing", f"{tree.name} has no {_LIST}", "unsigned files: safehold advisory add FOLDER"
        )
    signature = tree.read(_LIST + ".sig", _MAX_SIGNATURE_BYTES)
    if signature is None:
        raise VerificationFailed(
            "inventory.bundle_unsigned", f"{tree.name} is not signed", "ask its source; nothing of it was read"
        )
    signer = _signer(signature, data, trusted, tree.name)
    try:
        bundle = msgspec.convert(decode_canonical(data), resolved(Bundle))
    except (InputInvalid, msgspec.ValidationError) as error:
        raise InputInvalid("inventory.bundle_form", f"{tree.name} is no list of advisories: {error}") from error
    if bundle.form != _FORM:
        raise InputInvalid("inventory.bundle_form", f"{tree.name} has the form {bundle.form[:40]!r}, not {_FORM}")
    if bundle.source != signer:
        raise VerificationFailed(
            "inventory.bundle_key",
            f"{tree.name} speaks for {bundle.source[:80]!r} and is signed by {signer}",
            "ask both",
        )
    return bundle


def _signer(signature: bytes, data: bytes, trusted: Mapping[str, PublicKey], name: str) -> str:
    for source, key in sorted(trusted.items()):
        with suppress(VerificationFailed):
            sshsig.verify(signature, data, NAMESPACE, key)
            return source
    raise VerificationFailed(
        "inventory.bundle_key",
        f"{name} is not signed, as it is, by a source that is trusted here",
        "trust its key first, if you know it: safehold advisory trust SOURCE KEY.pub",
    )


def read_bundle(tree: Source, bundle: Bundle, known: frozenset[str]) -> AdvisoryReading:
    """The advisories of a bundle that are not ``known`` by digest; those that cannot be used are among ``failures``.

    Raises ``VerificationFailed`` (``inventory.bundle_file``) where a file is gone or is not what the list names: then
    the copy is damaged, or somebody chose for us what to see.
    """
    documents: list[AdvisoryDocument] = []
    failures: list[tuple[str, SafeholdError]] = []
    for one in bundle.files:
        if one.digest in known:
            continue
        body = tree.read(f"files/{one.digest.removeprefix('sha256:')}.json", MAX_ADVISORY_BYTES + 1)
        if body is None or sha256_digest(body) != one.digest:
            raise VerificationFailed(
                "inventory.bundle_file", f"{one.name} in {tree.name} is not what its list names", "fetch it again"
            )
        try:
            documents.append(parse_advisory(body, one.name))
        except SafeholdError as error:
            failures.append((one.name, error))
    return AdvisoryReading(tuple(documents), tuple(failures))


def make_bundle(files: Path, out: Path, bundle: tuple[str, int, int], key: SigningKey) -> Bundle:
    """Write a signed bundle of all advisories below ``files``; ``bundle`` is source, number and time (µs UTC).

    Raises what ``read_advisories`` raises; a file that is no advisory is refused with its own error: a source signs what
    others can read.
    """
    source, number, made = bundle
    reading = read_advisories(files)
    for name, error in reading.failures:
        error.add_note(f"in {name}")
        raise error
    listed = {one.digest: BundleFile(digest=one.digest, name=one.advisory) for one in reading.documents}
    told = Bundle(
        files=tuple(listed[digest] for digest in sorted(listed)),
        form=_FORM,
        made=made,
        number=number,
        source=check_source(source),
    )
    data = canonical_bytes(told)
    (out / "files").mkdir(parents=True, exist_ok=True)
    for document in reading.documents:
        write_file(out / "files" / f"{document.digest.removeprefix('sha256:')}.json", document.body)
    write_file(out / f"{_LIST}.sig", sshsig.sign(key, data, NAMESPACE).encode())
    write_file(out / _LIST, data)
    return told
