"""One request on its way through the broker: what is known of it so far, and how it ended.

Requests are answered many at a time, with one commit for all of them; each has its own fate. An ``Attempt`` holds it:
the step that it has reached, what was read, and either an answer or a refusal. ``guarded`` is the rule that exceptions
deny, for one attempt alone: its neighbours go on.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

from safehold.broker.grants import VerifiedGrant
from safehold.broker.leases import LeaseProof, Session
from safehold.broker.policy import Denial
from safehold.broker.proof import Proof
from safehold.broker.request import KeyRequest, LeasedKeys, LeaseWish, SealedKeys, SealedLease
from safehold.ledger.storage import Entry
from safehold.model.errors import SafeholdError, StorageFailed
from safehold.model.ids import GrantId, KeyId
from safehold.model.statements import KeyRefused, Statement
from safehold.state.standing import HostRow

__all__ = ["Attempt", "guarded", "not_recorded", "refusal"]

_AGAIN: Final = "ask again; if it stays, show this entry to whoever runs the broker"

_KEY_SERVICE: Final = ("vault.kek_", "app.kek_")
"""What is wrong with the key-encryption key or where it is. Its words name servers and files of ours, so they stay here."""


class Attempt:
    """A request with its proof, and what came of it. ``failure`` is what its asker gets instead of an answer."""

    __slots__ = (
        "answer",
        "body",
        "counter",
        "denial",
        "entry",
        "failure",
        "grant",
        "host",
        "member_key",
        "proof",
        "repeated",
        "request",
        "sealed",
        "session",
        "statement",
        "step",
        "token",
        "wish",
    )

    def __init__(self, body: bytes, proof: Proof | LeaseProof) -> None:
        self.body = body
        self.proof = proof
        self.step = 1
        self.request: KeyRequest | None = None
        self.grant: GrantId | None = None
        self.token: VerifiedGrant | None = None
        self.host: HostRow | None = None
        self.member_key: str | None = None  # the member's, which has signed, too
        self.wish: LeaseWish | None = None  # it asks for a lease
        self.session: Session | None = None  # it asks by a lease
        self.counter = 0  # of a request by a lease
        self.statement: Statement | None = None
        self.sealed = b""
        self.entry: Entry | None = None
        self.repeated: Entry | None = None  # the release that answered this very request before
        self.answer: SealedKeys | SealedLease | LeasedKeys | None = None
        self.denial: Denial | None = None
        self.failure: SafeholdError | None = None

    @property
    def open(self) -> bool:
        """Whether nothing has ended it yet."""
        return self.denial is None and self.failure is None

    def deny(self, denial: Denial, cause: BaseException | None = None) -> None:
        """End it by a refusal, which is still to be recorded unless it has an entry."""
        if cause is not None:
            denial.__cause__ = cause
        self.denial = denial

    def settle(self, entry: int) -> None:
        """Its refusal stands in the ledger."""
        if self.denial is not None:
            self.denial.entry = entry
            self.failure = self.denial


class guarded:  # noqa: N801 - used as a word: with guarded(attempt)
    """Whatever is raised inside denies this attempt at its step. A ledger that cannot be used passes, up to step 8.

    A class and no generator: a request passes here five times.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        attempt = self._attempt
        if not isinstance(error, Exception):
            return False  # nothing was raised, or this process is being ended
        if isinstance(error, StorageFailed) and not isinstance(error, Denial) and attempt.step <= 8:
            return False
        attempt.deny(_denial_of(attempt.step, error), error.__cause__ if isinstance(error, Denial) else error)
        return True


def _denial_of(step: int, error: Exception) -> Denial:
    if isinstance(error, Denial):
        return error
    key_service = isinstance(error, SafeholdError) and step > 8 and error.code.startswith(_KEY_SERVICE)
    if isinstance(error, StorageFailed) or key_service:
        return _unreadable(step, error)
    if isinstance(error, SafeholdError):
        return Denial(step, error.code, error.message, error.hint)
    # The unexpected denies like everything else.
    return Denial(step, "broker.internal", f"the broker failed in step {step}", _AGAIN)


def refusal(attempt: Attempt, denial: Denial, now: int, by: KeyId) -> Statement:
    """What the ledger says of a denied attempt."""
    request = attempt.request
    return KeyRefused(
        t=now,
        by=by,
        request=request.request if request else None,
        release=request.release if request else None,
        host=request.host if request else None,
        grant=attempt.grant,
        step=denial.step,
        code=denial.code,
        reason=_plain(denial.message),
        hint=_plain(denial.hint),
    )


def not_recorded(error: Exception) -> StorageFailed:
    """What is told whose refusal could not be recorded: no key leaves, and no entry says so."""
    failed = StorageFailed(
        "broker.not_recorded",
        "the request was refused, and its refusal could not be recorded",
        "show this to whoever runs the broker",
    )
    failed.__cause__ = error
    return failed


def _plain(text: str) -> str:
    """One line in bounds: a reason may quote what the asker sent, and people read it in terminals and pages."""
    return "".join(character if character.isprintable() else "?" for character in text[:1000])


def _unreadable(step: int, error: Exception) -> Denial:
    """Why keys cannot be had: told apart where the fault is the key server's, for then asking again later helps."""
    if isinstance(error, SafeholdError) and error.code.startswith(_KEY_SERVICE):
        return Denial(
            step,
            "broker.keys_unavailable",
            "the service that guards the keys does not answer, or does not know this broker",
            "nothing is wrong with your grant or your host: ask again later; the broker's operator looks at that service",
        )
    return Denial(step, "broker.internal", "the keys could not be read", "ask again")
