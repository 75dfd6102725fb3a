"""Leases: one full proof, then short requests; and all that ends them."""

from __future__ import annotations

from typing import Any

import pytest

from safehold.broker.lease_client import Lease, open_lease
from safehold.broker.leases import LeaseProof
from safehold.broker.request import LeasedRequest, LeaseWish, format_leased_request
from safehold.model.errors import Refused, VerificationFailed
from safehold.model.ids import parse_subject, sha256_digest
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.model.statements_access import GrantRevoked, LeaseEnded, LeaseOpened
from safehold.state.invariants import check_order
from safehold.state.standing_access import list_leases
from tests.broker_kit import CI, DESK, GROUPS, HOUR, MEMBER, NOW, SECOND, World


def lease(world: World, **wish: Any) -> Lease:
    return world.lease(**wish)


def refused(world: World, opened: Lease, code: str, *, ends: bool, step: int) -> None:
    """By the lease nothing comes: an entry says why, and the lease is ended for good where that is due."""
    size, ended = len(world.entries()), len(world.statements(LeaseEnded))
    with pytest.raises(Refused) as caught:
        opened.request_keys(world.release, GROUPS)
    assert (caught.value.code, caught.value.entry) == (code, size)
    refusal = world.entries()[size].statement
    assert isinstance(refusal, KeyRefused)
    assert (refusal.step, refusal.code) == (step, code)
    assert len(world.statements(LeaseEnded)) == ended + ends
    assert len(world.entries()) == size + 1 + ends


def test_a_lease_gives_the_keys_that_a_full_proof_gives_and_lists_each(world: World) -> None:
    opened = lease(world)
    assert not world.part_keys.asked  # no part key leaves by the opening
    (row,) = world.statements(LeaseOpened)
    assert (row.until, row.keys, row.host, row.member) == (NOW + 300 * SECOND, 100, CI, MEMBER)
    first, second = (opened.request_keys(world.release, GROUPS[:1]) for _ in range(2))
    full = world.ask()
    assert first.keys == second.keys
    assert first.keys == {file: key for file, key in full.keys.items() if file.endswith("-question.parquet")}
    released = world.statements(KeyReleased)
    assert [one.reader for one in released[:2]] == [row.reader] * 2
    assert len({one.request for one in released}) == 3
    with world.log.view() as view:
        (used,) = list_leases(view)
    assert (used.releases, used.last_idx) == (2, second.entry)
    assert check_order(world.entries()) == []


def test_time_and_budget_are_cut_to_the_policy_and_bound_it(world: World) -> None:
    long = lease(world, seconds=10**6, keys=10**9)
    assert (long.until, long.budget) == (NOW + 300 * SECOND, 100_000)
    short = lease(world, seconds=60, keys=3)
    short.request_keys(world.release, GROUPS[:1])  # two keys of three
    refused(world, short, "broker.lease_budget", ends=False, step=7)
    world.now += 61 * SECOND
    refused(world, short, "broker.lease_over", ends=True, step=4)
    long.request_keys(world.release, GROUPS)


def test_a_request_is_answered_once_and_an_older_one_never(world: World) -> None:
    opened = lease(world)
    body = format_leased_request(LeasedRequest(lease=opened.id, counter=5, release=world.release, groups=GROUPS))
    proof = opened._keys.authenticate(body)
    world.broker.release_leased(body, proof)
    with world.refused(3, "broker.lease_replayed"):
        world.broker.release_leased(body, proof)
    with world.refused(3, "broker.lease_replayed"):
        opened.request_keys(world.release, GROUPS)  # counter 1


def test_without_the_session_key_nothing_comes(world: World) -> None:
    opened = lease(world)
    body = format_leased_request(LeasedRequest(lease=opened.id, counter=1, release=world.release, groups=GROUPS))
    with world.refused(3, "broker.lease_proof"):
        world.broker.release_leased(body, LeaseProof(b"\x00" * 32))
    proof = opened._keys.authenticate(body)
    other = format_leased_request(LeasedRequest(lease=opened.id, counter=2, release=world.release, groups=GROUPS))
    with world.refused(3, "broker.lease_proof"):
        world.broker.release_leased(other, proof)
    answer = world.broker.release_leased(body, proof)
    with pytest.raises(VerificationFailed, match=r"broker\.answer"):
        lease(world)._keys.open(answer.sealed, opened.id, 1, world.release)


@pytest.mark.parametrize(
    "subject", ["party:quill-works", f"host:{CI}", f"member:{MEMBER}", "grant", "dataset:quill-works/word-problems"]
)
@pytest.mark.parametrize("lifted", [False, True])
def test_a_hold_ends_it_even_if_it_was_lifted_meanwhile(world: World, subject: str, lifted: bool) -> None:
    opened = lease(world)
    opened.request_keys(world.release, GROUPS)
    held = f"grant:{world.grant.terms.grant}" if subject == "grant" else subject
    world.hold(held)
    if lifted:
        world.containment.lift(parse_subject(held), "cleared")
    refused(world, opened, "broker.held", ends=True, step=6)
    refused(world, opened, "broker.lease_unknown", ends=False, step=3)
    if lifted:
        lease(world).request_keys(world.release, GROUPS)


def test_a_hold_on_somebody_else_ends_nothing(world: World) -> None:
    opened = lease(world)
    world.hold(f"host:{DESK}")
    opened.request_keys(world.release, GROUPS)


def test_another_inventory_ends_it_even_a_clean_one_and_the_same_one_does_not(world: World) -> None:
    opened = lease(world)
    world.report(CI)
    opened.request_keys(world.release, GROUPS)
    world.report(DESK, contents=b'{"distributions":[]}')
    opened.request_keys(world.release, GROUPS)
    world.report(CI, contents=b'{"distributions":[]}')
    world.report(CI)  # as before
    refused(world, opened, "broker.lease_inventory", ends=True, step=5)


def test_an_advisory_ends_it_even_if_it_was_withdrawn_meanwhile(world: World) -> None:
    opened = lease(world)
    (seen,) = world.statements(LeaseOpened)[0].inventories
    world.advise(seen)
    world.advise(seen, document="2", withdrawn=True)
    refused(world, opened, "broker.lease_inventory", ends=True, step=5)


def test_an_inventory_that_grows_old_ends_it(world: World) -> None:
    world.now += HOUR - SECOND
    opened = lease(world)
    world.now += 2 * SECOND
    refused(world, opened, "broker.inventory_old", ends=True, step=5)


def test_a_revoked_block_ends_it(world: World) -> None:
    opened = lease(world)
    grant = world.grant.terms.grant
    revocation = world.entries()[world.grant.entry.index].statement.revocation
    world.log.append_statements(GrantRevoked(t=NOW, by=world.by, grant=grant, revocation=revocation, reason="left"))
    refused(world, opened, "broker.grant_revoked", ends=True, step=7)
    with world.refused(7, "broker.grant_revoked"):
        world.ask()


def test_an_ended_lease_gives_nothing(world: World) -> None:
    opened = lease(world)
    world.log.append_statements(LeaseEnded(t=NOW, by=world.by, lease=opened.id, code="asked", reason="done"))
    refused(world, opened, "broker.lease_ended", ends=False, step=4)


def test_what_the_grant_does_not_cover_no_lease_covers(world: World) -> None:
    opened = lease(world)
    with pytest.raises(Refused, match=r"broker\.grant_dataset"):
        opened.request_keys(world.other_release, GROUPS)
    with pytest.raises(Refused, match=r"broker\.no_release"):
        opened.request_keys(sha256_digest(b"none"), GROUPS)
    opened.request_keys(world.release, GROUPS)  # such a mistake ends nothing


def test_a_lease_is_refused_where_keys_would_be(world: World) -> None:
    world.hold("party:quill-works")
    with world.refused(6, "broker.held"):
        lease(world)


def test_the_proof_of_a_lease_request_is_none_for_keys(world: World) -> None:
    """The path is signed: a proof made for the one door does not open the other."""
    sent: list[Any] = []

    class Catch:
        def open_lease(self, body: bytes, proof: Any) -> Any:
            sent.append((body, proof))
            return world.broker.open_lease(body, proof)

    order = world.order()
    open_lease(Catch(), order, world.host_keys[CI], world.clock, LeaseWish(60, 10))
    body, proof = sent[0]
    with pytest.raises(Refused, match=r"broker\.request_form"):
        world.broker.release_keys(body.replace(b"safehold-lease-request-v1", b"safehold-key-request-v1"), proof)


def test_a_broker_that_starts_anew_knows_no_lease(world: World) -> None:
    opened = lease(world)
    world.broker._leases.drop(opened.id)
    refused(world, opened, "broker.lease_unknown", ends=False, step=3)


def test_sessions_are_forgotten_when_their_time_is_over(world: World) -> None:
    old = lease(world, seconds=60)
    for _ in range(3):
        lease(world, seconds=60)
    world.now += 61 * SECOND
    fresh = lease(world, seconds=60)
    assert list(world.broker._leases._sessions) == [fresh.id]
    with pytest.raises(Refused) as caught:
        old.request_keys(world.release, GROUPS)
    assert (caught.value.code, caught.value.hint) == ("broker.lease_unknown", "open a new lease")
    assert fresh.request_keys(world.release, GROUPS)
