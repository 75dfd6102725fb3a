"""What the receiving side takes of a message, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safehold.inventory import agent
from safehold.inventory.report import (
    MAX_MESSAGE_BYTES,
    NAMESPACE,
    InventoryConfirmation,
    InventoryReport,
    parse_message,
    path_bytes,
    verify_message,
)
from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.model.contents import Item, contents_items
from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed
from tests.inventory_kit import HOST, Environment, sha256

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv")
    made.install("litellm", "1.82.8", {"litellm/__init__.py": "A = 1\n", "litellm_init.pth": "# harmless\n"})
    return made


def _report(made: Environment, **changes: Any) -> dict[str, Any]:
    said = {"clock": "given", "environment": "ci", "full": True, "host": HOST, "observed": 7}
    folder = str(made.root).encode()
    return agent.report(folder, made.sweep(), **said) | changes


def _confirmation(**changes: Any) -> bytes:
    plain = {
        "clock": "system", "environment": "ci", "format": agent.CONFIRMATION_FORMAT, "host": HOST, "inventory": DIGEST,
        "largest_gap": 60, "since": 0, "sweeps": 3, "until": 100,
    }  # fmt: skip
    return agent.canonical(plain | changes)


def _code(data: bytes) -> str:
    with pytest.raises(SafeholdError) as caught:
        parse_message(data)
    return caught.value.code


def test_a_report_comes_back_typed(environment: Environment) -> None:
    environment.write("extra.py", "x")
    environment.write("own.pth", "import sys\n")
    report = parse_message(agent.canonical(_report(environment)))
    assert isinstance(report, InventoryReport)
    assert report.oddities == 2
    assert report.contents.distributions[0].name == "litellm"
    items = contents_items(agent.canonical(environment.sweep()), files=True)
    assert Item("distribution", "litellm", "1.82.8", "litellm-1.82.8.dist-info", "") in items
    assert Item("file", "litellm", "1.82.8", "litellm/__init__.py", sha256("A = 1\n")) in items
    assert Item("hook", "litellm", "", "litellm_init.pth", sha256("# harmless\n")) in items
    assert Item("hook", "", "", "own.pth", sha256("import sys\n")) in items
    assert Item("unowned", "", "", "extra.py", sha256("x")) in items


def test_a_signed_message_is_taken_and_any_other_key_or_byte_is_not(environment: Environment) -> None:
    key, data = SigningKey.generate(), agent.canonical(_report(environment))
    signature = sshsig.sign(key, data, NAMESPACE)
    assert verify_message(data, signature, key.public) == parse_message(data)
    for changed, by in ((data + b" ", key), (data, SigningKey.generate())):
        with pytest.raises(VerificationFailed):
            verify_message(changed, signature, by.public)
    with pytest.raises(VerificationFailed):
        verify_message(data, sshsig.sign(key, data, "git"), key.public)


def test_contents_that_are_not_those_of_the_digest(environment: Environment) -> None:
    assert _code(agent.canonical(_report(environment, inventory=DIGEST))) == "inventory.digest"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"host": "Nobody"}, "id.host"),
        ({"environment": "../x"}, "inventory.environment"),
        ({"environment": ""}, "inventory.environment"),
        ({"inventory": "sha256:0"}, "id.digest"),
        ({"observed": -1}, "inventory.message_form"),
        ({"observed": "1"}, "inventory.message_form"),
        ({"clock": "sun"}, "inventory.message_form"),
        ({"format": "safehold-inventory-report-v2"}, "inventory.message_form"),
        ({"more": 1}, "inventory.message_form"),
        ({"contents": {}}, "inventory.message_form"),
    ],
)
def test_reports_with_something_wrong(environment: Environment, changes: dict[str, Any], code: str) -> None:
    assert _code(agent.canonical(_report(environment, **changes))) == code


def test_hashes_must_be_hashes(environment: Environment) -> None:
    plain = _report(environment)
    for bad in ("0" * 63, "G" * 64, "A" * 64, "0" * 64 + "\n"):
        plain["contents"]["hooks"][0]["sha256"] = bad
        assert _code(agent.canonical(plain)) == "inventory.message_form"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"format":1}', b"[" * 100_000])
def test_what_is_no_message(data: bytes) -> None:
    assert _code(data) == "inventory.message_form"


def test_a_message_must_be_canonical_and_bounded(environment: Environment) -> None:
    data = agent.canonical(_report(environment))
    assert _code(data.replace(b'{"agent"', b'{ "agent"')) == "inventory.message_form"
    assert _code(b" " * (MAX_MESSAGE_BYTES + 1)) == "inventory.message_size"


def test_a_confirmation_comes_back_typed() -> None:
    message = parse_message(_confirmation())
    assert isinstance(message, InventoryConfirmation)
    assert (message.since, message.until, message.sweeps, message.largest_gap) == (0, 100, 3, 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"since": 101},
        {"sweeps": 0},
        {"sweeps": 1},
        {"largest_gap": 49},
        {"largest_gap": 101},
        {"sweeps": 2},
        {"since": 100, "largest_gap": 1, "sweeps": 1},
    ],
)
def test_confirmations_that_contradict_themselves(changes: dict[str, Any]) -> None:
    assert _code(_confirmation(**changes)) == "inventory.message_interval"


def test_one_sweep_confirms_one_moment() -> None:
    parse_message(_confirmation(since=5, until=5, sweeps=1, largest_gap=0))


def test_errors_carry_hints() -> None:
    with pytest.raises(InputInvalid) as caught:
        parse_message(b"{}")
    assert caught.value.hint


def test_paths_back_to_bytes() -> None:
    for raw in (b"a/b.py", b"\xff\n\\x41", "ü\u202e".encode(), b"\\", b"\\\\x"):
        assert path_bytes(agent.shown(raw)) == raw
