"""Statements about responses: what a member ruled after an incident, as one plan, and the proof of each step of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from safehold.model.ids import AdvisoryId, DecisionId, Digest, MemberId, ResponseId, Subject
from safehold.model.statement import Statement

__all__ = ["Course", "ResponsePlanned", "ResponseProven", "ResponseStep"]

Course = Literal["suspend-supplier", "suspend-hosts", "revoke-and-rotate", "watch"]


class ResponseStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to do. ``hold`` is done by the plan itself; the others wait for a member's proof.

    ``subject`` is whom it is about, where that is one of ours; ``words`` says what to do, for people.
    """

    act: Literal["hold", "rotate", "rebuild", "ask", "watch"]
    subject: Subject | None
    words: str


class ResponsePlanned(Statement, frozen=True, kw_only=True, tag="response.planned"):
    """A member's ruling on an incident, and the plan that follows. Its holds stand beside it in the same append.

    ``proposed`` is what ``profile`` proposed, so that a ruling against it can be seen. ``clean_for`` (seconds) is the
    condition for lifting its holds: that long must every host have been observed clean. ``decisions`` are those of
    the holds, in the order of the ``hold`` steps; a hold that was there before has none.
    """

    response: ResponseId
    course: Course
    profile: Literal["strict", "measured", "watchful"]
    proposed: Course
    advisory: AdvisoryId
    reason: str
    member: MemberId | None
    clean_for: int
    decisions: tuple[DecisionId, ...]
    steps: tuple[ResponseStep, ...]


class ResponseProven(Statement, frozen=True, kw_only=True, tag="response.proven"):
    """A step of a response is done, says ``member``: ``proof`` in words, ``document`` the digest of a file that shows it."""

    response: ResponseId
    step: int
    proof: str
    document: Digest | None
    member: MemberId | None
