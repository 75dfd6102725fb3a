"""Narrowing never widens: whatever chain of blocks is appended, a token allows a subset of what it allowed before."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from safehold.broker.grants import GrantKey, GrantTerms, Narrowing, TokenRequest, narrow_grant, verify_grant
from safehold.model.errors import Refused

NOW = 1_774_310_400_000_000
HOUR = 3_600_000_000
KEY = GrantKey(b"k" * 32)
ROOT = KEY.public_bytes
HOSTS = ("quill-works/ci-1", "quill-works/desk-1")
MEMBERS = (None, "quill-works/m-" + "0" * 20, "quill-works/m-" + "1" * 20)
GROUPS = ("question", "answer")
PURPOSES = ("training", "review")
TIMES = (NOW, NOW + HOUR, NOW + 2 * HOUR)


def _requests() -> list[TokenRequest]:
    asked = [("question",), ("answer",), GROUPS]
    values: list[Any] = [
        {"host": host, "member": member, "groups": groups, "purpose": purpose, "now": now}
        for host, member, groups, purpose, now in itertools.product(HOSTS, MEMBERS, asked, PURPOSES, TIMES)
    ]
    common: dict[str, Any] = {"party": "quill-works", "host_key": "SHA256:x", "dataset": "quill-works/words"}
    return [TokenRequest(**common, **value) for value in values]


REQUESTS = _requests()


def terms(**changed: Any) -> GrantTerms:
    values: dict[str, Any] = {
        "grant": "g-" + "0" * 16, "party": "quill-works", "host": None, "host_key": None,
        "dataset": "quill-works/words", "groups": GROUPS, "purposes": PURPOSES, "not_before": NOW,
        "until": NOW + 2 * HOUR,
    }  # fmt: skip
    return GrantTerms(**values | changed)


def allowed(token: str) -> set[int]:
    """Which of all possible requests a token allows."""
    verified, found = verify_grant(token, ROOT), set[int]()
    for number, request in enumerate(REQUESTS):
        try:
            verified.authorize(request)
        except Refused:
            continue
        found.add(number)
    return found


def fits(narrowing: Narrowing, request: TokenRequest) -> bool:
    """The meaning of a narrowing, said again without Datalog."""
    return (
        (narrowing.host is None or request.host == narrowing.host)
        and (narrowing.member is None or request.member == narrowing.member)
        and (narrowing.groups is None or set(request.groups) <= set(narrowing.groups))
        and (narrowing.purpose is None or request.purpose == narrowing.purpose)
        and (narrowing.until is None or request.now < narrowing.until)
    )


@st.composite
def narrowings(draw: st.DrawFn) -> Narrowing:
    values: dict[str, Any] = {
        "host": draw(st.sampled_from([None, None, *HOSTS, "quill-works/ci-9"])),
        "member": draw(st.sampled_from([None, *MEMBERS])),
        "groups": draw(st.sampled_from([None, None, ("question",), GROUPS, ("question", "identities"), ("identities",)])),
        "purpose": draw(st.sampled_from([None, None, *PURPOSES, "resale"])),
        "until": draw(st.sampled_from([None, None, NOW + HOUR, NOW + 3 * HOUR])),
    }  # fmt: skip
    if all(value is None for value in values.values()):
        values["purpose"] = "training"
    return Narrowing(**values)


@settings(max_examples=30)
@given(chain=st.lists(narrowings(), min_size=1, max_size=4))
@example(chain=[Narrowing(groups=("question",)), Narrowing(groups=GROUPS)])
@example(chain=[Narrowing(host=HOSTS[0]), Narrowing(host=HOSTS[1])])
def test_each_block_allows_a_subset_and_exactly_what_it_says(chain: list[Narrowing]) -> None:
    token = KEY.issue(terms())
    before, meant = allowed(token), {at for at, one in enumerate(REQUESTS) if one.now < NOW + 2 * HOUR}
    assert before == meant
    grant = verify_grant(token, ROOT)
    for narrowing in chain:
        token = narrow_grant(token, ROOT, narrowing)
        after = allowed(token)
        assert after <= before
        meant = {at for at in meant if fits(narrowing, REQUESTS[at])}
        assert after == meant
        before = after
    verified = verify_grant(token, ROOT)
    assert verified.grant == grant.grant
    assert verified.revocations[0] == grant.revocations[0]
    assert len(verified.revocations) == len(chain) + 1


names = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True)
slugs = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@settings(max_examples=60)
@given(
    slug=slugs, name=names, groups=st.lists(names, min_size=1, max_size=20, unique=True), purpose=slugs, data=st.data()
)
def test_every_well_formed_id_can_be_granted_and_narrowed_to(
    slug: str, name: str, groups: list[str], purpose: str, data: st.DataObject
) -> None:
    """The closed form of later blocks has room for all that the ids of Safehold can be."""
    until = data.draw(st.integers(1_000_000, 253_402_300_799_999_999))
    now = data.draw(st.integers(0, until // 1_000_000 * 1_000_000 - 1))
    host: Any = f"{slug}/{name}"
    values: dict[str, Any] = {
        "party": slug,
        "dataset": f"{slug}/{name}",
        "groups": tuple(groups),
        "purposes": (purpose,),
    }
    key = "SHA256:" + "+/" * 20 + "AAA"
    token = KEY.issue(terms(**values, host=host, host_key=key, not_before=0, until=until))
    member: Any = f"{slug}/m-" + "0" * 20
    values = {"host": host, "member": member, "groups": tuple(groups), "purpose": purpose, "until": until}
    narrowed = narrow_grant(token, ROOT, Narrowing(**values))
    asked: dict[str, Any] = {
        "party": slug, "host": host, "host_key": key, "member": member, "dataset": host, "groups": tuple(groups),
        "purpose": purpose, "now": now,
    }  # fmt: skip
    verify_grant(narrowed, ROOT).authorize(TokenRequest(**asked))
