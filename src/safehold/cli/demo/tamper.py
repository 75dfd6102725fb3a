"""The end of the demo: copies are altered by one byte each, and the auditor's path must find both."""

from __future__ import annotations

import shutil
from pathlib import Path

from safehold.ledger.audit import AuditReport, audit_export
from safehold.ledger.export import export_ledger
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Log
from safehold.ledger.note import NoteVerifier
from safehold.model.errors import SafeholdError, VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.verify import verify_release

__all__ = ["alter_ledger", "alter_release", "audit_copy", "flip_byte"]


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset % len(data)] ^= 1
    path.write_bytes(data)


def audit_copy(log: Log, folder: Path) -> AuditReport:
    """Export the ledger and verify the copy as an auditor would: from its files and the verifier line alone."""
    with log.view() as view:
        export_ledger(view, log.verifier, folder)
    return audit_export(folder, NoteVerifier.parse(log.verifier.text))


def alter_ledger(exported: Path, copy: Path, verifier: NoteVerifier) -> SafeholdError:
    """Copy an export, change one byte in the middle of its entries, and return what the audit says."""
    shutil.copytree(exported, copy)
    bundles = sorted(path for path in (copy / "tile" / "entries").rglob("*") if path.is_file())
    flip_byte(bundles[0], bundles[0].stat().st_size // 2)
    try:
        audit_export(copy, verifier)
    except VerificationFailed as found:
        return found
    raise SafeholdError("cli.demo_tamper", "an altered copy of the ledger passed the audit")


def alter_release(folder: Path, copy: Path, supplier: PublicKey, release: Digest) -> SafeholdError:
    """Copy a release, change one byte in the middle of its first part, and return what verifying says."""
    shutil.copytree(folder, copy)
    part = min(copy.glob("*.parquet"))
    flip_byte(part, part.stat().st_size // 2)
    try:
        verify_release(copy, supplier, expected=release)
    except VerificationFailed as found:
        return found
    raise SafeholdError("cli.demo_tamper", "an altered copy of a release passed the check")
