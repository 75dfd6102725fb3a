"""One error tree for all of Safehold.

Every failure that a user can meet is a ``SafeholdError`` with three parts: a stable ``code``
(``room.reason``, listed in ``docs/reference/errors.md``), a ``message`` that names the thing, and a
``hint`` that says what to do next. The class says whose turn it is, and carries the exit code of the CLI:

==================  ====  ==========================================================
class               exit  meaning
==================  ====  ==========================================================
SafeholdError          1  something failed that no class below describes
InputInvalid           2  what was given cannot be used; nothing was changed
Refused                3  understood, and denied; the refusal is an entry where a key was asked for
VerificationFailed     4  a signature, hash, proof or commitment does not hold
StorageFailed          5  the disk or database failed
 NotAppended           5  … and nothing happened: run it again
 Uncertain             5  … and it may have happened: reopen to learn
NotFound               6  the thing named does not exist
Conflict               7  it exists already, or is in another state than the act needs
==================  ====  ==========================================================

Checks raise one of these or return the checked thing; they never return a bool. Foreign exceptions are
translated at the edge of a room with their cause kept (``raise … from error``).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Conflict",
    "InputInvalid",
    "NotAppended",
    "NotFound",
    "Refused",
    "SafeholdError",
    "StorageFailed",
    "Uncertain",
    "VerificationFailed",
]


class SafeholdError(Exception):
    """Root of the tree: ``code``, ``message`` and ``hint`` (may be empty)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class InputInvalid(SafeholdError):
    """What was given cannot be used; nothing was changed."""

    exit_code = 2


class Refused(SafeholdError):
    """Understood and denied. ``entry`` is the ledger index of the refusal where one was recorded."""

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str = "", *, entry: int | None = None) -> None:
        super().__init__(code, message, hint)
        self.entry = entry


class VerificationFailed(SafeholdError):
    """A signature, hash, proof or commitment does not hold. Never echoes protected contents."""

    exit_code = 4


class StorageFailed(SafeholdError):
    """The disk or the database failed."""

    exit_code = 5


class NotAppended(StorageFailed):
    """The append failed before its commit point: nothing happened, and it can be run again."""


class Uncertain(StorageFailed):
    """The append failed at its commit point: it may have happened. Reopen the ledger to learn."""


class NotFound(SafeholdError):
    """The thing named does not exist."""

    exit_code = 6


class Conflict(SafeholdError):
    """It exists already, or is in another state than the act needs."""

    exit_code = 7
