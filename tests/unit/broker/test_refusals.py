"""What is refused before anything is proven, steps 1 to 3: an entry with a reason, and never a key.

``World.refused`` holds the common part: the code and the step in the entry, one entry and no more, nothing unwrapped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from biscuit_auth import Algorithm, Biscuit, BlockBuilder, KeyPair, PublicKey

from safehold.broker.grants import GrantKey, Narrowing, narrow_grant
from safehold.broker.proof import sign_request
from safehold.broker.request import MAX_BODY_BYTES
from safehold.ledger.keys import SigningKey
from safehold.model.encoding import canonical_bytes
from tests.broker_kit import (
    ANNOTATOR,
    CI,
    DESK,
    NOW,
    SECOND,
    World,
    new_request,
)


def changed_body(world: World, **changed: Any) -> bytes:
    return canonical_bytes(json.loads(world.body()) | changed)


def without(world: World, name: str) -> bytes:
    return canonical_bytes({key: value for key, value in json.loads(world.body()).items() if key != name})


# --- 1 parse and bound sizes ---------------------------------------------------------------------------

MALFORMED: dict[str, tuple[str, Callable[[World], bytes]]] = {
    "nothing": ("broker.request_form", lambda world: b""),
    "no JSON": ("broker.request_form", lambda world: b"\xff\x00{"),
    "not canonical": ("broker.request_form", lambda world: world.body() + b" "),
    "another type": ("broker.request_form", lambda world: b"[]"),
    "deep": ("broker.request_form", lambda world: b"[" * 30_000),
    "too large": ("broker.request_size", lambda world: b" " * (MAX_BODY_BYTES + 1)),
    "unknown field": ("broker.request_form", lambda world: changed_body(world, more=1)),
    "missing field": ("broker.request_form", lambda world: without(world, "member")),
    "wrong type": ("broker.request_form", lambda world: changed_body(world, host=7)),
    "a float": ("broker.request_form", lambda world: world.body().replace(b'"training"', b"1.5")),
    "other format": ("broker.request_form", lambda world: changed_body(world, format="safehold-key-request-v0")),
    "no group": ("broker.request_groups", lambda world: changed_body(world, groups=[])),
    "a group twice": ("broker.request_groups", lambda world: changed_body(world, groups=["answer", "answer"])),
    "many groups": ("broker.request_groups", lambda world: changed_body(world, groups=[f"g{n}" for n in range(257)])),
    "no group name": ("id.group", lambda world: changed_body(world, groups=['x"); allow if true; //'])),
    "no request id": ("id.request", lambda world: changed_body(world, request="q-1")),
    "no digest": ("id.digest", lambda world: changed_body(world, release="sha256:00")),
    "no host": ("id.host", lambda world: changed_body(world, host="../../etc")),
    "no member": ("id.member", lambda world: changed_body(world, member="quill-works/Ada Lovelace")),
    "no purpose": ("id.purpose", lambda world: changed_body(world, purpose="training\x1b[2J")),
    "no key id": ("broker.request_form", lambda world: changed_body(world, key="SHA256:x")),
    "reader in another base64": ("broker.request_reader", lambda world: changed_body(world, reader="A" * 1621 + "B==")),
    "reader not base64": ("broker.request_reader", lambda world: changed_body(world, reader="*")),
    "reader too short": ("broker.request_reader", lambda world: changed_body(world, reader="AAAA")),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_step_1_a_body_that_cannot_be_read(world: World, case: str) -> None:
    code, make = MALFORMED[case]
    with world.refused(1, code) as seen:
        world.send(make(world))
    assert (seen[0].request, seen[0].host, seen[0].release, seen[0].grant) == (None, None, None, None)


# --- 2 the grant's chain of signatures -----------------------------------------------------------------


def append_block(token: str, root: bytes, source: str) -> str:
    return str(
        Biscuit.from_base64(token, PublicKey.from_bytes(root, Algorithm.Ed25519))
        .append(BlockBuilder(source))
        .to_base64()
    )


def flip(token: str, at: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[at] ^= 1
    return base64.urlsafe_b64encode(bytes(raw)).decode()


def foreign_token(world: World) -> str:
    return GrantKey(b"x" * 32).issue(world.grant.terms)


def seventeen_blocks(world: World) -> str:
    token = world.grant.token
    for _ in range(16):
        token = append_block(token, world.grant.root, 'check if request_host("quill-works/ci-1")')
    return token


BAD_TOKENS: dict[str, tuple[str, Callable[[World], str]]] = {
    "empty": ("broker.token_signature", lambda world: ""),
    "garbage": ("broker.token_signature", lambda world: "no grant at all"),
    "too long": ("broker.token_form", lambda world: "A" * 20_000),
    "not ASCII": ("broker.token_form", lambda world: "ä"),
    "truncated": ("broker.token_signature", lambda world: world.grant.token[:-40]),
    "a bit of the first block": ("broker.token_signature", lambda world: flip(world.grant.token, 40)),
    "a bit of the signature": ("broker.token_signature", lambda world: flip(world.grant.token, -20)),
    "another root": ("broker.token_signature", foreign_token),
    "seventeen blocks": ("broker.token_form", seventeen_blocks),
}

WIDENING = {
    "a group": 'group("identities");',
    "a purpose": 'purpose("resale");',
    "another dataset": 'dataset("bright-annotators/notes"); grant("g-0000000000000000");',
    "another party": 'request_party("quill-works"); request_host("quill-works/desk-1");',
    "a rule for groups": "group($g) <- request_group($g);",
    "a rule for hosts": 'request_host("quill-works/ci-1") <- request_host($h);',
    "a check that widens its scope": 'check if group("question") trusting previous;',
    "a check that is always true": "check if true;",
    "one check too many": 'check if request_host("quill-works/ci-1"); check if request_group("question") or true;',
    "a fact among good checks": 'group("identities"); check if request_host("quill-works/ci-1");',
    "text that looks good": 'check if request_host("quill-works/ci-1; group(1)");',
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_step_2_a_token_that_is_no_grant_of_this_broker(world: World, case: str) -> None:
    code, make = BAD_TOKENS[case]
    with world.refused(2, code) as seen:
        world.send(world.body(grant=make(world)))
    assert (seen[0].host, seen[0].release, seen[0].grant) == (CI, world.release, None)


@pytest.mark.parametrize("narrowed_first", [False, True], ids=["issued", "narrowed"])
@pytest.mark.parametrize("case", WIDENING)
def test_step_2_a_token_widened_by_a_later_block(world: World, case: str, narrowed_first: bool) -> None:
    token = world.issue(groups=("question",)).token
    if narrowed_first:
        token = narrow_grant(token, world.grant.root, Narrowing(groups=("question",)))
    with world.refused(2, "broker.token_form"):
        world.send(world.body(grant=append_block(token, world.grant.root, WIDENING[case])))


@pytest.mark.parametrize("where", ["rule", "check"])
def test_step_2_a_token_made_to_be_slow_is_refused_before_it_runs(world: World, where: str) -> None:
    # Evaluated, these 60^6 combinations take hours, and inside the ledger's transaction no hold could land meanwhile.
    facts = "".join(f"f({number});" for number in range(60))
    body = ", ".join(f"f($x{number})" for number in range(6)) + ", $x0 > 1000"
    source = facts + (f"g(1) <- {body};" if where == "rule" else f"check if {body};")
    with world.refused(2, "broker.token_form"):
        world.send(world.body(grant=append_block(world.grant.token, world.grant.root, source)))


def test_step_2_a_block_of_a_third_party_is_not_known_here(world: World) -> None:
    third = KeyPair()
    token = Biscuit.from_base64(world.grant.token, PublicKey.from_bytes(world.grant.root, Algorithm.Ed25519))
    block = token.third_party_request().create_block(
        third.private_key, BlockBuilder('check if request_purpose("training")')
    )
    with world.refused(2, "broker.token_form"):
        world.send(world.body(grant=token.append_third_party(third.public_key, block).to_base64()))


# --- 3 possession --------------------------------------------------------------------------------------


@pytest.mark.parametrize("thief", ["no host", DESK, ANNOTATOR])
def test_step_3_a_stolen_token_signed_by_another_key(world: World, thief: Any) -> None:
    key = world.host_keys.get(thief) or SigningKey.generate()
    with world.refused(3, "broker.proof_key"):
        world.ask(key=key)
    with world.refused(3, "broker.proof_key"):
        world.send(world.body(host_key=key.key_id), signer=key)


def test_step_3_a_signature_by_another_key_under_the_right_name(world: World) -> None:
    class Liar:
        key_id = world.host_keys[CI].key_id
        sign = SigningKey.generate().sign

    with world.refused(3, "ledger.signature"):
        world.ask(key=Liar())


def test_step_3_a_host_that_is_not_registered(world: World) -> None:
    with world.refused(3, "broker.host_unknown"):
        world.ask(host="quill-works/ci-9", key=SigningKey.generate())


def test_step_3_the_proof_of_another_body(world: World) -> None:
    body = world.body()
    proof = sign_request(body, new_request(), NOW // SECOND, world.host_keys[CI])
    with world.refused(3, "broker.proof_request"):
        world.broker.release_keys(body, proof)
    with world.refused(3, "ledger.signature"):
        world.broker.release_keys(world.body(), proof)


@pytest.mark.parametrize(
    "claims",
    [
        {"created": NOW // SECOND + 1},
        {"nonce": "q-" + "f" * 32},
        {"nonce": 'q";keyid="x'},
        {"signature": b""},
        {"signature": b"\x00" * 64},
        {"signature": b"\x00" * 65},
    ],
)
def test_step_3_a_claim_that_was_not_signed(world: World, claims: dict[str, Any]) -> None:
    with world.refused(3, "ledger.signature"):
        world.send(world.body(), **claims)


def test_step_3_a_body_that_names_another_key_than_signed(world: World) -> None:
    with world.refused(3, "broker.proof_request"):
        world.send(world.body(host_key=world.host_keys[DESK].key_id))


def test_step_3_what_a_refused_proof_says_reaches_no_terminal(world: World) -> None:
    with world.refused(3, "broker.proof_key") as seen:
        world.send(world.body(), key="SHA256:\x1b[2J\r\n\ud800")
    assert "SHA256:?[2J???" in seen[0].reason


def test_step_3_a_request_that_was_not_proven_uses_no_id_up(world: World) -> None:
    body = world.body()
    with world.refused(3, "ledger.signature"):
        world.send(body, signature=b"\x00" * 64)
    assert len(world.send(body).sealed) > 0
