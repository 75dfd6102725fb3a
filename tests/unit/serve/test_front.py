"""The front over a real world: what it forwards, what it refuses, and what it never lets out."""

import base64
import json

import pytest

from safehold.app.serve.limits import Limits
from safehold.broker.http_form import proof_headers
from safehold.broker.proof import HOLDS_PATH, KEYS_PATH, sign_request
from safehold.broker.sealing import ReaderKey
from safehold.ledger.keys import SigningKey
from safehold.model.errors import StorageFailed
from safehold.model.ids import Digest, RequestId
from safehold.model.statements import KeyRefused, KeyReleased, RefusalsCounted
from tests.broker_kit import CI, DESK, SECOND, make_world, new_request
from tests.serve_kit import ROOMY, Place


@pytest.fixture
def place(tmp_path):
    world = make_world(tmp_path)
    yield Place(world)
    world.close()


def test_keys_come_sealed_to_the_reader_and_their_entry_is_there(place):
    reader, request = ReaderKey(), new_request()
    said = place.ask(place.world.body(reader=reader.public, request=request))
    assert said.status == 200, said
    answer = said.document
    keys = reader.open(base64.b64decode(answer["sealed"]), request, Digest(answer["release"]))
    assert set(keys.values()) == {
        key for (release, _), key in place.world.part_keys.keys.items() if release == place.world.release
    }
    released = place.world.entries()[answer["entry"]].statement
    assert isinstance(released, KeyReleased)
    assert released.request == request
    assert not any(key in said.body or base64.b64encode(key) in said.body for key in keys.values())


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda p, b: (b, p.signed(b) | {"signature": "safehold=:" + "A" * 86 + "==:"}), 401, "ledger.signature"),
        (lambda p, b: (b, {}), 400, "broker.proof_missing"),
        (lambda p, b: (b, p.signed(b) | {"signature-input": "sig1=()"}), 400, "broker.proof_form"),
        (lambda p, b: (b + b" ", p.signed(b)), 401, "broker.content_digest"),
        (lambda p, b: (b + b" ", p.signed(b + b" ")), 400, "broker.request_form"),
        (lambda p, b: (b, p.signed(b, path=HOLDS_PATH)), 401, "ledger.signature"),
        (lambda p, b: (b, p.signed(b, signer=SigningKey.generate())), 401, "broker.proof_key"),
        (lambda p, b: (b, p.signed(b, created=1)), 403, "broker.stale"),
        (lambda p, b: (b, p.signed(b) | {"content-type": "text/plain"}), 415, "serve.media_type"),
        (lambda p, b: (b, p.signed(b) | {"content-length": str(len(b) + 1)}), 400, "serve.cut_short"),
        (lambda p, b: (b, p.signed(b) | {"content-length": "70000"}), 413, "serve.too_large"),
        (lambda p, b: (b, p.signed(b) | {"content-length": "+9"}), 413, "serve.too_large"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_problem_with_our_code_and_no_key_is_unwrapped(place, change, status, code):
    body, headers = change(place, place.world.body())
    said = place.post(KEYS_PATH, body, headers)
    assert (said.status, said.document["code"]) == (status, code)
    assert said.headers["content-type"] == "application/problem+json"
    assert said.document["type"] == f"urn:safehold:error:{code}"
    assert not place.world.part_keys.asked


def test_a_refusal_tells_its_entry(place):
    place.world.hold("party:quill-works")
    said = place.ask()
    assert (said.status, said.document["code"]) == (403, "broker.held")
    refused = place.world.entries()[said.document["entry"]].statement
    assert isinstance(refused, KeyRefused)
    assert refused.step == 6


def test_a_query_another_method_and_another_path_are_refused(place):
    assert place.post(KEYS_PATH + "?a=1", b"{}").document["code"] == "serve.query"
    assert place.call("GET", KEYS_PATH).status == 405
    assert place.call("GET", "/nothing").document["code"] == "serve.no_route"
    assert place.call("POST", "/healthz").document["code"] == "serve.method"
    assert place.call("POST", KEYS_PATH, {"content-type": "application/json"}, b"{}").status == 411


def test_a_header_that_comes_twice_is_refused(place):
    body = place.world.body()
    headers = [(name.lower().encode(), value.encode()) for name, value in place.signed(body).items()]
    twice = [*headers, headers[-1], (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    said = place.call("POST", KEYS_PATH, {}, body, headers=twice)
    assert (said.status, said.document["code"]) == (400, "serve.header_twice")


def test_an_address_that_proves_nothing_is_slowed_and_a_host_that_proves_is_not(tmp_path):
    world = make_world(tmp_path)
    place = Place(world, Limits(address_rate=0.001, address_burst=3, host_rate=1e9, host_burst=10**6))
    for _ in range(3):
        assert place.post(KEYS_PATH, b"{}").status == 400
    said = place.post(KEYS_PATH, b"{}")
    assert (said.status, said.document["code"], said.headers["retry-after"]) == (429, "serve.too_many", "1")
    assert place.ask().status == 429, "the same address has to wait, whoever is behind it"
    elsewhere = place.post(KEYS_PATH, body := world.body(), place.signed(body), client=("127.0.0.9", 1))
    assert elsewhere.status == 200
    world.close()


def test_nobody_uses_up_the_rate_of_a_key_that_he_does_not_hold(tmp_path):
    world = make_world(tmp_path)
    place = Place(world, Limits(address_rate=1e9, address_burst=10**9, host_rate=0.001, host_burst=2))
    for _ in range(5):  # it names the CI host's key and cannot sign for it
        body = world.body()
        forged = place.signed(body) | {"signature": "safehold=:" + "A" * 86 + "==:"}
        assert place.post(KEYS_PATH, body, forged).status == 401
    assert [place.ask().status for _ in range(3)] == [200, 200, 429]
    world.close()


def test_a_flood_that_proves_nothing_is_one_entry_a_code_and_window(tmp_path):
    world = make_world(tmp_path)
    place = Place(world, singly=2)
    before = len(world.entries())
    for _ in range(50):
        body = world.body()
        assert place.post(KEYS_PATH, body, place.signed(body, signer=SigningKey.generate())).status == 401
    place.desk.tick()
    assert len(world.entries()) == before + 2, "the window is not over"
    world.now += 61 * SECOND
    place.desk.tick()
    (counted,) = world.statements(RefusalsCounted)
    assert (counted.code, counted.count) == ("broker.proof_key", 48)
    assert len(world.entries()) == before + 3
    # A refusal of someone who has proven a key stands for itself, always.
    world.hold("host:quill-works/ci-1")
    size = len(world.entries())
    for _ in range(5):
        assert place.ask().status == 403
    assert len(world.entries()) == size + 5
    world.close()


def test_counts_that_cannot_be_recorded_are_counted_on(tmp_path):
    world = make_world(tmp_path)
    place = Place(world, singly=0)
    place.ask(signer=SigningKey.generate())
    world.now += 61 * SECOND
    append = world.log.append_statements
    world.log.append_statements = lambda *said: (_ for _ in ()).throw(OSError("full"))
    with pytest.raises(OSError, match="full"):
        place.counter.flush()
    world.log.append_statements = append
    place.ask(signer=SigningKey.generate())
    place.desk.close()
    assert [one.count for one in world.statements(RefusalsCounted)] == [2]
    world.close()


def test_holds_are_told_to_the_host_that_they_stop(place):
    world = place.world

    def holds(**asked):
        body = json.dumps({"host": CI, **asked}).encode()
        proof = sign_request(body, RequestId("q-" + "0" * 32), world.now // SECOND, world.host_keys[CI], HOLDS_PATH)
        return place.post(HOLDS_PATH, body, proof_headers(proof, body))

    assert holds().document["holds"] == []
    world.hold(f"host:{CI}")
    world.hold(f"host:{DESK}")
    world.hold(f"release:{world.release}")
    world.hold("member:bright-annotators/m-0123456789abcdef0123")
    assert [one["subject"] for one in holds().document["holds"]] == [f"host:{CI}"]
    asked = {"release": world.release, "member": "bright-annotators/m-0123456789abcdef0123"}
    assert {one["subject"] for one in holds(**asked).document["holds"]} == {f"host:{CI}", f"release:{world.release}"}
    world.now += 3600 * SECOND
    body = json.dumps({"host": CI}).encode()
    old = sign_request(body, RequestId("q-" + "0" * 32), 1, world.host_keys[CI], HOLDS_PATH)
    assert place.post(HOLDS_PATH, body, proof_headers(old, body)).status == 401
    forged = sign_request(body, RequestId("q-" + "0" * 32), world.now // SECOND, SigningKey.generate(), HOLDS_PATH)
    assert place.post(HOLDS_PATH, body, proof_headers(forged, body)).status == 401


def test_health_readiness_and_metrics(place):
    assert place.call("GET", "/healthz").document == {"status": "ok"}
    assert place.call("GET", "/readyz").document["status"] == "ready"
    place.ask()
    text = place.call("GET", "/metrics").body.decode()
    assert 'safehold_answers_total{code="",route="keys",status="200"} 1.0' in text
    assert place.call("GET", "/metrics", client=("192.0.2.1", 5)).document["code"] == "serve.metrics_here"
    place.pages.draining = True
    said = place.call("GET", "/readyz")
    assert (said.status, said.document["code"]) == (503, "serve.draining")
    place.pages.draining = False
    place.world.log.refuse(StorageFailed("ledger.rolled_back", "the ledger is read-only"))
    assert place.call("GET", "/readyz").document["code"] == "ledger.rolled_back"
    said = place.ask()
    assert (said.status, said.document["elsewhere"]) == (503, ["https://other.example"])


def test_the_ledger_is_read_as_static_files_and_entries_only_where_they_are_published(tmp_path):
    world = make_world(tmp_path)
    shut, opened = Place(world), Place(world, ROOMY, publish=True)
    size = len(world.entries())
    checkpoint = shut.call("GET", "/log/checkpoint")
    assert checkpoint.body.splitlines()[1] == b"%d" % size
    tile = shut.call("GET", f"/log/tile/0/000.p/{size}")
    assert (tile.status, len(tile.body)) == (200, 32 * size)
    assert "immutable" in tile.headers["cache-control"]
    assert shut.call("GET", f"/log/tile/entries/000.p/{size}").document["code"] == "serve.log_not_public"
    payload = f"/log/payload/{world.release.removeprefix('sha256:')}"
    assert shut.call("GET", payload).status == 403
    assert opened.call("GET", payload).status == 200
    assert opened.call("GET", f"/log/tile/entries/000.p/{size}").status == 200
    for name in (
        "tile/0/000",
        "tile/0/0",
        "tile/00/000.p/1",
        "tile/0/x000/000.p/1",
        "../keys.db",
        "payload/" + "0" * 64,
    ):
        assert opened.call("GET", f"/log/{name}").status == 404, name
    world.close()
