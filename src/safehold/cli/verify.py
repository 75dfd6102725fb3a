"""``safehold verify``: check an exported ledger, a sealed release or a receipt. No key is needed, and no home."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safehold.cli.context import Session, session_of
from safehold.cli.keys import read_public_key
from safehold.cli.log_witness import read_policy
from safehold.cli.output import iso_time
from safehold.ledger.audit import audit_export, read_verifier
from safehold.ledger.cosignature import Cosignature
from safehold.ledger.export import CHECKPOINT_FILE
from safehold.ledger.keys import PublicKey
from safehold.ledger.note import NoteVerifier
from safehold.ledger.policy import Policy
from safehold.ledger.receipt import verify_receipt
from safehold.model.encoding import decode_canonical, pretty_json
from safehold.model.errors import InputInvalid, NotFound, SafeholdError
from safehold.model.ids import Digest, parse_digest

if TYPE_CHECKING:
    from safehold.vault.store import Location
    from safehold.vault.stored_release import VerifiedStored
    from safehold.vault.verify import VerifiedRelease

__all__ = ["command"]

_MANIFEST = "manifest.json"
_TILES = "tile"
_MAX_RECEIPT_BYTES = 4 << 20


@click.command(
    "verify", epilog="Example: safehold verify ledger-copy/ --verifier 'my-lab.example/custody+1a2b3c4d+AbCd…'"
)
@click.argument("path")
@click.option("--verifier", help="The ledger's verifier line, as its operator gave it to you (ledgers and receipts).")
@click.option("--signer", type=click.Path(path_type=Path), help="The supplier's public key (.pub) (releases).")
@click.option(
    "--countersigner",
    type=click.Path(path_type=Path),
    multiple=True,
    help="The public key (.pub) of who must have signed too: the lab (releases).",
)
@click.option("--digest", help="The release's digest, as the ledger names it (releases).")
@click.option(
    "--policy", type=click.Path(path_type=Path), help="The witnesses that must have cosigned (ledgers, receipts)."
)
@click.pass_context
def command(
    context: click.Context,
    path: str,
    verifier: str | None,
    signer: Path | None,
    countersigner: tuple[Path, ...],
    digest: str | None,
    policy: Path | None,
) -> None:
    """Verify PATH: a folder made by `log export`, the folder of a release, its place in a store (s3://…), a .tlog-proof
    receipt, or a proof of a record (`prove record`).

    Everything is recomputed from the bytes. Exit code 4 says that something does not hold, and what.
    """
    session = session_of(context)
    wanted = parse_digest(digest) if digest else None
    keys = (signer, *countersigner) if signer is not None else ()
    if "://" in path or (Path(path).parent / "parts").is_dir():
        # Late: the auditor of a ledger needs no Arrow.
        from safehold.cli.stores import stored_place

        place = stored_place(path)
        if place is not None:
            _verify_stored(session, place, keys, wanted)
            return
    _verify_local(session, Path(path), verifier, keys, wanted, read_policy(policy) if policy else None)


def _verify_local(
    session: Session,
    path: Path,
    verifier: str | None,
    signers: tuple[Path, ...],
    digest: Digest | None,
    witnesses: Policy | None,
) -> None:
    if not path.exists():
        raise NotFound("cli.verify_path", f"there is nothing at {path}", "name a folder or a receipt")
    if path.is_dir() and not any((path / name).exists() for name in (_MANIFEST, CHECKPOINT_FILE, _TILES)):
        raise NotFound(
            "cli.verify_path",
            f"{path} is neither an exported ledger nor a release",
            "name a folder made by `log export`, or the folder of one release",
        )
    if path.is_file() and _is_json(path):
        # Late: the auditor of a ledger needs no Arrow.
        from safehold.cli.verify_record import verify_record

        verify_record(session, path, verifier, signers, digest, witnesses)
    elif path.is_file():
        _verify_receipt(session, path, verifier, witnesses)
    elif (path / _MANIFEST).is_file() and not (path / CHECKPOINT_FILE).exists():
        _verify_release(session, path, signers, digest)
    else:
        _verify_ledger(session, path, verifier, witnesses)


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"{"


def _verify_ledger(session: Session, folder: Path, line: str | None, policy: Policy | None) -> None:
    known = NoteVerifier.parse(line) if line else read_verifier(folder)
    if policy is not None:
        policy.check_log(known)
    report = audit_export(folder, known, processes=len(os.sched_getaffinity(0)))
    cosignatures = policy.witnessed(report.checkpoint) if policy is not None else ()
    warning = "" if line else "The key was taken from the export itself: compare it with the line you were given."
    document = {
        "verified": "ledger",
        "origin": report.checkpoint.origin,
        "size": report.checkpoint.size,
        "root": report.checkpoint.root.hex(),
        "kinds": report.kinds,
        "unknown": report.unknown,
        "payloads": report.payloads,
        "payloads_missing": report.missing,
        "segments": report.segments,
        "verifier": known.text,
        "verifier_from": "option" if line else "export",
        "witnesses": [one.key.name for one in cosignatures],
    }
    lines = [
        f"Verified {report.checkpoint.size} entries and {report.payloads} payloads of {report.checkpoint.origin}.",
        f"  root {report.checkpoint.root.hex()}",
        f"  signed by {known.text}",
    ]
    if policy is not None:
        lines.append(_witnessed_by(cosignatures))
    if report.segments:
        lines.append(f"  {report.segments} segments for queries match their entries")
    if report.missing:
        lines.append(f"  {len(report.missing)} payloads that entries name are not in this copy (erased, or left out)")
    if report.unknown:
        lines.append(
            f"  {report.unknown} entries are of kinds that this Safehold does not know: proven, not understood"
        )
    session.out.result(document, [*lines, *([f"  NOTE: {warning}"] if warning else [])])


def _keys(signers: tuple[Path, ...]) -> tuple[PublicKey, list[PublicKey]]:
    """The supplier's key, and those of who must have signed after it."""
    if not signers:
        raise InputInvalid(
            "cli.verify_signer",
            "whose signature must stand on the release?",
            "give the supplier's key: --signer FILE.pub",
        )
    supplier, *others = (read_public_key(signer) for signer in signers)
    return supplier, others


def _verify_stored(session: Session, place: Location, signers: tuple[Path, ...], digest: Digest | None) -> None:
    from safehold.vault.stored_release import verify_stored

    supplier, others = _keys(signers)
    report = verify_stored(session.open_store(place.parent.url), place.name, supplier, others, expected=digest)
    _show_release(session, report, digest)


def _verify_release(session: Session, folder: Path, signers: tuple[Path, ...], digest: Digest | None) -> None:
    # Late: the auditor of a ledger needs no Arrow.
    from safehold.vault.verify import verify_release

    supplier, others = _keys(signers)
    _show_release(session, verify_release(folder, supplier, others, expected=digest), digest)


def _show_release(session: Session, report: VerifiedRelease | VerifiedStored, digest: Digest | None) -> None:
    manifest = report.release.manifest
    name = f"{manifest.dataset}@{manifest.version}"
    document = {
        "verified": "release",
        "release": name,
        "digest": report.release.digest,
        "digest_expected": digest,
        "files": report.files,
        "bytes": report.size,
        "signers": report.signers,
        "unknown_signers": report.unknown_signers,
    }
    lines = [f"Verified {name}: {report.files} files, {report.size:,} bytes, signed by {report.signers[0]}."]
    lines += [f"  countersigned by {one}" for one in report.signers[1:]]
    lines += [
        f"  signed by {one} too, a key that you did not give: nothing is known of it" for one in report.unknown_signers
    ]
    if digest is None:
        lines.append("  NOTE: give --digest (from the ledger) to know that it is this release and not an older one.")
    session.out.result(document, lines)


def _witnessed_by(cosignatures: tuple[Cosignature, ...]) -> str:
    said = [f"{one.key.name} at {iso_time(one.seconds * 1_000_000)}" for one in cosignatures]
    return f"  the witness policy holds: {', '.join(said) or 'it asks for no witness'}"


def _verify_receipt(session: Session, path: Path, line: str | None, policy: Policy | None) -> None:
    if line is None:
        raise InputInvalid(
            "cli.verify_verifier", "which ledger's receipt is it?", "give the ledger's verifier line: --verifier LINE"
        )
    with path.open("rb") as file:
        entry = verify_receipt(file.read(_MAX_RECEIPT_BYTES), NoteVerifier.parse(line), policy)
    document = {
        "verified": "receipt",
        "entry": entry.index,
        "size": entry.checkpoint.size,
        "origin": entry.checkpoint.origin,
        "statement": entry.body.decode(errors="replace"),
        "witnesses": [one.key.name for one in entry.cosignatures],
    }
    session.out.result(
        document,
        [
            f"Verified: entry {entry.index} is in the ledger {entry.checkpoint.origin} of {entry.checkpoint.size} entries.",
            *([_witnessed_by(entry.cosignatures)] if policy is not None else []),
            *_told(entry.body).split("\n"),
        ],
    )


def _told(body: bytes) -> str:
    """A statement laid out for people; bytes that are none as they are."""
    try:
        return pretty_json(decode_canonical(body))
    except SafeholdError:
        return body.decode(errors="replace")
