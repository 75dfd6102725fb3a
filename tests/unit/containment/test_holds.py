"""Suspending and lifting: what a hold stops, when it may end, and that a ruling and its hold are one."""

from __future__ import annotations

from typing import Any

import pytest

from safehold.containment import Effect, preview
from safehold.ledger import sqlite
from safehold.ledger.log import Log
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Conflict, InputInvalid, NotFound, Refused, StorageFailed
from safehold.model.ids import Subject, parse_subject
from safehold.model.statements import DecisionMade, HoldLifted, HoldPlaced
from safehold.state.standing import active_holds
from tests.broker_kit import (
    ANNOTATOR,
    CI,
    DESK,
    HOUR,
    MEMBER,
    NOTES,
    NOW,
    SECOND,
    TRAINER,
    WORDS,
    World,
)

PARTY = parse_subject("party:quill-works")
DIRTY = canonical_bytes({"distributions": [{"name": "litellm", "version": "1.82.8"}]})


def effect_on(world: World, subject: str) -> Effect:
    with world.log.view() as view:
        return preview(view, parse_subject(subject), world.now)


def test_a_suspension_is_a_decision_and_a_hold_side_by_side(world: World) -> None:
    dirty = world.report(CI, contents=DIRTY)
    world.advise(dirty)
    done = world.containment.suspend(PARTY, "its runner held litellm 1.82.8", MEMBER)
    decision, placed = world.entries()[-2:]
    assert isinstance(decision.statement, DecisionMade)
    assert isinstance(placed.statement, HoldPlaced)
    assert (decision.statement.ruling, decision.statement.subject) == ("suspend", PARTY)
    assert (decision.statement.member, decision.statement.reason) == (MEMBER, "its runner held litellm 1.82.8")
    assert len(decision.statement.advisories) == 1
    assert (placed.statement.hold, placed.statement.subject) == (done.hold, PARTY)
    assert placed.statement.decision == decision.statement.decision
    assert done.entry.index == placed.index


def test_a_ruling_names_the_newest_version_of_each_advisory(world: World) -> None:
    inventory = world.report(CI)
    world.advise(inventory, document="1")
    world.advise(inventory, document="2")
    world.containment.suspend(PARTY, "why")
    decision = world.statements(DecisionMade)[-1]
    with world.log.view() as view:
        newest = view.rows("SELECT document FROM advisory ORDER BY idx DESC LIMIT 1")[0][0]
    assert decision.advisories == (newest,)


@pytest.mark.parametrize("act", ["suspend", "lift"])
def test_a_ruling_and_its_hold_are_all_or_nothing(world: World, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    if act == "lift":
        world.hold("party:quill-works")
    size = len(world.entries())
    add = sqlite._Connection.add_entries

    def second_fails(self: Any, begin: int, bodies: list[bytes]) -> None:
        add(self, begin, bodies[:1])
        assert begin <= size + 1 < begin + len(bodies)
        raise sqlite.apsw.IOError("the second of two")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite._Connection, "add_entries", second_fails)
        with pytest.raises(StorageFailed):
            getattr(world.containment, act)(PARTY, "why")
    assert len(world.entries()) == size
    with world.log.view() as view:
        assert bool(active_holds(view, [PARTY])) == (act == "lift")
    getattr(world.containment, act)(PARTY, "why")
    assert len(world.entries()) == size + 2


@pytest.mark.parametrize("act", ["suspend", "lift"])
@pytest.mark.parametrize("reason", ["", " \n\t", "x" * 2001])
def test_a_ruling_needs_a_reason(world: World, act: str, reason: str) -> None:
    size = len(world.entries())
    with pytest.raises(InputInvalid, match=r"containment\.reason"):
        getattr(world.containment, act)(PARTY, reason)
    assert len(world.entries()) == size


@pytest.mark.parametrize("act", ["suspend", "lift"])
@pytest.mark.parametrize(
    "subject",
    [
        "party:no-one", "host:quill-works/ci-9", "member:quill-works/m-" + "9" * 20, "dataset:quill-works/none",
        "release:sha256:" + "0" * 64, "grant:g-" + "0" * 16,
    ],
)  # fmt: skip
def test_a_subject_that_is_not_known(world: World, act: str, subject: str) -> None:
    size = len(world.entries())
    with pytest.raises(NotFound, match=r"containment\.no_subject"):
        getattr(world.containment, act)(parse_subject(subject), "why")
    with pytest.raises(NotFound, match=r"containment\.no_subject"):
        effect_on(world, subject)
    assert len(world.entries()) == size


def test_held_twice_and_lifted_twice(world: World) -> None:
    hold = world.hold("party:quill-works").hold
    with pytest.raises(Conflict, match=rf"held already by {hold}.*containment\.held"):
        world.hold("party:quill-works")
    world.hold(f"host:{CI}")  # another subject is another hold
    assert world.containment.lift(PARTY, "cleared").holds == (hold,)
    with pytest.raises(Conflict, match=r"containment\.not_held"):
        world.containment.lift(PARTY, "cleared")
    with world.log.view() as view:
        assert [str(one.subject) for one in active_holds(view)] == [f"host:{CI}"]


def test_holds_that_an_older_ledger_has_twice_are_lifted_together(world: World) -> None:
    first = world.hold("party:quill-works").entry.statement
    again = HoldPlaced(
        t=first.t, by=first.by, hold="h-" + "1" * 16, subject=PARTY, reason="again", decision=first.decision
    )
    world.log.append_statements(again)
    lifted = world.containment.lift(PARTY, "cleared")
    assert lifted.holds == (first.hold, "h-" + "1" * 16)
    assert len(world.statements(HoldLifted)) == 2
    world.ask()


# --- what a hold would stop ---------------------------------------------------------------------------


def test_effects_by_kind_of_subject(world: World) -> None:
    """Three grants alive: of the supplier, of its runner, of the lab for the supplier's data; and one that ended."""
    any_host, runner = world.grant.terms.grant, world.issue(host=CI).terms.grant
    lab_grant = world.issue(party="north-lab", host=TRAINER)
    world.issue(until=NOW)
    world.ask()
    world.ask(host=DESK, member=None)
    world.ask(host=TRAINER, member=None, grant=lab_grant.token)
    everything = (any_host, runner, lab_grant.terms.grant)
    expected: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
        "party:quill-works": ((CI, DESK), everything, 3),
        "party:north-lab": ((TRAINER,), (lab_grant.terms.grant,), 1),
        "party:bright-annotators": ((ANNOTATOR,), (), 0),
        f"host:{CI}": ((CI,), (runner,), 1),
        f"host:{DESK}": ((DESK,), (), 1),
        f"member:{MEMBER}": ((), (), 1),
        f"dataset:{WORDS}": ((), everything, 3),
        f"dataset:{NOTES}": ((), (), 0),
        f"release:{world.release}": ((), (), 3),
        f"grant:{any_host}": ((), (any_host,), 2),
    }
    size = len(world.entries())
    for subject, (hosts, grants, leases) in expected.items():
        effect = effect_on(world, subject)
        assert (subject, effect.hosts, effect.grants, effect.leases) == (subject, hosts, grants, leases)
        assert effect.already_held == ()
    assert len(world.entries()) == size
    world.now += 300 * SECOND
    assert effect_on(world, "party:quill-works").leases == 0
    world.now += 48 * HOUR
    assert effect_on(world, "party:quill-works").grants == ()


def test_ids_of_two_kinds_may_be_equal_and_are_not_mixed_up(world: World) -> None:
    world.registry.add_dataset(CI, "north-lab", "named like a host")
    grant = world.issue(dataset=CI).terms.grant
    assert grant in effect_on(world, f"dataset:{CI}").grants
    assert grant not in effect_on(world, f"host:{CI}").grants


def test_a_suspension_says_what_it_stopped(world: World) -> None:
    world.ask()
    assert effect_on(world, "party:quill-works") == world.hold("party:quill-works").effect
    assert effect_on(world, "party:quill-works").already_held


# --- lifting --------------------------------------------------------------------------------------------


def not_clean(world: World, subject: Subject = PARTY) -> str:
    size = len(world.entries())
    with pytest.raises(Refused, match=r"containment\.not_clean") as caught:
        world.containment.lift(subject, "cleared")
    assert len(world.entries()) == size
    assert caught.value.hint
    return caught.value.message


def test_every_covered_host_must_have_reported_since(world: World) -> None:
    world.now += SECOND
    world.hold("party:quill-works")
    world.now += SECOND
    assert CI in not_clean(world)
    world.report(CI)
    assert DESK in not_clean(world)
    world.report(DESK)
    world.containment.lift(PARTY, "cleared")
    world.ask()


def test_what_was_seen_before_the_hold_and_sent_after_it_does_not_count(world: World) -> None:
    world.now += HOUR
    world.hold(f"host:{CI}")
    world.now += SECOND
    world.report(CI, observed=NOW + SECOND)
    assert CI in not_clean(world, parse_subject(f"host:{CI}"))


def test_a_clock_set_forward_does_not_date_a_report_after_the_hold(world: World) -> None:
    world.report(CI, observed=NOW + HOUR)
    world.now += 60 * SECOND
    world.hold(f"host:{CI}")
    world.now += SECOND
    assert CI in not_clean(world, parse_subject(f"host:{CI}"))


def test_every_environment_must_have_been_seen_since(world: World) -> None:
    world.report(CI, environment="second")
    world.now += SECOND
    world.hold(f"host:{CI}")
    world.now += SECOND
    world.report(CI)
    assert CI in not_clean(world, parse_subject(f"host:{CI}"))


def test_a_host_that_still_holds_what_an_advisory_names(world: World) -> None:
    world.hold("party:quill-works")
    world.now += SECOND
    world.report(DESK)
    world.advise(world.report(CI, contents=DIRTY))
    message = not_clean(world)
    assert "litellm 1.82.8" in message
    assert "PYSEC-2026-2" in message
    world.report(CI)
    world.containment.lift(PARTY, "rebuilt")


def test_a_member_may_rule_otherwise_and_it_stays_written(world: World) -> None:
    world.advise(world.report(CI, contents=DIRTY))
    hold = world.hold("party:quill-works").hold
    not_clean(world)
    lifted = world.containment.lift(PARTY, "the host was thrown away", MEMBER, despite_findings=True)
    assert (lifted.holds, lifted.subject) == ((hold,), PARTY)
    decision, end = world.entries()[-2:]
    assert lifted.entry == decision
    assert isinstance(decision.statement, DecisionMade)
    assert isinstance(end.statement, HoldLifted)
    assert (decision.statement.ruling, decision.statement.reason) == ("lift", "the host was thrown away")
    assert decision.statement.member == MEMBER
    assert end.statement.decision == decision.statement.decision
    with world.refused(5, "broker.inventory_unclean"):  # lifted, and still not clean: the broker judges by itself
        world.ask()


@pytest.mark.parametrize("subject", [f"member:{MEMBER}", f"dataset:{WORDS}", "grant"])
def test_what_covers_no_host_has_no_condition(world: World, subject: str) -> None:
    held = f"grant:{world.grant.terms.grant}" if subject == "grant" else subject
    world.hold(held)
    world.containment.lift(parse_subject(held), "cleared")
    world.ask()


def test_a_hold_counts_for_whoever_opens_the_ledger_next(world: World) -> None:
    world.hold("party:quill-works")
    log = Log(world.store, world.log._lock_database, world.signer, "north-lab.example/custody", world.log._projector)
    with log.view() as view:
        assert [hold.subject for hold in active_holds(view)] == [PARTY]
