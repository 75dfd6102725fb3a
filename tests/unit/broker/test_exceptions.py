"""Exceptions deny: whatever is raised wherever, the answer is a refusal with an entry, and no key leaves.

Each function that a step calls is made to fail, once and for good. What fails for good may be what a refusal itself
needs (the clock, the ledger): then nothing is recorded, the caller is told so, and still no key leaves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from safehold.broker import deciding, policy, release
from safehold.broker.grants import VerifiedGrant
from safehold.broker.leases import Leases, Session, SessionKeys
from safehold.broker.policy import Denial
from safehold.broker.proof import sign_request
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Log
from safehold.model.errors import NotFound, Refused, SafeholdError, StorageFailed
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.state import remembered
from safehold.state.remembered import Remembered, Standing
from tests.broker_kit import CI, SECOND, World, decode_request

# What each step calls, and under which step its failure is recorded. What the transaction of steps 4 - 8 reads is read
# before the decision, and fails as step 4.
PLACES: dict[str, tuple[Any, str, int]] = {
    "parse_request": (release, "parse_request", 1),
    "verify_grant": (release, "verify_grant", 2),
    "find_host": (release, "find_host", 3),
    "public key": (PublicKey, "parse", 3),
    "verify_proof": (release, "verify_proof", 3),
    "remembered": (Remembered, "at", 4),
    "requests_used": (release, "requests_used", 4),
    "moment": (release, "Moment", 4),
    "host": (remembered, "find_host", 4),
    "find_release": (remembered, "find_release", 4),
    "find_grant": (remembered, "find_grant", 4),
    "read_inventories": (remembered, "read_inventories", 4),
    "active_holds": (remembered, "active_holds", 4),
    "revoked_blocks": (remembered, "revoked_blocks", 4),
    "find_policy": (remembered, "find_policy", 4),
    "besides": (deciding, "_asked_besides", 4),
    "policy": (policy, "_check_policy", 4),
    "hold_subjects": (deciding, "hold_subjects", 4),
    "facts": (deciding, "Facts", 4),
    "decide": (deciding, "decide", 4),
    "freshness": (policy, "_check_freshness", 4),
    "inventories": (policy, "_check_inventories", 4),
    "holds": (policy, "_check_holds", 4),
    "grant": (policy, "_check_grant", 4),
    "authorize": (VerifiedGrant, "authorize", 4),
    "statement": (deciding, "KeyReleased", 4),
    "append": (Log, "append", 4),
    "keep": (Remembered, "keep", 9),
    "parse_manifest": (release, "parse_manifest", 9),
    "seal_keys": (release, "seal_keys", 10),
    "make_receipts": (release, "make_receipts", 11),
    "answer": (release, "_answer_of", 11),
}
ERRORS: tuple[type[Exception], ...] = (RuntimeError, KeyError, MemoryError, RecursionError, OSError, sqlite3.Error)


def failing(original: Callable[..., Any], error: BaseException, *, times: int) -> Callable[..., Any]:
    left = [times]

    def fail(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return original(*arguments, **named)

    return fail


def is_open(world: World) -> None:
    """The broker goes on: the next request is answered."""
    assert world.ask().keys


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_in_any_step_is_a_refusal_with_an_entry(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    owner, name, step = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), error("secret detail"), times=1))
        with world.refused(step, "broker.internal") as seen:
            world.send(world.body())
    assert "secret detail" not in seen[0].reason
    assert bool(world.statements(KeyReleased)) == (step > 8)
    is_open(world)


@pytest.mark.parametrize("error", ERRORS)
def test_a_key_store_that_fails(world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world.part_keys, "unwrap", failing(world.part_keys.unwrap, error("x"), times=1))
        with world.refused(9, "broker.internal"):
            world.ask()
    is_open(world)


def test_a_key_store_whose_disk_fails_is_a_refusal_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    error = StorageFailed("vault.keystore", "the disk failed")
    with monkeypatch.context() as patch:
        patch.setattr(world.part_keys, "unwrap", failing(world.part_keys.unwrap, error, times=1))
        with world.refused(9, "broker.internal"):
            world.ask()
    is_open(world)


@pytest.mark.parametrize("place", [place for place, (_, _, step) in PLACES.items() if step != 4])
def test_an_error_of_ours_keeps_its_code_and_its_step(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner, name, step = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), SafeholdError("vault.unwrap", "why", "hint"), times=1))
        with world.refused(step, "vault.unwrap"):
            world.send(world.body())
    is_open(world)


@pytest.mark.parametrize("place", PLACES)
def test_what_fails_for_good_lets_no_key_out(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    owner, name, _ = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), RuntimeError("x"), times=-1))
        for _ in range(2):
            with pytest.raises((Refused, StorageFailed)):
                world.send(world.body())
    is_open(world)


@pytest.mark.parametrize("times", [1, -1])
def test_a_clock_that_fails(world: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    body = world.body()
    with monkeypatch.context() as patch:
        patch.setattr(world.broker, "_clock", failing(world.clock, OSError("no clock"), times=times))
        with pytest.raises(StorageFailed if times < 0 else Denial) as caught:
            world.send(body)
    # Without a time there is no statement, and so no refusal in the ledger: the caller learns that.
    assert caught.value.code == ("broker.not_recorded" if times < 0 else "broker.internal")
    assert len(world.statements(KeyRefused)) == (times > 0)
    assert not world.statements(KeyReleased)
    is_open(world)


@pytest.mark.parametrize("place", ["parse_request", "find_host", "requests_used", "seal_keys"])
def test_an_interrupt_passes_and_leaves_no_answer(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    owner, name, _ = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), KeyboardInterrupt(), times=1))
        with pytest.raises(KeyboardInterrupt):
            world.send(world.body())
    is_open(world)


def test_a_failed_decision_leaves_its_neighbours_in_the_same_commit_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two proposals in one group: one raises, the other is appended."""
    from safehold.ledger.log import Draft
    from safehold.ledger.waiting import Waiting

    def broken(_view: object) -> Draft:
        raise MemoryError

    good, bad = Waiting(lambda _view: Draft(())), Waiting(broken)
    world.log._commit_group([bad, good])
    assert isinstance(bad.error, MemoryError)
    assert good.error is None
    is_open(world)


LEASE_PLACES: dict[str, tuple[Any, str, int]] = {
    "parse": (release, "parse_leased_request", 1),
    "find": (Leases, "find", 3),
    "verify": (SessionKeys, "verify", 3),
    "take": (Session, "take", 3),
    "lease": (Standing, "lease", 4),
    "check": (deciding, "_check_lease", 4),
    "spend": (Session, "spend", 4),
    "seal": (SessionKeys, "seal", 10),
    "answer": (release, "_answer_of", 11),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", LEASE_PLACES)
def test_an_exception_in_any_step_of_a_leased_request_is_a_refusal_with_an_entry(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    lease = world.lease()
    owner, name, step = LEASE_PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing_method(owner, name, error("secret detail")))
        with world.refused(step, "broker.internal"):
            lease.request_keys(world.release, ("question",))
    assert bool(world.statements(KeyReleased)) == (step > 8)
    lease.request_keys(world.release, ("question",))
    is_open(world)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", ["parse_lease_request", "LEASE session", "_opened"])
def test_an_exception_while_a_lease_is_opened_is_a_refusal_with_an_entry(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    owner, name, step = {
        "parse_lease_request": (release, "parse_lease_request", 1),
        "LEASE session": (release, "Session", 10),
        "_opened": (deciding, "_opened", 4),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), error("x"), times=1))
        with world.refused(step, "broker.internal"):
            world.lease()
    world.lease().request_keys(world.release, ("question",))


def failing_method(owner: Any, name: str, error: BaseException) -> Callable[..., Any]:
    """Fails the first time, then is itself again; a function or a method."""
    return failing(getattr(owner, name), error, times=1)


def test_one_failure_among_many_requests_is_that_one_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen in one commit: the fifth fails in the decision, the ninth in sealing; all others are answered."""
    asks = []
    for _ in range(16):
        body = world.body()
        asks.append((body, sign_request(body, decode_request(body), world.now // SECOND, world.host_keys[CI])))
    decided, sealed = [0], [0]
    decide_attempt, seal_keys = release.decide_attempt, release.seal_keys

    def deciding_one(*arguments: Any) -> Any:
        decided[0] += 1
        if decided[0] == 5:
            raise MemoryError
        return decide_attempt(*arguments)

    def sealing_one(*arguments: Any) -> Any:
        sealed[0] += 1
        if sealed[0] == 8:  # of the ninth request: the fifth came no further
            raise MemoryError
        return seal_keys(*arguments)

    monkeypatch.setattr(release, "decide_attempt", deciding_one)
    monkeypatch.setattr(release, "seal_keys", sealing_one)
    size = len(world.entries())
    outcomes = world.broker.release_many(asks)
    failed = {at for at, one in enumerate(outcomes) if isinstance(one, SafeholdError)}
    assert failed == {4, 8}
    entries = world.entries()[size:]
    assert len(entries) == 17  # sixteen in one commit, and the refusal of the ninth after its release
    assert [isinstance(entry.statement, KeyRefused) for entry in entries] == [at in (4, 16) for at in range(17)]
    assert sum(isinstance(entry.statement, KeyReleased) for entry in entries) == 15


def test_a_key_service_that_hangs_is_waited_for_once_in_a_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them asks for other files, and each would wait for its time to run out."""
    away = StorageFailed("vault.kek_unreachable", "the key server bao.internal cannot be reached", "is it running?")
    asks = []
    for groups in (("question",), ("answer",), ("question", "answer")):
        body = world.body(groups=groups)
        asks.append((body, sign_request(body, decode_request(body), world.now // SECOND, world.host_keys[CI])))
    waited = [0]

    def hang(*_: Any) -> Any:
        waited[0] += 1
        raise away

    with monkeypatch.context() as patch:
        patch.setattr(world.part_keys, "unwrap", hang)
        outcomes = world.broker.release_many(asks)
    assert waited == [1]
    assert [getattr(one, "code", "") for one in outcomes] == ["broker.keys_unavailable"] * 3
    assert len(world.statements(KeyRefused)) == 3, "each refusal is an entry of its own"
    assert "bao.internal" not in str([entry.body for entry in world.entries()])
    is_open(world)


@pytest.mark.parametrize("code", ["app.kek_secret", "vault.kek_missing", "app.kek_form"])
def test_where_a_key_lies_is_told_to_nobody(world: World, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    error = NotFound(code, "the secret /run/secrets/token cannot be read", "check the file")
    with monkeypatch.context() as patch:
        patch.setattr(world.part_keys, "unwrap", failing(world.part_keys.unwrap, error, times=1))
        with world.refused(9, "broker.keys_unavailable") as seen:
            world.ask()
    assert "/run/secrets" not in seen[0].reason + seen[0].hint
    is_open(world)


def test_two_requests_with_one_id_in_one_call_are_answered_once(world: World) -> None:
    body = world.body()
    proof = sign_request(body, decode_request(body), world.now // SECOND, world.host_keys[CI])
    outcomes = world.broker.release_many([(body, proof), (body, proof)])
    assert [getattr(one, "code", "answered") for one in outcomes] == ["answered", "broker.replayed"]
