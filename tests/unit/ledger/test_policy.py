"""Policies: tlog-policy's text and its quorum, held against a table of subsets; a receipt is complete when it holds."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from safehold.ledger.cosignature import Cosigner, add_signatures
from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.policy import Policy, parse_policy
from safehold.ledger.receipt import format_receipt, verify_receipt
from safehold.ledger.tree import inclusion_proof
from safehold.model.errors import InputInvalid, VerificationFailed
from tests.ledger_kit import OTHER_KEY, VERIFIER, key_of
from tests.witness_kit import AT, ShownLog, entries

LOG = ShownLog(entries(9))
NOTE = LOG.note()
TEXT = NOTE.partition(b"\n\n")[0] + b"\n"
NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
COSIGNERS = {name: Cosigner.ed25519(f"{name.lower()}.example", key_of(100 + at)) for at, name in enumerate(NAMES)}
KEYS = "".join(f"witness {name} {COSIGNERS[name].key.text}\n" for name in NAMES)
TWO_LEVELS = f"""
# the example of tlog-policy
log {VERIFIER.text}
{KEYS}group X-witnesses 2 X1 X2 X3
 group\tY-witnesses any  Y1 Y2 Y3\t
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def _policy(text: str) -> Policy:
    return parse_policy(text.encode())


def _noted(names: object) -> bytes:
    return add_signatures(NOTE, [COSIGNERS[name].cosign(TEXT, AT).signature for name in names])  # type: ignore[attr-defined]  # any iterable


def _holds(policy: Policy, note: bytes) -> bool:
    try:
        policy.witnessed(open_checkpoint(note, VERIFIER))
    except VerificationFailed as error:
        if error.code != "ledger.not_witnessed":
            raise
        return False
    return True


def test_two_levels_over_every_subset() -> None:
    policy = _policy(TWO_LEVELS)
    for subset in chain.from_iterable(combinations(NAMES, count) for count in range(7)):
        expected = sum(name[0] == "X" for name in subset) >= 2 and any(name[0] == "Y" for name in subset)
        assert _holds(policy, _noted(subset)) is expected, subset


@pytest.mark.parametrize("least", [1, 2, 3, 4, 5, 6])
def test_k_of_n(least: int) -> None:
    policy = _policy(f"{KEYS}group q {least} {' '.join(NAMES)}\nquorum q\n")
    assert _holds(policy, _noted(NAMES[:least]))
    assert not _holds(policy, _noted(NAMES[: least - 1]))


def test_one_witness_and_none() -> None:
    assert _holds(_policy("quorum none"), NOTE)
    single = _policy(f"{KEYS}quorum Y2\n")
    assert _holds(single, _noted(["Y2"]))
    assert not _holds(single, _noted(["Y1"]))
    assert [one.key for one in single.witnessed(open_checkpoint(_noted(NAMES), VERIFIER))] == [
        COSIGNERS[name].key for name in NAMES
    ]


def test_a_cosignature_that_does_not_hold_spoils_the_checkpoint() -> None:
    elsewhere = COSIGNERS["X1"].cosign(TEXT.replace(b"\n9\n", b"\n8\n"), AT).signature
    note = add_signatures(_noted(["X2", "Y1"]), [elsewhere])
    with pytest.raises(VerificationFailed) as caught:
        _policy(TWO_LEVELS).witnessed(open_checkpoint(note, VERIFIER))
    assert caught.value.code == "ledger.cosignature"


def test_it_opens_what_its_logs_signed() -> None:
    policy = _policy(TWO_LEVELS)
    checkpoint, cosignatures = policy.open(_noted(["X1", "X2", "Y1"]))
    assert (checkpoint.size, len(cosignatures)) == (9, 3)
    assert policy.check_log(VERIFIER) == VERIFIER
    for act in (
        lambda: policy.open(ShownLog(entries(9), OTHER_KEY).note()),
        lambda: policy.check_log(NoteVerifier(VERIFIER.name, OTHER_KEY.public)),
    ):
        with pytest.raises(VerificationFailed):
            act()
    with pytest.raises(InputInvalid):
        _policy("quorum none").open(NOTE)
    assert _policy("quorum none").check_log(VERIFIER) == VERIFIER


def test_a_receipt_is_complete_when_the_policy_holds() -> None:
    policy = _policy(TWO_LEVELS)
    path = inclusion_proof(4, 9, LOG.tree.read)

    def receipt(names: object) -> bytes:
        return format_receipt(LOG.tree.entries[4], 4, path, open_checkpoint(_noted(names), VERIFIER))

    complete = verify_receipt(receipt(["X1", "X3", "Y3"]), VERIFIER, policy)
    assert [one.key.name for one in complete.cosignatures] == ["x1.example", "x3.example", "y3.example"]
    assert verify_receipt(receipt([]), VERIFIER).cosignatures == ()
    with pytest.raises(VerificationFailed) as caught:
        verify_receipt(receipt(["X1", "Y1"]), VERIFIER, policy)
    assert caught.value.code == "ledger.not_witnessed"
    other = _policy(f"log {NoteVerifier(VERIFIER.name, OTHER_KEY.public).text}\nquorum none")
    with pytest.raises(VerificationFailed) as caught:
        verify_receipt(receipt([]), VERIFIER, other)
    assert caught.value.code == "ledger.policy_log"


X1 = COSIGNERS["X1"].key.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum",
        "quorum nobody",
        "quorum none\nquorum none",
        "quorum none none",
        "more none\nquorum none",
        f"witness none {X1}\nquorum none",
        f"witness a {X1}\nwitness a {COSIGNERS['X2'].key.text}\nquorum a",
        f"witness a {X1}\nwitness b {X1}\nquorum a",
        f"witness a {VERIFIER.text}\nquorum a",
        f"witness a {X1} http://h/ more\nquorum a",
        f"log {X1}\nquorum none",
        f"log {VERIFIER.text}\nlog {VERIFIER.text}\nquorum none",
        "log\nquorum none",
        f"witness a {X1}\ngroup g any\nquorum g",
        f"witness a {X1}\ngroup g 0 a\nquorum g",
        f"witness a {X1}\ngroup g 2 a\nquorum g",
        f"witness a {X1}\ngroup g 01 a\nquorum g",
        f"witness a {X1}\ngroup g some a\nquorum g",
        f"witness a {X1}\ngroup g any a a\nquorum g",
        f"witness a {X1}\ngroup g any a\ngroup h any a\nquorum g",
        f"witness a {X1}\ngroup g any g\nquorum g",
        f"group g any a\nwitness a {X1}\nquorum g",
        f"quorum a\nwitness a {X1}",
        "quorum none\r",
        "quorum\u00a0none",
        "quorum none\x7f",
        "#" * (1 << 20) + "\nquorum none",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        _policy(text)
    assert caught.value.code == "ledger.policy_form"


def test_names_are_opaque_bytes_and_urls_are_kept() -> None:
    text = (
        b"witness \xff\xe2\x84\xaa "
        + X1.encode()
        + b" https://w.example/submit\ngroup K any \xff\xe2\x84\xaa\nquorum K"
    )
    policy = parse_policy(text)
    assert policy.witnesses[0].url == "https://w.example/submit"
    assert _holds(policy, _noted(["X1"]))


def test_thirty_two_of_each_are_taken() -> None:
    many = {f"w{at}": Cosigner.ed25519(f"w{at}.example", key_of(1000 + at)) for at in range(64)}
    lines = [f"witness {name} {one.key.text}" for name, one in many.items()]
    groups = [f"group g{at} all w{at} w{at + 32}" for at in range(32)]
    policy = _policy("\n".join([*lines, *groups, f"group q all {' '.join(f'g{at}' for at in range(32))}", "quorum q"]))
    note = add_signatures(NOTE, [one.cosign(TEXT, AT).signature for one in list(many.values())[:63]])
    assert not _holds(policy, note)
