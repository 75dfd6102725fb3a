"""Responses: a member's ruling carried out as one plan. Its holds and its record are one append, all or nothing.

What a machine can do at once (the holds) stands in the same commit as the plan: there is no half-suspended supplier,
and revocation is atomic (question 13). What people must do (rotate, rebuild, ask) are steps that wait for a proof;
each proof is an entry, so a plan goes on where it stopped, whoever goes on with it. Rotation has a fixed order: what
can make new credentials first (``ROTATION``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from safehold.containment.concern import Concern, load_concern
from safehold.containment.profiles import CLEAN_FOR, Profile, Proposal, propose
from safehold.containment.whatif import Option, option_of
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, NotFound
from safehold.model.ids import (
    AdvisoryId,
    DecisionId,
    Digest,
    KeyId,
    MemberId,
    ResponseId,
    Subject,
    parse_hold_id,
    parse_response_id,
    sha256_digest,
)
from safehold.model.statement import Statement
from safehold.model.statements import DecisionMade, HoldPlaced
from safehold.model.statements_response import Course, ResponsePlanned, ResponseProven, ResponseStep

__all__ = [
    "ROTATION",
    "Planned",
    "Responses",
    "Ruling",
    "StepState",
    "list_responses",
    "response_steps",
    "sealing_hosts",
]

ROTATION: Final = (
    "publishing, CI and source-control write tokens",
    "cloud and cluster administration",
    "model-provider and gateway keys",
    "databases",
    "SSH and TLS keys",
    "staging",
)
"""The order in which to rotate: revoke first, then issue from a clean host. What can make other credentials is first."""

_MAX_STEPS: Final = 400
_MAX_TEXT: Final = 2000


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What a member decided: a course on an incident, why, and how long hosts must be clean before holds are lifted.

    ``clean_for`` None takes the profile's. ``member`` is who rules so.
    """

    advisory: AdvisoryId
    course: Course
    profile: Profile
    reason: str
    member: MemberId | None = None
    clean_for: int | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A plan: what it rests on, what it does, and (once it is appended) its id and entry."""

    response: ResponseId
    option: Option
    proposal: Proposal
    steps: tuple[ResponseStep, ...]
    clean_for: int
    entry: Entry | None = None


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a response as it stands: ``done`` is the entry that proves it, None while it is open."""

    step: int
    act: str
    subject: str | None
    words: str
    done: int | None
    done_t: int | None
    proof: str | None
    document: str | None


class Responses:
    """Plans responses and records their proofs, for the operator ``by``. ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def preview(self, ruling: Ruling) -> Planned:
        """What ``carry_out`` would do now; changes nothing. Raises as it does."""
        with self._log.view() as view:
            return _plan(view, ruling, self._clock())

    def carry_out(self, ruling: Ruling) -> Planned:
        """Append the plan and its holds in one commit.

        Raises ``NotFound`` (``containment.no_advisory``), ``InputInvalid`` (``containment.reason``,
        ``containment.plan_too_large``), or ``Conflict`` (``containment.nothing_to_hold``) where the course would hold
        nobody who is not held already.
        """
        plans: list[Planned] = []

        def propose_all(view: View) -> Draft:
            now = self._clock()
            plan = _plan(view, ruling, now)
            holds, decisions = self._holds(view, plan, ruling, now)
            planned = ResponsePlanned(
                t=now, by=self._by, response=plan.response, course=ruling.course, profile=ruling.profile,
                proposed=plan.proposal.course, advisory=ruling.advisory, reason=ruling.reason, member=ruling.member,
                clean_for=plan.clean_for, decisions=decisions, steps=plan.steps,
            )  # fmt: skip
            plans.append(plan)
            return Draft((*holds, planned))

        entries = self._log.append(propose_all)
        return msgspec.structs.replace(plans[-1], entry=entries[-1])

    def prove(
        self, response: ResponseId, step: int, proof: str, document: bytes | None = None, member: MemberId | None = None
    ) -> Entry:
        """Record that a step is done. ``document`` (at most 1 MiB) is kept, and named by its digest.

        Raises ``NotFound`` (``containment.no_response``, ``containment.no_step``), ``Conflict``
        (``containment.step_done``), ``InputInvalid`` (``containment.proof``).
        """
        if not proof.strip() or len(proof) > _MAX_TEXT or (document is not None and len(document) > 1 << 20):
            raise InputInvalid(
                "containment.proof",
                f"a proof is words of at most {_MAX_TEXT} characters, and a document of at most 1 MiB",
                'say what shows it: --proof "new key id …, old one refused since …"',
            )

        def record(view: View) -> Draft:
            steps = {one.step: one for one in response_steps(view, response)}
            if step not in steps:
                raise NotFound(
                    "containment.no_step", f"{response} has no step {step}", f"see: safehold respond show {response}"
                )
            if steps[step].done is not None:
                raise Conflict(
                    "containment.step_done",
                    f"step {step} of {response} is done already (entry {steps[step].done})",
                    f"see: safehold respond show {response}",
                )
            proven = ResponseProven(
                t=self._clock(), by=self._by, response=response, step=step, proof=proof, member=member,
                document=None if document is None else sha256_digest(document),
            )  # fmt: skip
            return Draft((proven,), () if document is None else (document,))

        return self._log.append(record)[-1]

    def _holds(
        self, view: View, plan: Planned, ruling: Ruling, now: int
    ) -> tuple[list[Statement], tuple[DecisionId, ...]]:
        """A decision and a hold for each subject, side by side as ``safehold suspend`` writes them."""
        known = tuple(
            Digest(row[0])
            for row in view.rows(
                "SELECT document FROM advisory a WHERE idx ="
                " (SELECT max(idx) FROM advisory b WHERE b.advisory = a.advisory) ORDER BY idx DESC LIMIT 200"
            )
        )
        statements, decisions = list[Statement](), list[DecisionId]()
        for subject in plan.option.holds:
            decision = DecisionId("d-" + secrets.token_hex(8))
            decisions.append(decision)
            statements.append(
                DecisionMade(
                    t=now,
                    by=self._by,
                    decision=decision,
                    ruling="suspend",
                    subject=subject,
                    reason=ruling.reason,
                    member=ruling.member,
                    advisories=known,
                )
            )
            statements.append(
                HoldPlaced(
                    t=now,
                    by=self._by,
                    hold=parse_hold_id("h-" + secrets.token_hex(8)),
                    subject=subject,
                    reason=ruling.reason,
                    decision=decision,
                )
            )
        return statements, tuple(decisions)


def _plan(view: View, ruling: Ruling, now: int) -> Planned:
    if not ruling.reason.strip() or len(ruling.reason) > _MAX_TEXT:
        raise InputInvalid(
            "containment.reason", f"a ruling needs a reason of at most {_MAX_TEXT} characters", 'add --reason "…"'
        )
    concern = load_concern(view, ruling.advisory, now)
    option = option_of(concern, ruling.course)
    if ruling.course != "watch" and not option.holds:
        raise Conflict(
            "containment.nothing_to_hold",
            f"there is nobody left to hold: {'all are held already' if concern.concerned else 'no host is concerned'}",
            f"see: safehold whatif {ruling.advisory}",
        )
    steps = _steps(concern, option)
    if len(steps) > _MAX_STEPS:
        raise InputInvalid(
            "containment.plan_too_large",
            f"the plan has {len(steps)} steps; one entry holds {_MAX_STEPS}",
            "suspend the supplier (one hold for all its hosts), then plan for its hosts in smaller parts",
        )
    return Planned(
        response=parse_response_id("r-" + secrets.token_hex(8)),
        option=option,
        proposal=propose(concern, ruling.profile, sealing_hosts(view)),
        steps=steps,
        clean_for=CLEAN_FOR[ruling.profile] if ruling.clean_for is None else ruling.clean_for,
    )


def _steps(concern: Concern, option: Option) -> tuple[ResponseStep, ...]:
    """Holds first, then rotation in its order, then rebuilding, then asking those whom nobody saw."""
    steps = [ResponseStep(act="hold", subject=subject, words=f"hold {subject}") for subject in option.holds]
    touched = [host for host in concern.concerned if host.holding or host.touched]
    if option.course == "watch":
        steps += [
            ResponseStep(act="watch", subject=Subject("host", host.host), words="look at its next inventories")
            for host in concern.concerned
        ]
        return tuple(steps)
    names = sorted({name for host in touched for name in host.credentials})
    reach = (
        f"recorded in reach: {', '.join(names[:10])}" if names else "what was in reach is not recorded: ask the owners"
    )
    if touched:
        steps += [ResponseStep(act="rotate", subject=None, words=f"{kind} ({reach})") for kind in ROTATION]
    steps += [
        ResponseStep(
            act="rebuild", subject=Subject("host", host.host), words="rebuild from a clean image, do not clean"
        )
        for host in touched
    ]
    steps += [
        ResponseStep(
            act="ask", subject=Subject("host", host.host), words="why it is silent, and what it held meanwhile"
        )
        for host in concern.concerned
        if host.silent_since is not None
    ]
    return tuple(steps)


def sealing_hosts(view: View) -> frozenset[str]:
    """Hosts that had the plaintext of a release while sealing it."""
    return frozenset(row[0] for row in view.rows("SELECT DISTINCT host FROM release WHERE host IS NOT NULL"))


def response_steps(view: View, response: ResponseId) -> tuple[StepState, ...]:
    """The steps of a response in order; ``NotFound`` (``containment.no_response``) if it was never planned."""
    rows = view.rows(
        "SELECT step, act, subject_kind, subject_id, words, done_idx, done_t, proof, document FROM response_step"
        " WHERE response = ? ORDER BY step",
        response,
    )
    if not rows and not view.rows("SELECT 1 FROM response WHERE response = ?", response):
        raise NotFound("containment.no_response", f"there is no response {response}", "see: safehold respond list")
    return tuple(
        StepState(
            step=row[0],
            act=row[1],
            subject=f"{row[2]}:{row[3]}" if row[2] else None,
            words=row[4],
            done=row[5],
            done_t=row[6],
            proof=row[7],
            document=row[8],
        )
        for row in rows
    )


def list_responses(view: View) -> tuple[dict[str, object], ...]:
    """All responses, oldest first, each with how many of its steps are done."""
    rows = view.rows(
        "SELECT r.response, r.course, r.profile, r.proposed, r.advisory, r.reason, r.member, r.clean_for, r.idx, r.t,"
        " (SELECT count(*) FROM response_step s WHERE s.response = r.response),"
        " (SELECT count(*) FROM response_step s WHERE s.response = r.response AND s.done_idx IS NOT NULL)"
        " FROM response r ORDER BY r.idx"
    )
    names = ("response", "course", "profile", "proposed", "advisory", "reason", "member", "clean_for", "entry", "t")
    return tuple({**dict(zip(names, row[:10], strict=True)), "steps": row[10], "done": row[11]} for row in rows)
