"""Responses: what each course stops and ends, what a profile proposes, a plan as one append, proofs, and clean enough."""

from __future__ import annotations

from typing import Any

import pytest

from safehold.containment import (
    Concern,
    Responses,
    Ruling,
    compare,
    list_responses,
    load_concern,
    propose,
    response_steps,
)
from safehold.containment.concern import HostConcern, OpenPair, Stake
from safehold.containment.respond import ROTATION
from safehold.containment.whatif import option_of
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Conflict, InputInvalid, NotFound, Refused
from safehold.model.ids import Subject, parse_subject
from safehold.model.statements import DecisionMade, HoldPlaced
from safehold.model.statements_response import ResponsePlanned, ResponseProven
from tests.broker_kit import ADVISORY, ANNOTATOR, CI, DESK, HOUR, MEMBER, SECOND, TRAINER, World

DIRTY = canonical_bytes({"distributions": [{"name": "litellm", "version": "1.82.8"}]})
DAY = 24 * HOUR


@pytest.fixture
def responses(world: World) -> Responses:
    return Responses(world.log, world.clock, world.by)


def ruling(course: str, **more: Any) -> Ruling:
    values: dict[str, Any] = {"advisory": ADVISORY, "course": course, "profile": "measured", "reason": "ci-1 held it"}
    return Ruling(**values | more)


def dirty(world: World) -> None:
    """All hosts report; CI holds what the advisory names."""
    for host in (DESK, TRAINER, ANNOTATOR):
        world.report(host)
    world.advise(world.report(CI, contents=DIRTY))


def concern_of(world: World) -> Concern:
    with world.log.view() as view:
        return load_concern(view, ADVISORY, world.now)


def test_whom_an_incident_concerns(world: World) -> None:
    dirty(world)
    concern = concern_of(world)
    assert [host.host for host in concern.concerned] == [CI]
    assert concern.concerned[0].holding == ("litellm 1.82.8",)
    world.now += HOUR
    world.report(CI)
    world.report(DESK)
    later = {host.host: host for host in concern_of(world).concerned}
    assert later[CI].touched
    assert not later[CI].holding
    assert later[TRAINER].silent_since is not None  # silent for an hour of sweeps
    assert DESK not in later


def test_an_advisory_that_nobody_knows(world: World, responses: Responses) -> None:
    with pytest.raises(NotFound, match="no_advisory"):
        responses.preview(ruling("watch"))


def test_a_withdrawn_advisory_concerns_nobody(world: World) -> None:
    dirty(world)
    world.advise(world.report(CI, contents=DIRTY), document="2", withdrawn=True)
    assert [host.host for host in concern_of(world).concerned] == []


def test_courses_side_by_side(world: World) -> None:
    dirty(world)
    options = {option.course: option for option in compare(concern_of(world))}
    wide, hosts, grants, watch = (
        options[course] for course in ("suspend-supplier", "suspend-hosts", "revoke-and-rotate", "watch")
    )
    assert wide.holds == (parse_subject("party:quill-works"),)
    assert hosts.holds == (Subject("host", CI),)
    assert all(subject.kind == "grant" for subject in grants.holds)
    assert watch.holds == ()
    every = {(pair.host, pair.dataset) for pair in watch.stays}
    assert every
    assert {host for host, _ in every} == {CI}
    for option in (wide, hosts, grants):
        assert {(pair.host, pair.dataset) for pair in option.ends} == every, option.course
        assert option.stays == ()
    assert watch.ends == ()
    assert CI in wide.stops.hosts
    assert wide.stops.bystanders  # others of the party, or readers of its data, stand still too
    assert hosts.stops.bystanders == ()
    assert wide.stops.customers == ("north-lab",)


@pytest.mark.parametrize("course", ["suspend-supplier", "suspend-hosts", "revoke-and-rotate"])
def test_what_a_course_ends_the_broker_refuses(world: World, responses: Responses, course: str) -> None:
    dirty(world)
    responses.carry_out(ruling(course))
    world.report(CI)
    with world.refused(6, "broker.held"):
        world.ask()


def test_who_watches_stops_nothing(world: World, responses: Responses) -> None:
    dirty(world)
    responses.carry_out(ruling("watch"))
    world.report(CI)
    world.ask()


def test_keys_that_are_out_are_said(world: World) -> None:
    world.report(CI)
    world.ask()
    dirty(world)
    for option in compare(concern_of(world)):
        assert [lease.host for lease in option.keys_out] == [CI]
        assert any("cannot be called back" in left for left in option.left)
        assert option.left[-1].startswith("what these hosts have read stays read")


def test_a_plan_and_its_holds_are_one_append(world: World, responses: Responses) -> None:
    dirty(world)
    before = len(world.entries())
    plan = responses.carry_out(ruling("suspend-hosts", member=MEMBER))
    entries = world.entries()[before:]
    assert [type(entry.statement) for entry in entries] == [DecisionMade, HoldPlaced, ResponsePlanned]
    planned = entries[-1].statement
    assert plan.entry is not None
    assert plan.entry.index == entries[-1].index
    assert planned.decisions == (entries[0].statement.decision,)
    assert planned.proposed == "suspend-hosts"
    assert (planned.member, planned.advisory) == (MEMBER, ADVISORY)


def test_the_supplier_is_stopped_and_not_the_lab(world: World, responses: Responses) -> None:
    for host in (DESK, ANNOTATOR):
        world.report(host)
    world.report(CI, contents=DIRTY)
    world.advise(world.report(TRAINER, contents=DIRTY))
    option = option_of(concern_of(world), "suspend-supplier")
    assert option.holds == (parse_subject("party:quill-works"), Subject("host", TRAINER))


def test_nobody_left_to_hold(world: World, responses: Responses) -> None:
    dirty(world)
    responses.carry_out(ruling("suspend-hosts"))
    with pytest.raises(Conflict, match="nothing_to_hold"):
        responses.carry_out(ruling("suspend-hosts"))


def test_a_preview_changes_nothing(world: World, responses: Responses) -> None:
    dirty(world)
    size = len(world.entries())
    responses.preview(ruling("suspend-supplier"))
    assert len(world.entries()) == size


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001])
def test_a_ruling_needs_a_reason(world: World, responses: Responses, reason: str) -> None:
    dirty(world)
    with pytest.raises(InputInvalid, match=r"containment\.reason"):
        responses.carry_out(ruling("watch", reason=reason))


def test_rotation_has_its_order_and_steps_wait_for_proof(world: World, responses: Responses) -> None:
    dirty(world)
    plan = responses.carry_out(ruling("suspend-hosts"))
    with world.log.view() as view:
        steps = response_steps(view, plan.response)
    assert [step.act for step in steps] == ["hold", *["rotate"] * len(ROTATION), "rebuild"]
    assert [step.words.startswith(kind) for step, kind in zip(steps[1:], ROTATION, strict=False)] == [True] * len(
        ROTATION
    )
    assert [step.done is not None for step in steps] == [True] + [False] * (len(steps) - 1)
    responses.prove(plan.response, 1, "new tokens; the old ones are refused", b"log of the forge", MEMBER)
    proven = world.statements(ResponseProven)[-1]
    with world.log.view() as view:
        assert view.payload(proven.document) == b"log of the forge"
        after = response_steps(view, plan.response)
        (listed,) = list_responses(view)
    assert after[1].done == len(world.entries()) - 1
    assert (listed["steps"], listed["done"]) == (len(steps), 2)
    with pytest.raises(Conflict, match="step_done"):
        responses.prove(plan.response, 1, "again")


def test_what_is_no_proof(world: World, responses: Responses) -> None:
    dirty(world)
    plan = responses.carry_out(ruling("watch"))
    with pytest.raises(NotFound, match="no_step"):
        responses.prove(plan.response, 99, "done")
    with pytest.raises(NotFound, match="no_response"):
        responses.prove("r-" + "0" * 16, 0, "done")
    for proof, document in (("", None), ("x" * 2001, None), ("fine", b"x" * ((1 << 20) + 1))):
        with pytest.raises(InputInvalid, match=r"containment\.proof"):
            responses.prove(plan.response, 0, proof, document)


def test_a_hold_of_a_plan_is_lifted_after_clean_days_alone(world: World, responses: Responses) -> None:
    dirty(world)
    responses.carry_out(ruling("suspend-hosts", clean_for=3600))
    held = Subject("host", CI)
    world.now += 60 * SECOND
    with pytest.raises(Refused, match="not_clean"):
        world.containment.lift(held, "rebuilt")
    world.report(CI)
    with pytest.raises(Refused, match="not_clean_long"):
        world.containment.lift(held, "rebuilt")
    for _ in range(60):
        world.now += 60 * SECOND
        world.report(CI)
    world.containment.lift(held, "rebuilt, and clean for an hour")


def test_a_silent_hour_is_no_clean_hour(world: World, responses: Responses) -> None:
    dirty(world)
    responses.carry_out(ruling("suspend-hosts", clean_for=3600))
    world.now += 60 * SECOND
    world.report(CI)
    world.now += 2 * HOUR
    world.report(CI)
    with pytest.raises(Refused, match="not_clean_long"):
        world.containment.lift(Subject("host", CI), "rebuilt")


def test_a_hold_without_a_response_asks_for_no_days(world: World) -> None:
    dirty(world)
    world.hold(f"host:{CI}")
    world.now += 60 * SECOND
    world.report(CI)
    world.containment.lift(Subject("host", CI), "rebuilt")


def made(*hosts: tuple[str, bool, bool, bool]) -> Concern:
    """Hosts as (name, holding, touched, silent) of one supplier with one dataset."""
    every = tuple(
        HostConcern(
            host=name,
            party="quill-works",
            holding=("litellm 1.82.8",) if holding else (),
            touched=touched or holding,
            silent_since=5 if silent else None,
        )
        for name, holding, touched, silent in hosts
    )
    pairs = tuple(
        OpenPair(host=host.host, dataset="quill-works/d", grant=f"g-{n}", until=9) for n, host in enumerate(every)
    )
    stake = Stake(dataset="quill-works/d", customer="north-lab", releases=1, runs=(), models=())
    return Concern(
        incident=("X",), now=1, size=1, hosts=every, pairs=pairs, leases=(), stakes=(stake,),
        suppliers=("quill-works",), holds=(),
    )  # fmt: skip


CLEAN_HOST = ("quill-works/c", False, False, False)
HOLDER = ("quill-works/a", True, True, False)
FORMER = ("quill-works/b", False, True, False)
SILENT = ("quill-works/s", False, False, True)


@pytest.mark.parametrize(
    ("hosts", "sealing", "strict", "measured", "watchful"),
    [
        ((CLEAN_HOST,), (), "watch", "watch", "watch"),
        ((CLEAN_HOST, HOLDER), (), "suspend-supplier", "suspend-hosts", "suspend-hosts"),
        ((CLEAN_HOST, FORMER), (), "suspend-supplier", "suspend-hosts", "revoke-and-rotate"),
        ((CLEAN_HOST, SILENT), (), "suspend-supplier", "suspend-hosts", "watch"),
        ((CLEAN_HOST, HOLDER, FORMER), (), "suspend-supplier", "suspend-supplier", "suspend-hosts"),
        ((CLEAN_HOST, HOLDER), ("quill-works/a",), "suspend-supplier", "suspend-supplier", "suspend-hosts"),
        ((CLEAN_HOST, HOLDER), ("quill-works/c",), "suspend-supplier", "suspend-hosts", "suspend-hosts"),
    ],
)
def test_what_profiles_propose(hosts: Any, sealing: Any, strict: str, measured: str, watchful: str) -> None:
    concern = made(*hosts)
    proposed = [propose(concern, name, frozenset(sealing)) for name in ("strict", "measured", "watchful")]
    assert [one.course for one in proposed] == [strict, measured, watchful]
    assert all(one.why for one in proposed)
    assert proposed[0].clean_for > proposed[1].clean_for > proposed[2].clean_for
