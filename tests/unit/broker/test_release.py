"""The way of a request through the broker when nothing is wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from safehold.broker.client import request_keys
from safehold.broker.grants import Narrowing, narrow_grant
from safehold.broker.policy import BrokerPolicy
from safehold.broker.proof import sign_request
from safehold.broker.release import Broker
from safehold.broker.sealing import ReaderKey
from safehold.ledger.fsck import Problem
from safehold.ledger.receipt import verify_receipt
from safehold.model.errors import VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.model.statements import KeyRefused, KeyReleased, decode
from safehold.state.invariants import check_order
from tests.broker_kit import CI, CLEAN, GROUPS, HOUR, MEMBER, NOW, SECOND, SUPPLIER, TRAINER, WORDS, World


def order_problems(world: World) -> list[Problem]:
    return check_order(world.entries())


def test_gives_back_the_keys_of_the_groups_asked_for_and_records_it_first(world: World) -> None:
    opened = world.ask()
    expected = {file: key for (release, file), key in world.part_keys.keys.items() if release == world.release}
    assert opened.keys == expected
    assert len(expected) == 4
    (released,) = world.statements(KeyReleased)
    assert (released.t, released.until, released.by) == (NOW, NOW + 300 * SECOND, world.by)
    assert (released.release, released.dataset, released.groups) == (world.release, WORDS, GROUPS)
    assert (released.party, released.host, released.member) == (SUPPLIER, CI, MEMBER)
    assert (released.grant, released.purpose) == (world.grant.terms.grant, "training")
    assert released.inventories == (sha256_digest(CLEAN),)
    assert released.parts == 2
    assert opened.until == released.until
    assert world.entries()[opened.entry].statement == released
    assert not world.statements(KeyRefused)
    assert order_problems(world) == []


def test_the_receipt_proves_the_entry_of_the_release(world: World) -> None:
    opened = world.ask()
    proven = verify_receipt(opened.receipt, world.log.verifier)
    assert proven.index == opened.entry
    assert decode(proven.body) == world.statements(KeyReleased)[0]


def test_one_group_gives_keys_of_that_group_alone(world: World) -> None:
    assert set(world.ask(groups=("answer",)).keys) == {"1-00000-answer.parquet", "1-00001-answer.parquet"}
    assert world.part_keys.asked == [("1-00000-answer.parquet", "1-00001-answer.parquet")]
    assert world.statements(KeyReleased)[0].groups == ("answer",)


def test_the_answer_opens_for_nobody_but_the_asking_reader(world: World) -> None:
    body = world.body()
    answer = world.send(body)
    for release, request in ((answer.release, answer.request), (world.other_release, answer.request)):
        with pytest.raises(VerificationFailed, match=r"broker\.answer"):
            ReaderKey().open(answer.sealed, request, release)
    assert not any(key in answer.sealed for key in world.part_keys.keys.values())


def test_an_answer_to_another_request_is_not_taken(world: World) -> None:
    class Mixing:
        def release_keys(self, body: bytes, proof: object) -> object:
            return msgspec.structs.replace(world.send(body), release=world.other_release)

    with pytest.raises(VerificationFailed, match=r"broker\.answer"):
        request_keys(Mixing(), world.order(), world.host_keys[CI], world.clock)


def test_a_narrowed_grant_opens_what_it_still_covers(world: World) -> None:
    narrowing = Narrowing(host=CI, member=MEMBER, groups=("question",), purpose="training", until=NOW + HOUR)
    token = narrow_grant(world.grant.token, world.grant.root, narrowing)
    assert set(world.ask(grant=token, groups=("question",)).keys) == {
        "1-00000-question.parquet",
        "1-00001-question.parquet",
    }


def test_the_grant_of_the_lab_opens_what_a_supplier_made(world: World) -> None:
    token = world.issue(party="north-lab", host=TRAINER).token
    assert len(world.ask(grant=token, host=TRAINER, member=None).keys) == 4


@pytest.mark.parametrize("seconds", [-60, 60])
def test_clocks_may_differ_by_the_tolerance(world: World, seconds: int) -> None:
    world.ask(clock=lambda: NOW + seconds * SECOND)


def test_a_lease_ends_with_its_grant(world: World) -> None:
    token = world.issue(until=NOW + 10 * SECOND).token
    assert world.ask(grant=token).until == NOW + 10 * SECOND


def test_limits_are_those_of_the_policy(world: World) -> None:
    policy = BrokerPolicy(inventory_max_age=1, clock_tolerance=1, lease=7)
    world.broker = Broker(world.log, world.part_keys, world.grant_key.public_bytes, world.clock, world.by, policy)
    assert world.ask().until == NOW + 7 * SECOND
    with world.refused(4, "broker.stale"):
        world.ask(clock=lambda: NOW + 2 * SECOND)
    world.now += 2 * SECOND
    with world.refused(5, "broker.inventory_old"):
        world.ask()


def test_the_signature_base_is_written_as_rfc_9421_writes_it(world: World) -> None:
    signed: list[bytes] = []

    class Signer:
        key_id = world.host_keys[CI].key_id

        def sign(self, data: bytes) -> bytes:
            signed.append(data)
            return world.host_keys[CI].sign(data)

    sign_request(b'{"a":1}', "q-" + "0" * 32, 1_774_310_400, Signer())
    # RFC 9421 §2.5: one line a component, the parameters last, no newline at the end.
    assert signed[0].decode().split("\n") == [
        '"@method": POST',
        '"@path": /v1/keys',
        '"content-digest": sha-256=:AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=:',
        '"@signature-params": ("@method" "@path" "content-digest");created=1774310400;nonce="q-' + "0" * 32 + '";'
        f'keyid="{Signer.key_id}";alg="ed25519"',
    ]
