"""The fold of what happened outside: evidence with its rows, credentials, clocks, notices, checks of files."""

from __future__ import annotations

from safehold.model.errors import SafeholdError
from safehold.model.evidence import parse_evidence
from safehold.model.statements_outside import (
    ClockNoted,
    CredentialNoted,
    EvidenceRecorded,
    NoticeSent,
    ReleaseChecked,
)
from safehold.state.fold_base import Place, RowChange, as_text, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: EvidenceRecorded, at: Place) -> list[RowChange]:
    changes = [put("evidence", statement, at.index)]
    try:
        rows = parse_evidence(at.payloads(statement.rows) or b"")
    except SafeholdError:
        return changes  # rows that are lost are evidence that shows nothing: who reads compares with `count`
    for place, row in enumerate(rows):
        values = {
            "idx": at.index,
            "place": place,
            "topic": statement.topic,
            "t": row.t,
            "host": row.host,
            "actor": row.actor,
            "act": row.act,
            "object": row.object,
            "detail": row.detail,
            "things": as_text(row.things),
        }
        changes.append(RowChange("add", "evidence_row", values))
    return changes


@fold_statement.register
def _(statement: CredentialNoted, at: Place) -> list[RowChange]:
    about = statement.subject
    kind, name = (None, None) if about is None else (about.kind, about.id)
    return [put("credential_note", statement, at.index, subject=..., subject_kind=kind, subject_id=name)]


@fold_statement.register
def _(statement: ClockNoted, at: Place) -> list[RowChange]:
    return [put("clock_note", statement, at.index)]


@fold_statement.register
def _(statement: NoticeSent, at: Place) -> list[RowChange]:
    return [put("notice", statement, at.index)]


@fold_statement.register
def _(statement: ReleaseChecked, at: Place) -> list[RowChange]:
    return [put("release_check", statement, at.index)]
