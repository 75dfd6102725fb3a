"""What the broker remembers between decisions against a twin that reads everything afresh: never another answer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from safehold.ledger.log import Draft
from safehold.ledger.storage import View
from safehold.model.errors import SafeholdError
from safehold.model.ids import Subject, parse_subject
from safehold.model.statements import Statement
from safehold.model.statements_access import GrantRevoked
from safehold.state.remembered import Remembered
from safehold.state.standing import active_holds, find_grant, find_host, find_release, read_inventories
from safehold.state.standing_access import find_lease, lease_broken, revoked_blocks
from tests.broker_kit import CI, DESK, HOSTS, MEMBER, NOW, World, make_world
from tests.ledger_kit import memory_folder

SUBJECTS = [f"host:{CI}", f"host:{DESK}", "party:quill-works", f"member:{MEMBER}"]


class RolledBackError(Exception):
    """Raised on purpose: what was staged in this transaction never happened."""


def check(remembered: Remembered, view: View, world: World) -> Any:
    """Everything that can be asked, by both; returns the standing so that it can be kept."""
    standing = remembered.at(view)
    for host in HOSTS:
        assert standing.host(host) == find_host(view, host)
        assert standing.inventories(host) == read_inventories(view, host)
    for release in (world.release, world.other_release):
        assert standing.release(release) == find_release(view, release)
    assert standing.grant(world.grant.terms.grant) == find_grant(view, world.grant.terms.grant)
    assert standing.revoked() == revoked_blocks(view)
    every = [parse_subject(subject) for subject in SUBJECTS]
    assert standing.holds(every) == active_holds(view, every)
    for lease in LEASES.get(id(world), []):
        row, found = find_lease(view, lease), standing.lease(lease)
        assert (found.row if found else None) == row
        if found and row:
            assert found.broken == lease_broken(view, row)
    return standing


LEASES: dict[int, list[Any]] = {}

acts = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ask",
                "hold",
                "lift",
                "report",
                "dirty",
                "advise",
                "withdraw",
                "revoke",
                "lease",
                "rolled back",
                "other keeps",
            ]
        ),
        st.integers(0, 3),
    ),
    max_size=14,
)


def act(world: World, what: str, number: int) -> None:
    host, subject = HOSTS[number], SUBJECTS[number]
    match what:
        case "ask":
            world.ask()
        case "hold":
            world.hold(subject)
        case "lift":
            world.containment.lift(parse_subject(subject), "cleared", despite_findings=True)
        case "report":
            world.report(host)
        case "dirty":
            world.report(
                host, contents=b'{"distributions":[{"name":"litellm","version":"1.82.8"}]}', kept=number % 2 == 0
            )
        case "advise":
            world.advise(world.report(host, contents=b'{"distributions":[{"name":"litellm","version":"1.82.8"}]}'))
        case "withdraw":
            world.advise(world.report(host), document=f"w{number}", withdrawn=True)
        case "revoke":
            revoked: Statement = GrantRevoked(
                t=NOW, by=world.by, grant=world.grant.terms.grant, revocation=f"{number:02x}", reason="left"
            )
            world.log.append_statements(revoked)
        case "lease":
            LEASES.setdefault(id(world), []).append(world.lease().id)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(script=acts)
def test_what_is_remembered_is_what_is_so(script: list[tuple[str, int]]) -> None:
    with memory_folder() as folder:
        world = make_world(Path(folder))
        LEASES[id(world)] = []
        mine, other = Remembered(), Remembered()
        for what, number in script:
            event(what)
            if what == "rolled back":
                roll_back(world, mine, SUBJECTS[number])
            elif what == "other keeps":
                look(world, other)
            else:
                try:
                    act(world, what, number)
                except SafeholdError:
                    event("refused")
            look(world, mine)
        look(world, other)
        world.close()
        LEASES.clear()


def look(world: World, remembered: Remembered) -> None:
    """As a decision does: look inside the transaction, keep after the commit."""
    kept: list[Any] = []

    def propose(view: View) -> Draft:
        kept.append(check(remembered, view, world))
        return Draft(())

    world.log.append(propose)
    with world.log.view() as view:
        remembered.keep(kept[-1], view.size())


def roll_back(world: World, remembered: Remembered, subject: str) -> None:
    """A hold is staged and seen, and then the transaction comes to nothing."""
    about: Subject = parse_subject(subject)
    with suppress(RolledBackError), world.log.write() as transaction:
        check(remembered, transaction, world)
        transaction.execute(
            "INSERT INTO hold VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *("h-" + "f" * 16, about.kind, about.id, "r", "d", transaction.size(), NOW, None, None, None),
        )
        transaction.add_entry(transaction.size(), b'{"kind":"hold.placed"}')
        check(remembered, transaction, world)
        raise RolledBackError
