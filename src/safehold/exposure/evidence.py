"""Taking in what happened outside: files of evidence, credentials, clocks, notices and checks become entries.

A file is kept whole as a payload beside what was read from it, so that the reading can be doubted and done again. What is
recorded already changes nothing and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from safehold.exposure.evidence_formats import EvidenceFormat, ReadEvidence
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import InputInvalid
from safehold.model.evidence import EvidenceTopic, evidence_bytes
from safehold.model.ids import AdvisoryId, Digest, KeyId, sha256_digest
from safehold.model.statement import Statement
from safehold.model.statements_outside import (
    ClockNoted,
    CredentialNoted,
    EvidenceRecorded,
    NoticeSent,
    ReleaseChecked,
)

__all__ = ["Evidence", "EvidenceFile", "TakenEvidence"]

_ROWS_AN_ENTRY: Final = 20_000
_MAX_TEXT: Final = 500


class EvidenceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of evidence that was read: what it is, whose, and for when and whom it is said to be complete."""

    topic: EvidenceTopic
    source: str
    form: EvidenceFormat
    data: bytes
    read: ReadEvidence
    covers: tuple[int, int] | None = None
    subjects: tuple[str, ...] = ()


class TakenEvidence(msgspec.Struct, frozen=True):
    """A file in the ledger: its entries, and whether they were there before."""

    entries: tuple[int, ...]
    known: bool


class Evidence:
    """Appends what happened outside. ``clock`` gives µs UTC, ``by`` is the key behind the statements."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def record_file(self, file: EvidenceFile) -> TakenEvidence:
        """Record a file. Raises ``InputInvalid`` (``exposure.evidence_covers``, ``exposure.text``)."""
        _check_text(file.source, *file.subjects)
        if file.covers is not None and file.covers[0] > file.covers[1]:
            raise InputInvalid("exposure.evidence_covers", "the time covered ends before it begins", "give FROM, UNTIL")
        original = sha256_digest(file.data)
        statements, payloads = self._statements(file, original)
        known: list[int] = []

        def propose(view: View) -> Draft:
            known.clear()
            sql = "SELECT idx, covers_from, covers_until FROM evidence WHERE topic = ? AND original = ? ORDER BY idx"
            found = view.rows(sql, file.topic, original)
            same = [row[0] for row in found if (row[1], row[2]) == (file.covers or (None, None))]
            known.extend(same)
            return Draft(()) if same else Draft(statements, payloads)

        entries = self._log.append(propose)
        return TakenEvidence(tuple(known) or tuple(entry.index for entry in entries), bool(known))

    def _statements(
        self, file: EvidenceFile, original: Digest
    ) -> tuple[tuple[EvidenceRecorded, ...], tuple[bytes, ...]]:
        """An entry for every so many rows; a file without rows has one too: that it says nothing is what it says."""
        made, payloads, rows = list[EvidenceRecorded](), [file.data], file.read.rows
        for begin in range(0, max(len(rows), 1), _ROWS_AN_ENTRY):
            part = rows[begin : begin + _ROWS_AN_ENTRY]
            body = evidence_bytes(part)
            payloads.append(body)
            made.append(
                EvidenceRecorded(
                    t=self._clock(), by=self._by, topic=file.topic, source=file.source, format=file.form,
                    original=original, rows=sha256_digest(body), count=len(part),
                    unread=file.read.unread,
                    since=part[0].t if part else None, until=part[-1].t if part else None,
                    covers_from=file.covers[0] if file.covers else None,
                    covers_until=file.covers[1] if file.covers else None, subjects=file.subjects,
                )
            )  # fmt: skip
        return tuple(made), tuple(payloads)

    def note_credential(self, note: CredentialNoted) -> Entry:
        """Record something in the life of a credential. Raises ``InputInvalid`` (``exposure.credential_note``)."""
        _check_text(note.credential, note.action, note.words)
        if note.act == "reach" and note.host is None:
            raise InputInvalid("exposure.credential_note", "in reach of which host?", "name it with --host")
        if note.act == "opens" and note.subject is None:
            raise InputInvalid("exposure.credential_note", "what does it open?", "name it with --opens KIND:ID")
        return self._append(note)

    def note_clock(self, note: ClockNoted) -> Entry:
        """Record when a clock began."""
        _check_text(note.words)
        return self._append(note)

    def note_notice(self, advisory: AdvisoryId, to: str, duty: str, text: bytes, at: int) -> Entry:
        """Record a notice that was sent, with its text as a payload."""
        _check_text(to, duty)
        sent = NoticeSent(
            t=self._clock(), by=self._by, advisory=advisory, to=to, duty=duty, document=sha256_digest(text), at=at
        )
        return self._append(sent, text)

    def note_check(self, check: ReleaseChecked) -> Entry:
        """Record what came of holding a release's files against its manifest."""
        _check_text(check.words)
        return self._append(check)

    def _append(self, statement: Statement, *payloads: bytes) -> Entry:
        return self._log.append(lambda _view: Draft((statement,), payloads))[0]


def _check_text(*texts: str) -> None:
    if any(len(text) > _MAX_TEXT or not text.isprintable() for text in texts):
        raise InputInvalid(
            "exposure.text", "a text is too long or has control characters", f"at most {_MAX_TEXT} characters, one line"
        )
