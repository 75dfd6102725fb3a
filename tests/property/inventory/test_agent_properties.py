"""The agent's pure parts against their promises, and whole sweeps against a list of what was done to the files."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.inventory import agent
from safehold.inventory.report import parse_message, path_bytes
from safehold.model.encoding import canonical_bytes
from tests.inventory_kit import HOST, Environment, paths

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_the_agents_canonical_bytes_are_the_models(value: Any) -> None:
    assert agent.canonical(value) == canonical_bytes(value)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_path_is_shown_safely_and_comes_back(raw: bytes) -> None:
    text = agent.shown(raw)
    assert path_bytes(text) == raw
    assert all(character >= " " and character not in "\x7f\u202e\u2028" for character in text)
    text.encode("utf-8")


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-5, 50)), min_size=1, max_size=40),
    st.sampled_from([0, 20, 10**6]),
)
def test_messages_tell_the_history_of_sweeps_and_no_more(steps: list[tuple[str, int]], every: int) -> None:
    state: dict[str, Any] = {}
    now, sweeps, told, reports = 1000, [], [], []
    for contents, later in steps:
        now += later
        confirmation, changed, state = agent.advance(state, contents, now, every)
        sweeps.append((now, contents))
        told += [confirmation] if confirmation else []
        reports += [(now, contents)] if changed else []
        if confirmation:
            message = dict(confirmation, clock="system", environment="e", format=agent.CONFIRMATION_FORMAT, host=HOST)
            parse_message(agent.canonical(message | {"inventory": "sha256:" + "0" * 64}))
    forward = all(later >= 0 for _, later in steps[1:])
    for one in told:
        assert one["sweeps"] >= 2
        if forward:
            inside = [
                at for at, contents in sweeps if one["since"] <= at <= one["until"] and contents == one["inventory"]
            ]
            assert len(inside) >= one["sweeps"]
            assert one["largest_gap"] <= max(b - a for a, b in pairwise(inside))
    assert reports[0] == sweeps[0]
    if forward:
        # Each sweep is a report, inside a confirmation, or still in the running one.
        for at, contents in sweeps:
            covered = any(one["inventory"] == contents and one["since"] <= at <= one["until"] for one in told)
            assert (at, contents) in reports or covered or (state["inventory"] == contents and state["since"] <= at)


DEEDS = st.lists(
    st.tuples(st.sampled_from(["alter", "remove", "add", "hook"]), st.integers(0, 7)),
    max_size=8,
    unique_by=lambda one: one[1],
)


@settings(max_examples=40, deadline=None)
@given(DEEDS)
def test_a_sweep_finds_what_was_done_and_nothing_else(deeds: list[tuple[str, int]]) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        environment = Environment(root / "venv")
        environment.install("tool", "1", {f"tool/{number}.py": f"A = {number}\n" for number in range(8)})
        expected: dict[str, list[str]] = {"altered": [], "missing": [], "unowned": [], "hooks": []}
        before = environment.sweep()
        memory = agent.Memory()
        environment.sweep(memory=memory)
        for deed, number in deeds:
            if deed == "alter":
                environment.write(f"tool/{number}.py", f"A = {number + 1}\n")
                expected["altered"].append(f"tool/{number}.py")
            elif deed == "remove":
                (environment.site / f"tool/{number}.py").unlink()
                expected["missing"].append(f"tool/{number}.py")
            elif deed == "add":
                environment.write(f"tool/new{number}.py", "")
                expected["unowned"].append(f"tool/new{number}.py")
            else:
                environment.write(f"stand-in{number}.pth", "import sys\n")
                expected["hooks"].append(f"stand-in{number}.pth")
        after = environment.sweep()
        assert {name: paths(after, name) for name in expected} == {
            name: sorted(found) for name, found in expected.items()
        }
        assert (agent.contents_digest(after) == agent.contents_digest(before)) == (not deeds)
        assert environment.sweep(memory=memory) == after, "a memory of before changes nothing"
    finally:
        shutil.rmtree(root)
