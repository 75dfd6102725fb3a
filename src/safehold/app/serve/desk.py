"""The vault process's side of the seam: calls in, outcomes out. All deciding happens behind it.

``VaultDesk.answer`` takes whatever a frame held. Requests for keys go to the broker together, so that one commit records
all of them; the rest is answered one by one. Nothing is raised from here for a bad call: each call gets its own outcome,
and a failure of ours is an outcome too, without a word of what is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from safehold.app.serve.frames import Call, Outcome
from safehold.app.serve.readiness import Readiness
from safehold.broker.http_form import (
    HoldsAnswer,
    HoldsQuestion,
    InventoryAnswer,
    InventoryMessage,
    ShownHold,
    status_of,
)
from safehold.broker.leases import LeaseProof
from safehold.broker.policy import Denial
from safehold.broker.proof import HOLDS_PATH, Proof, verify_proof
from safehold.broker.refusals import UNPROVEN_STEP, RefusalCounter
from safehold.broker.release import Answer, Broker
from safehold.inventory.intake import Intake
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Log
from safehold.ledger.static import read_static
from safehold.ledger.storage import View
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import (
    HostId,
    KeyId,
    RequestId,
    Subject,
    parse_digest,
    parse_host_id,
    parse_member_id,
    party_of,
)
from safehold.state.standing import active_holds, find_host, find_release

__all__ = ["Rooms", "VaultDesk"]

_CLOCK_TOLERANCE: Final = 60
_json: Final = msgspec.json.Encoder()
_message: Final = msgspec.json.Decoder(InventoryMessage)
_holds: Final = msgspec.json.Decoder(HoldsQuestion)


class Rooms(Protocol):
    """What the desk needs of an open home."""

    log: Log
    intake: Intake
    clock: Callable[[], int]


class VaultDesk:
    """Answers calls over one home and its broker. ``check_keys`` unwraps a stored key, or raises: see ``Readiness``."""

    def __init__(
        self, home: Rooms, broker: Broker, counter: RefusalCounter, check_keys: Callable[[], None] | None = None
    ) -> None:
        self.readiness = Readiness(home.log, check_keys)
        self._log = home.log
        self._intake = home.intake
        self._clock = home.clock
        self._broker = broker
        self._counter = counter

    def answer(self, calls: Sequence[Call]) -> list[Outcome]:
        """One outcome a call, in their order."""
        outcomes: list[Outcome | None] = [None] * len(calls)
        asked = [at for at, call in enumerate(calls) if call.kind in ("keys", "lease", "leased")]
        for at, outcome in zip(asked, self._release([calls[at] for at in asked]), strict=True):
            outcomes[at] = outcome
        return [outcome or self._other(call) for call, outcome in zip(calls, outcomes, strict=True)]

    def tick(self) -> None:
        """What is due now and then: refusals that were counted become entries, and a disk that failed is tried again."""
        self.readiness.try_append()
        if self._log.read_only is None and not self._log.following:
            self._counter.flush()

    def close(self) -> None:
        """Record what was counted."""
        if self._log.read_only is None and not self._log.following:
            self._counter.flush(end=True)

    def _release(self, calls: Sequence[Call]) -> list[Outcome]:
        if not calls:
            return []
        try:
            answers = self._broker.release_many([(call.body, _proof(call)) for call in calls])
            self._note(answers)
        except SafeholdError as error:  # nothing could be recorded, so none is answered
            self.readiness.note(error)
            return [_failed(error)] * len(calls)
        except Exception:  # noqa: BLE001 - refuses: what is wrong inside is not told outside
            return [_failed(_internal())] * len(calls)
        return [_told(one) for one in answers]

    def _note(self, answers: Sequence[Answer | SafeholdError]) -> None:
        for answer in answers:
            if isinstance(answer, StorageFailed):
                self.readiness.note(answer)
            elif not isinstance(answer, SafeholdError):
                self.readiness.note(None)

    def _other(self, call: Call) -> Outcome:
        try:
            if call.kind == "inventory":
                return Outcome(200, _json.encode(self._record(call.body)), proven=True)
            if call.kind == "holds":
                return Outcome(200, _json.encode(self._show_holds(call)), proven=True)
            if call.kind == "read":
                with self._log.view() as view:
                    return Outcome(200, read_static(view, self._log.verifier, call.name), proven=True)
            return Outcome(200, _json.encode(self.readiness.now()), proven=True)
        except SafeholdError as error:
            if call.kind == "inventory":
                self.readiness.note(error)
            return _failed(error)
        except Exception:  # noqa: BLE001 - refuses: what is wrong inside is not told outside
            return _failed(_internal())

    def _record(self, body: bytes) -> InventoryAnswer:
        try:
            sent = _message.decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InputInvalid(
                "serve.inventory_form", "this is no signed message of an agent", "send host, message and signature"
            ) from error
        taken = self._intake.record_message(parse_host_id(sent.host), sent.message.encode(), sent.signature)
        found = [f"{one.name} {one.version}" if one.version else one.path or one.name for one in taken.findings]
        return InventoryAnswer(
            entry=taken.entry, inventory=taken.message.inventory, known=taken.known, findings=tuple(found)
        )

    def _show_holds(self, call: Call) -> HoldsAnswer:
        """The holds that a request for keys by this host would meet, for a reader that goes on by keys that it has."""
        try:
            asked = _holds.decode(call.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InputInvalid("serve.holds_form", "this does not ask for holds", "send the host's name") from error
        host = parse_host_id(asked.host)
        proof = _proof(call)
        if not isinstance(proof, Proof):
            raise InputInvalid("serve.holds_form", "this does not ask for holds", "send the host's name")
        with self._log.view() as view:
            row = find_host(view, host)
            if row is None:
                raise Denial(3, "broker.host_unknown", f"{host} is not registered", "register it: safehold host add")
            verify_proof(call.body, proof, PublicKey.parse(row.key), HOLDS_PATH)
            if abs(proof.created - self._clock() // 1_000_000) > _CLOCK_TOLERANCE:
                raise VerificationFailed("serve.stale", "the request is too old, or from the future", "set the clock")
            holds = active_holds(view, _asked_subjects(view, host, asked))
            size = view.size()
        shown = tuple(
            ShownHold(hold=one.hold, subject=str(one.subject), reason=one.reason, entry=one.placed_idx, t=one.placed_t)
            for one in holds
        )
        return HoldsAnswer(size=size, holds=shown)


def _asked_subjects(view: View, host: HostId, asked: HoldsQuestion) -> list[Subject]:
    """The host and its party, a member of that party, and a release with what it is of: nothing else is told of."""
    subjects = [Subject("host", host), Subject("party", party_of(host))]
    if asked.member is not None and party_of(member := parse_member_id(asked.member)) == party_of(host):
        subjects.append(Subject("member", member))
    release = find_release(view, parse_digest(asked.release)) if asked.release is not None else None
    if release is not None:
        subjects += [
            Subject("release", release.release),
            Subject("dataset", release.dataset),
            Subject("party", release.party),
        ]
    return subjects


def _proof(call: Call) -> Proof | LeaseProof:
    if call.kind == "leased":
        return LeaseProof(call.signature)
    return Proof(
        created=call.created,
        nonce=RequestId(call.nonce),
        key=KeyId(call.key),
        signature=call.signature,
        member_signature=call.member or None,
    )


def _told(answer: Answer | SafeholdError) -> Outcome:
    try:
        if isinstance(answer, SafeholdError):
            return _failed(answer)
        return Outcome(200, _json.encode(answer), proven=True)
    except Exception:  # noqa: BLE001 - refuses: its neighbours are answered; what was recorded of it stands in the ledger
        return _failed(_internal())


def _internal() -> StorageFailed:
    return StorageFailed("serve.internal", "the request could not be served", "ask again")


def _failed(error: SafeholdError) -> Outcome:
    proven = isinstance(error, Denial) and error.step > UNPROVEN_STEP
    return Outcome(
        _status(error),
        code=error.code,
        detail=error.message,
        hint=error.hint,
        entry=getattr(error, "entry", None),
        proven=proven,
    )


def _status(error: SafeholdError) -> int:
    """By the step that refused: 1 is the form, 2 and 3 are proofs, up to 8 it is denied, then it failed here."""
    if not isinstance(error, Denial) or isinstance(error, NotFound):
        return status_of(error)
    if status_of(error) in (413, 503):
        return status_of(error)
    if error.step <= UNPROVEN_STEP:
        return 400 if error.step == 1 else 401
    return 403 if error.step <= 8 else 503
