"""Rows of outside evidence: what another system recorded, each line as one value. The format is ``docs/spec/evidence.md``.

Lives in ``model`` since ``exposure`` writes the rows and ``state`` keeps them. The rows are a payload of an
``evidence.recorded`` entry; the original file is another one, so that whoever doubts the reading can read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import InputInvalid
from safehold.model.ids import HostId

__all__ = ["MAX_EVIDENCE_BYTES", "EvidenceRow", "EvidenceTopic", "evidence_bytes", "parse_evidence"]

MAX_EVIDENCE_BYTES: Final = 16 * 1024 * 1024

EvidenceTopic = Literal["storage", "egress", "cluster", "start", "ci", "image", "cache"]
"""What the rows speak of: reads of stored files, connections, a cluster's audit, starts of programs, CI jobs, images,
caches and mirrors."""


class EvidenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of another system. ``t`` in µs UTC; ``host`` is ours where the line names one of our hosts.

    ``actor`` did ``act`` to ``object``. ``things`` are the packages that it names, as ``name==version``.
    """

    t: int
    host: HostId | None = None
    actor: str = ""
    act: str = ""
    object: str = ""
    detail: str = ""
    things: tuple[str, ...] = ()


def parse_evidence(data: bytes) -> tuple[EvidenceRow, ...]:
    """Return the rows in a payload, or raise ``InputInvalid`` (``model.evidence``)."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise InputInvalid("model.evidence", f"evidence of {len(data):,} bytes exceeds {MAX_EVIDENCE_BYTES:,}")
    try:
        return msgspec.json.decode(data, type=resolved(tuple[EvidenceRow, ...]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid("model.evidence", "these bytes are not rows of evidence") from error


def evidence_bytes(rows: Sequence[EvidenceRow]) -> bytes:
    """The rows as a payload."""
    return canonical_bytes(tuple(rows))
