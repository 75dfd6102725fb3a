"""A request sent again gets the release of then; one that differs in anything, or that is forbidden now, gets nothing."""

import base64

import pytest

from safehold.app.serve.frames import Call
from safehold.broker.http_form import parse_proof
from safehold.broker.proof import KEYS_PATH
from safehold.broker.sealing import ReaderKey
from safehold.model.ids import Digest
from safehold.model.statements import KeyReleased
from tests.broker_kit import CI, SECOND, make_world, new_request
from tests.serve_kit import Place


@pytest.fixture
def place(tmp_path):
    world = make_world(tmp_path)
    yield Place(world)
    world.close()


def test_the_same_bytes_get_the_same_release_sealed_anew(place):
    reader, request = ReaderKey(), new_request()
    body = place.world.body(reader=reader.public, request=request)
    headers = place.signed(body)
    first = place.post(KEYS_PATH, body, headers).document
    size = len(place.world.entries())
    place.world.now += 30 * SECOND
    again = place.post(KEYS_PATH, body, headers).document
    assert (again["entry"], again["until"]) == (first["entry"], first["until"])
    assert len(place.world.entries()) == size, "no second exposure"
    assert again["sealed"] != first["sealed"]
    opened = [reader.open(base64.b64decode(one["sealed"]), request, Digest(one["release"])) for one in (first, again)]
    assert opened[0] == opened[1]
    assert len(place.world.statements(KeyReleased)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda world: {"reader": ReaderKey().public},
        lambda world: {"groups": ("question",)},
        lambda world: {"purpose": "review"},
        lambda world: {"member": None},
        lambda world: {"grant": world.issue().token},
    ],
)
def test_a_request_that_differs_in_anything_is_a_replay(place, change):
    reader, request = ReaderKey(), new_request()
    assert place.ask(place.world.body(reader=reader.public, request=request)).status == 200
    said = place.ask(place.world.body(**{"reader": reader.public, "request": request, **change(place.world)}))
    assert (said.status, said.document["code"]) == (403, "broker.replayed")


def test_a_repeated_request_is_decided_by_the_state_of_now(place):
    body = place.world.body()
    headers = place.signed(body)
    assert place.post(KEYS_PATH, body, headers).status == 200
    place.world.hold(f"host:{CI}")
    said = place.post(KEYS_PATH, body, headers)
    assert (said.status, said.document["code"]) == (403, "broker.held")
    assert place.world.entries()[said.document["entry"]].statement.step == 6


def test_a_repeated_request_that_is_too_old_is_stale(place):
    body = place.world.body()
    headers = place.signed(body)
    assert place.post(KEYS_PATH, body, headers).status == 200
    place.world.now += 61 * SECOND
    assert place.post(KEYS_PATH, body, headers).document["code"] == "broker.stale"
    assert place.ask(body).status == 200, "signed again by its host, it may still be answered"
    place.world.now += 300 * SECOND
    assert place.ask(body).document["code"] == "broker.replayed", "its lease is over"


def test_repeated_and_new_requests_in_one_frame_each_get_their_own(place):
    world = place.world
    bodies = [world.body() for _ in range(4)]

    def call(body):
        proof = parse_proof(place.signed(body), body)
        return Call("keys", body, "", proof.created, proof.nonce, proof.key, proof.signature)

    first = place.desk.answer([call(bodies[0]), call(bodies[1])])
    mixed = place.desk.answer([call(bodies[2]), call(bodies[1]), call(bodies[3]), call(bodies[0])])
    assert [one.status for one in (*first, *mixed)] == [200] * 6
    assert mixed[1].body != first[1].body
    assert len(world.statements(KeyReleased)) == 4
    only = place.desk.answer([call(bodies[0])])
    assert only[0].status == 200
    assert len(world.statements(KeyReleased)) == 4
