"""Exceptions deny on the whole path of a request: front, link, frames, desk, and what lies behind.

Each function that a request passes is made to fail once. The answer is a refusal with our code, never a key and never a
word of what is inside; what was decided stands in the ledger; and the next request is answered.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from safehold.app.serve import desk, front, link, pages, vault_process
from safehold.app.serve.desk import VaultDesk
from safehold.app.serve.front import Front
from safehold.app.serve.limits import Buckets
from safehold.app.serve.link import SocketLink
from safehold.app.serve.metrics import Metrics
from safehold.app.serve.pages import Pages
from safehold.app.serve.readiness import Readiness
from safehold.broker.http_form import proof_headers
from safehold.broker.proof import HOLDS_PATH, sign_request
from safehold.broker.release import Broker
from safehold.inventory.intake import Intake
from safehold.ledger.log import Log
from safehold.model.errors import SafeholdError
from safehold.model.ids import RequestId
from safehold.model.statements import KeyRefused, KeyReleased
from tests.broker_kit import CI, SECOND, make_world
from tests.serve_kit import Answered, Seam
from tests.unit.broker.test_exceptions import PLACES as STEPS
from tests.unit.broker.test_exceptions import failing

CODES = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", (Path(__file__).parents[3] / "docs/reference/errors.md").read_text()))
ERRORS: tuple[type[Exception], ...] = (RuntimeError, OSError, MemoryError, msgspec.ValidationError)

# Before the broker is asked nothing is decided, so there is no entry. ``True``: the broker has decided before it fails;
# None: it may have.
KEYS: dict[str, tuple[Any, str, bool | None]] = {
    "headers": (front, "_headers", False),
    "body": (front, "_body", False),
    "address checked": (Buckets, "check", False),
    "proof taken apart": (front, "_call_of", False),
    "parse_proof": (front, "parse_proof", False),
    "forward": (Front, "_forward", False),
    "ask": (SocketLink, "ask", False),
    "queue": (link._Lanes, "put", False),
    "calls encoded": (link, "encode_frame", False),
    "calls received": (vault_process, "receive_frame", False),
    "calls decoded": (vault_process, "decode_calls", False),
    "desk": (VaultDesk, "answer", False),
    "desk releases": (VaultDesk, "_release", False),
    "proof made": (desk, "_proof", False),
    "broker": (Broker, "release_many", False),
    "answer told": (desk, "_told", True),
    "outcomes encoded": (vault_process, "encode_outcomes", True),
    "outcomes read": (link, "read_frame", None),
    "outcomes decoded": (link, "decode_outcomes", True),
    "host pays": (Buckets, "pay", True),
}
PAGES: dict[str, tuple[str, Any, str]] = {
    "readyz asks": ("/readyz", SocketLink, "ask"),
    "state": ("/readyz", Readiness, "now"),
    "state decoded": ("/readyz", pages, "resolved"),
    "gauge": ("/metrics", Metrics, "text"),
    "log asks": ("/log/checkpoint", SocketLink, "ask"),
    "log reads": ("/log/checkpoint", desk, "read_static"),
    "log kept": ("/log/checkpoint", pages, "never_changes"),
    "log view": ("/log/checkpoint", Log, "view"),
    "page": ("/log/checkpoint", Pages, "_ask"),
}
OTHERS: dict[str, tuple[str, Any, str]] = {
    "holds asked": ("holds", desk, "_asked_subjects"),
    "holds proven": ("holds", desk, "verify_proof"),
    "holds found": ("holds", desk, "active_holds"),
    "inventory recorded": ("inventory", Intake, "record_message"),
    "inventory parsed": ("inventory", desk, "parse_host_id"),
    "desk": ("inventory", VaultDesk, "answer"),
}


@pytest.fixture
def seam(tmp_path: Path) -> Iterator[Seam]:
    made = Seam(make_world(tmp_path), tmp_path / "socket")
    yield made
    made.close()


def is_refused(seam: Seam, said: Answered) -> None:
    """A 4xx or 503 with a code of ours and nothing of the fault; no key, in whatever form."""
    assert said.status == 503 or 400 <= said.status < 500, said
    assert said.headers["content-type"] == "application/problem+json"
    assert said.document["code"] in CODES
    assert b"secret detail" not in said.body
    assert b"Traceback" not in said.body
    for key in seam.world.part_keys.keys.values():
        assert key not in said.body
        assert base64.b64encode(key) not in said.body


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", KEYS)
def test_an_exception_anywhere_on_the_way_is_a_refusal_and_the_next_request_is_answered(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    owner, name, decided = KEYS[place]
    body = seam.world.body()
    size = len(seam.world.entries())
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), error("secret detail"), times=1))
        said = seam.ask(body)
    is_refused(seam, said)
    if decided is not None:
        assert len(seam.world.statements(KeyReleased)) == decided, "what was decided stands in the ledger"
        assert len(seam.world.entries()) == size + decided, "and nothing else"
    again = seam.ask(body)
    assert again.status == 200, "the next request is answered"
    assert len(seam.world.statements(KeyReleased)) == 1, "and a request that was decided is released once"


@pytest.mark.parametrize("place", ["answer counted", "gauge"])
def test_a_count_that_fails_ends_no_answer(seam: Seam, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(Metrics, "count", failing(Metrics.count, RuntimeError("secret detail"), times=1))
    assert seam.ask().status == 200


@pytest.mark.parametrize("place", STEPS)
def test_an_exception_in_a_step_of_the_broker_is_a_refusal_over_http_and_an_entry(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner, name, step = STEPS[place]
    seam.ask()  # what is needed once is read
    released = len(seam.world.statements(KeyReleased))
    seam.world.broker._remembered.__init__()  # type: ignore[misc]  # as after a start: each step reads again
    seam.world.broker._tokens.clear()
    seam.world.broker._host_keys.clear()
    seam.world.broker._files.clear()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), RuntimeError("secret detail"), times=1))
        said = seam.ask()
    is_refused(seam, said)
    assert said.document["code"] == "broker.internal"
    refused = seam.world.entries()[said.document["entry"]].statement
    assert isinstance(refused, KeyRefused)
    assert (refused.step, refused.code) == (step, "broker.internal")
    assert len(seam.world.statements(KeyReleased)) == released + (step > 8)
    assert seam.ask().status == 200


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PAGES)
def test_a_page_that_fails_is_a_problem_and_is_there_again(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    path, owner, name = PAGES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), error("secret detail"), times=1))
        is_refused(seam, seam.call("GET", path))
    assert seam.call("GET", path).status == 200


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", OTHERS)
def test_holds_and_inventories_that_fail_are_refused(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    kind, owner, name = OTHERS[place]
    body = json.dumps({"host": CI} if kind == "holds" else {"host": CI, "message": "{}", "signature": "x"}).encode()
    now = seam.world.now // SECOND
    proof = sign_request(body, RequestId("q-" + "0" * 32), now, seam.world.host_keys[CI], HOLDS_PATH)
    size = len(seam.world.entries())

    def ask() -> Answered:
        return seam.post(f"/v1/{kind}", body, proof_headers(proof, body) if kind == "holds" else {})

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), error("secret detail"), times=1))
        is_refused(seam, ask())
    assert len(seam.world.entries()) == size
    assert ask().status == (200 if kind == "holds" else 401)


def test_an_error_of_ours_on_the_way_keeps_its_code(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    error = SafeholdError("serve.frame", "this is no frame", "")
    with monkeypatch.context() as patch:
        patch.setattr(front, "_call_of", failing(front._call_of, error, times=1))
        assert seam.ask().document["code"] == "serve.frame"


def test_one_answer_that_cannot_be_told_leaves_its_neighbours_alone(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safehold.app.serve.frames import Call
    from safehold.broker.http_form import parse_proof

    def call(body: bytes) -> Call:
        proof = parse_proof(seam.signed(body), body)
        return Call("keys", body, "", proof.created, proof.nonce, proof.key, proof.signature)

    calls = [call(seam.world.body()) for _ in range(4)]
    encode = desk._json.encode
    left = [2]

    class Encoder:
        def encode(self, value: object) -> bytes:
            left[0] -= 1
            if left[0] == 0:
                raise MemoryError
            return encode(value)

    monkeypatch.setattr(desk, "_json", Encoder())
    assert [one.status for one in seam.desk.answer(calls)] == [200, 503, 200, 200]
    assert len(seam.world.statements(KeyReleased)) == 4
