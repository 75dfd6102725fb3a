"""The stolen-token drill: all is refused and on record; and it fails when the broker does not refuse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from safehold.app.wiring import HomeFactory
from safehold.broker import policy
from safehold.cli.context import Session
from safehold.cli.drill import play
from safehold.model.errors import VerificationFailed


def session() -> Session:
    return Session(Path("nowhere"), None, None, HomeFactory, lambda: time.time_ns() // 1000)


def test_every_attempt_is_refused_with_an_entry(tmp_path: Path) -> None:
    rows = play(session(), tmp_path)
    assert all(row.refused for row in rows)
    assert {row.code for row in rows} == {
        "broker.proof_key", "broker.grant_holder", "broker.replayed", "ledger.signature", "broker.token_form",
        "broker.token_signature", "broker.grant_revoked", "broker.stale", "broker.request_reader",
        "broker.inventory_unclean",
    }  # fmt: skip
    entries = [row.entry for row in rows]
    assert len(set(entries)) == len(entries)


def test_a_broker_that_refuses_too_little_fails_the_drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(facts: Any) -> Any:
        return tuple(seen.inventory for seen in facts.inventories)

    monkeypatch.setattr("safehold.broker.deciding.decide", lenient)
    rows = play(session(), tmp_path)
    let_through = {row.tried for row in rows if not row.refused}
    assert "a narrowed token whose middle block was revoked" in let_through
    assert "an old request, answered before, sent again" in let_through


def test_a_drill_in_which_nothing_opens_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(_facts: Any) -> None:
        raise policy.Denial(6, "broker.held", "everything is held")

    monkeypatch.setattr(policy, "_check_holds", strict)
    with pytest.raises(VerificationFailed, match=r"cli\.drill_control"):
        play(session(), tmp_path)
