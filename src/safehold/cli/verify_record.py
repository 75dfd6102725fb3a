"""``safehold verify`` for the proof of a record: no key, no home, no other record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from safehold.assembly.row_proof import MAX_PROOF_BYTES, ProofTerms, ProvenRecord, verify_proof
from safehold.cli.context import Session
from safehold.cli.keys import read_public_key
from safehold.ledger.note import NoteVerifier
from safehold.ledger.policy import Policy
from safehold.model.ids import Digest

__all__ = ["verify_record"]

_SHOWN = 300


def verify_record(
    session: Session,
    path: Path,
    line: str | None,
    signers: tuple[Path, ...],
    digest: Digest | None,
    policy: Policy | None,
) -> None:
    """Check the proof in ``path`` and show the record. Raises as ``verify_proof``."""
    with path.open("rb") as file:
        data = file.read(MAX_PROOF_BYTES + 1)
    terms = ProofTerms(
        digest=digest,
        signers=[read_public_key(signer) for signer in signers],
        ledger=NoteVerifier.parse(line) if line else None,
        policy=policy,
    )
    proven = verify_proof(data, terms)
    manifest = proven.manifest
    document: dict[str, Any] = {
        "verified": "record",
        "release": f"{manifest.dataset}@{manifest.version}",
        "digest": proven.release,
        "place": proven.place,
        "record": msgspec.to_builtins(proven.values),
        "groups": proven.groups,
        "closed_groups": proven.closed,
        "signers": proven.signers,
        "entry": None if proven.entry is None else proven.entry.index,
    }
    session.out.result(document, _lines(proven))


def _lines(proven: ProvenRecord) -> list[str]:
    manifest = proven.manifest
    lines = [f"Verified: this is record {proven.place:,} of {manifest.dataset}@{manifest.version}."]
    for name, value in proven.values.items():
        text = msgspec.json.encode(value).decode()
        lines.append(f"  {name}: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}")
    if proven.closed:
        lines.append(f"  not shown: the column groups {', '.join(proven.closed)}")
    lines += [f"  signed by {signer}" for signer in proven.signers]
    if proven.entry is not None:
        lines.append(f"  entry {proven.entry.index} of {proven.entry.checkpoint.origin} seals this release")
    if not proven.signers:
        lines.append("  NOTE: give --signer (the supplier's .pub) to know who sealed it.")
    if proven.entry is None:
        lines.append("  NOTE: give --verifier (the ledger's line) to know that the ledger names this release.")
    return lines
