"""Every way in which a request is refused, step by step: an entry with a reason, and never a key.

``World.refused`` holds the common part: the code and the step in the entry, one entry and no more, nothing unwrapped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import apsw
import pytest
from biscuit_auth import Algorithm, Biscuit, BlockBuilder, KeyPair, PublicKey

from safehold.broker.grants import GrantKey, GrantTerms, Narrowing, TokenRequest, narrow_grant, verify_grant
from safehold.broker.proof import sign_request
from safehold.broker.request import MAX_BODY_BYTES, READER_KEY_BYTES
from safehold.broker.sealing import ReaderKey
from safehold.ledger import sqlite
from safehold.ledger.keys import SigningKey
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import Refused, StorageFailed
from safehold.model.ids import parse_subject, sha256_digest
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.state.invariants import check_order
from tests.broker_kit import (
    ANNOTATOR,
    CI,
    CLEAN,
    COLLEAGUE,
    DESK,
    GROUPS,
    HOUR,
    MEMBER,
    NOTES,
    NOW,
    SECOND,
    STRANGER,
    TRAINER,
    World,
    new_request,
)

DIRTY = canonical_bytes({"distributions": [{"name": "litellm", "version": "1.82.8"}]})


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
        world.ask(key=Liar())  # type: ignore[arg-type]


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


# --- 4 freshness and replay ----------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600, -61, 61, 3600])
def test_step_4_a_clock_that_is_off(world: World, seconds: int) -> None:
    with world.refused(4, "broker.stale") as seen:
        world.ask(clock=lambda: NOW + seconds * SECOND)
    assert f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'}" in seen[0].reason
    assert "clock" in seen[0].hint


def test_step_4_the_same_request_again(world: World) -> None:
    body = world.body()
    proof = sign_request(body, json.loads(body)["request"], NOW // SECOND, world.host_keys[CI])
    world.broker.release_keys(body, proof)
    for _ in range(2):
        asked = len(world.part_keys.asked)
        with world.refused(4, "broker.replayed"):
            world.broker.release_keys(body, proof)
        assert len(world.part_keys.asked) == asked
    assert len(world.statements(KeyReleased)) == 1


def test_step_4_an_id_used_before_under_another_body(world: World) -> None:
    request = new_request()
    world.send(world.body(request=request))
    with world.refused(4, "broker.replayed"):
        world.send(world.body(request=request, groups=("answer",)))


def test_step_4_an_id_that_was_refused_after_the_proof_is_used_up(world: World) -> None:
    body = world.body(purpose="resale")
    with world.refused(7, "broker.grant_purpose"):
        world.send(body)
    with world.refused(4, "broker.replayed"):
        world.send(body)


# --- 5 inventory ---------------------------------------------------------------------------------------


def test_step_5_a_host_that_never_reported(world: World) -> None:
    key = SigningKey.generate()
    world.registry.add_host("quill-works/new-1", key.public, 60)  # type: ignore[arg-type]
    with world.refused(5, "broker.inventory_absent"):
        world.ask(host="quill-works/new-1", key=key)


def test_step_5_an_inventory_that_is_too_old(world: World) -> None:
    world.now += HOUR + SECOND
    with world.refused(5, "broker.inventory_old") as seen:
        world.ask()
    assert "3601 s old" in seen[0].reason
    world.report(CI)
    world.ask()


def test_step_5_an_old_observation_that_arrives_late(world: World) -> None:
    world.now += 2 * HOUR
    world.report(CI, observed=NOW + SECOND)
    with world.refused(5, "broker.inventory_old"):
        world.ask()


def test_step_5_a_clock_set_forward_keeps_nothing_fresh(world: World) -> None:
    world.report(CI, observed=NOW + 24 * HOUR)
    world.ask()
    world.now += HOUR + SECOND
    with world.refused(5, "broker.inventory_old"):
        world.ask()


@pytest.mark.xfail(reason="state.standing takes the newest by the host's clock alone", strict=True)
def test_step_5_a_clock_that_was_ahead_hides_nothing_that_came_later(world: World) -> None:
    """Intake lets a host be five minutes ahead: for so long its clean report is "newer" than the dirty one after it."""
    world.report(CI, observed=NOW + 300 * SECOND)
    world.now += 60 * SECOND
    world.advise(world.report(CI, contents=DIRTY))
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_one_environment_of_several_is_old(world: World) -> None:
    world.report(CI, environment="second")
    world.now += HOUR + SECOND
    world.report(CI)
    with world.refused(5, "broker.inventory_old") as seen:
        world.ask()
    assert "(second)" in seen[0].reason
    world.report(CI, environment="second", contents=b"{}")
    world.ask()
    released = world.entries()[-1].statement
    assert isinstance(released, KeyReleased)
    assert set(released.inventories) == {sha256_digest(CLEAN), sha256_digest(b"{}")}


def test_step_5_an_inventory_that_an_advisory_names(world: World) -> None:
    dirty = world.report(CI, contents=DIRTY)
    world.ask()  # nobody knew
    world.advise(dirty)
    with world.refused(5, "broker.inventory_unclean") as seen:
        world.ask()
    assert "litellm 1.82.8" in seen[0].reason
    assert seen[0].hint.startswith("remove litellm 1.82.8 from main")
    world.report(CI)
    world.ask()


def test_step_5_one_environment_of_several_is_unclean(world: World) -> None:
    world.advise(world.report(CI, environment="second", contents=DIRTY))
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_an_older_observation_does_not_cover_a_newer_one(world: World) -> None:
    world.advise(world.report(CI, contents=DIRTY))
    world.report(CI, observed=NOW - SECOND)  # clean, delivered late
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()


def test_step_5_an_advisory_that_was_withdrawn_or_corrected_no_longer_counts(world: World) -> None:
    dirty = world.report(CI, contents=DIRTY)
    world.advise(dirty)
    world.advise(dirty, document="2", found=False)
    world.ask()
    world.advise(dirty, document="3")
    with world.refused(5, "broker.inventory_unclean"):
        world.ask()
    world.advise(dirty, document="4", withdrawn=True)
    world.ask()


# --- 6 holds -------------------------------------------------------------------------------------------

SUBJECTS = (
    "party:quill-works",
    f"host:{CI}",
    f"member:{MEMBER}",
    "dataset:quill-works/word-problems",
    "release",
    "grant",
)


def named(world: World, subject: str) -> str:
    return {"release": f"release:{world.release}", "grant": f"grant:{world.grant.terms.grant}"}.get(subject, subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_step_6_a_hold_on_anything_that_the_request_names(world: World, subject: str) -> None:
    held = named(world, subject)
    opened = world.ask()
    placed = world.hold(held, "seen in a leak")
    with world.refused(6, "broker.held") as seen:
        world.ask()
    assert seen[0].reason == f"{held} is suspended since entry {placed.entry.index}: seen in a leak"
    assert opened.entry < placed.entry.index
    world.containment.lift(parse_subject(held), "cleared")
    world.ask()
    assert check_order(world.entries()) == []


def test_step_6_a_hold_on_whoever_made_the_data_stops_it_in_all_hands(world: World) -> None:
    token = world.issue(party="north-lab").token
    world.ask(grant=token, host=TRAINER, member=None)
    world.hold("party:quill-works")
    with world.refused(6, "broker.held"):
        world.ask(grant=token, host=TRAINER, member=None)


@pytest.mark.parametrize(
    "subject", ["party:bright-annotators", f"host:{DESK}", f"member:{COLLEAGUE}", f"dataset:{NOTES}", "other release"]
)
def test_step_6_a_hold_on_somebody_else_stops_nothing_here(world: World, subject: str) -> None:
    world.hold(f"release:{world.other_release}" if subject == "other release" else subject)
    world.ask()


def test_step_6_two_holds_are_two(world: World) -> None:
    world.hold("party:quill-works")
    world.hold(f"host:{CI}")
    world.containment.lift(parse_subject("party:quill-works"), "cleared")
    with world.refused(6, "broker.held") as seen:
        world.ask()
    assert seen[0].reason.startswith(f"host:{CI}")


# --- 7 within the grant --------------------------------------------------------------------------------

Ask = Callable[[World], Any]

OUTSIDE: dict[str, tuple[str, Ask]] = {
    "of a party": ("broker.grant_holder", lambda world: world.ask(host=ANNOTATOR, member=None)),
    "of another host": (
        "broker.grant_holder",
        lambda world: world.ask(grant=world.issue(host=DESK).token),
    ),
    "for another dataset": (
        "broker.grant_dataset",
        lambda world: world.ask(grant=world.issue(dataset=NOTES).token),
    ),
    "for another release": ("broker.grant_dataset", lambda world: world.ask(release=world.other_release)),
    "no such release": ("broker.no_release", lambda world: world.ask(release=sha256_digest(b"none"))),
    "a group too many": (
        "broker.grant_groups",
        lambda world: world.ask(grant=world.issue(groups=("question",)).token),
    ),
    "a group that the release has not": (
        "broker.grant_groups",
        lambda world: world.ask(grant=world.issue(groups=(*GROUPS, "labels")).token, groups=("labels",)),
    ),
    "another purpose": ("broker.grant_purpose", lambda world: world.ask(purpose="resale")),
    "ended": (
        "broker.grant_time",
        lambda world: world.ask(grant=world.issue(not_before=NOW - HOUR, until=NOW).token),
    ),
    "not begun": (
        "broker.grant_time",
        lambda world: world.ask(grant=world.issue(not_before=NOW + SECOND, until=NOW + HOUR).token),
    ),
    "a member of another party": ("broker.member_party", lambda world: world.ask(member=STRANGER)),
    "never recorded": ("broker.grant_unknown", lambda world: world.ask(grant=unrecorded(world, "g-" + "0" * 16))),
    "recorded with other terms": (
        "broker.grant_unknown",
        lambda world: world.ask(grant=unrecorded(world, world.issue(groups=("question",)).terms.grant)),
    ),
}

NARROWED: dict[str, tuple[Narrowing, dict[str, Any]]] = {
    "host": (Narrowing(host=DESK), {}),
    "member": (Narrowing(member=COLLEAGUE), {}),
    "member, and none named": (Narrowing(member=MEMBER), {"member": None}),
    "groups": (Narrowing(groups=("question",)), {}),
    "groups, the other one": (Narrowing(groups=("question",)), {"groups": ("answer",)}),
    "purpose": (Narrowing(purpose="review"), {}),  # type: ignore[arg-type]
    "until": (Narrowing(until=NOW), {}),
}


def unrecorded(world: World, grant: Any) -> str:
    values: dict[str, Any] = {name: getattr(world.grant.terms, name) for name in GrantTerms.__struct_fields__}
    return world.grant_key.issue(GrantTerms(**values | {"grant": grant}))


@pytest.mark.parametrize("case", OUTSIDE)
def test_step_7_what_the_grant_does_not_cover(world: World, case: str) -> None:
    code, ask = OUTSIDE[case]
    if code != "broker.grant_unknown" and case != "of a party":
        world.ask()
    before = len(world.statements(KeyReleased))
    with pytest.raises(Refused, match=code.replace(".", r"\.")):
        ask(world)
    refused = world.statements(KeyRefused)[-1]
    assert (refused.step, refused.code) == (7, code)
    assert refused.reason
    assert refused.hint
    assert len(world.statements(KeyReleased)) == before


@pytest.mark.parametrize("case", NARROWED)
def test_step_7_what_was_narrowed_away(world: World, case: str) -> None:
    narrowing, order = NARROWED[case]
    world.ask(**order)
    token = narrow_grant(world.grant.token, world.grant.root, narrowing)
    with world.refused(7, "broker.grant_denies"):
        world.ask(grant=token, **order)


@pytest.mark.parametrize("case", NARROWED)
def test_step_7_narrowed_and_then_narrowed_less_stays_narrow(world: World, case: str) -> None:
    narrowing, order = NARROWED[case]
    token = narrow_grant(world.grant.token, world.grant.root, narrowing)
    wide = Narrowing(host=CI, groups=GROUPS, purpose="training", until=NOW + 24 * HOUR)  # type: ignore[arg-type]
    with world.refused(7, "broker.grant_denies"):
        world.ask(grant=narrow_grant(token, world.grant.root, wide), **order)


def test_step_7_the_token_alone_holds_too(world: World) -> None:
    """The grant's row is one check, the token another: each of them refuses without the other's help."""
    token = verify_grant(world.issue(host=CI, groups=("question",)).token, world.grant.root)
    good: dict[str, Any] = {
        "party": "quill-works", "host": CI, "host_key": world.host_keys[CI].key_id, "member": None,
        "dataset": "quill-works/word-problems", "groups": ("question",), "purpose": "training", "now": NOW,
    }  # fmt: skip
    token.authorize(TokenRequest(**good))
    bad: dict[str, Any] = {
        "party": "north-lab", "host": DESK, "host_key": world.host_keys[DESK].key_id, "dataset": NOTES,
        "groups": GROUPS, "purpose": "resale", "now": NOW + 24 * HOUR,
    }  # fmt: skip
    for name, value in bad.items():
        with pytest.raises(Refused, match=r"broker\.grant_denies"):
            token.authorize(TokenRequest(**good | {name: value}))


# --- 8 the ledger --------------------------------------------------------------------------------------


def test_step_8_a_ledger_that_cannot_be_written_lets_no_key_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(world.entries())

    def full(_self: object, _index: int, _body: bytes) -> None:
        raise apsw.FullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite._Connection, "add_entry", full)
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
    values: dict[str, Any] = {"grant": foreign_token(world), "purpose": "resale", "host_key": thief.key_id}
    late = {"created": NOW // SECOND - 3600}
    world.advise(world.report(CI, contents=DIRTY))
    world.hold("party:quill-works")
    with world.refused(1, "id.purpose"):
        world.send(changed_body(world, purpose="!", grant=values["grant"]), signer=thief)
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
