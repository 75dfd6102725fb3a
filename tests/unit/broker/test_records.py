"""From the entry on, steps 8 to 11, and what a refusal's entry holds.

``World.refused`` holds the common part: the code and the step in the entry, one entry and no more, nothing unwrapped.
"""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from safehold.broker.grants import GrantKey
from safehold.broker.request import READER_KEY_BYTES
from safehold.broker.sealing import ReaderKey
from safehold.ledger import sqlite
from safehold.ledger.keys import SigningKey
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import StorageFailed
from safehold.model.ids import parse_subject
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.state.invariants import check_order
from tests.broker_kit import (
    CI,
    HOUR,
    NOW,
    SECOND,
    World,
    new_request,
)

DIRTY = canonical_bytes({"distributions": [{"name": "litellm", "version": "1.82.8"}]})


# --- 8 the ledger --------------------------------------------------------------------------------------


def test_step_8_a_ledger_that_cannot_be_written_lets_no_key_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(world.entries())

    def full(_self: object, _begin: int, _bodies: list[bytes]) -> None:
        raise apsw.FullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite._Connection, "add_entries", full)
        with pytest.raises(StorageFailed, match=r"ledger\.disk_full"):
            world.ask()
    assert world.part_keys.asked == []
    assert len(world.entries()) == size
    world.ask()


def test_step_8_a_ledger_that_is_read_only_lets_no_key_out(world: World) -> None:
    world.log._read_only = StorageFailed("ledger.rolled_back", "put back to an older state")
    with pytest.raises(StorageFailed, match=r"ledger\.rolled_back"):
        world.ask()
    assert world.part_keys.asked == []


def test_step_8_a_full_database_lets_no_key_out(world: World) -> None:
    with world.log.write() as transaction:
        pages = transaction.rows("PRAGMA page_count")[0][0]
    size = len(world.entries())
    writer = world.store._writer
    assert writer is not None
    writer.pragma("max_page_count", pages)
    failed = False
    for _ in range(200):
        asked = len(world.part_keys.asked)
        try:
            world.ask()
        except StorageFailed:
            failed = True
            assert len(world.part_keys.asked) == asked
            break
        size += 1
    assert failed
    assert len(world.entries()) == size
    writer.pragma("max_page_count", 1 << 30)
    world.ask()


# --- 9, 10, 11: after the entry ------------------------------------------------------------------------


def released_then_refused(world: World) -> KeyRefused:
    """The release stays in the ledger, since the keys might have left; the refusal stands right after it."""
    before, after = world.entries()[-2:]
    assert isinstance(before.statement, KeyReleased)
    assert isinstance(after.statement, KeyRefused)
    assert after.statement.request == before.statement.request
    assert check_order(world.entries()) == []
    return after.statement


def test_step_9_keys_that_were_erased(world: World) -> None:
    world.part_keys.keys.clear()
    with world.refused(9, "vault.keys_erased"):
        world.ask()
    released_then_refused(world)


def test_step_9_a_manifest_that_was_erased(world: World) -> None:
    with world.log.write() as transaction:
        transaction.execute("DELETE FROM payload WHERE digest = ?", world.release)
    with world.refused(9, "vault.manifest_altered"):
        world.ask()
    assert world.part_keys.asked == []


def test_step_9_another_manifest_in_its_place(world: World) -> None:
    with world.log.write() as transaction:
        other = transaction.payload(world.other_release)
        transaction.execute("UPDATE payload SET body = ? WHERE digest = ?", other, world.release)
    with world.refused(9, "broker.manifest"):
        world.ask()
    assert world.part_keys.asked == []


def test_step_9_a_key_store_that_gives_more_than_was_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {file: key for (_, file), key in world.part_keys.keys.items()}
    monkeypatch.setattr(world.part_keys, "unwrap", lambda release, files: everything)
    with world.refused(9, "broker.keys"):
        world.ask(groups=("question",))
    released_then_refused(world)


@pytest.mark.parametrize("reader", [b"\xff" * 1184 + b"\x05" * 32, None], ids=["no ML-KEM key", "low order"])
def test_step_10_a_reader_key_that_is_none(world: World, reader: bytes | None) -> None:
    reader = reader or ReaderKey().public[:1184] + b"\x00" * 32
    assert len(reader) == READER_KEY_BYTES
    with world.refused(10, "broker.request_reader"):
        world.send(world.body(reader=reader))
    released_then_refused(world)


# --- a refusal as an entry -----------------------------------------------------------------------------


def test_a_refusal_holds_what_was_claimed_and_why(world: World) -> None:
    request = new_request()
    with world.refused(7, "broker.grant_purpose") as seen:
        world.send(world.body(request=request, purpose="resale"))
    refused = seen[0]
    assert (refused.t, refused.by, refused.request) == (NOW, world.by, request)
    assert (refused.release, refused.host, refused.grant) == (world.release, CI, world.grant.terms.grant)
    assert refused.reason == f"{world.grant.terms.grant} is not for the purpose resale"
    assert refused.hint == "it is for: training, review"


def test_steps_are_taken_in_order(world: World) -> None:
    """With everything wrong at once, the first step speaks; mended one by one, the next."""
    thief = SigningKey.generate()
    values: dict[str, Any] = {
        "grant": GrantKey(b"x" * 32).issue(world.grant.terms),
        "purpose": "resale",
        "host_key": thief.key_id,
    }
    late = {"created": NOW // SECOND - 3600}
    world.advise(world.report(CI, contents=DIRTY))
    world.hold("party:quill-works")
    with world.refused(1, "id.purpose"):
        world.send(world.body(**values | {"purpose": "!"}), signer=thief)
    with world.refused(2, "broker.token_signature"):
        world.send(world.body(**values), signer=thief)
    with world.refused(3, "broker.proof_key"):
        world.send(world.body(**values | {"grant": world.grant.token}), signer=thief, **late)
    with world.refused(4, "broker.stale"):
        world.ask(purpose="resale", clock=lambda: NOW - HOUR)
    with world.refused(5, "broker.inventory_unclean"):
        world.ask(purpose="resale")
    world.report(CI)
    with world.refused(6, "broker.held"):
        world.ask(purpose="resale")
    world.containment.lift(parse_subject("party:quill-works"), "cleared", despite_findings=True)
    with world.refused(7, "broker.grant_purpose"):
        world.ask(purpose="resale")
    world.ask()
