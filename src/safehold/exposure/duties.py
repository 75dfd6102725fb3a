"""Duties to tell: which rules the people and customers of affected releases bring with them, and when each is due.

The rules are data with their sources (``duties.toml``, and contracts in a file of the same form that the lab keeps);
this module only does the arithmetic. It says what stands on record, and is no legal advice. A clock that nobody noted
gives no date: ``due`` is then None and the state ``clock not noted``, never *in time*.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Final, Literal

import msgspec

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement
from safehold.model.encoding import resolved
from safehold.model.errors import InputInvalid

__all__ = ["EU", "Deadline", "Duty", "Told", "due_duties", "parse_duties", "standing_duties"]

Told = Literal["authority", "customers", "people", "workers"]
_State = Literal["clock not noted", "no number of hours", "open", "overdue", "sent", "sent late"]

_HOUR: Final = 3_600_000_000
EU: Final = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK EU IS LI NO".split()  # noqa: SIM905 - a table of codes reads best so
)
"""Members of the EEA by ISO 3166: the GDPR holds in all of them."""


class Duty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: whom to tell, within how many hours of which clock, in which jurisdictions or for which customers."""

    id: str
    to: Told
    says: str
    source: str
    where: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    within: int | None = None
    clock: Literal["awareness", "alert"] = "awareness"


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """A duty as it stands: why it applies, from when, until when (µs UTC), and what was sent (entries)."""

    duty: Duty
    why: str
    since: int | None
    due: int | None
    state: _State
    entries: tuple[int, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    duty: tuple[Duty, ...] = ()
    read: str = ""


def parse_duties(text: str, name: str) -> tuple[Duty, ...]:
    """The rules of a TOML file. Raises ``InputInvalid`` (``exposure.duties``) for a text that is none."""
    try:
        duties = msgspec.convert(tomllib.loads(text), resolved(_File)).duty
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InputInvalid(
            "exposure.duties", f"{name} holds no duties: {error}", "see docs/spec/notices.md for the form"
        ) from error
    for duty in duties:
        if not duty.where and not duty.customers:
            raise InputInvalid(
                "exposure.duties", f"{name}: {duty.id} names neither `where` nor `customers`", "say whom it is about"
            )
        if duty.within is not None and not 0 < duty.within <= 24 * 3660:
            raise InputInvalid("exposure.duties", f"{name}: {duty.id} has no sensible `within`", "hours, above 0")
    return duties


def standing_duties() -> tuple[Duty, ...]:
    """The rules that come with Safehold."""
    file = resources.files("safehold.exposure").joinpath("duties.toml")
    return parse_duties(file.read_text(encoding="utf-8"), "duties.toml")


def due_duties(case: Case, judgement: Judgement, duties: Sequence[Duty]) -> tuple[Deadline, ...]:
    """The rules that apply, the next due first. Pure.

    A release counts when it is exposed, and also when that is *unknown*: who waits for certainty misses the date.
    """
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    customer_of = {dataset.dataset: dataset.customer for dataset in case.datasets}
    people = dict[str, list[str]]()
    customers = dict[str, list[str]]()
    for judged in affected:
        for count in judged.release.people:
            people.setdefault(count.jurisdiction, []).append(judged.release.name)
        customer = customer_of.get(judged.release.dataset)
        if customer:
            customers.setdefault(customer, []).append(judged.release.name)
    found = []
    for duty in duties:
        why = _why(duty, people, customers)
        if why:
            found.append(_deadline(case, duty, why))
    return tuple(sorted(found, key=lambda one: (one.due is None, one.due or 0, one.duty.id)))


def _why(duty: Duty, people: dict[str, list[str]], customers: dict[str, list[str]]) -> str:
    said = []
    for place, names in sorted(people.items()):
        if any(_covers(where, place) for where in duty.where):
            said.append(f"people in {place}: {_few(names)}")
    said += [f"customer {name}: {_few(names)}" for name, names in sorted(customers.items()) if name in duty.customers]
    return "; ".join(said)


def _covers(where: str, place: str) -> bool:
    """Whether a rule of ``where`` holds for people counted in ``place``. ``US`` alone covers what has no state."""
    return where == place or (where == "EU" and place in EU)


def _few(names: Iterable[str]) -> str:
    every = sorted(set(names))
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def _deadline(case: Case, duty: Duty, why: str) -> Deadline:
    noted = [clock for clock in case.clocks if clock.clock == duty.clock]
    first = min(noted, key=lambda clock: (clock.at, clock.idx), default=None)
    sent = sorted((notice for notice in case.notices if notice.duty == duty.id), key=lambda notice: notice.at)
    due = None if first is None or duty.within is None else first.at + duty.within * _HOUR
    entries = [notice.idx for notice in sent] + ([first.idx] if first else [])
    return Deadline(
        duty=duty,
        why=why,
        since=None if first is None else first.at,
        due=due,
        state=_state(duty, None if first is None else first.at, due, [notice.at for notice in sent], case.now),
        entries=tuple(sorted(entries)),
    )


def _state(duty: Duty, since: int | None, due: int | None, sent: list[int], now: int) -> _State:
    if sent:
        return "sent late" if due is not None and sent[0] > due else "sent"
    if since is None:
        return "clock not noted"
    if due is None:
        return "no number of hours"
    return "overdue" if now > due else "open"
