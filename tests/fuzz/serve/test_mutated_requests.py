"""Mutated requests: whatever comes, the answer is a 4xx with our code, never a 5xx and never a key.

Two sources: schemathesis, which makes requests from our own OpenAPI document, and a grammar of what an attacker would try on
token, body, signature and headers. Here runs a slice; ``bench/fuzz_serve.py`` runs 10,000.
"""

import json
import random
import re
from pathlib import Path

import pytest

from tests.broker_kit import CI, make_world, new_request
from tests.mutated_kit import Mutator, is_answered_well, schema_cases
from tests.serve_kit import Place

SLICE = 600
CODES = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", (Path(__file__).parents[3] / "docs/reference/errors.md").read_text()))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("mutated"))
    yield Place(world, singly=0)
    world.close()


def test_the_request_that_is_mutated_is_a_good_one(place):
    assert Mutator(place, random.Random(1)).unchanged().status == 200


@pytest.mark.parametrize("seed", range(3))
def test_mutated_requests_are_refused_with_our_code_and_no_key_leaves(place, seed):
    chance = random.Random(seed)
    mutator = Mutator(place, chance)
    asked = len(place.world.part_keys.asked)
    for _ in range(SLICE // 3):
        name, said = mutator.mutated()
        assert is_answered_well(said, CODES), (name, said)
    assert len(place.world.part_keys.asked) == asked, "no key was unwrapped for any of them"


def test_requests_made_from_the_openapi_document_are_answered_with_our_code(place):
    asked = len(place.world.part_keys.asked)
    seen = set()
    for name, said in schema_cases(place, 8):
        seen.add(name)
        if said.status == 200:
            assert name.startswith(("GET ",)), name
        else:
            assert is_answered_well(said, CODES), (name, said)
    assert {"POST /v1/keys", "POST /v1/inventory", "POST /v1/holds", "GET /log/{name}"} <= seen
    assert len(place.world.part_keys.asked) == asked


def test_the_document_names_every_route_and_each_route_is_there(place):
    document = place.call("GET", "/openapi.json").document
    for path, operations in document["paths"].items():
        for method in operations:
            said = place.call(method.upper(), path.replace("{name}", "checkpoint"))
            assert said.status not in (404, 405), (method, path)
    question = document["components"]["schemas"]["KeysQuestion"]
    sent = json.loads(place.world.body(request=new_request(), host=CI))
    assert set(question["required"]) == set(sent) == set(question["properties"])
