"""Revoking blocks, the tree of narrowed grants, ending a lease."""

from __future__ import annotations

import pytest

from safehold.broker.acts import GrantActs, grant_tree
from safehold.broker.grants import Narrowing, narrow_grant
from safehold.model.errors import Refused, SafeholdError
from safehold.model.ids import parse_grant_id
from tests.broker_kit import CI, DESK, GROUPS, World


def acts(world: World) -> GrantActs:
    return GrantActs(world.log, world.clock, world.by)


def test_a_revoked_middle_block_takes_what_came_after_it_and_nothing_else(world: World) -> None:
    root = world.grant.root
    first = narrow_grant(world.grant.token, root, Narrowing(purpose="training"))
    second = narrow_grant(first, root, Narrowing(host=CI))
    sibling = narrow_grant(world.grant.token, root, Narrowing(host=CI))
    world.ask(grant=second)
    acts(world).revoke_block(second, root, 1, "left the project")
    for token in (first, second):
        with world.refused(7, "broker.grant_revoked"):
            world.ask(grant=token)
    world.ask(grant=sibling)
    world.ask()
    with pytest.raises(SafeholdError, match=r"broker\.revoke_again"):
        acts(world).revoke_block(first, root, 1, "again")
    acts(world).revoke_grant(world.grant.terms.grant, "all of it")
    for token in (sibling, world.grant.token):
        with world.refused(7, "broker.grant_revoked"):
            world.ask(grant=token)


def test_what_cannot_be_revoked(world: World) -> None:
    token, root = world.grant.token, world.grant.root
    size = len(world.entries())
    for code, act in {
        "broker.revoke_block": lambda: acts(world).revoke_block(token, root, 1, "x"),
        "broker.revoke_unknown": lambda: acts(world).revoke_grant(parse_grant_id("g-" + "0" * 16), "x"),
        "broker.reason": lambda: acts(world).revoke_block(token, root, 0, " "),
    }.items():
        with pytest.raises(SafeholdError) as caught:
            act()
        assert caught.value.code == code
    assert len(world.entries()) == size


def test_the_tree_shows_shared_blocks_once_in_words(world: World) -> None:
    root = world.grant.root
    first = narrow_grant(world.grant.token, root, Narrowing(purpose="training", groups=GROUPS[:1]))
    tokens = [
        ("lab", world.grant.token, root),
        ("supplier", first, root),
        ("ci", narrow_grant(first, root, Narrowing(host=CI)), root),
        ("desk", narrow_grant(first, root, Narrowing(host=DESK)), root),
    ]
    (tree,) = grant_tree(tokens)
    assert tree.files == ["lab"]
    assert f"grant {world.grant.terms.grant}" in tree.says
    assert not any("check" in line or "$" in line for line in tree.says)
    (middle,) = tree.children
    assert (middle.block, middle.files) == (1, ["supplier"])
    assert sorted(middle.says) == ["only purpose training", "only the groups question"]
    assert [(leaf.block, leaf.files, leaf.says) for leaf in middle.children] == [
        (2, ["ci"], (f"only host {CI}",)),
        (2, ["desk"], (f"only host {DESK}",)),
    ]
    assert len({tree.revocation, middle.revocation, *(leaf.revocation for leaf in middle.children)}) == 4


def test_a_lease_is_ended_once(world: World) -> None:
    lease = world.lease()
    acts(world).end_lease(lease.id, "done")
    with pytest.raises(Refused, match=r"broker\.lease_ended"):
        lease.request_keys(world.release, GROUPS)
    with pytest.raises(SafeholdError, match=r"broker\.lease_over_already"):
        acts(world).end_lease(lease.id, "again")
    with pytest.raises(SafeholdError, match=r"broker\.no_lease"):
        acts(world).end_lease("l-" + "0" * 16, "none")
