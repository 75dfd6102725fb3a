"""The lab's policy: limits, purposes, the member's own signature, and a second person's word."""

from __future__ import annotations

from typing import Any

import pytest

from safehold.broker.approvals import APPROVAL_NAMESPACE, Approval, Rulings, format_approval, parse_approval
from safehold.broker.lease_client import open_lease
from safehold.broker.policy_file import parse_policy
from safehold.broker.proof import Signers
from safehold.broker.request import LeaseWish
from safehold.ledger.keys import SigningKey
from safehold.ledger.sshsig import sign
from safehold.model.errors import InputInvalid, NotFound, SafeholdError, VerificationFailed
from safehold.model.ids import MemberId
from safehold.state.invariants import check_order
from tests.broker_kit import CI, COLLEAGUE, DESK, GROUPS, HOUR, MEMBER, NOW, SECOND, STRANGER, WORDS, World

RULE = f'[[dataset]]\nname = "{WORDS}"\n'
LAB_MEMBER = MemberId("north-lab/m-0123456789abcdef0123")


def set_policy(world: World, text: str) -> None:
    Rulings(world.log, world.clock, world.by).record_policy(text.encode())


def keyed(world: World, member: MemberId) -> SigningKey:
    key = SigningKey.generate()
    world.registry.set_member_key(member, key.public)
    return key


def approve(world: World, key: SigningKey, **changed: Any) -> Any:
    values: dict[str, Any] = {
        "dataset": WORDS, "host": CI, "member": MEMBER, "approver": COLLEAGUE, "until": world.now + HOUR,
    }  # fmt: skip
    text = format_approval(Approval(**values | changed))
    return Rulings(world.log, world.clock, world.by).record_approval(text, sign(key, text, APPROVAL_NAMESPACE))


def test_a_policy_counts_from_its_entry_on(world: World) -> None:
    world.ask()
    set_policy(world, "[limits]\nlease = 7\nclock_tolerance = 5\n")
    assert world.ask().until == NOW + 7 * SECOND
    with world.refused(4, "broker.stale"):
        world.ask(clock=lambda: NOW + 6 * SECOND)
    set_policy(world, "")
    assert world.ask().until == NOW + 300 * SECOND


def test_a_policy_that_is_lost_denies_everything(world: World) -> None:
    set_policy(world, "[limits]\nlease = 7\n")
    with world.log.write() as transaction:
        transaction.execute("DELETE FROM payload WHERE digest = (SELECT policy FROM policy)")
    with world.refused(4, "broker.policy_lost"):
        world.ask()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[limits]\nlease = 301",
        "[limits]\nlease = 0",
        "[limits]\nlease = true",
        "[limits]\nunknown = 1",
        '[[dataset]]\nname = "x"',
        RULE + RULE,
        RULE + 'purposes = ["No"]',
        RULE + "two_person = 1",
        "\ud800",
    ],
)
def test_a_file_that_is_no_policy_is_refused_and_changes_nothing(world: World, text: str) -> None:
    size = len(world.entries())
    with pytest.raises(InputInvalid) as caught:
        Rulings(world.log, world.clock, world.by).record_policy(text.encode(errors="surrogatepass"))
    assert caught.value.hint
    assert len(world.entries()) == size


def test_the_page_shows_a_policy_that_can_be_used() -> None:
    from tests.unit.broker.test_page import PAGE

    block = PAGE.partition("The file is TOML:\n\n")[2].partition("\n\nWhat is left out")[0]
    policy = parse_policy("\n".join(line.strip() for line in block.splitlines()).encode())
    assert policy.releases_per_hour == 500
    assert policy.datasets[0].two_person


def test_ages_and_purposes_of_one_dataset(world: World) -> None:
    set_policy(world, RULE + 'inventory_max_age = 10\npurposes = ["review"]\n')
    with world.refused(7, "broker.policy_purpose") as seen:
        world.ask()
    assert "review" in seen[0].hint
    world.ask(purpose="review")
    world.now += 11 * SECOND
    with world.refused(5, "broker.inventory_old"):
        world.ask(purpose="review")


def test_a_budget_of_releases_an_hour_counts_those_of_the_same_commit(world: World) -> None:
    set_policy(world, "[limits]\nreleases_per_hour = 3\n")
    asks: list[Any] = []

    class Door:
        def release_keys(self, body: bytes, proof: Any) -> Any:
            asks.append((body, proof))
            raise NotFound("test.caught", "kept for later")

    broker, world.broker = world.broker, Door()  # type: ignore[assignment]  # a door that keeps what it gets
    for _ in range(5):
        with pytest.raises(NotFound):
            world.ask()
    world.broker = broker
    outcomes = [getattr(one, "code", "answered") for one in broker.release_many(asks)]
    assert outcomes == ["answered"] * 3 + ["broker.budget"] * 2
    world.now += 2 * HOUR
    world.report(CI)
    world.ask()


def test_a_member_signs_where_the_policy_asks_for_it(world: World) -> None:
    key = keyed(world, MEMBER)
    set_policy(world, RULE + "member_signature = true\n")
    with world.refused(7, "broker.member_needed"):
        world.ask(member=None)
    with world.refused(7, "broker.member_unproven"):
        world.ask()
    signers = Signers(world.host_keys[CI], key)
    world.ask(key=signers)  # type: ignore[arg-type]  # a host's key and a member's
    lease = open_lease(world.broker, world.order(), signers, world.clock, LeaseWish(60, 10))
    assert lease.request_keys(world.release, GROUPS).keys
    keyed(world, MEMBER)  # a new key: the old one has proven nothing for what comes now
    with pytest.raises(SafeholdError, match=r"broker\.member_unproven"):
        lease.request_keys(world.release, GROUPS)


def test_a_signature_by_another_key_than_the_members_is_refused_asked_for_or_not(world: World) -> None:
    with world.refused(3, "broker.member_key"):
        world.ask(key=Signers(world.host_keys[CI], SigningKey.generate()))  # type: ignore[arg-type]  # a host's key and a member's
    keyed(world, MEMBER)
    for wrong in (SigningKey.generate(), keyed(world, COLLEAGUE), world.host_keys[CI]):
        with world.refused(3, "ledger.signature"):
            world.ask(key=Signers(world.host_keys[CI], wrong))  # type: ignore[arg-type]  # a host's key and a member's


def test_a_key_that_was_replaced_proves_nothing(world: World) -> None:
    old = keyed(world, MEMBER)
    keyed(world, MEMBER)
    with world.refused(3, "ledger.signature"):
        world.ask(key=Signers(world.host_keys[CI], old))  # type: ignore[arg-type]  # a host's key and a member's


def test_two_people(world: World) -> None:
    key = keyed(world, COLLEAGUE)
    set_policy(world, RULE + "two_person = true\n")
    with world.refused(7, "broker.member_needed"):
        world.ask(member=None)
    with world.refused(7, "broker.not_approved"):
        world.ask()
    approve(world, key, host=DESK)
    approve(world, key, member=LAB_MEMBER)
    with world.refused(7, "broker.not_approved"):
        world.ask()
    approve(world, key)
    world.ask()
    lease = world.lease()
    world.hold(f"member:{COLLEAGUE}")
    with world.refused(7, "broker.not_approved"):
        world.ask()
    with pytest.raises(SafeholdError, match=r"broker\.not_approved"):
        lease.request_keys(world.release, GROUPS)
    world.containment.lift(parse(f"member:{COLLEAGUE}"), "cleared")
    world.now += HOUR
    world.report(CI)
    with world.refused(7, "broker.not_approved"):
        world.ask()
    assert check_order(world.entries()) == []


def parse(text: str) -> Any:
    from safehold.model.ids import parse_subject

    return parse_subject(text)


def test_what_is_no_approval_is_not_recorded(world: World) -> None:
    key, stranger = keyed(world, COLLEAGUE), keyed(world, STRANGER)
    size = len(world.entries())
    for code, act in {
        "broker.approval_self": lambda: approve(world, key, member=COLLEAGUE),
        "broker.approval_party": lambda: approve(world, stranger, approver=STRANGER),
        "broker.approval_time": lambda: approve(world, key, until=world.now),
        "broker.approval_of": lambda: approve(world, key, dataset="quill-works/none"),
        "broker.approval_key": lambda: approve(world, key, approver=LAB_MEMBER),
        "ledger.sshsig_key": lambda: approve(world, stranger),
    }.items():
        with pytest.raises(SafeholdError) as caught:
            act()
        if not code.startswith("ledger"):
            assert caught.value.code == code
        else:
            assert isinstance(caught.value, VerificationFailed)
    assert len(world.entries()) == size
    approve(world, key)
    with pytest.raises(SafeholdError, match=r"broker\.approval_again"):
        approve(world, key)
    for data in (b"", b"{}", b"[]", b'{"approver": 1}', b"\xff", format_approval(Approval(
        dataset=WORDS, host=CI, member=MEMBER, approver=COLLEAGUE, until=1)) + b" "):  # fmt: skip
        with pytest.raises(InputInvalid):
            parse_approval(data)


def test_a_retired_environment_blocks_its_host_no_longer_until_it_reports_again(world: World) -> None:
    dirty = world.report(CI, environment="old", contents=b'{"distributions":[{"name":"litellm","version":"1.82.8"}]}')
    world.advise(dirty)
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()
    world.registry.retire_environment(CI, "old", "the folder was removed")
    world.ask()
    with pytest.raises(NotFound, match=r"registry\.no_environment"):
        world.registry.retire_environment(CI, "never", "gone")
    world.now += SECOND
    world.report(CI, environment="old", contents=b'{"distributions":[{"name":"litellm","version":"1.82.8"}]}')
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_a_report_dated_before_its_retirement_but_sent_after_it_counts(world: World) -> None:
    world.report(CI, environment="old", observed=NOW + 100 * SECOND)  # its clock was ahead
    world.registry.retire_environment(CI, "old", "gone")
    world.advise(world.report(CI, environment="old", contents=b'{"distributions":[{"name":"litellm"}]}'))
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()
