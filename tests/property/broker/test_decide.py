"""The decision against a second one that was written naively: a table of what must not be, read from the top."""

from __future__ import annotations

from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from safehold.broker.policy import BrokerPolicy, Denial, Facts, decide, hold_subjects
from safehold.broker.request import KeyRequest
from safehold.model.errors import Refused
from safehold.model.ids import Subject
from safehold.state.standing import CurrentFinding, CurrentInventory, GrantRow, HoldRow, HostRow, ReleaseRow

NOW = 1_774_310_400_000_000
SECOND = 1_000_000
HOSTS = ("quill-works/ci-1", "quill-works/desk-1", "north-lab/trainer-1")
GRANTS = ("g-0000000000000001", "g-0000000000000002")
GROUPS = ("question", "answer", "labels")
POLICY = BrokerPolicy(inventory_max_age=100, clock_tolerance=60, lease=300)


class FakeToken:
    """A token that allows or does not; the decision may ask it only when all else holds."""

    def __init__(self, grant: str, revocations: tuple[str, ...], allows: bool) -> None:
        self.grant, self.revocations, self.allows = grant, revocations, allows

    def authorize(self, request: Any) -> None:
        if not self.allows:
            raise Refused("broker.grant_denies", "no", "no")


def naive(facts: Facts) -> Any:
    """The same ruling as a list of offences in the order of the steps; the first one is the answer."""
    request, host, release, grant, token = facts.request, facts.host, facts.release, facts.grant, facts.token
    offences: list[tuple[bool, int, str]] = []
    created, now = facts.created * SECOND, facts.now // SECOND * SECOND
    offences.append((created > now + 60 * SECOND or created < now - 60 * SECOND, 4, "broker.stale"))
    offences.append((facts.replayed, 4, "broker.replayed"))
    offences.append((len(facts.inventories) == 0, 5, "broker.inventory_absent"))
    for seen in facts.inventories:
        oldest = min(seen.t, seen.until)
        offences.append((oldest + 101 * SECOND <= facts.now, 5, "broker.inventory_old"))
        offences.append((not seen.readable, 5, "broker.inventory_unreadable"))
        offences.append((len(seen.findings) > 0, 5, "broker.inventory_unclean"))
    offences.append((len(facts.holds) > 0, 6, "broker.held"))
    offences.append((release is None, 7, "broker.no_release"))
    known = grant is not None and grant.grant == token.grant and token.revocations[0] == grant.revocation
    offences.append((not known, 7, "broker.grant_unknown"))
    if release is not None and grant is not None:
        offences.append((not grant.not_before <= facts.now < grant.until, 7, "broker.grant_time"))
        holder = host.party == grant.party and (grant.host is None or grant.host == host.host)
        offences.append((not holder, 7, "broker.grant_holder"))
        own = request.member is None or request.member.split("/")[0] == host.party
        offences.append((not own, 7, "broker.member_party"))
        offences.append((release.dataset != grant.dataset, 7, "broker.grant_dataset"))
        covered = set(grant.groups) & set(release.groups)
        offences.append((not set(request.groups) <= covered, 7, "broker.grant_groups"))
        offences.append((request.purpose not in grant.purposes, 7, "broker.grant_purpose"))
    offences.append((not token.allows, 7, "broker.grant_denies"))
    for offended, step, code in offences:
        if offended:
            return step, code
    return [seen.inventory for seen in facts.inventories]


def mostly(good: Any, other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Right nine times in ten: else no example would come past the first steps."""
    return st.integers(0, 9).flatmap(lambda number: other if number == 9 else st.just(good))


def times(*around: int) -> st.SearchStrategy[int]:
    """Moments at the edges, in µs."""
    return st.sampled_from([moment + step for moment in around for step in (-SECOND, -1, 0, 1, SECOND)])


def groups() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(GROUPS), min_size=1, unique=True).map(tuple)


FINDING = CurrentFinding("PYSEC-2026-2", "version", "litellm", "1.82.8", "", 7)
SIDE = {"dataset": st.sampled_from(["quill-works/words", "quill-works/other"])}


@st.composite
def inventory(draw: st.DrawFn) -> CurrentInventory:
    return CurrentInventory(
        draw(st.sampled_from(["main", "second"])),
        draw(st.sampled_from(["sha256:a", "sha256:b"])),
        draw(mostly(NOW - SECOND, times(NOW, NOW - 100 * SECOND, NOW - 101 * SECOND, NOW + 3600 * SECOND))),
        draw(mostly(NOW - SECOND, times(NOW, NOW - 100 * SECOND, NOW - 101 * SECOND))),
        draw(mostly((), st.just((FINDING,)))),
        draw(mostly(True, st.just(False))),
    )


@st.composite
def all_facts(draw: st.DrawFn) -> Facts:
    host = draw(mostly(HOSTS[0], st.sampled_from(HOSTS)))
    party = host.split("/")[0]
    row = HostRow(host, draw(mostly(party, st.just("north-lab"))), "ssh-ed25519 AAAA", 60)
    values: dict[str, Any] = {
        "request": "q-" + "0" * 32, "release": "sha256:r", "groups": draw(mostly(("question",), groups())),
        "purpose": draw(mostly("training", st.just("resale"))), "host": host, "host_key": "SHA256:x",
        "member": draw(mostly(None, st.sampled_from([f"{one}/m-" + "0" * 20 for one in ("quill-works", "north-lab")]))),
        "grant": "token", "reader": b"",
    }  # fmt: skip
    release = ReleaseRow(
        "sha256:r", draw(mostly("quill-works/words", SIDE["dataset"])), 1, "quill-works", 10, 10, 1,
        draw(mostly(GROUPS, groups())), 5, NOW,
    )  # fmt: skip
    grant = GrantRow(
        draw(mostly(GRANTS[0], st.sampled_from(GRANTS))), draw(mostly(party, st.just("bright-annotators"))),
        draw(mostly(None, st.sampled_from(HOSTS))), draw(mostly("quill-works/words", SIDE["dataset"])),
        draw(mostly(GROUPS, groups())), draw(mostly(("training",), st.just(("review",)))),
        draw(mostly(0, times(NOW))), draw(mostly(NOW + SECOND, times(NOW))), "sha256:t",
        draw(mostly("aa", st.just("bb"))), 6,
    )  # fmt: skip
    token = FakeToken(
        draw(mostly(GRANTS[0], st.sampled_from(GRANTS))), draw(st.sampled_from([("aa",), ("aa", "bb"), ("aa", "cc")])),
        draw(mostly(True, st.just(False))),
    )  # fmt: skip
    hold = HoldRow("h-1", Subject("party", "quill-works"), "why", 3, NOW)
    seconds = st.sampled_from([NOW // SECOND + step for step in (-3600, -61, -60, 60, 61, 3600)])
    return Facts(
        request=KeyRequest(**values),
        created=draw(mostly(NOW // SECOND, seconds)),
        now=NOW + draw(st.sampled_from([0, 1, SECOND - 1])),
        replayed=draw(mostly(False, st.just(True))),
        host=row,
        release=draw(mostly(release, st.none())),
        grant=draw(mostly(grant, st.none())),
        token=token,
        inventories=tuple(draw(st.lists(inventory(), min_size=draw(mostly(1, st.just(0))), max_size=3))),
        holds=draw(mostly((), st.just((hold,)))),
        policy=POLICY,
    )


def ruling(facts: Facts) -> Any:
    try:
        return list(decide(facts))
    except Denial as denial:
        return (denial.step, denial.code) if denial.message and denial.hint else denial


@settings(max_examples=400)
@given(facts=all_facts())
def test_two_decisions_agree_on_what_and_on_the_step(facts: Facts) -> None:
    found = ruling(facts)
    event("allowed" if isinstance(found, list) else f"step {found[0]}: {found[1]}")
    assert found == naive(facts)


@example(member=None, sealed=False)
@given(member=st.sampled_from([None, "quill-works/m-" + "0" * 20]), sealed=st.booleans())
def test_subjects_of_a_hold_are_all_that_a_request_touches(member: Any, sealed: bool) -> None:
    values: dict[str, Any] = {
        "request": "q", "release": "sha256:r", "groups": ("a",), "purpose": "training", "host": HOSTS[2],
        "host_key": "k", "member": member, "grant": "t", "reader": b"",
    }  # fmt: skip
    host = HostRow(HOSTS[2], "north-lab", "k", 60)
    release = ReleaseRow("sha256:r", "quill-works/words", 1, "quill-works", 1, 1, 1, ("a",), 5, NOW)
    found = set(hold_subjects(KeyRequest(**values), host, release if sealed else None, GRANTS[0]))
    expected = {"party:north-lab", f"host:{HOSTS[2]}", "release:sha256:r", f"grant:{GRANTS[0]}"}
    expected |= {f"member:{member}"} if member else set()
    expected |= {"dataset:quill-works/words", "party:quill-works"} if sealed else set()
    assert {str(subject) for subject in found} == expected
