"""A response from the command line: compared, decided as one plan, proven step by step, lifted when clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safehold.cli.demo.environments import uninstall
from safehold.cli.output import iso_time
from tests.cli_kit import (
    STAND_IN,
    Clock,
    Desk,
    changed,
    incident_advisories,
    make_desk,
    make_environment_of,
    write_texts,
)

ADVISORY = "PYSEC-2026-2"
HOST = "quill-works/ws-1"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A supplier's host that opened data, and holds what an advisory names."""
    desk = make_desk(tmp_path / "desk", Clock("2026-03-24T16:20:00Z"))
    desk("seal", write_texts(tmp_path / "records.jsonl", 20), "--dataset", "quill-works/problems")
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+30d", "--out", tmp_path / "grant.json")
    environment = make_environment_of(tmp_path / "environment")
    changed(environment, STAND_IN)
    desk.sweep(HOST, environment, iso_time(desk.clock()))
    desk("advisory", "add", incident_advisories(tmp_path / "advisories"))
    return desk


def open_code(desk: Desk, folder: Path) -> Any:
    out = folder / "out.jsonl"
    opening = ("open", "quill-works/problems@1", "--host", HOST, "--grant", folder / "grant.json", "--out", out)
    return desk.error(*opening, code=3)["code"]


def test_compare_decide_prove_and_lift(desk: Desk, tmp_path: Path) -> None:
    compared = desk.json("whatif", ADVISORY)
    options = {option["course"]: option for option in compared["options"]}
    assert [host["host"] for host in compared["hosts"] if host["holding"]] == [HOST]
    assert options["suspend-hosts"]["ends"]
    assert len(options["watch"]["stays"]) == len(options["suspend-hosts"]["ends"])
    assert compared["proposal"]["course"] in options
    shown = desk("whatif", ADVISORY).out
    assert "go on and watch" in shown
    assert HOST in shown

    size = desk.json("log", "checkpoint")["size"]
    decide = ("respond", "decide", ADVISORY, "--course", "suspend-hosts", "--reason", "it held litellm 1.82.8")
    dry = desk.json(*decide, "--dry-run")
    assert dry["response"] is None
    assert desk.json("log", "checkpoint")["size"] == size
    decided = desk.json(*decide, "--clean-days", "1")
    response = decided["response"]
    assert [step["act"] for step in dry["steps"]] == [step["act"] for step in decided["steps"]]

    desk.clock.set("2026-03-24T16:30:00Z")
    uninstall(tmp_path / "environment", STAND_IN)
    desk.sweep(HOST, tmp_path / "environment", iso_time(desk.clock()))
    assert open_code(desk, tmp_path) == "broker.held"

    steps = desk.json("respond", "show", response)["steps"]
    first = next(step for step in steps if step["done"] is None)
    document = tmp_path / "proof.txt"
    document.write_text("rotated")
    proof = ("respond", "prove", response, first["step"], "--proof", "new tokens; old ones are refused")
    proven = desk.json(*proof, "--document", document)
    assert desk.json("respond", "show", response)["steps"][first["step"]]["done"] == proven["entry"]
    assert desk.error(*proof, code=7)["code"] == "containment.step_done"
    assert desk.json("respond", "list")["responses"][0]["done"] == len(decided["option"]["holds"]) + 1

    lift = ("lift", f"host:{HOST}", "--reason", "rebuilt")
    assert desk.error(*lift, code=3)["code"] == "containment.not_clean_long"
    desk(*lift, "--despite-findings")
    assert desk.json("fsck")["problems"] == []


def test_the_policy_chooses_who_proposes_and_whoever_asks_may_choose_another(desk: Desk, tmp_path: Path) -> None:
    assert desk.json("whatif", ADVISORY)["proposal"]["chosen_by"] == "built in"
    policy = tmp_path / "policy.toml"
    policy.write_text('[response]\nprofile = "strict"\n')
    entry = desk.json("policy", "set", policy)["entry"]
    proposal = desk.json("whatif", ADVISORY)["proposal"]
    assert (proposal["profile"], proposal["course"]) == ("strict", "suspend-supplier")
    assert proposal["chosen_by"] == f"by the policy of entry {entry}"
    own = desk.json("whatif", ADVISORY, "--profile", "watchful")["proposal"]
    assert (own["profile"], own["chosen_by"]) == ("watchful", "chosen by --profile; the policy says strict")
    decide = ("respond", "decide", ADVISORY, "--course", "suspend-hosts", "--reason", "it held it", "--dry-run")
    assert desk.json(*decide)["proposal"]["profile"] == "strict"
    policy.write_text('[response]\nprofile = "asleep"\n')
    assert desk.error("policy", "set", policy, code=2)["code"] == "broker.policy_form"
    assert 'profile = "strict"' in desk("policy", "show").out


def test_what_cannot_be_decided(desk: Desk, tmp_path: Path) -> None:
    assert desk.error("whatif", "PYSEC-1999-1", code=6)["code"] == "containment.no_advisory"
    decide = ("respond", "decide", ADVISORY, "--course", "suspend-hosts", "--reason")
    assert desk.error(*decide, " ", code=2)["code"] == "containment.reason"
    desk(*decide, "it held it")
    assert desk.error(*decide, "again", code=7)["code"] == "containment.nothing_to_hold"
    assert desk.error("respond", "show", "r-0000000000000000", code=6)["code"] == "containment.no_response"
    response = desk.json("respond", "list")["responses"][0]["response"]
    large = tmp_path / "large"
    large.write_bytes(b"x" * ((1 << 20) + 1))
    prove = ("respond", "prove", response, "1", "--proof", "see there", "--document")
    assert desk.error(*prove, large, code=2)["code"] == "cli.document_size"
    assert desk.error(*prove, tmp_path / "none", code=6)["code"] == "cli.document"
