"""``docs/spec/broker.md`` against the source: the codes, their steps, and the forms of grants and bodies."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from biscuit_auth import Algorithm, Biscuit, PublicKey

from safehold.broker.grants import MAX_TOKEN_CHARACTERS, Narrowing, narrow_grant
from safehold.broker.policy import BrokerPolicy
from safehold.broker.proof import _signature_base
from safehold.broker.request import MAX_BODY_BYTES, _Body
from safehold.broker.sealing import _info
from tests.broker_kit import CI, MEMBER, NOW, SECOND, World

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/spec/broker.md").read_text()
SOURCE = [ast.parse(path.read_text()) for path in sorted((ROOT / "src/safehold/broker").glob("*.py"))]
CALLS = [node for tree in SOURCE for node in ast.walk(tree) if isinstance(node, ast.Call)]


def literals(call: ast.Call) -> list[object]:
    return [argument.value for argument in call.args if isinstance(argument, ast.Constant)]


def test_the_page_has_the_codes_of_the_source_and_no_others() -> None:
    raised = {
        value
        for call in CALLS
        for value in literals(call)[:2]
        if isinstance(value, str) and re.fullmatch(r"broker\.[a-z_]+", value)
    }
    assert set(re.findall(r"`(broker\.[a-z_]+)`", PAGE)) == raised
    assert len(raised) > 25


def test_a_code_stands_at_the_step_that_raises_it() -> None:
    rows = {int(step): text for step, text in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)}
    assert list(rows) == list(range(1, 12))
    denials = [literals(call) for call in CALLS if isinstance(call.func, ast.Name) and call.func.id == "Denial"]
    numbered = [
        (pair[0], pair[1])
        for pair in denials
        if len(pair) > 1 and isinstance(pair[0], int) and pair[1] != "broker.internal"
    ]
    assert len(numbered) > 15
    for step, code in numbered:
        assert isinstance(step, int)
        assert f"`{code}`" in rows[step]


def test_the_members_of_a_body_are_those_of_the_source() -> None:
    section = PAGE.partition("## A request\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(_Body.__struct_fields__)


def test_the_signature_base_is_the_one_that_is_signed() -> None:
    lines = PAGE.partition("## The proof\n")[2].split("\n    ")[1:5]
    written = _signature_base(b"", 17, "REQUEST", "FINGERPRINT").decode().split("\n")
    assert lines[0] == written[0]
    assert lines[1] == written[1]
    assert lines[2].partition(":=")[0].split(":")[0] == written[2].split(":")[0]
    assert lines[3].partition("\n")[0] == written[3].replace("created=17", "created=SECONDS")


def test_blocks_are_written_as_the_page_says(world: World) -> None:
    def form(text: str) -> list[str]:
        """Lines of Datalog with their values taken out."""
        lines = [line.strip() for line in text.strip().splitlines()]
        lines = [re.sub(r"\{.*\}", "{…}", re.sub(r"[0-9T:-]{19}Z", "TIME", line)) for line in lines]
        return [re.sub(r'\("[^"]*"\)', '("…")', line) for line in lines]

    token = world.issue(host=CI, groups=("question",), purposes=("training",)).token
    narrowing = Narrowing(host=CI, member=MEMBER, groups=("question",), purpose="training", until=NOW + SECOND)
    root = world.grant.root
    narrowed = Biscuit.from_base64(narrow_grant(token, root, narrowing), PublicKey.from_bytes(root, Algorithm.Ed25519))
    first, later = [block for block in re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE) if "check" in block]
    assert form(narrowed.block_source(0)) == form(first)
    assert form(narrowed.block_source(1)) == form(later)


def test_figures_on_the_page_are_those_of_the_source() -> None:
    policy = BrokerPolicy()
    assert f"at most {MAX_BODY_BYTES // 1024} KiB" in PAGE
    assert f"at most {MAX_TOKEN_CHARACTERS:,} characters" in PAGE
    assert f"at most {policy.clock_tolerance} s from" in PAGE
    assert f"{policy.lease} s from now" in PAGE
    assert f"may be {policy.inventory_max_age:,} s old" in PAGE
    info = _info("R", "D").decode()
    assert info.replace('"D"', "…").replace('"R"', "…") in PAGE
