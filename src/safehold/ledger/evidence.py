"""Evidence: two checkpoints of one log that contradict each other, both signed by it, kept for ever.

A log that shows two histories is found out by whoever holds a checkpoint of each. So they are kept side by side, in files
that are durable before the refusal goes out, with the proof that they contradict each other where there is one:

========== ==========================================================================================
kind       what the file shows
========== ==========================================================================================
split      proven: one size with two roots; or the tree behind the offered checkpoint has another
           root at the known size than the one that was signed. ``open_evidence`` verifies it
unproven   offered with a proof that does not hold: a split, or a mistake of whoever sent it
rollback   a source showed an older checkpoint than the witness knows: a stale copy, or entries taken back
========== ==========================================================================================

Anybody can send an old checkpoint or a false proof, so those two kinds are bounded in number.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from safehold.ledger.disk import sync_folder
from safehold.ledger.export import write_file
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint, split_note
from safehold.ledger.proof import verify_consistency
from safehold.model.encoding import resolved
from safehold.model.errors import StorageFailed, VerificationFailed

__all__ = ["Evidence", "EvidenceFolder", "EvidenceKind", "bare_note", "open_evidence"]

EvidenceKind = Literal["split", "unproven", "rollback"]
_FORM: Final = "safehold-evidence-v1"
_MAX_FILES: Final[dict[EvidenceKind, int]] = {"split": 4096, "unproven": 256, "rollback": 256}
_MAX_EVIDENCE_BYTES: Final = 4 << 20


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Two contradicting checkpoints. ``prefix`` is the root at the known size of the tree behind the offered one, in base64,
    and ``proof`` leads from there to the offered root; both are empty where the sizes are equal or nothing is proven.
    """

    form: str = _FORM
    kind: EvidenceKind
    t: int
    known: str
    offered: str
    prefix: str = ""
    proof: tuple[str, ...] = ()

    def with_proof(self, prefix: bytes, proof: Sequence[bytes]) -> Evidence:
        """The same with what proves it: the other root at the known size, and the way from there to the offered root."""
        nodes = tuple(base64.b64encode(node).decode() for node in proof)
        return msgspec.structs.replace(self, prefix=base64.b64encode(prefix).decode(), proof=nodes)


class EvidenceFolder:
    """A folder with one file a contradiction. The same contradiction is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, evidence: Evidence) -> Path | None:
        """Write durably; return the file, or None where its kind has its fill. ``StorageFailed`` (``ledger.evidence``)."""
        key = f"{evidence.kind}\0{evidence.known}\0{evidence.offered}"
        path = self._folder / f"{evidence.kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        try:
            if path.exists():
                return path
            if sum(1 for _ in self._folder.glob(f"{evidence.kind}-*.json")) >= _MAX_FILES[evidence.kind]:
                return None
            write_file(path, msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n")
            sync_folder(self._folder)
        except OSError as error:
            raise StorageFailed(
                "ledger.evidence", f"evidence cannot be written to {self._folder}: {error.strerror}", "free some space"
            ) from error
        return path

    def files(self) -> list[Path]:
        """The files, by name."""
        return sorted(self._folder.glob("*-*.json"))


def bare_note(note: bytes, verifier: NoteVerifier) -> str:
    """A verified checkpoint with the log's own signatures alone: what others added is no evidence, and unbounded."""
    text, signatures = split_note(note)
    own = [one.line for one in signatures if (one.name, one.key_id) == (verifier.name, verifier.key_id)]
    return text.decode() + "\n" + own[0]


def open_evidence(data: bytes, verifier: NoteVerifier) -> tuple[Checkpoint, Checkpoint]:
    """The two checkpoints in an evidence file, if it proves that this log signed two histories.

    Raises ``VerificationFailed``: ``ledger.evidence_form``, ``ledger.evidence_unproven``, or what opening a note raises.
    """
    if len(data) > _MAX_EVIDENCE_BYTES:
        raise _bad_form()
    try:
        evidence = msgspec.json.decode(data, type=resolved(Evidence))
        prefix = base64.b64decode(evidence.prefix, validate=True)
        proof = [base64.b64decode(node, validate=True) for node in evidence.proof]
        notes = evidence.known.encode(), evidence.offered.encode()
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise _bad_form() from error
    if evidence.form != _FORM:
        raise _bad_form()
    known, offered = (open_checkpoint(note, verifier) for note in notes)
    if known.size == offered.size and known.root != offered.root:
        return known, offered
    if evidence.kind != "split" or known.size >= offered.size or prefix == known.root:
        raise VerificationFailed(
            "ledger.evidence_unproven", "these two checkpoints do not contradict each other by proof"
        )
    verify_consistency(known.size, prefix, offered.size, offered.root, proof)
    return known, offered


def _bad_form() -> VerificationFailed:
    return VerificationFailed("ledger.evidence_form", "this is not a file of evidence")
