"""What is refused by the decision, steps 4 to 7: an entry with a reason, and never a key.

``World.refused`` holds the common part: the code and the step in the entry, one entry and no more, nothing unwrapped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from safehold.broker.grants import GrantTerms, Narrowing, TokenRequest, narrow_grant, verify_grant
from safehold.broker.proof import sign_request
from safehold.ledger.keys import SigningKey
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Refused
from safehold.model.ids import parse_subject, sha256_digest
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.state.invariants import check_order
from tests.broker_kit import (
    ANNOTATOR,
    CI,
    CLEAN,
    COLLEAGUE,
    DESK,
    GROUPS,
    HOUR,
    MEMBER,
    NOTES,
    NOW,
    SECOND,
    STRANGER,
    TRAINER,
    World,
    new_request,
)

DIRTY = canonical_bytes({"distributions": [{"name": "litellm", "version": "1.82.8"}]})


# --- 4 freshness and replay ----------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600, -61, 61, 3600])
def test_step_4_a_clock_that_is_off(world: World, seconds: int) -> None:
    with world.refused(4, "broker.stale") as seen:
        world.ask(clock=lambda: NOW + seconds * SECOND)
    assert f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'}" in seen[0].reason
    assert "clock" in seen[0].hint


def test_step_4_the_same_request_again(world: World) -> None:
    body = world.body()
    proof = sign_request(body, json.loads(body)["request"], NOW // SECOND, world.host_keys[CI])
    world.broker.release_keys(body, proof)
    for _ in range(2):
        asked = len(world.part_keys.asked)
        with world.refused(4, "broker.replayed"):
            world.broker.release_keys(body, proof)
        assert len(world.part_keys.asked) == asked
    assert len(world.statements(KeyReleased)) == 1


def test_step_4_an_id_used_before_under_another_body(world: World) -> None:
    request = new_request()
    world.send(world.body(request=request))
    with world.refused(4, "broker.replayed"):
        world.send(world.body(request=request, groups=("answer",)))


def test_step_4_an_id_that_was_refused_after_the_proof_is_used_up(world: World) -> None:
    body = world.body(purpose="resale")
    with world.refused(7, "broker.grant_purpose"):
        world.send(body)
    with world.refused(4, "broker.replayed"):
        world.send(body)


# --- 5 inventory ---------------------------------------------------------------------------------------


def test_step_5_a_host_that_never_reported(world: World) -> None:
    key = SigningKey.generate()
    world.registry.add_host("quill-works/new-1", key.public, 60)
    with world.refused(5, "broker.inventory_absent"):
        world.ask(host="quill-works/new-1", key=key)


def test_step_5_an_inventory_that_is_too_old(world: World) -> None:
    world.now += HOUR + SECOND
    with world.refused(5, "broker.inventory_old") as seen:
        world.ask()
    assert "3601 s old" in seen[0].reason
    world.report(CI)
    world.ask()


def test_step_5_an_old_observation_that_arrives_late(world: World) -> None:
    world.now += 2 * HOUR
    world.report(CI, observed=NOW + SECOND)
    with world.refused(5, "broker.inventory_old"):
        world.ask()


def test_step_5_a_clock_set_forward_keeps_nothing_fresh(world: World) -> None:
    world.report(CI, observed=NOW + 24 * HOUR)
    world.ask()
    world.now += HOUR + SECOND
    with world.refused(5, "broker.inventory_old"):
        world.ask()


def test_step_5_a_clock_that_was_ahead_hides_nothing_that_came_later(world: World) -> None:
    """Intake lets a host be five minutes ahead: for so long its clean report is "newer" than the dirty one after it."""
    world.report(CI, observed=NOW + 300 * SECOND)
    world.now += 60 * SECOND
    world.advise(world.report(CI, contents=DIRTY))
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_contents_that_are_not_kept_show_no_cleanness(world: World) -> None:
    world.report(CI, contents=b'{"distributions": []}', kept=False)
    with world.refused(5, "broker.inventory_unreadable"):
        world.ask()


def test_step_5_one_environment_of_several_is_old(world: World) -> None:
    world.report(CI, environment="second")
    world.now += HOUR + SECOND
    world.report(CI)
    with world.refused(5, "broker.inventory_old") as seen:
        world.ask()
    assert "(second)" in seen[0].reason
    world.report(CI, environment="second", contents=b"{}")
    world.ask()
    released = world.entries()[-1].statement
    assert isinstance(released, KeyReleased)
    assert set(released.inventories) == {sha256_digest(CLEAN), sha256_digest(b"{}")}


def test_step_5_an_inventory_that_an_advisory_names(world: World) -> None:
    dirty = world.report(CI, contents=DIRTY)
    world.ask()  # nobody knew
    world.advise(dirty)
    with world.refused(5, "broker.inventory_unclean") as seen:
        world.ask()
    assert "litellm 1.82.8" in seen[0].reason
    assert seen[0].hint.startswith("remove litellm 1.82.8 from main")
    world.report(CI)
    world.ask()


def test_step_5_one_environment_of_several_is_unclean(world: World) -> None:
    world.advise(world.report(CI, environment="second", contents=DIRTY))
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_an_older_observation_does_not_cover_a_newer_one(world: World) -> None:
    world.advise(world.report(CI, contents=DIRTY))
    world.report(CI, observed=NOW - SECOND)  # clean, delivered late
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_an_advisory_that_was_withdrawn_or_corrected_no_longer_counts(world: World) -> None:
    dirty = world.report(CI, contents=DIRTY)
    world.advise(dirty)
    world.advise(dirty, document="2", found=False)
    world.ask()
    world.advise(dirty, document="3")
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()
    world.advise(dirty, document="4", withdrawn=True)
    world.ask()


# --- 6 holds -------------------------------------------------------------------------------------------

SUBJECTS = (
    "party:quill-works",
    f"host:{CI}",
    f"member:{MEMBER}",
    "dataset:quill-works/word-problems",
    "release",
    "grant",
)


def named(world: World, subject: str) -> str:
    return {"release": f"release:{world.release}", "grant": f"grant:{world.grant.terms.grant}"}.get(subject, subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_step_6_a_hold_on_anything_that_the_request_names(world: World, subject: str) -> None:
    held = named(world, subject)
    opened = world.ask()
    placed = world.hold(held, "seen in a leak")
    with world.refused(6, "broker.held") as seen:
        world.ask()
    assert seen[0].reason == f"{held} is suspended since entry {placed.entry.index}: seen in a leak"
    assert opened.entry < placed.entry.index
    world.containment.lift(parse_subject(held), "cleared")
    world.ask()
    assert check_order(world.entries()) == []


def test_step_6_a_hold_on_whoever_made_the_data_stops_it_in_all_hands(world: World) -> None:
    token = world.issue(party="north-lab").token
    world.ask(grant=token, host=TRAINER, member=None)
    world.hold("party:quill-works")
    with world.refused(6, "broker.held"):
        world.ask(grant=token, host=TRAINER, member=None)


@pytest.mark.parametrize(
    "subject", ["party:bright-annotators", f"host:{DESK}", f"member:{COLLEAGUE}", f"dataset:{NOTES}", "other release"]
)
def test_step_6_a_hold_on_somebody_else_stops_nothing_here(world: World, subject: str) -> None:
    world.hold(f"release:{world.other_release}" if subject == "other release" else subject)
    world.ask()


def test_step_6_two_holds_are_two(world: World) -> None:
    world.hold("party:quill-works")
    world.hold(f"host:{CI}")
    world.containment.lift(parse_subject("party:quill-works"), "cleared")
    with world.refused(6, "broker.held") as seen:
        world.ask()
    assert seen[0].reason.startswith(f"host:{CI}")


# --- 7 within the grant --------------------------------------------------------------------------------

Ask = Callable[[World], Any]

OUTSIDE: dict[str, tuple[str, Ask]] = {
    "of a party": ("broker.grant_holder", lambda world: world.ask(host=ANNOTATOR, member=None)),
    "of another host": (
        "broker.grant_holder",
        lambda world: world.ask(grant=world.issue(host=DESK).token),
    ),
    "for another dataset": (
        "broker.grant_dataset",
        lambda world: world.ask(grant=world.issue(dataset=NOTES).token),
    ),
    "for another release": ("broker.grant_dataset", lambda world: world.ask(release=world.other_release)),
    "no such release": ("broker.no_release", lambda world: world.ask(release=sha256_digest(b"none"))),
    "a group too many": (
        "broker.grant_groups",
        lambda world: world.ask(grant=world.issue(groups=("question",)).token),
    ),
    "a group that the release has not": (
        "broker.grant_groups",
        lambda world: world.ask(grant=world.issue(groups=(*GROUPS, "labels")).token, groups=("labels",)),
    ),
    "another purpose": ("broker.grant_purpose", lambda world: world.ask(purpose="resale")),
    "ended": (
        "broker.grant_time",
        lambda world: world.ask(grant=world.issue(not_before=NOW - HOUR, until=NOW).token),
    ),
    "not begun": (
        "broker.grant_time",
        lambda world: world.ask(grant=world.issue(not_before=NOW + SECOND, until=NOW + HOUR).token),
    ),
    "a member of another party": ("broker.member_party", lambda world: world.ask(member=STRANGER)),
    "never recorded": ("broker.grant_unknown", lambda world: world.ask(grant=unrecorded(world, "g-" + "0" * 16))),
    "recorded with other terms": (
        "broker.grant_unknown",
        lambda world: world.ask(grant=unrecorded(world, world.issue(groups=("question",)).terms.grant)),
    ),
}

NARROWED: dict[str, tuple[Narrowing, dict[str, Any]]] = {
    "host": (Narrowing(host=DESK), {}),
    "member": (Narrowing(member=COLLEAGUE), {}),
    "member, and none named": (Narrowing(member=MEMBER), {"member": None}),
    "groups": (Narrowing(groups=("question",)), {}),
    "groups, the other one": (Narrowing(groups=("question",)), {"groups": ("answer",)}),
    "purpose": (Narrowing(purpose="review"), {}),
    "until": (Narrowing(until=NOW), {}),
}


def unrecorded(world: World, grant: Any) -> str:
    values: dict[str, Any] = {name: getattr(world.grant.terms, name) for name in GrantTerms.__struct_fields__}
    return world.grant_key.issue(GrantTerms(**values | {"grant": grant}))


@pytest.mark.parametrize("case", OUTSIDE)
def test_step_7_what_the_grant_does_not_cover(world: World, case: str) -> None:
    code, ask = OUTSIDE[case]
    if code != "broker.grant_unknown" and case != "of a party":
        world.ask()
    before = len(world.statements(KeyReleased))
    with pytest.raises(Refused, match=code.replace(".", r"\.")):
        ask(world)
    refused = world.statements(KeyRefused)[-1]
    assert (refused.step, refused.code) == (7, code)
    assert refused.reason
    assert refused.hint
    assert len(world.statements(KeyReleased)) == before


@pytest.mark.parametrize("case", NARROWED)
def test_step_7_what_was_narrowed_away(world: World, case: str) -> None:
    narrowing, order = NARROWED[case]
    world.ask(**order)
    token = narrow_grant(world.grant.token, world.grant.root, narrowing)
    with world.refused(7, "broker.grant_denies"):
        world.ask(grant=token, **order)


@pytest.mark.parametrize("case", NARROWED)
def test_step_7_narrowed_and_then_narrowed_less_stays_narrow(world: World, case: str) -> None:
    narrowing, order = NARROWED[case]
    token = narrow_grant(world.grant.token, world.grant.root, narrowing)
    wide = Narrowing(host=CI, groups=GROUPS, purpose="training", until=NOW + 24 * HOUR)
    with world.refused(7, "broker.grant_denies"):
        world.ask(grant=narrow_grant(token, world.grant.root, wide), **order)


def test_step_7_the_token_alone_holds_too(world: World) -> None:
    """The grant's row is one check, the token another: each of them refuses without the other's help."""
    token = verify_grant(world.issue(host=CI, groups=("question",)).token, world.grant.root)
    good: dict[str, Any] = {
        "party": "quill-works", "host": CI, "host_key": world.host_keys[CI].key_id, "member": None,
        "dataset": "quill-works/word-problems", "groups": ("question",), "purpose": "training", "now": NOW,
    }  # fmt: skip
    token.authorize(TokenRequest(**good))
    bad: dict[str, Any] = {
        "party": "north-lab", "host": DESK, "host_key": world.host_keys[DESK].key_id, "dataset": NOTES,
        "groups": GROUPS, "purpose": "resale", "now": NOW + 24 * HOUR,
    }  # fmt: skip
    for name, value in bad.items():
        with pytest.raises(Refused, match=r"broker\.grant_denies"):
            token.authorize(TokenRequest(**good | {name: value}))
