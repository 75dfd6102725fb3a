"""A request that comes again: its answer may have been lost on the way, so it gets the same release, sealed anew.

It must be the very request: the same id, release, groups, purpose, member, host, grant and reader as the entry of then
says. It is decided anew, by the state of now: a hold, an advisory or a revoked grant in between refuses it. What comes of it
is no further release, so there is no further entry; and it is sealed to the same reader's key, so whoever repeats what he
overheard gains nothing. A request that differs in anything, or whose lease is over, is a replay and refused as such.
"""

from __future__ import annotations

import msgspec

from safehold.broker.attempt import Attempt
from safehold.broker.deciding import Moment
from safehold.ledger.storage import Entry, View
from safehold.model.ids import sha256_digest
from safehold.model.statements import KeyReleased, decode

__all__ = ["find_repeated", "without"]


def find_repeated(view: View, attempt: Attempt, moment: Moment) -> Entry | None:
    """The entry that answered this very request before, or None: then it is a new one, or a replay."""
    request = attempt.request
    if request is None or request.request not in moment.used or attempt.wish is not None or attempt.session is not None:
        return None
    rows = view.rows("SELECT idx FROM key_release WHERE request = ?", request.request)
    body = view.body(rows[0][0]) if len(rows) == 1 else None
    released = decode(body) if body is not None else None
    if body is None or not isinstance(released, KeyReleased) or released.until <= moment.now:
        return None
    said = (released.release, released.groups, released.purpose, released.member, released.host, released.grant)
    asked = (request.release, request.groups, request.purpose, request.member, request.host, attempt.grant)
    if said != asked or released.reader != sha256_digest(request.reader):
        return None
    return Entry(rows[0][0], body, released)


def without(moment: Moment, attempt: Attempt) -> Moment:
    """The moment as if this request's id had not been used."""
    used = moment.used - {attempt.request.request} if attempt.request is not None else moment.used
    return msgspec.structs.replace(moment, used=used)
